"""No number, verdict or date in a findings page is typed by hand: cells compute them."""

import re

import jupytext
import pytest

from nbutils.config.notebook_parameters import FINDINGS
from support.tiny import REPOSITORY

# what a reader does not read as a result: code, mathematics, directives, citations and references
MARKUP = re.compile(
    r"```.*?```|\$\$.*?\$\$|\$[^$\n]*\$|^:[^\n]*$|`[^`\n]*`|\{\w+(:\w+)?\}",
    re.DOTALL | re.MULTILINE,
)
VERDICT = re.compile(r"\b(is|are|was|were) (supported|contradicted|undecided)\b(?! when| by)")


def prose(name: str) -> list[str]:
    """The text of a page's cells and captions, without markup."""
    notebook = jupytext.read(REPOSITORY / "notebooks" / f"{name}.py")
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    figures = [cell.metadata.get("mystnb", {}).get("figure", {}) for cell in notebook.cells]
    return [MARKUP.sub("", text) for text in [*texts, *(f.get("caption", "") for f in figures)]]


@pytest.mark.parametrize("name", FINDINGS)
def test_no_digit_is_typed(name: str) -> None:
    found = [line for text in prose(name) for line in text.splitlines() if re.search(r"\d", line)]
    assert found == []


@pytest.mark.parametrize("name", FINDINGS)
def test_no_verdict_is_typed(name: str) -> None:
    """A rule may say when a claim is supported; that it is, only a cell says."""
    found = [line for text in prose(name) for line in text.splitlines() if VERDICT.search(line)]
    allowed = ("so it is supported when each part", "it is supported when every proxy fails")
    assert [line for line in found if not any(a in line for a in allowed)] == []


def test_the_search_finds_what_is_typed() -> None:
    text = MARKUP.sub("", "The claim is supported: gains of 0.4 points, see {cite:p}`x2021`.")
    assert re.search(r"\d", text)
    assert VERDICT.search(text)
    assert not re.search(r"\d", MARKUP.sub("", "{cite:p}`x2021` and $n = 3$ and `-p seed 1`"))
