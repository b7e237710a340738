"""Links: whatever a page of the built book links to or loads, within the book, must be there."""

from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

TEMPLATES = "_static"
"""Where the theme leaves its templates: they end in ``.html`` and are no pages."""


class _Page(HTMLParser):
    """Anchors of a page, and the addresses that it links to or loads."""

    def __init__(self) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take note of what can be linked to, and of what is linked to."""
        found = {name: value for name, value in attrs if value}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        self.addresses += [found[name] for name in ("href", "src") if name in found]


@cache
def _read(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text("utf-8"))
    return page


def dead(site: Path) -> list[str]:
    """One line for every link or file of a built site that leads nowhere; other hosts are left out.

    A fragment that holds ``=`` is a page's state, not an anchor.
    """
    _read.cache_clear()  # the site may have been built again
    found = []
    pages = (p for p in site.rglob("*.html") if TEMPLATES not in p.relative_to(site).parts)
    for path in sorted(pages):
        for address in dict.fromkeys(_read(path).addresses):
            problem = _problem(address, path)
            if problem:
                found.append(f"{path.relative_to(site)}: {address} {problem}")
    return found


def _problem(address: str, source: Path) -> str | None:
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return None
    if parts.path.startswith("/"):
        return "begins at the host's root, and the book may lie below it"
    target = source.parent / unquote(parts.path) if parts.path else source
    if target.is_dir():
        target /= "index.html"
    if not target.is_file():
        return "does not exist"
    anchor = unquote(parts.fragment)
    if anchor and "=" not in anchor and target.suffix == ".html":
        return None if anchor in _read(target).anchors else "has no such anchor"
    return None
