"""Every page for every reader: wide and narrow, light and dark, by keyboard, on paper, off line."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, Page

from nbutils.book import build
from nbutils.config import notebook_parameters
from support.browser import SIZES, open_page, pages_of

OPENING = "book/pages/opening.html"
MATRIX = "book/pages/relational_utility.html"
WEIGHT = 1_600_000  # bytes that the first page may transfer, without compression; theme: a third
PATIENCE = 1_500  # milliseconds until its chart is drawn
JUMP = 0.05  # a layout shift that a reader may notice starts at twice as much
LOADS = 3  # the machine may be busy: the best of them counts
WATCH = """
window.jumps = 0;
new PerformanceObserver(seen => seen.getEntries().forEach(
  e => { if (!e.hadRecentInput) window.jumps += e.value; }
)).observe({ type: "layout-shift", buffered: true });
"""
Theme = Literal["light", "dark"]


@contextmanager
def opened(
    browser: Browser, address: str, path: str, size: str = "desktop", theme: Theme = "light"
) -> Iterator[Page]:
    """A page without any problem, before and after what is done with it."""
    page, problems = open_page(browser, address, path, SIZES[size], theme, WATCH)
    yield page
    assert problems == [], path
    page.context.close()


def _violations(page: Page) -> list[str]:
    """What axe-core finds, with an example of each."""
    page.evaluate(AXE_SCRIPT)
    found = page.evaluate("axe.run({ resultTypes: ['violations'], preload: false })")["violations"]
    return [f"{v['id']}: {v['nodes'][0]['html'][:200]}" for v in found]


# Colours do not depend on the width: two of the four ways to look meet everything.
BOTH = pytest.mark.parametrize(("size", "theme"), [("desktop", "light"), ("phone", "dark")])


@BOTH
def test_the_opening_is_quiet_accessible_and_still(
    address: str, browser: Browser, size: str, theme: Theme
) -> None:
    _inspect([OPENING], address, browser, size, theme)


@pytest.mark.slow
@BOTH
def test_every_page_is_quiet_accessible_and_still(
    built: Path, address: str, browser: Browser, size: str, theme: Theme
) -> None:
    pages = pages_of(built / build.HTML)
    assert len(pages) >= len(notebook_parameters.NOTEBOOKS)
    _inspect(pages, address, browser, size, theme)


def _inspect(pages: list[str], address: str, browser: Browser, size: str, theme: Theme) -> None:
    """No message, no foreign or failed request, no violation, no jump, no sideways scrolling."""
    for path in pages:
        with opened(browser, address, path, size, theme) as page:
            assert _violations(page) == [], path
            assert page.evaluate("window.jumps") < JUMP, path
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= SIZES[size]["width"], f"{path} is {wide}px wide"
            drawn = page.evaluate(
                "[...document.querySelectorAll('.nbutils-chart')].map("
                "c => c.querySelectorAll('.nbutils-canvas svg text').length)"
            )
            assert all(drawn), path


def test_axe_sees_a_violation(address: str, browser: Browser) -> None:
    """The search for violations can fail."""
    with opened(browser, address, OPENING) as page:
        page.evaluate("document.querySelector('.bd-article').append(new Image())")
        assert any("image-alt" in found for found in _violations(page))


# ---------------------------------------------------------------- the first page


def test_the_first_page_answers_in_one_screen(address: str, browser: Browser) -> None:
    """Question, answer and chart; every claim leads to a page that exists."""
    with opened(browser, address, OPENING) as page:
        bottom = page.locator(".nbutils-canvas").first.evaluate(
            "c => c.getBoundingClientRect().bottom"
        )
        assert bottom <= SIZES["desktop"]["height"]
        claims = page.locator(".nbutils-answers li")
        assert claims.count() >= 4
        assert all(re.search(r"\[.*\d.*, .*\d.*\]", text) for text in claims.all_inner_texts())
        for link in page.locator(".nbutils-answers a").all():
            target = page.evaluate("a => new URL(a, location).href", link.get_attribute("href"))
            assert page.request.get(target).ok, target


def test_the_address_of_the_book_leads_to_the_first_page(address: str, browser: Browser) -> None:
    page = browser.new_page()
    page.goto(f"{address}/index.html")
    page.wait_for_url(f"**/{OPENING}")
    page.close()


def test_the_first_page_is_light(address: str, browser: Browser) -> None:
    page = browser.new_page(viewport=SIZES["desktop"])
    sizes: list[tuple[int, str]] = []
    page.on("requestfinished", lambda r: sizes.append((r.sizes()["responseBodySize"], r.url)))
    page.goto(f"{address}/{OPENING}", wait_until="load")
    page.wait_for_selector(".nbutils-chart[data-drawn]")
    assert sum(size for size, _ in sizes) <= WEIGHT, sorted(sizes)[-6:]
    assert any("vega.js" in url for _, url in sizes)
    page.close()


def test_the_first_chart_is_drawn_soon(address: str, browser: Browser) -> None:
    times = []
    for _ in range(LOADS):
        page = browser.new_page(viewport=SIZES["desktop"])
        page.goto(f"{address}/{OPENING}", wait_until="commit")
        page.wait_for_selector(".nbutils-chart[data-drawn]")
        times.append(page.evaluate("performance.now()"))
        page.close()
    assert min(times) <= PATIENCE, times


# ---------------------------------------------------------------- every chart


@pytest.mark.parametrize("name", notebook_parameters.FINDINGS)
def test_every_chart_can_be_taken_away(
    address: str, browser: Browser, name: str, tmp_path: Path
) -> None:
    """As a picture, as a drawing in the colours of a light page, and as rows."""
    with opened(browser, address, f"book/pages/{name}.html", theme="dark") as page:
        tools = page.locator(".nbutils-tools")
        assert tools.count() == page.locator(".nbutils-chart").count()
        for index in range(tools.count()):
            files = {}
            for kind in ("PNG", "SVG", "CSV"):
                with page.expect_download() as started:
                    tools.nth(index).get_by_text(kind).click()
                files[kind] = tmp_path / started.value.suggested_filename
                started.value.save_as(files[kind])
            assert files["PNG"].read_bytes().startswith(b"\x89PNG")
            assert len(files["PNG"].read_bytes()) > 5_000
            drawing = files["SVG"].read_text("utf-8")
            assert ElementTree.fromstring(drawing).tag.endswith("svg")
            assert "var(" not in drawing
            lines = files["CSV"].read_text("utf-8").splitlines()
            assert len(lines) > 2
            assert len({name.split(".")[0] for name in map(str, files.values())}) == 1


def test_the_table_of_a_chart_holds_its_rows(address: str, browser: Browser) -> None:
    with opened(browser, address, OPENING) as page:
        page.locator(".nbutils-data summary").first.click()
        table = page.locator(".nbutils-data table").first
        assert "relation" in table.locator("thead").inner_text()
        assert table.locator("tbody tr").count() > 10
        assert _violations(page) == []


def test_a_keyboard_reads_and_chooses(address: str, browser: Browser) -> None:
    """Arrow keys move through the marks and show what they say; Enter clicks."""
    with opened(browser, address, MATRIX) as page:
        chart = page.locator(".nbutils-chart").first
        title = chart.locator(".nbutils-canvas svg .role-title-text").last
        before = title.text_content()
        chart.locator(".nbutils-canvas").focus()
        said = set()
        for _ in range(5):
            page.keyboard.press("ArrowRight")
            said.add(page.evaluate("document.activeElement.getAttribute('aria-label')"))
        assert len(said) == 5
        assert all("gain" in label for label in said)
        assert page.locator("#nbutils-tip").is_visible()
        page.keyboard.press("Enter")
        page.wait_for_timeout(200)
        assert title.text_content() != before
        page.keyboard.press("Tab")
        assert not page.locator("#nbutils-tip").is_visible()


def test_a_tooltip_is_text(address: str, browser: Browser) -> None:
    """What a mark says is never markup."""
    with opened(browser, address, OPENING) as page:
        page.locator(".nbutils-canvas path[aria-roledescription='point']").first.hover(force=True)
        tip = page.locator("#nbutils-tip")
        tip.wait_for(state="visible")
        assert "gain (points)" in tip.inner_text()
        assert tip.locator("*").evaluate_all("all => new Set(all.map(e => e.tagName)).size") == 3


def test_scales_follow_the_theme_without_a_new_chart(address: str, browser: Browser) -> None:
    with opened(browser, address, MATRIX) as page:
        colours = (
            "[...document.querySelectorAll('.nbutils-canvas [aria-roledescription=\"rect mark\"]')]"
            ".map(r => r.getAttribute('fill')).join()"
        )
        light = page.evaluate(colours)
        page.evaluate("document.querySelector('.nbutils-canvas svg').dataset.same = 'yes'")
        page.evaluate("document.documentElement.dataset.theme = 'dark'")
        page.wait_for_function(f"{colours} !== '{light}'")
        assert page.locator(".nbutils-canvas svg[data-same]").count() == 1


# ---------------------------------------------------------------- without a script, on paper


def test_without_the_drawing_script_a_still_picture_stands(address: str, browser: Browser) -> None:
    page = browser.new_page(viewport=SIZES["desktop"])
    page.route("**/vega.js", lambda route: route.abort())
    page.goto(f"{address}/{OPENING}")
    still = page.locator(".nbutils-still svg").first
    box = still.bounding_box()
    assert still.is_visible()
    assert box is not None
    assert box["height"] > 200
    page.close()


def test_paper_gets_still_charts_in_light_colours(address: str, browser: Browser) -> None:
    """Whatever the theme; drop-downs and buttons stay on the screen."""
    with opened(browser, address, MATRIX, theme="dark") as page:
        page.emulate_media(media="print")
        assert page.locator(".nbutils-still").first.is_visible()
        for screen in (".nbutils-canvas", ".nbutils-controls", ".nbutils-tools"):
            assert not page.locator(screen).first.is_visible()
        colour = page.locator(".nbutils-still svg .role-axis-label text").first.evaluate(
            "t => getComputedStyle(t).fill"
        )
        assert colour == "rgb(34, 38, 43)"
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground in ("rgb(255, 255, 255)", "rgba(0, 0, 0, 0)")
        assert page.pdf().startswith(b"%PDF")


def test_search_finds_a_page(address: str, browser: Browser) -> None:
    """With the index that the book ships."""
    page, problems = open_page(
        browser, address, "search.html?q=extraction", SIZES["desktop"], "light"
    )
    page.wait_for_selector("ul.search li a")
    targets: list[Any] = page.locator("ul.search li a").evaluate_all("a => a.map(x => x.href)")
    assert any("memorization_decoupling" in target for target in targets)
    assert problems == []
    page.context.close()
