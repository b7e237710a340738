"""Tables: their columns, and reading them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pyarrow import ArrowInvalid

from nbutils.config.design import LABELS
from nbutils.results import corpora
from nbutils.results.layout import (
    CONTRIBUTED,
    LOCAL,
    MANIFESTS,
    PUBLISHED,
    UNFINISHED,
    damaged,
    read_manifests,
)
from nbutils.runs.types import BEFORE_VERSIONS, RunError

COLUMNS: dict[str, tuple[str, ...]] = {
    "states": ("state", "extraction_run", "seed", *LABELS),
    # also one column of booleans per state: whether it answered the item correctly; a second one
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
    # summaries, which are computed from the tables above
    "gains": (
        *LABELS, "task", "items", "seeds", "chance", "base_accuracy", "accuracy",
        *("gain", "low", "high", "error", "degrees", "detectable"),
        # the same by acc_norm, for a task that defines it
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
"""Columns that were added later: their values are missing in tiers published without them."""
DOCUMENTS = "documents"
"""One more table: a few documents of every corpus. Tiers that were published earlier lack it."""


@dataclass(frozen=True)
class TierTables:
    """The folder of one tier's tables, and their origin: ``published`` or ``your run``."""

    tier: str
    origin: str
    folder: Path

    @property
    def unfinished(self) -> bool:
        """Whether the tables have only what is finished of their tier."""
        return (self.folder / UNFINISHED).is_file()

    @property
    def label(self) -> str:
        """The result label: tier and origin, as the selectors of charts show it."""
        # without a count: two tables of one page may be read before and after one more pairing
        return f"{self.tier} · {self.origin}{' so far' if self.unfinished else ''}"


def available(root: Path) -> list[TierTables]:
    """Every tier with complete tables under the project's root, the published ones first."""
    tiers = []
    for origin, place in (("published", root / PUBLISHED), ("your run", root / LOCAL)):
        for folder in sorted(place.glob("[!.]*/")):  # a name with a dot is being written
            if all((folder / f"{name}.parquet").is_file() for name in COLUMNS):
                tiers.append(TierTables(folder.name, origin, folder))
    return tiers


def labels(root: Path) -> str:
    """One line with the labels of all results, or with the command that computes some."""
    labels = ", ".join(tier.label for tier in available(root))
    return f"Results: {labels or 'none yet (run: nbutils run tiny)'}"


def load(name: str, root: Path) -> pd.DataFrame:
    """One table for all available tiers, with columns ``tier``, ``origin`` and ``results``.

    ``results`` is the result label. The rows keep the order of the files.

    Raises:
        RunError: A file is damaged, or was written by another version.
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
    """All tables of one folder, by name."""
    return {name: _table(folder, name) for name in COLUMNS}


def _table(folder: Path, name: str) -> pd.DataFrame:
    """One table of a folder, with the columns of ``LATER``."""
    frame = pd.read_parquet(folder / f"{name}.parquet")
    return frame.assign(**{c: np.nan for c in LATER.get(name, ()) if c not in frame})


def read_documents(folder: Path) -> pd.DataFrame | None:
    """A few documents of every corpus of a tier; None where it was published without them."""
    path = folder / f"{DOCUMENTS}.parquet"
    return pd.read_parquet(path, columns=list(corpora.COLUMNS)) if path.is_file() else None


def measured(name: str, root: Path) -> dict[str, Any] | None:
    """The content of a JSON file under ``runs/``, else of the published file, else None."""
    for path in (root / "runs" / name, root / PUBLISHED / name):
        if path.is_file():
            return dict(json.loads(path.read_text("utf-8")))
    return None


def manifests(root: Path) -> pd.DataFrame:
    """One row per run of every available tier: the fields of its manifest, flattened one level.

    ``results`` is the result label, marked where the run is a contribution.

    Raises:
        RunError: A file is damaged.
    """
    rows = []
    for t in available(root):
        contributed = {key for line in _json_lines(t.folder / CONTRIBUTED) for key in line["runs"]}
        for line in _json_lines(t.folder / MANIFESTS):
            label = f"{t.label} · contributed" if line["key"] in contributed else t.label
            rows.append({"version": BEFORE_VERSIONS} | line | {"results": label})
    return pd.DataFrame(rows)


def _json_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON objects of a file, one per line; none if there is no file."""
    # split bytes, since Python ends a line of text at characters that JSON allows in a string
    lines = path.read_bytes().splitlines() if path.is_file() else []
    try:
        return [json.loads(line) for line in lines]
    except (ValueError, RecursionError):
        raise damaged(path) from None


def without_manifest(folder: Path) -> set[str]:
    """Keys of runs that have rows in a table of a folder but no manifest there."""
    keys: set[str] = set()
    for name, columns in COLUMNS.items():
        of_runs = [c for c in columns if c in ("run", "extraction_run", "state")]
        if of_runs:
            table = pd.read_parquet(folder / f"{name}.parquet", columns=of_runs)
            keys |= {key.partition("@")[0] for c in of_runs for key in table[c].dropna().unique()}
    documents = read_documents(folder)
    keys |= set() if documents is None else set(documents["run"])
    return keys - {m.key for m in read_manifests(folder)}
