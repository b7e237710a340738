"""The whole book in one file for paper: with its styles, and nothing cut off."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, ViewportSize

from nbutils.book import build
from support.browser import SIZES, Server, open_page

COLUMN: ViewportSize = {"width": 718, "height": 1047}  # of A4 within its margins, in CSS pixels
CUT = """
() => [...document.querySelectorAll(".nbutils-scroll, .cell_output, .nbutils-still")]
  .filter(box => box.scrollWidth > box.clientWidth + 1)
  .map(box => box.textContent.slice(0, 60))
"""


@pytest.mark.slow
def test_the_book_is_printed(built: Path, browser: Browser) -> None:
    paper = build.pdf(built)
    assert paper.read_bytes().startswith(b"%PDF")
    page_file = built / build.FOR_PAPER
    with Server(page_file.parent) as address:
        page, problems = open_page(browser, address, page_file.name, SIZES["desktop"], "light")
        assert problems == []
        page.set_viewport_size(COLUMN)
        page.emulate_media(media="print")
        sheets = "[...document.styleSheets].filter(s => s.href?.endsWith('book.css')).length"
        assert page.evaluate(sheets) == 1
        assert page.locator("mjx-container, math").count() > 3
        assert page.evaluate(CUT) == []
        page.context.close()
