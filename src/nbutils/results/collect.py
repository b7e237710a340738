"""Collecting: the tables of a tier, written to ``runs/tables/<tier>/`` all at once."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from nbutils.files import replacing
from nbutils.results.layout import LOCAL, MANIFESTS, UNFINISHED
from nbutils.results.measurements import Measurements
from nbutils.results.project import Project
from nbutils.results.tables import COLUMNS, DOCUMENTS
from nbutils.runs import source_code
from nbutils.runs.types import Manifest, Run, UnwritableError

CODE = "code.sha256"  # digest of the code that made the tables


def collect(name: str, runs: list[Run], project: Project) -> bool:
    """Write the tables of a finished tier to ``runs/tables/<name>/``; False if they are up to date.

    The folder is written beside the old one and replaces it, so readers never see a part. Of
    several runners that get here at the same time, one writes.

    Raises:
        RunError: A run is not finished.
        UnwritableError: The disk is full or cannot be written.
    """
    store, place = project.store, project.root / LOCAL / name
    finished = [store.finished(run) for run in runs]

    def up_to_date() -> bool:
        whole = all((place / f"{table}.parquet").is_file() for table in COLUMNS)
        return (
            whole
            and not (place / UNFINISHED).is_file()
            and None not in finished
            and current(place)
            and _holds(place / MANIFESTS, _lines(finished))
        )

    if up_to_date():
        return False
    # scipy takes a second to import; a rerun with nothing to do does not need it
    from nbutils.results.measurements import InStore

    frames = _frames(name, runs, project, InStore(store, runs))
    with _writing(name, project):
        if up_to_date():
            return False
        _write(frames, finished, place)
    return True


def collect_part(
    name: str, runs: list[Run], project: Project, measured: Measurements
) -> dict[str, pd.DataFrame]:
    """Write the tables of a part of a tier, marked as such, in the same way; return them.

    ``runs`` are those of ``rows.with_rows``, with a trained student among them.

    Raises:
        UnwritableError: The disk is full or cannot be written.
    """
    frames = _frames(name, runs, project, measured)
    with _writing(name, project):
        finished = [project.store.finished(run) for run in runs]
        _write(frames, finished, project.root / LOCAL / name, unfinished=True)
    return frames


def _frames(
    name: str, runs: list[Run], project: Project, measured: Measurements
) -> dict[str, pd.DataFrame]:
    """Every table of some runs of a tier."""
    from nbutils.analysis import gains
    from nbutils.results import corpora, rows

    frames = rows.of_tier(project.plan(name).tier, runs, measured)
    documents = {DOCUMENTS: corpora.first_documents(runs, project.store)}
    return frames | gains.summarize(frames) | documents


@contextmanager
def _writing(name: str, project: Project) -> Iterator[None]:
    """Let no other runner write the tables of a tier, and name them where the disk refuses."""
    try:
        with project.store.claim(f"tables-{name}"):
            yield
    except OSError as error:
        raise UnwritableError(
            f"the tables could not be written to {project.root / LOCAL / name}: "
            f"{error.strerror or error}; the runs are kept: make space or allow writing there, "
            "and run again"
        ) from error


def _write(
    frames: dict[str, pd.DataFrame],
    finished: list[Manifest | None],
    place: Path,
    unfinished: bool = False,
) -> None:
    with replacing(place) as scratch:
        write(frames, scratch)
        frames[DOCUMENTS].to_parquet(scratch / f"{DOCUMENTS}.parquet", index=False)
        (scratch / MANIFESTS).write_text(_lines(finished), "utf-8")
        if unfinished:
            (scratch / UNFINISHED).write_text("Some runs of this tier are missing.\n", "utf-8")
        stamp(scratch)


def _lines(finished: list[Manifest | None]) -> str:
    return "".join(m.model_dump_json() + "\n" for m in finished if m is not None)


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
