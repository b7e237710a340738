"""The built book and a browser, as fixtures.

The book is built once, in a copy of what it is made of. The numbers of one tier are made up, so
that every chart has something to draw whatever was published.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbutils.book import build
from nbutils.charts import speed
from nbutils.results import layout
from support.browser import Server, for_tests
from support.synthetic import measurement, write_tables

REPOSITORY = Path(__file__).parents[2]
GENERATED = shutil.ignore_patterns("_build", "pages", "generated")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with a built book."""
    root = tmp_path_factory.mktemp("project")
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(REPOSITORY / name, root / name)
    config = root / "_config.yml"  # with an address, so that pages have their buttons
    named = config.read_text("utf-8").replace('url: ""', 'url: "https://github.com/someone/a-book"')
    config.write_text(named, "utf-8")
    shutil.copytree(REPOSITORY / "notebooks", root / "notebooks")
    shutil.copytree(REPOSITORY / "book", root / "book", ignore=GENERATED)
    published = root / layout.PUBLISHED
    for tier in published.glob("*/pages"):  # `pages` of a published tier belong to the copy
        shutil.rmtree(tier)
    for pages in (REPOSITORY / layout.PUBLISHED).glob("*/pages"):
        shutil.copytree(pages, published / pages.parent.name / "pages")
    shutil.rmtree(published / "lab")
    write_tables(published / "lab", "supported")
    (published / speed.MEASURED).write_text(json.dumps(measurement("here")), "utf-8")
    build.build(root)
    return root


@pytest.fixture(scope="session")
def address(built: Path) -> Iterator[str]:
    """Where the built book is served."""
    with Server(built / build.HTML) as where:
        yield where


browser = pytest.fixture(scope="module")(for_tests)
