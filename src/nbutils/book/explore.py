"""Explore: the matrix of pairings as data that a page draws without a server.

One small script holds the matrix; one for every cell and every corpus is loaded when somebody asks
for it. They are scripts and not JSON because a page that is opened from a folder may read no files.
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

SHOWN = ("pairings", "controls")  # the experiments whose cells the matrix has
KEY = ("source", "student", "method", "temperature")
ALL = "all"  # the choice of every seed
CURVE = 60  # points of a loss curve
Key = tuple[Any, ...]
Row = dict[str, Any]
Tables = Mapping[str, pd.DataFrame]
Choices = Mapping[str, tuple[pd.DataFrame, pd.DataFrame]]
"""Choice of a seed, or of all together, to gains and falls."""


@dataclass(frozen=True)
class TierData:
    """Everything that is known of one tier, ready to be asked for one cell.

    ``tables`` are those of ``tables.read``, ``choices`` what ``measured`` makes of them,
    ``manifests`` rows of ``tables.manifests``, ``sampled`` the documents or None where none were
    published, ``origins`` where models come from that the pairing notebook does not know by name.
    """

    label: str
    tier: str
    tables: Tables
    choices: Choices
    manifests: pd.DataFrame
    sampled: pd.DataFrame | None
    origins: Mapping[str, str] = field(default_factory=dict)


def write(root: Path, folder: Path) -> int:
    """Write the data of every available tier and return the number of cells.

    ``folder`` is made anew.
    """
    known = results_tables.manifests(root)
    told = []
    for t in available(root):
        theirs = known[known["results"].str.startswith(t.label)]
        tables, sampled = results_tables.read(t.folder), read_documents(t.folder)
        origins = _origins(theirs, t.tier, root)
        told.append(TierData(t.label, t.tier, tables, measured(tables), theirs, sampled, origins))
    return write_tiers(told, folder)


def _origins(manifests: pd.DataFrame, tier: str, root: Path) -> dict[str, str]:
    """Model to origin, for fetched models that the tier's file does not name."""
    named = (root / "notebooks" / "tiers" / f"{tier}.yml").is_file()
    known = load_tier(tier, root).models if named else {}
    fetched = manifests[manifests["stage"].eq("fetch_model")].to_dict("records")
    origins = {row["labels"]["model"]: str(row["parameters"]["origin"]) for row in fetched}
    return {model: origin for model, origin in origins.items() if model not in known}


def write_tiers(told: Iterable[TierData], folder: Path) -> int:
    """Write the scripts of some tiers into a folder, which is made anew."""
    files: dict[str, Any] = {}
    index = []
    for tier in told:
        entry, found = of_tier(tier)
        index.append(entry)
        files |= found
    files["index"] = {"relations": parts.RELATIONS, "results": index}
    with replacing(folder) as scratch:
        for name in ("cells", "corpora"):
            (scratch / name).mkdir()
        for name, value in files.items():
            (scratch / f"{name}.js").write_text(script(name, value), "utf-8")
    return sum(len(entry["cells"]) for entry in index)


def script(name: str, value: Any) -> str:
    """The script that hands a value to the page under a name; ASCII, with no markup in it."""
    data = json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return f"nbutilsExplore.take({json.dumps(name)},{data});\n"


def plain(value: Any, digits: int = 3) -> Any:
    """A number as JSON has it, rounded; None where it is missing or infinite."""
    if isinstance(value, str) or value is None:
        return value
    if pd.isna(value) or math.isinf(value):
        return None
    return int(value) if float(value).is_integer() else round(float(value), digits)


def points(row: Row) -> list[Any]:
    """Gain and its limits, in percentage points."""
    return [_hundred(row[name]) for name in ("gain", "low", "high")]


def _hundred(value: float | None) -> Any:
    return plain(None if value is None else 100 * value)


def grouped(frame: pd.DataFrame, *by: str) -> dict[Key, list[Row]]:
    """The rows of a frame by the values of some columns, missing ones as None."""
    found: dict[Key, list[Row]] = defaultdict(list)
    kept = frame.astype(object).where(frame.notna(), None)
    for row in kept.to_dict("records"):
        found[tuple(row[name] for name in by)].append({str(k): v for k, v in row.items()})
    return found


# ---------------------------------------------------------------- one tier


