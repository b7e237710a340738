"""No link of the built book is dead; dead links of a site are found, and nothing else is."""

from pathlib import Path

import pytest

from nbutils.book import build
from support import links


def test_no_link_of_the_book_is_dead(built: Path) -> None:
    assert links.dead(built / build.HTML) == []


def site(folder: Path, body: str) -> Path:
    """A site of two pages and a picture; ``body`` stands in the second."""
    (folder / "pages").mkdir()
    (folder / "index.html").write_text('<h1 id="top of it">One</h1><a name="old"></a>', "utf-8")
    (folder / "a picture.svg").write_text("<svg/>", "utf-8")
    (folder / "pages" / "two.html").write_text(f'<h1 id="here">Two</h1>{body}', "utf-8")
    return folder


def test_templates_of_the_theme_are_no_pages(tmp_path: Path) -> None:
    (tmp_path / "_static").mkdir()
    (tmp_path / "_static" / "macros.html").write_text('<script src="{{ path }}">', "utf-8")
    assert links.dead(site(tmp_path, "")) == []


@pytest.mark.parametrize(
    "body",
    [
        '<a href="../index.html"> <a href="../index.html#top%20of%20it"> <a href="#here">',
        '<a href="../#old"> <a href="#"> <a href="two.html?tier=lab#cell=self">',
        '<img src="../a%20picture.svg?digest=1">',
        '<a href="https://example.org/nowhere#x"> <a href="mailto:a@b"> <a href="//example.org/x">',
        '<script type="application/json">{"text": "<a href=\'nowhere.html\'>"}</script>',
    ],
)
def test_a_link_that_leads_somewhere_is_fine(tmp_path: Path, body: str) -> None:
    assert links.dead(site(tmp_path, body)) == []


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ('<a href="three.html">', "three.html does not exist"),
        ('<script src="../vega.js"></script>', "../vega.js does not exist"),
        ('<a href="#there">', "#there has no such anchor"),
        ('<a href="../index.html#here">', "../index.html#here has no such anchor"),
        ('<a href="/index.html">', "/index.html begins at the host's root"),
    ],
)
def test_a_dead_link_is_named_with_its_page(tmp_path: Path, body: str, told: str) -> None:
    (found,) = links.dead(site(tmp_path, body))
    assert found.startswith(f"pages/two.html: {told}")
