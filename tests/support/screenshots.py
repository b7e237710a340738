"""Take a picture of every page, desktop and phone, light and dark, to be looked at.

Usage: ``python tests/book/screenshots.py SITE FOLDER [NAME ...]`` where SITE is the folder of the
built book's HTML. With names, only pages whose path holds one of them.
"""

import sys
from pathlib import Path
from typing import Literal

from support.browser import SIZES, Server, chromium, open_page, pages_of

THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


def main(site: Path, folder: Path, names: list[str]) -> None:
    """Write one PNG a page, size and theme into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    pages = [p for p in pages_of(site) if not names or any(n in p for n in names)]
    with Server(site) as address, chromium() as browser:
        for size, viewport in SIZES.items():
            for theme in THEMES:
                for path in pages:
                    page, problems = open_page(browser, address, path, viewport, theme)
                    wide = page.evaluate("document.documentElement.scrollWidth")
                    name = f"{path.removesuffix('.html').replace('/', '-')}-{size}-{theme}.png"
                    page.screenshot(path=folder / name, full_page=True)
                    told = f" overflows to {wide}px" if wide > viewport["width"] else ""
                    print(name, f"{told} {problems or ''}".rstrip())
                    page.context.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
