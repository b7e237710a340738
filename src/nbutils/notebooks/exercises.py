"""The workshop: exercises with gaps out of their solutions, a rehearsal, and the agenda.

The sources under ``notebooks/workshop/`` are the solutions. A cell with ``gap=[names]`` in its
metadata is what a participant writes: in the participants' notebook its leading comments stay, and
each name is given dots. The cell after a gap checks it.
"""

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from nbutils.notebooks import execute
from nbutils.results.project import Project
from nbutils.runs import environment

HANDED_OUT = Path("runs/workshop")
SOLUTIONS = "solutions"
REHEARSED = Path("runs/rehearsal")
MEASURED = "workshop.json"
GAP = "gap"


@dataclass(frozen=True)
class Part:
    """A part of the workshop: minutes in class, and the exercise it is about, if any."""

    title: str
    minutes: int
    exercise: str | None = None


AGENDA = (
    Part("Opening: the question, the words, the protocol", 10),
    Part("Sample from BOS", 15, "1_sample"),
    Part("Train on your own text", 15, "2_train"),
    Part("Whose text?", 15, "3_relations"),
    Part("What is still remembered?", 10, "4_extraction"),
    Part("Predict which source helps, then measure", 15, "5_predict"),
    Part("Closing: the board, and what it does not show", 10),
)
EXERCISES = tuple(part.exercise for part in AGENDA if part.exercise)


def stubbed(solution: NotebookNode) -> NotebookNode:
    """The participants' notebook: of every gap its leading comments, and dots for its names."""
    notebook = nbformat.from_dict(solution)  # a copy of its own
    for cell in notebook.cells:
        if GAP in cell.metadata:
            lines = cell.source.splitlines()
            code = next(i for i, line in enumerate(lines) if not line.startswith("#"))
            stubs = [f"{name} = ..." for name in cell.metadata[GAP]]
            cell.source = "\n".join([*lines[:code], *stubs])
    return notebook


def made(root: Path) -> dict[str, NotebookNode]:
    """File name to notebook: the participants', and the solutions in a folder of their own."""
    found = {}
    for exercise in EXERCISES:
        solution = nbformat.read(execute.convert(f"workshop/{exercise}", root), as_version=4)
        found[f"{exercise}.ipynb"] = stubbed(solution)
        found[f"{SOLUTIONS}/{exercise}.ipynb"] = solution
    return found


def hand_out(root: Path) -> list[Path]:
    """Write all notebooks to ``runs/workshop/``.

    One that is there already and differs may hold somebody's answers: it stays. Returns these.
    """
    kept = []
    for name, notebook in made(root).items():
        path, text = root / HANDED_OUT / name, nbformat.writes(notebook) + "\n"
        if path.exists() and path.read_text("utf-8") != text:
            kept.append(path)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return kept


Report = Callable[[str, float], None]


def rehearse(root: Path, report: Report) -> dict[str, Any]:
    """Execute every solution, one after another, in a project where nothing was computed before.

    ``report`` is called after each with its name and seconds, start of the kernel included. The
    executed notebooks and the runs stay under ``runs/rehearsal/``. Returns, and writes to
    ``runs/workshop.json``, what was measured.

    Raises:
        NotebookError: A solution failed, which includes that it does not pass its own check.
    """
    place = root / REHEARSED
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(root / execute.SOURCES, place / execute.SOURCES)
    rows: list[dict[str, Any]] = []
    for exercise in EXERCISES:
        known = {m.key for m in Project(place).store.all()}
        started = time.monotonic()
        execute.execute(f"workshop/{exercise}", {}, place / f"{exercise}.ipynb", place)
        seconds = time.monotonic() - started
        made = [m for m in Project(place).store.all() if m.key not in known]
        memory = max((m.peak_memory_mib for m in made), default=0.0)
        row = {"exercise": exercise, "seconds": seconds, "runs": len(made), "memory_mib": memory}
        rows.append(row)
        report(exercise, seconds)
    found = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": environment.device(),
        "cores": os.cpu_count(),
        "git": environment.git_state(),
        "versions": environment.versions(),
        "rows": rows,
    }
    (root / "runs" / MEASURED).write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    return found


def agenda(found: dict[str, Any] | None) -> str:
    """The agenda as Markdown: from minute to minute, and what was measured of each exercise."""
    measured = {row["exercise"]: row for row in found["rows"]} if found else {}
    lines = ["| minute | part | computing (s) | runs | memory (MiB) |", "|---|---|---|---|---|"]
    start = 0
    for part in AGENDA:
        row = measured.get(part.exercise)
        cells = ["", "", ""]
        if row:
            cells = [f"{row['seconds']:.0f}", f"{row['runs']}", f"{row['memory_mib']:.0f}"]
        elif part.exercise:
            cells[0] = "not measured"
        end = start + part.minutes
        lines.append(f"| {start}–{end} | {part.title} | {' | '.join(cells)} |")
        start = end
    told = "No rehearsal was measured yet: `nbutils workshop --rehearse` does."
    if found:
        seconds = sum(row["seconds"] for row in found["rows"])
        longest = max(row["seconds"] for row in found["rows"])
        told = (
            f"Computing takes {seconds:.0f} s in all, {longest:.0f} s for the longest exercise: "
            f"measured on {found['created'][:10]} on {found['cores']} cores of {found['device']}, "
            "from nothing, start of every kernel included."
        )
    return "\n".join([*lines, "", told, ""])
