"""Results: where a tier's tables lie, and reading, writing and checking them.

A tier's tables live in one folder: ``book/results/<tier>/`` when published with the book,
``runs/tables/<tier>/`` when computed here (*your run*).
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pyarrow import ArrowInvalid
from pydantic import ValidationError

from nbutils import digests, documents
from nbutils.cells import LABELS
from nbutils.runs import Manifest, Run, RunError, Store, UnwritableError, sync
from nbutils.stages import BEFORE_VERSIONS
from nbutils.tiers import Tier

PUBLISHED = Path("book/results")
YOURS = Path("runs/tables")
MANIFESTS = "manifests.jsonl"
CODE = "code.sha256"  # digest of the code that made the tables
SUMS = "SHA256SUMS"  # digest of every file of a published tier, as sha256sum writes it
CONTRIBUTED = "contributions.jsonl"  # what others computed: a line an archive, with its runs

COLUMNS: dict[str, tuple[str, ...]] = {
    "states": ("state", "extraction_run", "seed", *LABELS),
    # and one column of booleans per state: whether it answered the item right; and a second one
    # where tasks define acc_norm
    "utility": ("task", "item", "document", "chance"),
    "extraction": ("state", "passage", "split", "exact", "matched_tokens", "suffix_tokens"),
    "curves": ("run", "seed", *LABELS, "loss"),
    "proxies": (
        *("run", "student", "source", "relation", "temperature", "seed"),
        *("kind", "task", "proxy", "value"),
    ),
    "corpora": (
        *("run", "source", "round", "temperature", "seed", "documents", "tokens", "finished"),
        *("distinct_1", "distinct_2", "distinct_3", "benchmark_words", "passage_hits"),
        *("mean_log_prob", "fidelity", "read_otherwise"),
    ),
    "models": (
        *("run", "model", "family", "domain", "architecture", "size", "parameters"),
        *("training_tokens", "planted_share", "exposures", "student"),
    ),
    # summaries, which follow from the tables above
    "gains": (
        *LABELS, "task", "items", "seeds", "chance", "base_accuracy", "accuracy",
        *("gain", "low", "high", "error", "degrees", "detectable"),
        # the same by acc_norm, of a task that defines it
        *("base_accuracy_norm", "accuracy_norm", "gain_norm", "low_norm", "high_norm"),
        *("error_norm", "degrees_norm", "detectable_norm"),
    ),
    "contrasts": (
        *("claim", "method", "student", "first", "second"),
        *("value", "low", "high", "error", "degrees", "seeds"),
    ),
    "falls": (
        *LABELS, "split", "passages", "seeds", "before", "after", "survivors",
        *("share", "share_low", "share_high", "fall", "low", "high"),
    ),
}  # fmt: skip
LATER = {
    "gains": tuple(name for name in COLUMNS["gains"] if name.endswith("_norm")),
    "corpora": ("read_otherwise",),
}
"""Columns that came later: of a tier that was published without them, all is missing there."""
DOCUMENTS = "documents"
"""A table beside those: a few documents of every corpus. Tiers published before have none."""


@dataclass(frozen=True)
class TierTables:
    """The folder of one tier's tables, and whose they are: ``published`` or ``your run``."""

    tier: str
    origin: str
    folder: Path

    @property
    def label(self) -> str:
        """What a chart's tier selector shows."""
        return f"{self.tier} · {self.origin}"


def available(root: Path) -> list[TierTables]:
    """Every tier with complete tables under the project's root, the published ones first."""
    found = []
    for origin, place in (("published", root / PUBLISHED), ("your run", root / YOURS)):
        for folder in sorted(place.glob("[!.]*/")):  # a dot: half written
            if all((folder / f"{name}.parquet").is_file() for name in COLUMNS):
                found.append(TierTables(folder.name, origin, folder))
    return found


def found(root: Path) -> str:
    """One line: which results there are to read, or what would bring some."""
    labels = ", ".join(tier.label for tier in available(root))
    return f"Results: {labels or 'none yet (run: nbutils run tiny)'}"


