"""Explore: the matrix of pairings as data that a page draws without a server.

One small script holds the matrix. The page loads a further script for each pairing and corpus that
a reader opens. They are scripts, not JSON, since a page opened from a folder cannot read files.
"""

import json
import math
import shlex
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from nbutils.analysis.gains import SUITE, Accuracy, falls, gains
from nbutils.charts import losses, parts, provenance
from nbutils.charts.tables import by_metric
from nbutils.config.design import CONTROL_NAMES, TEMPERATURE
from nbutils.config.notebook_parameters import REPORT
from nbutils.config.tiers import load_tier
from nbutils.escaping import visible
from nbutils.files import replacing, sha256
from nbutils.notebooks.execute import CONVERTED
from nbutils.results import tables as results_tables
from nbutils.results.tables import available, read_documents

SHOWN = ("pairings", "controls")  # the experiments that the matrix shows
KEY = ("source", "student", "method", "temperature")
ALL = "all"  # the choice of all seeds together
CURVE = 60  # largest number of points of a loss curve
Key = tuple[Any, ...]
Row = dict[str, Any]
Tables = Mapping[str, pd.DataFrame]
Choices = Mapping[str, tuple[pd.DataFrame, pd.DataFrame]]
"""Maps a choice (one seed, or ``ALL``) to gains and falls."""


@dataclass(frozen=True)
class TierData:
    """The results of one tier.

    Attributes:
        label: The result label.
        name: The name of the tier.
        tables: The tables by ``tables.read``.
        choices: Gains and falls by ``measured``.
        manifests: Rows of ``tables.manifests``.
        documents: Rows by ``tables.read_documents``; None where none were published.
        origins: Maps fetched models that the tier's file does not name to their origins.
    """

    label: str
    name: str
    tables: Tables
    choices: Choices
    manifests: pd.DataFrame
    documents: pd.DataFrame | None
    origins: Mapping[str, str] = field(default_factory=dict)


def write(root: Path, folder: Path) -> int:
    """Write the data of every available tier into ``folder``, replacing it.

    Returns:
        The number of pairings and controls in the matrix.
    """
    manifests = results_tables.manifests(root)
    tiers = []
    for t in available(root):
        rows = manifests[manifests["results"].str.startswith(t.label)]
        tables, documents = results_tables.read(t.folder), read_documents(t.folder)
        origins = _origins(rows, t.tier, root)
        data = TierData(t.label, t.tier, tables, measured(tables), rows, documents, origins)
        tiers.append(data)
    return write_tiers(tiers, folder)


def _origins(manifests: pd.DataFrame, tier: str, root: Path) -> dict[str, str]:
    """Maps models to their origins, for fetched models that the tier's file does not name."""
    has_file = (root / "notebooks" / "tiers" / f"{tier}.yml").is_file()
    known = load_tier(tier, root).models if has_file else {}
    fetched = manifests[manifests["stage"].eq("fetch_model")].to_dict("records")
    origins = {row["labels"]["model"]: str(row["parameters"]["origin"]) for row in fetched}
    return {model: origin for model, origin in origins.items() if model not in known}


def write_tiers(tiers: Iterable[TierData], folder: Path) -> int:
    """Write the scripts of some tiers into ``folder``, replacing it; return as ``write`` does."""
    files: dict[str, Any] = {}
    index = []
    for tier in tiers:
        entry, files_of_tier = of_tier(tier)
        index.append(entry)
        files |= files_of_tier
    files["index"] = {"relations": parts.RELATIONS, "results": index}
    with replacing(folder) as scratch:
        for name in ("cells", "corpora"):
            (scratch / name).mkdir()
        for name, value in files.items():
            (scratch / f"{name}.js").write_text(script(name, value), "utf-8")
    return sum(len(entry["cells"]) for entry in index)


def script(name: str, value: Any) -> str:
    """A script that passes a named value to the page; plain ASCII without markup."""
    data = json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return f"nbutilsExplore.take({json.dumps(name)},{data});\n"


def plain(value: Any, digits: int = 3) -> Any:
    """A value for JSON: a rounded number, None if it is missing or infinite, or a string."""
    if isinstance(value, str) or value is None:
        return value
    if pd.isna(value) or math.isinf(value):
        return None
    return int(value) if float(value).is_integer() else round(float(value), digits)


def points(row: Row) -> list[Any]:
    """Gain and its limits, in percentage points."""
    return [_percent(row[name]) for name in ("gain", "low", "high")]


def _percent(value: float | None) -> Any:
    return plain(None if value is None else 100 * value)


def grouped(frame: pd.DataFrame, *by: str) -> dict[Key, list[Row]]:
    """The rows of a frame, grouped by the values of some columns; missing values are None."""
    groups: dict[Key, list[Row]] = defaultdict(list)
    objects = frame.astype(object).where(frame.notna(), None)
    for row in objects.to_dict("records"):
        groups[tuple(row[name] for name in by)].append({str(k): v for k, v in row.items()})
    return groups


