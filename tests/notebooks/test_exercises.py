"""The workshop, executed: every solution passes its checks, every stub fails its own."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

from nbutils.notebooks import exercises, gaps
from nbutils.notebooks.exercises import EXERCISES, GAP, HANDED_OUT, REHEARSED, SOLUTIONS
from nbutils.results import tables
from support.project import nbutils, new_project

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("exercises")]


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A project in which the workshop was rehearsed, and what that printed."""
    root = new_project(tmp_path_factory.mktemp("workshop") / "project")
    done = nbutils(root, "workshop", "--rehearse")
    assert done.returncode == 0, done.stderr
    return root, done.stdout


def test_every_solution_passes_and_its_time_is_printed(printed: tuple[Path, str]) -> None:
    root, said = printed
    for exercise in EXERCISES:
        assert re.search(rf"^{exercise}: \d+ s$", said, re.MULTILINE), said
        executed = nbformat.read(root / REHEARSED / f"{exercise}.ipynb", 4)
        code = [cell for cell in executed.cells if cell.cell_type == "code"]
        assert all(cell.execution_count for cell in code)
        passed = [c for c in code if any("Right: " in o.get("text", "") for o in c.outputs)]
        assert len(passed) == sum(GAP in cell.metadata for cell in executed.cells)
    assert "Every solution passes its checks" in said
    found = tables.measured(exercises.MEASURED, root)
    assert found is not None
    assert [row["exercise"] for row in found["rows"]] == list(EXERCISES)
    # each computes something of its own, and nothing that an earlier one computed
    assert all(row["runs"] > 0 for row in found["rows"])


@pytest.mark.parametrize("exercise", EXERCISES)
def test_every_stub_fails_its_own_check(
    exercise: str, printed: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cells of the solution, one by one; at each gap the stub is tried first."""
    root, _ = printed
    monkeypatch.chdir(root / REHEARSED)
    solved, stubs = (
        [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
        for path in (
            root / HANDED_OUT / SOLUTIONS / f"{exercise}.ipynb",
            root / HANDED_OUT / f"{exercise}.ipynb",
        )
    )
    names: dict[str, Any] = {}
    for place, cell in enumerate(solved):
        if GAP in cell.metadata:
            (name,) = cell.metadata[GAP]
            trial = dict(names)
            exec(stubs[place].source, trial)
            with pytest.raises(gaps.GapError, match=f"^`{name}` is still a gap: put "):
                exec(stubs[place + 1].source, trial)
        exec(cell.source, names)


def test_a_participant_sees_the_explanation_and_no_traceback(printed: tuple[Path, str]) -> None:
    root, _ = printed
    output = root / "open.ipynb"
    given = str(root / HANDED_OUT / f"{EXERCISES[0]}.ipynb")
    command = [
        sys.executable,
        "-m",
        "papermill",
        given,
        str(output),
        "--cwd",
        str(root / REHEARSED),
    ]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    shown = [o for c in nbformat.read(output, 4).cells for o in c.get("outputs", ())]
    (error,) = [o for o in shown if o.output_type == "error"]
    assert error.ename == "GapError"
    assert len(error.traceback) == 1
    assert error.traceback[0].startswith("Not yet. `corpora` is still a gap: put a dictionary")