def measured(tables: Tables) -> Choices:
    """Gains and falls of all seeds together, and of each where there are several."""
    states = tables["states"]
    states = states[states["experiment"].isin([*SHOWN, "untouched"])]
    seeds = sorted(states["seed"].dropna().unique())
    if len(seeds) < 2:
        return {str(seed): (tables["gains"], tables["falls"]) for seed in seeds}
    found = {ALL: (tables["gains"], tables["falls"])}
    accuracy = Accuracy(tables["utility"], states)
    for seed in seeds:
        part = states[states["seed"].isna() | states["seed"].eq(seed)]
        found[str(seed)] = (gains(accuracy, part), falls(tables["extraction"], part))
    return found


def of_tier(told: TierData) -> tuple[Row, dict[str, Any]]:
    """A tier's entry in the index, and the files of its cells and corpora."""
    tasks = {c: grouped(by_metric(_shown(g)), *KEY) for c, (g, _) in told.choices.items()}
    passages = {c: grouped(_shown(f), *KEY) for c, (_, f) in told.choices.items()}
    keys = list(dict.fromkeys(key for part in tasks.values() for key in part))
    students = list(dict.fromkeys(key[1] for key in keys))
    names = sorted({key[0] for key in keys}, key=lambda s: (s in CONTROL_NAMES.values(), s))
    settings = sorted({key[2:] for key in keys}, key=lambda s: (s[1] != TEMPERATURE, s))
    details = Details(told)
    cells, files = [], {}
    for key in keys:
        source, student, method, temperature = key
        name = sha256(repr((told.label, *key)))[:12]
        any_row = next(part[key][0] for part in tasks.values() if key in part)
        suites = [_suite(part.get(key, [])) for part in tasks.values()]
        cells.append(
            [name, names.index(source), students.index(student),
             settings.index((method, temperature)), any_row["relation"],
             [row and points(row) for row in suites]]
        )  # fmt: skip
        files[f"cells/{name}"] = {
            "source": source,
            "student": student,
            "relation": any_row["relation"],
            "measured": {
                choice: {
                    "tasks": [_task(row) for row in tasks[choice][key]],
                    "passages": [_passages(row) for row in passages[choice].get(key, [])],
                }
                for choice in told.choices
                if key in tasks[choice]
            },
            **details.of(key),
        }
    entry = {
        "label": told.label,
        "seeds": list(told.choices),
        "settings": [f"{method}, T = {value:g}" for method, value in settings],
        "students": students,
        "sources": names,
        "cells": cells,
    }
    return entry, files | details.corpora


def _shown(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["experiment"].isin(SHOWN)]


def _suite(rows: list[Row]) -> Row | None:
    return next((row for row in rows if row["task"] == SUITE), None)


def _task(row: Row) -> list[Any]:
    shares = [plain(row[name], 4) for name in ("chance", "base_accuracy", "accuracy")]
    found = [row["task"], row["items"], *shares, *points(row), _hundred(row["detectable"])]
    return [*found, row["metric"]]


def _passages(row: Row) -> list[Any]:
    names = ("passages", "before", "after", "share", "share_low", "share_high")
    fall = [plain(row[name], 4) for name in ("fall", "low", "high")]
    return [row["split"], *(plain(row[name], 4) for name in names), *fall]


# ---------------------------------------------------------------- one cell