# ---------------------------------------------------------------- one tier


def measured(tables: Tables) -> Choices:
    """Gains and falls over all seeds, and of each seed where there are several."""
    states = tables["states"]
    states = states[states["experiment"].isin([*SHOWN, "untouched"])]
    seeds = sorted(states["seed"].dropna().unique())
    if len(seeds) < 2:
        return {str(seed): (tables["gains"], tables["falls"]) for seed in seeds}
    choices = {ALL: (tables["gains"], tables["falls"])}
    accuracy = Accuracy(tables["utility"], states)
    for seed in seeds:
        part = states[states["seed"].isna() | states["seed"].eq(seed)]
        choices[str(seed)] = (gains(accuracy, part), falls(tables["extraction"], part))
    return choices


def of_tier(tier: TierData) -> tuple[Row, dict[str, Any]]:
    """A tier's entry in the index, and the files of its pairings and corpora by name."""
    tasks = {c: grouped(by_metric(_shown(g)), *KEY) for c, (g, _) in tier.choices.items()}
    passages = {c: grouped(_shown(f), *KEY) for c, (_, f) in tier.choices.items()}
    keys = list(dict.fromkeys(key for part in tasks.values() for key in part))
    students = list(dict.fromkeys(key[1] for key in keys))
    sources = sorted({key[0] for key in keys}, key=lambda s: (s in CONTROL_NAMES.values(), s))
    settings = sorted({key[2:] for key in keys}, key=lambda s: (s[1] != TEMPERATURE, s))
    details = Details(tier)
    cells, files = [], {}
    for key in keys:
        source, student, method, temperature = key
        name = sha256(repr((tier.label, *key)))[:12]
        relation = next(part[key][0] for part in tasks.values() if key in part)["relation"]
        suites = [_suite(part.get(key, [])) for part in tasks.values()]
        cells.append(
            [name, sources.index(source), students.index(student),
             settings.index((method, temperature)), relation,
             [row and points(row) for row in suites]]
        )  # fmt: skip
        files[f"cells/{name}"] = {
            "source": source,
            "student": student,
            "relation": relation,
            "measured": {
                choice: {
                    "tasks": [_task(row) for row in tasks[choice][key]],
                    "passages": [_passages(row) for row in passages[choice].get(key, [])],
                }
                for choice in tier.choices
                if key in tasks[choice]
            },
            **details.of(key),
        }
    entry = {
        "label": tier.label,
        "seeds": list(tier.choices),
        "settings": [f"{method}, T = {value:g}" for method, value in settings],
        "students": students,
        "sources": sources,
        "cells": cells,
    }
    return entry, files | details.corpora


