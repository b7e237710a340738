"""Tables: where a tier's tables lie, their columns, and reading them.

A tier's tables live in one folder: ``book/results/<tier>/`` when published with the book,
``runs/tables/<tier>/`` when computed here (*your run*).
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pyarrow import ArrowInvalid
from pydantic import ValidationError

from nbutils.config.design import LABELS
from nbutils.results import corpora
from nbutils.runs.types import BEFORE_VERSIONS, Manifest, RunError

PUBLISHED = Path("book/results")
YOURS = Path("runs/tables")
MANIFESTS = "manifests.jsonl"
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


def labels(root: Path) -> str:
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
    return pd.read_parquet(path, columns=list(corpora.COLUMNS)) if path.is_file() else None


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
