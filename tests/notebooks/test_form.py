"""The form of a notebook: few names, one call that opens it, short cells between prose."""

import ast

import jupytext
import pytest
from nbformat import NotebookNode

from nbutils.config.notebook_parameters import EXERCISES, FINDINGS, STAGES
from nbutils.notebooks.exercises import GAP
from support.tiny import REPOSITORY

NAMES, CELLS, LINES = 3, 20, 15
"""The most names of this package that a notebook imports, cells of code, and lines in one."""
NOTEBOOKS = [*STAGES, *FINDINGS, *EXERCISES]


def notebook(name: str) -> NotebookNode:
    return jupytext.read(REPOSITORY / "notebooks" / f"{name}.py")


def code(name: str) -> list[NotebookNode]:
    return [cell for cell in notebook(name).cells if cell.cell_type == "code"]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_imports_three_names_at_most(name: str) -> None:
    nodes = [node for cell in code(name) for node in ast.walk(ast.parse(cell.source))]
    plain = [a.name for node in nodes if isinstance(node, ast.Import) for a in node.names]
    assert not any(module.startswith("nbutils") for module in plain)
    ours = [n for n in nodes if isinstance(n, ast.ImportFrom) and n.module]
    names = [a.name for n in ours if str(n.module).startswith("nbutils") for a in n.names]
    assert "session" in names
    assert len(names) <= NAMES


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_has_few_and_short_cells(name: str) -> None:
    cells = code(name)
    assert len(cells) <= CELLS
    assert max(len(cell.source.splitlines()) for cell in cells) <= LINES


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_prose_stands_between_cells_of_code(name: str) -> None:
    """But for the check under a gap, and for cells that no page shows."""
    shown = [c for c in notebook(name).cells if "remove-cell" not in c.metadata.get("tags", ())]
    places = [
        i for i in range(len(shown) - 1)
        if shown[i].cell_type == shown[i + 1].cell_type == "code" and GAP not in shown[i].metadata
    ]  # fmt: skip
    pictures = [i for i in places if "figure" in shown[i + 1].metadata.get("mystnb", {})]
    assert places == pictures


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_opens_its_session_behind_its_parameters(name: str) -> None:
    cells = code(name)
    (place,) = [i for i, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", ())]
    assert cells[place + 1].source.splitlines()[0] == f's = session.open("{name}", globals())'