def _shown(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of experiments that the matrix shows."""
    return rows[rows["experiment"].isin(SHOWN)]


def _suite(rows: list[Row]) -> Row | None:
    """The row of the suite, if there is one."""
    return next((row for row in rows if row["task"] == SUITE), None)


def _task(row: Row) -> list[Any]:
    """A row of gains as the page reads it; gains in percentage points."""
    shares = [plain(row[name], 4) for name in ("chance", "base_accuracy", "accuracy")]
    detectable = _percent(row["detectable"])
    return [row["task"], row["items"], *shares, *points(row), detectable, row["metric"]]


def _passages(row: Row) -> list[Any]:
    """A row of falls as the page reads it; shares as fractions."""
    names = ("passages", "before", "after", "share", "share_low", "share_high")
    fall = [plain(row[name], 4) for name in ("fall", "low", "high")]
    return [row["split"], *(plain(row[name], 4) for name in names), *fall]


# ---------------------------------------------------------------- one pairing


class Details:
    """Curves, scores, corpora and provenance of the pairings and controls of a tier.

    ``corpora`` has the files of the corpora of all pairings that ``of`` was called for.
    """

    def __init__(self, tier: TierData) -> None:
        """Group the tables of a tier by pairing."""
        t = tier.tables
        self.tier, self.corpora = tier, dict[str, Any]()
        self._states = grouped(_shown(t["states"]), *KEY)
        self._curves = grouped(_shown(t["curves"]), *KEY, "seed")
        self._scores = grouped(t["proxies"], "source", "student", "temperature", "seed")
        first = t["corpora"][t["corpora"]["round"].eq(1)]
        self._sampled = grouped(first, "source", "temperature", "seed")
        self._control_texts = self._controls(tier.manifests)
        self._documents = None if tier.documents is None else grouped(tier.documents, "run")
        steps = t["gains"]["experiment"].eq("trajectories") & t["gains"]["task"].eq(SUITE)
        self._trajectory_gains = grouped(t["gains"][steps], "source", "student")
        steps = t["falls"]["experiment"].eq("trajectories") & t["falls"]["split"].eq("held_out")
        self._trajectory_falls = grouped(t["falls"][steps], "source", "student", "step")
        self._manifests = tier.manifests.drop_duplicates("key").set_index("key", drop=False)

    @staticmethod
    def _controls(manifests: pd.DataFrame) -> dict[Key, str]:
        """Maps control, student and seed to the run of the text that replaces the corpus."""
        rows = manifests[manifests["stage"].isin(["real_corpus", "shuffle_corpus"])]
        names = ("source", "student", "seed")
        return {
            tuple(row["labels"].get(name) for name in names): row["key"]
            for row in rows.to_dict("records")
        }

    def of(self, key: Key) -> Row:
        """The parts of a pairing's file that depend on the seed, and its trajectory."""
        source, student, method, temperature = key
        by_seed: dict[str, Row] = {}
        runs: list[str | None] = []
        for state in self._states[key]:
            seed = state["seed"]
            curve = self._curves.get((*key, seed), [])
            scores = self._scores.get((source, student, temperature, seed), [])
            corpus = self._corpus(source, student, temperature, seed)
            own = self._corpus(student, student, temperature, seed)
            runs += [state["state"], state["extraction_run"], corpus]
            runs += [row["run"] for row in (*curve[:1], *scores)]
            thinned = [curve[place] for place in losses.thinned(len(curve), CURVE)]
            by_seed[str(seed)] = {
                "curve": [[row["step"], plain(row["loss"], 4)] for row in thinned],
                "scores": _means(scores),
                "corpus": corpus,
                "own": own,
                "commands": self._commands(key, seed),
            }
        traced = method == "full" and temperature == TEMPERATURE
        steps = self._trajectory_gains.get((source, student), []) if traced else []
        return {
            "seeds": by_seed,
            "footer": self._footer(runs),
            "along": [[row["step"], *points(row), *self._share(row)] for row in steps],
        }

    def _share(self, row: Row) -> list[Any]:
        """Extraction at one step of a trajectory, with its limits."""
        falls = self._trajectory_falls.get((row["source"], row["student"], row["step"]))
        names = ("share", "share_low", "share_high")
        return [plain(falls[0][name], 4) if falls else None for name in names]

    def _corpus(self, source: str, student: str, temperature: float, seed: int) -> str | None:
        """The run of a student's corpus, or None; adds its file to ``corpora``."""
        rows = self._sampled.get((source, temperature, seed))
        run = rows[0]["run"] if rows else self._control_texts.get((source, student, seed))
        if run and f"corpora/{run}" not in self.corpora:
            self.corpora[f"corpora/{run}"] = {
                "facts": _facts(rows[0]) if rows else [],
                "texts": self._texts(run),
            }
        return run

    def _texts(self, run: str) -> list[list[Any]] | None:
        """The beginning of each document, and the number of characters that were cut."""
        if self._documents is None:
            return None
        rows = self._documents.get((run,), [])
        return [[visible(row["text"]), row["characters"] - len(row["text"])] for row in rows]

    def _footer(self, runs: list[str | None]) -> str:
        """The provenance of some runs, as HTML; runs without a manifest are left out."""
        known = [run for run in dict.fromkeys(runs) if run and run in self._manifests.index]
        return str(provenance.footer(self._manifests.loc[known], known).data)

    def _commands(self, key: Key, seed: int) -> list[str]:
        """The commands that compute a pairing with raw Papermill, or the tier of a control."""
        source, student, method, temperature = key
        if source in CONTROL_NAMES.values():
            return [f"nbutils run {self.tier.name}"]
        names = self.tier.origins
        values: Row = {"tier": self.tier.name, "source": names.get(source, source)}
        values |= {"student": names.get(student, student), "temperature": temperature}
        values |= {"method": method, "seed": seed}
        given = " ".join(f"-p {name} {shlex.quote(str(v))}" for name, v in values.items())
        notebook = f"{CONVERTED.as_posix()}/{REPORT}.ipynb"
        name = "-".join(("pairing", source, student, method, f"{temperature:g}", str(seed)))
        return [f"nbutils convert {REPORT}", f"papermill {notebook} {name}.ipynb {given}"]


def _means(rows: list[Row]) -> list[list[Any]]:
    """Every proxy and diagnostic with its mean over tasks."""
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        values[row["kind"], row["proxy"]].append(row["value"])
    return [[kind, name, plain(sum(v) / len(v), 4)] for (kind, name), v in values.items()]


_FACTS = {
    "documents": "documents",
    "tokens": "tokens",
    "finished": "finished",
    "distinct_2": "distinct bigrams",
    "benchmark_words": "benchmark vocabulary held",
    "passage_hits": "documents that hold a passage",
    "mean_log_prob": "mean log-probability",
}


def _facts(row: Row) -> list[list[Any]]:
    """Facts about a corpus, with titles for readers."""
    return [[title, plain(row[name])] for name, title in _FACTS.items()]