def load(name: str, root: Path) -> pd.DataFrame:
    """One table over every available tier, with columns ``tier``, ``origin`` and ``results``.

    ``results`` is the label of the tier and its origin. The rows keep the order of the files.
    """
    parts = [
        _columns(t, name).assign(tier=t.tier, origin=t.origin, results=t.label)
        for t in available(root)
    ]
    columns = [*COLUMNS[name], "tier", "origin", "results"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def _columns(tables: TierTables, name: str) -> pd.DataFrame:
    path = tables.folder / f"{name}.parquet"
    try:
        return _table(tables.folder, name)[list(COLUMNS[name])]
    except (ArrowInvalid, KeyError) as error:
        raise RunError(
            f"{path} is damaged, or of another version of this package: `nbutils run "
            f"{tables.tier}` writes your tables again, and published ones are in git ({error})"
        ) from error


def read(folder: Path) -> dict[str, pd.DataFrame]:
    """Every table of one folder, by name."""
    return {name: _table(folder, name) for name in COLUMNS}


def _table(folder: Path, name: str) -> pd.DataFrame:
    """A table of a folder, with the columns of ``LATER``."""
    frame = pd.read_parquet(folder / f"{name}.parquet")
    return frame.assign(**{c: np.nan for c in LATER.get(name, ()) if c not in frame})


def read_documents(folder: Path) -> pd.DataFrame | None:
    """A few documents of every corpus of a tier; None where it was published without them."""
    path = folder / f"{DOCUMENTS}.parquet"
    return pd.read_parquet(path, columns=list(documents.COLUMNS)) if path.is_file() else None


def measured(name: str, root: Path) -> dict[str, Any] | None:
    """What a measurement wrote under ``runs/`` here, else what is published of it, else None."""
    for path in (root / "runs" / name, root / PUBLISHED / name):
        if path.is_file():
            return dict(json.loads(path.read_text("utf-8")))
    return None


def manifests(root: Path) -> pd.DataFrame:
    """One row a run over every available tier: its manifest's fields, flattened one level.

    ``results`` is the label of the tier, and says so where the run is a contribution.
    """
    rows = []
    for t in available(root):
        given = {key for line in _json_lines(t.folder / CONTRIBUTED) for key in line["runs"]}
        for line in _json_lines(t.folder / MANIFESTS):
            label = f"{t.label} · contributed" if line["key"] in given else t.label
            rows.append({"version": BEFORE_VERSIONS} | line | {"results": label})
    return pd.DataFrame(rows)


def _json_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a file; none where there is no file."""
    # lines of bytes: in text, JSON may hold what Python takes for the end of a line
    lines = path.read_bytes().splitlines() if path.is_file() else []
    try:
        return [json.loads(line) for line in lines]
    except (ValueError, RecursionError):
        raise _damaged(path) from None


def _damaged(path: Path) -> RunError:
    return RunError(f"{path} is damaged: restore it from git, or run its tier again")


def read_manifests(folder: Path) -> list[Manifest]:
    """The manifests of a folder of tables, in its order; none where the folder has no file.

    Raises:
        RunError: The file is damaged.
    """
    path = folder / MANIFESTS
    if not path.is_file():
        return []
    try:
        return [Manifest.model_validate_json(line) for line in path.read_bytes().splitlines()]
    except ValidationError:
        raise _damaged(path) from None


def without_manifest(folder: Path) -> set[str]:
    """Keys of runs that have rows in some table of a folder but no manifest beside them."""
    keys: set[str] = set()
    for name, columns in COLUMNS.items():
        named = [c for c in columns if c in ("run", "extraction_run", "state")]
        if named:
            table = pd.read_parquet(folder / f"{name}.parquet", columns=named)
            keys |= {key.partition("@")[0] for c in named for key in table[c].dropna().unique()}
    sampled = read_documents(folder)
    keys |= set() if sampled is None else set(sampled["run"])
    return keys - {m.key for m in read_manifests(folder)}


def collect(tier: Tier, name: str, runs: list[Run], root: Path) -> bool:
    """Write the tables of a finished tier to ``runs/tables/<name>/``; False if they stand.

    The folder is written beside its place and swapped in, so that a reader never sees half;
    of several runners that come to this at once, one writes.

    Raises:
        RunError: A run is not finished.
        UnwritableError: The disk is full or cannot be written.
    """
    store = Store(root)
    finished = [store.finished(run) for run in runs]
    lines = "".join(m.model_dump_json() + "\n" for m in finished if m is not None)
    place = root / YOURS / name
    stamps = {MANIFESTS: lines, CODE: digests.module_digest("results") + "\n"}

    def stands() -> bool:
        whole = all((place / f"{table}.parquet").is_file() for table in COLUMNS)
        return (
            whole and None not in finished and current(place) and _holds(place / MANIFESTS, lines)
        )

    if stands():
        return False
    # scipy takes a second to import: a rerun with nothing to do must not wait for it
    from nbutils import summaries
    from nbutils.tables import tables

    frames = tables(tier, runs, store)
    frames |= summaries.summarize(frames)
    sampled = documents.first(runs, store)
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


def sums(files: Mapping[str, bytes]) -> str:
    """A line for every file: its SHA-256 and its name, as sha256sum writes them."""
    return "".join(f"{digests.sha256(files[f])}  {f}\n" for f in sorted(files))


@contextmanager
def replacing(place: Path) -> Iterator[Path]:
    """A folder to write into, which takes the place of ``place`` when all of it is written.

    What was there is moved aside whole, and moved back by the next call if a kill comes between.
    An error leaves it as it was.
    """
    restore(place)
    scratch, old = place.with_name(f".{place.name}.partial"), _old(place)
    for left in (scratch, old):
        shutil.rmtree(left, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        yield scratch
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    sync(scratch)
    if place.exists():
        os.replace(place, old)
    os.replace(scratch, place)
    shutil.rmtree(old, ignore_errors=True)


def restore(place: Path) -> None:
    """Put back what a killed ``replacing`` had moved aside."""
    if _old(place).exists() and not place.exists():
        os.replace(_old(place), place)


def _old(place: Path) -> Path:
    return place.with_name(f".{place.name}.old")


def current(folder: Path) -> bool:
    """Whether a folder of tables was made by the code as it is now."""
    return _holds(folder / CODE, digests.module_digest("results") + "\n")


def _holds(path: Path, content: str) -> bool:
    return path.is_file() and path.read_text("utf-8") == content