class Details:
    """What a tier knows of a cell beside its gain. ``corpora`` fills with files as cells ask."""

    def __init__(self, told: TierData) -> None:
        """Sort the tables of a tier by cell."""
        t = told.tables
        self.told, self.corpora = told, dict[str, Any]()
        self._states = grouped(_shown(t["states"]), *KEY)
        self._curves = grouped(_shown(t["curves"]), *KEY, "seed")
        self._scores = grouped(t["proxies"], "source", "student", "temperature", "seed")
        first = t["corpora"][t["corpora"]["round"].eq(1)]
        self._sampled = grouped(first, "source", "temperature", "seed")
        self._made = self._controls(told.manifests)
        self._texts = None if told.sampled is None else grouped(told.sampled, "run")
        along = t["gains"]["experiment"].eq("trajectories") & t["gains"]["task"].eq(SUITE)
        self._along = grouped(t["gains"][along], "source", "student")
        forgot = t["falls"]["experiment"].eq("trajectories") & t["falls"]["split"].eq("held_out")
        self._forgot = grouped(t["falls"][forgot], "source", "student", "step")
        self._manifests = told.manifests.drop_duplicates("key").set_index("key", drop=False)

    @staticmethod
    def _controls(manifests: pd.DataFrame) -> dict[Key, str]:
        """Control, student and seed to the run of the text that stands in the corpus' place."""
        rows = manifests[manifests["stage"].isin(["real_corpus", "shuffle_corpus"])]
        names = ("source", "student", "seed")
        return {
            tuple(row["labels"].get(name) for name in names): row["key"]
            for row in rows.to_dict("records")
        }

    def of(self, key: Key) -> Row:
        """The parts of a cell's file that come a seed at a time, and its trajectory."""
        source, student, method, temperature = key
        by_seed: dict[str, Row] = {}
        behind: list[str | None] = []
        for state in self._states[key]:
            seed = state["seed"]
            curve = self._curves.get((*key, seed), [])
            scores = self._scores.get((source, student, temperature, seed), [])
            read = self._corpus(source, student, temperature, seed)
            own = self._corpus(student, student, temperature, seed)
            behind += [state["state"], state["extraction_run"], read]
            behind += [row["run"] for row in (*curve[:1], *scores)]
            kept = [curve[place] for place in losses.thinned(len(curve), CURVE)]
            by_seed[str(seed)] = {
                "curve": [[row["step"], plain(row["loss"], 4)] for row in kept],
                "scores": _scored(scores),
                "corpus": read,
                "own": own,
                "commands": self._commands(key, seed),
            }
        plainly = method == "full" and temperature == TEMPERATURE
        along = self._along.get((source, student), []) if plainly else []
        return {
            "seeds": by_seed,
            "footer": self._footer(behind),
            "along": [[row["step"], *points(row), *self._share(row)] for row in along],
        }

    def _share(self, row: Row) -> list[Any]:
        """Extraction at one step of a trajectory, with its limits."""
        found = self._forgot.get((row["source"], row["student"], row["step"]))
        names = ("share", "share_low", "share_high")
        return [plain(found[0][name], 4) if found else None for name in names]

    def _corpus(self, source: str, student: str, temperature: float, seed: int) -> str | None:
        """The run of the corpus that a student read, None where there is none; its file is made."""
        rows = self._sampled.get((source, temperature, seed))
        run = rows[0]["run"] if rows else self._made.get((source, student, seed))
        if run and f"corpora/{run}" not in self.corpora:
            self.corpora[f"corpora/{run}"] = {
                "facts": _facts(rows[0]) if rows else [],
                "texts": self._texts_of(run),
            }
        return run

    def _texts_of(self, run: str) -> list[list[Any]] | None:
        if self._texts is None:
            return None
        rows = self._texts.get((run,), [])
        return [[visible(row["text"]), row["characters"] - len(row["text"])] for row in rows]

    def _footer(self, runs: list[str | None]) -> str:
        known = [run for run in dict.fromkeys(runs) if run and run in self._manifests.index]
        return str(provenance.footer(self._manifests.loc[known], known).data)

    def _commands(self, key: Key, seed: int) -> list[str]:
        """What makes the cell: raw Papermill for a pairing, the tier for a control."""
        source, student, method, temperature = key
        if source in CONTROL_NAMES.values():
            return [f"nbutils run {self.told.tier}"]
        names = self.told.origins
        values: Row = {"tier": self.told.tier, "source": names.get(source, source)}
        values |= {"student": names.get(student, student), "temperature": temperature}
        values |= {"method": method, "seed": seed}
        given = " ".join(f"-p {name} {shlex.quote(str(v))}" for name, v in values.items())
        notebook = f"{CONVERTED.as_posix()}/{REPORT}.ipynb"
        name = "-".join(("pairing", source, student, method, f"{temperature:g}", str(seed)))
        return [f"nbutils convert {REPORT}", f"papermill {notebook} {name}.ipynb {given}"]


def _scored(rows: list[Row]) -> list[list[Any]]:
    """Every proxy and diagnostic with its mean over tasks."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        found[row["kind"], row["proxy"]].append(row["value"])
    return [[kind, name, plain(sum(v) / len(v), 4)] for (kind, name), v in found.items()]


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
    """What a corpus is, for people."""
    return [[title, plain(row[name])] for name, title in _FACTS.items()]
