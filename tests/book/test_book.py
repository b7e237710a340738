"""The built book in a browser without a network: what it draws and what it answers."""

import time
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from playwright.sync_api import Browser, Page

from nbutils.book import build, staging
from nbutils.charts import provenance
from nbutils.config import notebook_parameters
from nbutils.notebooks import cloud, execute
from nbutils.results import layout, tables
from support.browser import SIZES, open_page

CHARTS = {
    name: f"book/pages/{name}.html" for name in notebook_parameters.FINDINGS if name != "status"
}


def _findings(browser: Browser, address: str, name: str, size: str = "desktop") -> Page:
    page, problems = open_page(browser, address, CHARTS[name], SIZES[size], "light")
    assert problems == []
    return page


@pytest.mark.parametrize("name", list(CHARTS))
@pytest.mark.parametrize("size", list(SIZES))
def test_findings_draw_their_charts(address: str, browser: Browser, name: str, size: str) -> None:
    """Every chart has marks with labels, and stays inside its column."""
    page = _findings(browser, address, name, size)
    charts = page.locator(".nbutils-chart")
    assert charts.count() >= 1
    assert page.locator(".nbutils-chart svg [role='graphics-symbol']").count() > 5
    boxes = page.evaluate(
        "[...document.querySelectorAll('.nbutils-chart')].map("
        "c => [c.clientWidth,"
        " c.querySelector('.nbutils-canvas svg').getBoundingClientRect().width])"
    )
    assert all(svg <= box + 4 for box, svg in boxes), boxes
    page.context.close()


def test_a_click_on_a_cell_changes_the_linked_bars(address: str, browser: Browser) -> None:
    """The bars' title names the pairing of the cell that was clicked, on a square or its number."""
    page = _findings(browser, address, "relational_utility")
    chart = page.locator(".nbutils-chart").first
    title = chart.locator(".nbutils-canvas svg .role-title-text").last
    seen = {title.text_content()}
    squares = chart.locator(".nbutils-canvas svg [aria-roledescription='rect mark']")
    for index in (3, squares.count() - 2):
        squares.nth(index).scroll_into_view_if_needed()
        box = squares.nth(index).bounding_box()
        assert box is not None
        for dx, dy in ((6, 6), (box["width"] / 2, box["height"] / 3)):
            page.mouse.click(box["x"] + dx, box["y"] + dy)
        page.wait_for_timeout(150)
        seen.add(title.text_content())
    assert len(seen) == 3, seen
    page.context.close()


def test_a_click_on_a_point_shows_before_and_after(address: str, browser: Browser) -> None:
    """The same link, on the plane of utility and extraction."""
    page = _findings(browser, address, "memorization_decoupling")
    chart = page.locator(".nbutils-chart").first
    title = chart.locator(".nbutils-canvas svg .role-title-text").last
    before = title.text_content()
    points = chart.locator(
        ".nbutils-canvas svg .mark-symbol.role-mark [aria-roledescription='point']"
    )
    points.last.scroll_into_view_if_needed()
    points.last.click(force=True)
    page.wait_for_timeout(150)
    assert title.text_content() != before
    page.context.close()


def test_the_selector_changes_what_is_drawn(address: str, browser: Browser) -> None:
    """Another proxy, other points."""
    page = _findings(browser, address, "proxies_fail")
    chart = page.locator(".nbutils-chart").first
    before = chart.locator(".nbutils-canvas svg").inner_html()
    chart.locator("select").last.select_option(index=1)
    page.wait_for_timeout(200)
    assert chart.locator(".nbutils-canvas svg").inner_html() != before
    page.context.close()


def test_the_theme_redraws_and_keeps_the_choice(address: str, browser: Browser) -> None:
    """Text follows the page's colours; a choice made before the change survives it."""
    page = _findings(browser, address, "proxies_fail")
    chart = page.locator(".nbutils-chart").first
    chart.locator("select").last.select_option(index=1)
    colour = (
        "getComputedStyle(document.querySelector('.nbutils-canvas svg .role-axis-label text')).fill"
    )
    light = page.evaluate(colour)
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.wait_for_function(f"{colour} !== '{light}'")
    page.wait_for_timeout(300)
    assert chart.locator("select").last.evaluate("s => s.selectedIndex") == 1
    page.context.close()


def test_mathematics_is_typeset_from_this_machine(address: str, browser: Browser) -> None:
    """Formulas become SVG, drawn by the script that the book ships."""
    page, problems = open_page(browser, address, "book/how-to-read.html", SIZES["desktop"], "light")
    page.wait_for_selector("mjx-container svg")
    assert problems == []
    page.context.close()


def test_a_second_build_executes_nothing(built: Path) -> None:
    """Unchanged tables and sources are not executed again."""
    before = {p: p.stat().st_mtime_ns for p in (built / build.EXECUTED).glob("*.ipynb")}
    start = time.monotonic()
    build.build(built)
    assert time.monotonic() - start < 60
    assert before == {p: p.stat().st_mtime_ns for p in (built / build.EXECUTED).glob("*.ipynb")}


