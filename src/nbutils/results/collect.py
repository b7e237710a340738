"""Collecting: a finished tier's tables, written to ``runs/tables/<tier>/`` whole or not at all."""

from pathlib import Path

import pandas as pd

from nbutils.files import replacing
from nbutils.results.project import Project
from nbutils.results.tables import COLUMNS, DOCUMENTS, MANIFESTS, YOURS
from nbutils.runs import source_code
from nbutils.runs.types import Run, UnwritableError

CODE = "code.sha256"  # digest of the code that made the tables


def collect(name: str, runs: list[Run], project: Project) -> bool:
    """Write the tables of a finished tier to ``runs/tables/<name>/``; False if they stand.

    The folder is written beside its place and swapped in, so that a reader never sees half;
    of several runners that come to this at once, one writes.

    Raises:
        RunError: A run is not finished.
        UnwritableError: The disk is full or cannot be written.
    """
    store, root = project.store, project.root
    finished = [store.finished(run) for run in runs]
    lines = "".join(m.model_dump_json() + "\n" for m in finished if m is not None)
    place = root / YOURS / name
    stamps = {MANIFESTS: lines, CODE: source_code.module_digest("results.collect") + "\n"}

    def stands() -> bool:
        whole = all((place / f"{table}.parquet").is_file() for table in COLUMNS)
        return (
            whole and None not in finished and current(place) and _holds(place / MANIFESTS, lines)
        )

    if stands():
        return False
    # scipy takes a second to import: a rerun with nothing to do must not wait for it
    from nbutils.analysis import gains
    from nbutils.results import corpora, rows

    frames = rows.of_tier(project.plan(name).tier, runs, store)
    frames |= gains.summarize(frames)
    sampled = corpora.first(runs, store)
    try:
        with store.claim(f"tables-{name}"):
            if stands():
                return False
            with replacing(place) as scratch:
                write(frames, scratch)
                sampled.to_parquet(scratch / f"{DOCUMENTS}.parquet", index=False)
                for file, content in stamps.items():
                    (scratch / file).write_text(content, "utf-8")
    except OSError as error:
        raise UnwritableError(
            f"the tables could not be written to {place}: {error.strerror or error}; the runs are "
            "kept: mend this and run again"
        ) from error
    return True


def write(frames: dict[str, pd.DataFrame], folder: Path) -> None:
    """Write every table into a folder, its columns in their order."""
    for name in COLUMNS:
        ordered(name, frames[name]).to_parquet(folder / f"{name}.parquet", index=False)


def ordered(name: str, frame: pd.DataFrame) -> pd.DataFrame:
    """A table with the columns that it has in a file; ``utility`` has more, those of states."""
    columns = COLUMNS[name]
    further = [c for c in frame if c not in columns] if name == "utility" else []
    return frame[[*columns, *further]]


def current(folder: Path) -> bool:
    """Whether a folder of tables was made by the code as it is now."""
    return _holds(folder / CODE, source_code.module_digest("results.collect") + "\n")


def _holds(path: Path, content: str) -> bool:
    return path.is_file() and path.read_text("utf-8") == content
