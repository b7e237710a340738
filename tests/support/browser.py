"""A browser without a network, pointed at a built book."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
SIZES: dict[str, ViewportSize] = {
    "desktop": {"width": 1400, "height": 900},
    "phone": {"width": 390, "height": 844},
}


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Say nothing: the tests look at the browser, not at the server."""


class Server:
    """Serves a folder on a free local port while the context lasts; yields the address."""

    def __init__(self, folder: Path) -> None:
        handler = partial(_Quiet, directory=str(folder))
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)

    def __enter__(self) -> str:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self.server.server_port}"

    def __exit__(self, *_: Any) -> None:
        self.server.shutdown()
        self.server.server_close()


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, headless."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        browser.close()


def for_tests() -> Iterator[Browser]:
    """One Chromium for all tests of a module, to be made a fixture."""
    if not CHROMIUM.exists():
        missing = f"the book is tested in {CHROMIUM}: install the package chromium"
        # A person may lack it; continuous integration must not pass without having looked.
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    with chromium() as found:
        yield found


def pages_of(site: Path) -> list[str]:
    """The book's pages, as paths below the site."""
    return sorted(str(p.relative_to(site)) for p in (site / "book").rglob("*.html"))


def open_page(
    browser: Browser,
    address: str,
    path: str,
    viewport: ViewportSize,
    theme: Literal["light", "dark"],
    watch: str = "",
) -> tuple[Page, list[str]]:
    """Open one page with foreign hosts blocked; its charts drawn; and what went wrong so far.

    The list grows while the page is used: console errors and warnings, page errors, failed and
    foreign requests. The script ``watch`` runs before the page's own.
    """
    context = browser.new_context(viewport=viewport, color_scheme=theme)
    problems: list[str] = []

    def guard(route: Any) -> None:
        url = route.request.url
        if url.startswith((address, "data:", "blob:")):
            route.continue_()
        else:
            problems.append(f"foreign request: {url}")
            route.abort()

    context.route("**/*", guard)
    page = context.new_page()
    page.add_init_script(watch)
    page.on("pageerror", lambda error: problems.append(f"page error: {error}"))
    page.on(
        "console",
        lambda m: (
            problems.append(f"console {m.type}: {m.text}")
            if m.type in ("error", "warning")
            else None
        ),
    )
    page.on(
        "response",
        lambda r: problems.append(f"status {r.status}: {r.url}") if r.status >= 400 else None,
    )
    page.goto(f"{address}/{path}", wait_until="load")
    page.wait_for_function(
        "[...document.querySelectorAll('.nbutils-chart')].every(c => c.dataset.drawn)"
    )
    page.wait_for_function("!window.MathJax || !MathJax.startup || MathJax.startup.promise")
    page.wait_for_timeout(200)
    return page, problems
