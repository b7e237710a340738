"""The workshop: exercises with gaps, made from their solutions; a rehearsal; the agenda.

The sources under ``notebooks/workshop/`` are the solutions. Participants write the cells that have
``gap=[names]`` in their metadata: in their notebook such a cell has its leading comments, and dots
for each name. The cell after a gap checks it.
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
    """A part of the workshop: its title, minutes in class, and its exercise, if it has one."""

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
    """The participants' notebook: every gap has its leading comments and dots for its names."""
    notebook = nbformat.from_dict(solution)  # a copy
    for cell in notebook.cells:
        if GAP in cell.metadata:
            lines = cell.source.splitlines()
            code = next(i for i, line in enumerate(lines) if not line.startswith("#"))
            stubs = [f"{name} = ..." for name in cell.metadata[GAP]]
            cell.source = "\n".join([*lines[:code], *stubs])
    return notebook


def made(root: Path) -> dict[str, NotebookNode]:
    """Maps file names to notebooks: those with gaps, and the solutions in a folder."""
    notebooks = {}
    for exercise in EXERCISES:
        solution = nbformat.read(execute.convert(f"workshop/{exercise}", root), as_version=4)
        notebooks[f"{exercise}.ipynb"] = stubbed(solution)
        notebooks[f"{SOLUTIONS}/{exercise}.ipynb"] = solution
    return notebooks


def hand_out(root: Path) -> list[Path]:
    """Write all notebooks to ``runs/workshop/``.

    Existing notebooks that differ may have somebody's answers, so they are not overwritten.

    Returns:
        The notebooks that were not overwritten.
    """
    edited = []
    for name, notebook in made(root).items():
        path, text = root / HANDED_OUT / name, nbformat.writes(notebook) + "\n"
        if path.exists() and path.read_text("utf-8") != text:
            edited.append(path)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return edited


Report = Callable[[str, float], None]


def rehearse(root: Path, report: Report) -> dict[str, Any]:
    """Execute all solutions, one after another, in a new project without any finished run.

    ``report`` is called after each solution with its name and its seconds, which include the start
    of the kernel. The executed notebooks and the runs stay under ``runs/rehearsal/``.

    Returns:
        The measurements, which are also written to ``runs/workshop.json``.

    Raises:
        NotebookError: A solution failed, or did not pass its own check.
    """
    place = root / REHEARSED
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(root / execute.SOURCES, place / execute.SOURCES)
    rows: list[dict[str, Any]] = []
    for exercise in EXERCISES:
        earlier = {m.key for m in Project(place).store.all()}
        started = time.monotonic()
        execute.execute(f"workshop/{exercise}", {}, place / f"{exercise}.ipynb", place)
        seconds = time.monotonic() - started
        new = [m for m in Project(place).store.all() if m.key not in earlier]
        memory = max((m.peak_memory_mib for m in new), default=0.0)
        row = {"exercise": exercise, "seconds": seconds, "runs": len(new), "memory_mib": memory}
        rows.append(row)
        report(exercise, seconds)
    measurements = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": environment.device(),
        "cores": os.cpu_count(),
        "git": environment.git_state(),
        "versions": environment.versions(),
        "rows": rows,
    }
    (root / "runs" / MEASURED).write_text(json.dumps(measurements, indent=1) + "\n", "utf-8")
    return measurements


def agenda(measurements: dict[str, Any] | None) -> str:
    """The agenda as Markdown: the minutes of each part, and the measurements of its exercise."""
    measured = {row["exercise"]: row for row in measurements["rows"]} if measurements else {}
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
    summary = "No rehearsal was measured yet: `nbutils workshop --rehearse` measures one."
    if measurements:
        seconds = sum(row["seconds"] for row in measurements["rows"])
        longest = max(row["seconds"] for row in measurements["rows"])
        created, cores = measurements["created"][:10], measurements["cores"]
        summary = (
            f"Computing takes {seconds:.0f} s in all, {longest:.0f} s for the longest exercise: "
            f"measured on {created} on {cores} cores of {measurements['device']}, "
            "from nothing, start of every kernel included."
        )
    return "\n".join([*lines, "", summary, ""])
