"""Collecting: the tables of a finished tier, written to ``runs/tables/<tier>/`` all at once."""

from pathlib import Path

import pandas as pd

from nbutils.files import replacing
from nbutils.results.layout import LOCAL, MANIFESTS
from nbutils.results.project import Project
from nbutils.results.tables import COLUMNS, DOCUMENTS
from nbutils.runs import source_code
from nbutils.runs.types import Run, UnwritableError

CODE = "code.sha256"  # digest of the code that made the tables


def collect(name: str, runs: list[Run], project: Project) -> bool:
    """Write the tables of a finished tier to ``runs/tables/<name>/``; False if they are up to date.

    The folder is written beside the old one and replaces it, so readers never see a part. Of
    several runners that get here at the same time, one writes.

    Raises:
        RunError: A run is not finished.
        UnwritableError: The disk is full or cannot be written.
    """
    store, root = project.store, project.root
    finished = [store.finished(run) for run in runs]
    lines = "".join(m.model_dump_json() + "\n" for m in finished if m is not None)
    place = root / LOCAL / name

    def up_to_date() -> bool:
        whole = all((place / f"{table}.parquet").is_file() for table in COLUMNS)
        return (
            whole and None not in finished and current(place) and _holds(place / MANIFESTS, lines)
        )

    if up_to_date():
        return False
    # scipy takes a second to import; a rerun with nothing to do does not need it
    from nbutils.analysis import gains
    from nbutils.results import corpora, rows
    from nbutils.results.measurements import InStore

    frames = rows.of_tier(project.plan(name).tier, runs, InStore(store, runs))
    frames |= gains.summarize(frames)
    documents = corpora.first_documents(runs, store)
    try:
        with store.claim(f"tables-{name}"):
            if up_to_date():
                return False
            with replacing(place) as scratch:
                write(frames, scratch)
                documents.to_parquet(scratch / f"{DOCUMENTS}.parquet", index=False)
                (scratch / MANIFESTS).write_text(lines, "utf-8")
                stamp(scratch)
    except OSError as error:
        raise UnwritableError(
            f"the tables could not be written to {place}: {error.strerror or error}; the runs are "
            "kept: make space or allow writing there, and run again"
        ) from error
    return True


def write(frames: dict[str, pd.DataFrame], folder: Path) -> None:
    """Write every table into a folder, with its columns in the order of ``COLUMNS``."""
    for name in COLUMNS:
        ordered(name, frames[name]).to_parquet(folder / f"{name}.parquet", index=False)


def ordered(name: str, frame: pd.DataFrame) -> pd.DataFrame:
    """A table with the columns of its file; ``utility`` also has one or two per state."""
    columns = COLUMNS[name]
    states = [c for c in frame if c not in columns] if name == "utility" else []
    return frame[[*columns, *states]]


def stamp(folder: Path) -> None:
    """Write the digest of the present code into a folder that has none."""
    if not (folder / CODE).exists():
        (folder / CODE).write_text(_code(), "utf-8")


def current(folder: Path) -> bool:
    """Whether the present code made the tables in a folder."""
    return _holds(folder / CODE, _code())


def _code() -> str:
    return source_code.module_digest("results.collect") + "\n"


def _holds(path: Path, content: str) -> bool:
    return path.is_file() and path.read_text("utf-8") == content
