"""The workshop's form: gaps, hints, checks, and the agenda."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbformat import NotebookNode

from nbutils.notebooks import exercises
from nbutils.notebooks.exercises import AGENDA, EXERCISES, GAP
from nbutils.results import layout, tables
from support.project import Answer
from support.tiny import REPOSITORY

SOURCES = REPOSITORY / "notebooks" / "workshop"
LIMIT = 120  # seconds of computing that an exercise may take on two cores


def solution(exercise: str) -> NotebookNode:
    return jupytext.read(SOURCES / f"{exercise}.py")


def gaps(notebook: NotebookNode) -> list[int]:
    return [i for i, cell in enumerate(notebook.cells) if GAP in cell.metadata]


def test_every_source_is_on_the_agenda_and_in_the_book() -> None:
    assert sorted(path.stem for path in SOURCES.glob("*.py")) == list(EXERCISES)
    listed = (REPOSITORY / "_toc.yml").read_text("utf-8")
    assert all(f"book/pages/workshop/{exercise}\n" in listed for exercise in EXERCISES)


def test_the_agenda_fills_ninety_minutes() -> None:
    assert sum(part.minutes for part in AGENDA) == 90


def test_a_stub_keeps_the_task_and_loses_the_solution() -> None:
    cells = [
        nbformat.v4.new_markdown_cell("Say why."),
        nbformat.v4.new_code_cell(
            "# TODO: `a` and `b`.\n# Take care.\na = 1\n# one more\nb = 2",
            metadata={GAP: ["a", "b"]},
        ),
        nbformat.v4.new_code_cell("print(a + b)"),
    ]
    whole = nbformat.v4.new_notebook(cells=cells)
    stub = exercises.stubbed(whole)
    assert stub.cells[1].source == "# TODO: `a` and `b`.\n# Take care.\na = ...\nb = ..."
    assert [c.source for c in stub.cells[::2]] == ["Say why.", "print(a + b)"]
    assert whole.cells[1].source.endswith("b = 2")


@pytest.mark.parametrize("exercise", EXERCISES)
def test_every_gap_has_a_task_a_hint_and_a_check(exercise: str) -> None:
    cells = solution(exercise).cells
    found = gaps(solution(exercise))
    assert len(found) >= 3
    start = 0
    for place in found:
        names = cells[place].metadata[GAP]
        assert cells[place].source.startswith("# TODO: ")
        assert all(f"`{name}`" in cells[place].source.splitlines()[0] for name in names)
        above = "".join(c.source for c in cells[start:place] if c.cell_type == "markdown")
        assert "## Gap" in above
        assert "<details><summary>Hint" in above
        assert above.count("<details>") == above.count("</details>")
        check = re.fullmatch(r"print\(checks\.\w+\((\w+).*\)\)", cells[place + 1].source)
        assert check, cells[place + 1].source
        assert [check[1]] == names
        start = place + 1


@pytest.mark.parametrize("exercise", EXERCISES)
def test_an_exercise_has_the_form_of_a_notebook(exercise: str) -> None:
    notebook = solution(exercise)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    for heading in ("What you will learn", "What this exercise establishes", "Parameters"):
        assert f"## {heading}" in text
    assert text.rstrip().splitlines()[-1].startswith(("- ", "  "))  # of "If there is time"
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in notebook.cells) == 1
    longest = max(len(c.source.splitlines()) for c in notebook.cells if c.cell_type == "code")
    assert longest <= 15


def test_notebooks_are_handed_out_with_and_without_gaps(project: Path) -> None:
    found = exercises.made(_with_sources(project))
    for exercise in EXERCISES:
        solved = found[f"{exercises.SOLUTIONS}/{exercise}.ipynb"]
        open_ = found[f"{exercise}.ipynb"]
        nbformat.validate(open_)
        assert [c.id for c in open_.cells] == [c.id for c in solved.cells]
        changed = [i for i, c in enumerate(open_.cells) if c.source != solved.cells[i].source]
        assert changed == gaps(solved)
        assert not any(c.get("outputs") for c in open_.cells)


def test_a_notebook_with_answers_is_never_overwritten(
    project: Path, run: Callable[..., Answer]
) -> None:
    _with_sources(project)
    for _ in range(2):
        assert "Kept" not in run("workshop")[1]
    mine = project / exercises.HANDED_OUT / f"{EXERCISES[0]}.ipynb"
    mine.write_text(mine.read_text("utf-8").replace("corpora = ...", "corpora = {}"), "utf-8")
    answered = mine.read_text("utf-8")
    note = f"Not overwritten, since it may hold answers: {mine.relative_to(project)}\n"
    assert note in run("workshop")[1]
    assert mine.read_text("utf-8") == answered


def _with_sources(project: Path) -> Path:
    folder = project / "notebooks" / "workshop"
    folder.mkdir()
    for path in SOURCES.glob("*.py"):
        (folder / path.name).write_bytes(path.read_bytes())
    return project


def measured(seconds: float) -> dict[str, object]:
    rows = [
        {"exercise": name, "seconds": seconds, "runs": 4, "memory_mib": 812.3} for name in EXERCISES
    ]
    return {"created": "2026-01-02T03:04:05", "cores": 2, "device": "here", "rows": rows}


def test_the_agenda_shows_what_was_measured() -> None:
    text = exercises.agenda(measured(41.4))
    assert "| 10–25 | Sample from BOS | 41 | 4 | 812 |" in text
    assert "| 80–90 | Closing" in text
    assert f"{41.4 * len(EXERCISES):.0f} s in all, 41 s for the longest" in text
    assert "2026-01-02 on 2 cores of here" in text


def test_without_a_rehearsal_the_agenda_says_so() -> None:
    text = exercises.agenda(None)
    assert text.count("not measured") == len(EXERCISES)
    assert "nbutils workshop --rehearse" in text


def test_your_rehearsal_stands_before_the_published_one(tmp_path: Path) -> None:
    assert tables.measured(exercises.MEASURED, tmp_path) is None
    for folder, seconds in ((layout.PUBLISHED, 50.0), (Path("runs"), 60.0)):
        (tmp_path / folder).mkdir(parents=True)
        text = json.dumps(measured(seconds))
        (tmp_path / folder / exercises.MEASURED).write_text(text, "utf-8")
        found = tables.measured(exercises.MEASURED, tmp_path)
        assert found is not None
        assert found["rows"][0]["seconds"] == seconds


def test_the_published_rehearsal_keeps_the_limit() -> None:
    """What the instructor's guide shows: every exercise, each within its time."""
    path = REPOSITORY / layout.PUBLISHED / exercises.MEASURED
    found = json.loads(path.read_text("utf-8"))
    assert [row["exercise"] for row in found["rows"]] == list(EXERCISES)
    assert found["cores"] == 2
    assert all(0 < row["seconds"] < LIMIT for row in found["rows"])