def test_a_row_without_a_manifest_fails_the_build(built: Path) -> None:
    """No number is shown whose run nobody can name."""
    path = tables.available(built)[0].folder / layout.MANIFESTS
    whole = path.read_text("utf-8")
    try:
        key = pd.read_parquet(path.with_name("states.parquet"))["extraction_run"].iloc[-1]
        kept = [line for line in whole.splitlines(keepends=True) if f'"key":"{key}"' not in line]
        path.write_text("".join(kept), "utf-8")
        with pytest.raises(build.BookError, match="1 runs without a manifest"):
            build.build(built)
    finally:
        path.write_text(whole, "utf-8")


def test_every_chart_stands_over_its_runs(built: Path) -> None:
    """And over the command that repeats it, which a click copies."""
    charts = 0
    for path in (built / build.HTML / build.PAGES).glob("*.html"):
        text = path.read_text("utf-8")
        charts += text.count(provenance.CHART)
        assert text.count(provenance.CHART) <= text.count('class="nbutils-reproduce"'), path.stem
    assert charts >= len(CHARTS)


def test_a_hollow_page_fails_the_build(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A published page that lost what it printed is not shown as if it had none.

    A tier from before there were versions may lack the pages that came with them.
    """
    path = built / layout.PUBLISHED / "tiny" / "pages" / "self_train.ipynb"
    whole = path.read_text("utf-8")
    notebook = nbformat.reads(whole, 4)
    notebook.cells[-2].execution_count = None
    try:
        nbformat.write(notebook, path)
        with pytest.raises(
            staging.PageError, match=r"self_train is hollow, 1 of \d+ cells were not"
        ):
            build.build(built)
        path.unlink()
        monkeypatch.setattr(build, "BEFORE_VERSIONS", -1)
        with pytest.raises(build.BookError, match="tiny/pages lacks the page self_train"):
            build.stage_page("self_train", built)
    finally:
        path.write_text(whole, "utf-8")


def test_a_warning_fails_the_build_and_is_shown(built: Path) -> None:
    """A dead reference is an error that names the page."""
    page = built / "book/references.md"
    text = page.read_text("utf-8")
    try:
        page.write_text(text + "\nSee {ref}`nowhere`.\n", "utf-8")
        with pytest.raises(build.BookError, match=r"references\.md.*nowhere"):
            build.render(built)
    finally:
        page.write_text(text, "utf-8")


@pytest.mark.parametrize("name", notebook_parameters.NOTEBOOKS)
def test_every_notebook_opens_elsewhere(built: Path, name: str) -> None:
    """The buttons stand on the page."""
    page = (built / build.HTML / f"book/pages/{name}.html").read_text("utf-8")
    assert cloud.buttons(name, built) in page


def test_an_unknown_parameter_is_refused_before_a_kernel_starts(built: Path) -> None:
    """The message names the parameter, the nearest one and all that are allowed."""
    output = built / "out.ipynb"
    with pytest.raises(
        execute.NotebookError, match=r"unknown parameter 'sead'.*did you mean 'seed'\?"
    ):
        execute.execute("proxies_fail", {"sead": 1}, output, built)
    assert not output.exists()
    with pytest.raises(
        execute.NotebookError, match=r"unknown notebook 'temprature'.*'temperature'"
    ):
        execute.convert("temprature", built)


def test_a_failing_notebook_is_kept_and_told_in_one_line(built: Path) -> None:
    """The partly executed notebook stays; the error holds the cell's own message."""
    output = built / "failed.ipynb"
    with pytest.raises(execute.NotebookError, match="parameter 'seed' is -1") as told:
        execute.execute("proxies_fail", {"seed": -1}, output, built)
    assert "\n" not in str(told.value)
    assert output.exists()


def test_conversion_is_stable_and_executions_hold_no_address(built: Path) -> None:
    """The same source gives the same bytes; nothing of this machine's folders is kept."""
    first = execute.convert("temperature", built).read_bytes()
    assert first == execute.convert("temperature", built).read_bytes()
    executed = (built / build.EXECUTED / "temperature.ipynb").read_text("utf-8")
    assert str(built) not in executed
    assert "papermill" not in executed


def test_widgets_of_progress_bars_are_dropped(tmp_path: Path) -> None:
    """Their pages would load scripts from another host; other outputs stay."""
    cell = nbformat.v4.new_code_cell("1")
    cell.outputs = [
        nbformat.v4.new_output("display_data", {execute.WIDGET: {"model_id": "x"}}),
        nbformat.v4.new_output("display_data", {"text/plain": "kept"}),
    ]
    notebook = nbformat.v4.new_notebook(cells=[cell], metadata={"widgets": {"state": {}}})
    path = tmp_path / "bars.ipynb"
    nbformat.write(notebook, path)
    execute.clean(path, tmp_path)
    cleaned = nbformat.read(path, as_version=4)
    assert "widgets" not in cleaned.metadata
    assert [o.data["text/plain"] for o in cleaned.cells[0].outputs] == ["kept"]
