"""Tidy tables: what a finished tier says, as Parquet files that anyone can read.

A tier's tables live in one folder: ``book/results/<tier>/`` when published with the book,
``runs/tables/<tier>/`` when computed here (*your run*).
"""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from nbutils.runs import Manifest, Run, Store, module_digest
from nbutils.text import words
from nbutils.tiers import Tier

PUBLISHED = Path("book/results")
YOURS = Path("runs/tables")
MANIFESTS = "manifests.jsonl"
CODE = "code.sha256"  # digest of the code that made the tables
SUITE = "suite"  # the task of rows that speak of the whole suite
DIVERSITY_WORDS = 20_000  # a share of distinct n-grams falls with length: compare equal lengths

COLUMNS: dict[str, tuple[str, ...]] = {
    "utility": (
        *("run", "student", "source", "relation", "method", "temperature", "seed"),
        *("task", "item", "chance", "correct", "margin"),
    ),
    "gains": (
        *("run", "student", "source", "relation", "method", "temperature", "seed"),
        *("task", "items", "chance", "base_accuracy", "accuracy", "gain", "low", "high"),
    ),
    "extraction": (
        *("run", "student", "source", "relation", "method", "temperature", "seed"),
        *("passage", "split", "exact", "matched_tokens", "suffix_tokens"),
    ),
    "proxies": (
        *("run", "student", "source", "relation", "temperature", "seed"),
        *("task", "proxy", "value"),
    ),
    "curves": (
        *("run", "student", "source", "relation", "method", "temperature", "seed"),
        *("step", "loss"),
    ),
    "corpora": (
        *("run", "source", "temperature", "seed", "documents", "tokens", "finished"),
        *("distinct_1", "distinct_2", "distinct_3", "passage_hits", "mean_log_prob"),
    ),
    "models": (
        *("run", "model", "family", "domain", "architecture", "size", "parameters"),
        *("training_tokens", "planted_share", "exposures", "student"),
    ),
}


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


def load(name: str, root: Path) -> pd.DataFrame:
    """One table over every available tier, with columns ``tier``, ``origin`` and ``results``.

    ``results`` is the label of the tier and its origin. The rows keep the order of the files.
    """
    parts = [
        pd.read_parquet(t.folder / f"{name}.parquet").assign(
            tier=t.tier, origin=t.origin, results=t.label
        )
        for t in available(root)
    ]
    columns = [*COLUMNS[name], "tier", "origin", "results"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def manifests(root: Path) -> pd.DataFrame:
    """One row a run over every available tier: its manifest's fields, flattened one level."""
    rows = []
    for t in available(root):
        for line in (t.folder / MANIFESTS).read_text("utf-8").splitlines():
            rows.append(json.loads(line) | {"results": t.label})
    return pd.DataFrame(rows)


def without_manifest(tables: TierTables) -> set[str]:
    """Keys of runs that have rows in some table but no manifest beside them."""
    keys: set[str] = set()
    for name in COLUMNS:
        keys |= set(pd.read_parquet(tables.folder / f"{name}.parquet", columns=["run"]).run)
    path = tables.folder / MANIFESTS
    lines = path.read_text("utf-8").splitlines() if path.is_file() else []
    return keys - {json.loads(line)["key"] for line in lines}


# --- Collecting the tables of a finished tier -----------------------------------------------


def tables(tier: Tier, runs: list[Run], store: Store) -> dict[str, pd.DataFrame]:
    """Every table of a tier whose runs are all finished.

    Raises:
        RunError: A run is not finished.
    """
    runs = [r for r in runs if _is_pairing(r)]
    utility = _measured("utility", runs, store)
    frames = {
        "utility": utility,
        "gains": gains(utility),
        "extraction": _measured("extraction", runs, store),
        "proxies": _measured("proxies", runs, store),
        "curves": _labelled(runs, store, "self_train", "curve.parquet"),
        "corpora": pd.DataFrame([_corpus(r, store) for r in runs if r.stage == "sample_corpus"]),
        "models": pd.DataFrame(
            [_model(tier, r, store) for r in runs if r.stage == "prepare_model"]
        ),
    }
    return {name: frame[list(COLUMNS[name])] for name, frame in frames.items()}


def _is_pairing(run: Run) -> bool:
    """Whether a run belongs to the pairings, or to all experiments alike."""
    return run.labels.get("experiment", "pairings") == "pairings"


def _measured(what: str, runs: list[Run], store: Store) -> pd.DataFrame:
    return _labelled(runs, store, f"measure_{what}", f"{what}.parquet")


def _labelled(runs: list[Run], store: Store, stage: str, file: str) -> pd.DataFrame:
    """The rows of one file of every run of a stage, behind the run's key and labels."""
    columns = ("student", "source", "relation", "method", "temperature", "seed")
    parts = []
    for run in (r for r in runs if r.stage == stage):
        folder = store.path(run)
        labels = {c: run.labels.get(c) for c in columns}
        parts.append(pd.read_parquet(folder / file).assign(run=folder.name, **labels))
    frame = pd.concat(parts, ignore_index=True)
    kinds = {"source": "string", "method": "string", "temperature": "Float64", "seed": "Int64"}
    return frame.astype(kinds)


def gains(utility: pd.DataFrame) -> pd.DataFrame:
    """Gain of every fine-tuned student on every task and on the suite, paired item by item.

    The suite's accuracy is the unweighted mean over its tasks. Intervals: ``stats``.
    """
    from nbutils import stats  # scipy takes a second: a rerun with nothing to do must not wait

    untouched = utility[utility.relation == "untouched"].set_index(["student", "task", "item"])
    rows = []
    for run, after in utility[utility.relation != "untouched"].groupby("run", sort=False):
        before = untouched.correct.loc[after.student.iloc[0]]
        paired = after.set_index(["task", "item"])
        paired = paired.assign(before=before.reindex(paired.index).astype(float))
        labels = after.iloc[0][list(COLUMNS["gains"][1:7])].to_dict()
        tasks = dict(list(paired.groupby(level="task")))
        for task, parts in [*((t, [p]) for t, p in tasks.items()), (SUITE, list(tasks.values()))]:
            base = float(np.mean([p.before.mean() for p in parts]))
            differences = [(p.correct - p.before).to_numpy(dtype=float) for p in parts]
            gain, low, high = stats.gain_interval(differences)
            rows.append(
                {"run": run, **labels, "task": task}
                | {"items": sum(map(len, parts))}
                | {"chance": float(np.mean([p.chance.mean() for p in parts]))}
                | {"base_accuracy": base, "accuracy": base + gain}
                | {"gain": gain, "low": low, "high": high}
            )
    return pd.DataFrame(rows)


def distinct(texts: list[str], size: int) -> float:
    """Share of distinct n-grams among the n-grams of the first ``DIVERSITY_WORDS`` words.

    N-grams do not run from one document into the next. Zero where there is no n-gram.
    """
    grams: list[tuple[str, ...]] = []
    budget = DIVERSITY_WORDS
    for text in texts:
        tokens = words(text)[:budget]
        budget -= len(tokens)
        grams += zip(*(tokens[i:] for i in range(size)), strict=False)
    return len(set(grams)) / len(grams) if grams else 0.0


def passage_hits(texts: list[str], suffixes: list[str]) -> int:
    """Documents that hold the suffix of at least one passage."""
    return sum(any(suffix in text for suffix in suffixes) for text in texts)


def _corpus(run: Run, store: Store) -> dict[str, object]:
    folder = store.path(run)
    corpus = pd.read_parquet(folder / "corpus.parquet")
    passages = pd.read_parquet(store.path(run.inputs["source"]) / "passages.parquet")
    texts = list(corpus.text)
    return {
        "run": folder.name,
        **{c: run.labels[c] for c in ("source", "temperature", "seed")},
        "documents": len(corpus),
        "tokens": int(corpus.n_tokens.sum()),
        "finished": float(corpus.finished.mean()),
        **{f"distinct_{n}": distinct(texts, n) for n in (1, 2, 3)},
        "passage_hits": passage_hits(texts, list(passages.suffix_text)),
        "mean_log_prob": float(np.average(corpus.mean_log_prob, weights=corpus.n_tokens)),
    }


def _model(tier: Tier, run: Run, store: Store) -> dict[str, object]:
    folder = store.path(run)
    name = str(run.labels["model"])
    member = tier.models[name]
    family = tier.families[member.family]
    return {
        "run": folder.name,
        "model": name,
        "family": member.family,
        "domain": family.mixture.main(),
        "architecture": family.architecture,
        "size": member.size,
        "student": name in tier.grid.students,
        **json.loads((folder / "facts.json").read_text("utf-8")),
    }


def collect(tier: Tier, name: str, runs: list[Run], root: Path) -> bool:
    """Write the tables of a finished tier to ``runs/tables/<name>/``; False if they stand.

    The folder is written beside its place and swapped in, so that a reader never sees half.

    Raises:
        RunError: A run is not finished.
    """
    store = Store(root)
    finished = [store.finished(run) for run in runs]
    lines = "".join(m.model_dump_json() + "\n" for m in finished if m is not None)
    place = root / YOURS / name
    stamps = {MANIFESTS: lines, CODE: module_digest("results") + "\n"}
    whole = all((place / f"{table}.parquet").is_file() for table in COLUMNS)
    if whole and None not in finished and all(_holds(place / f, s) for f, s in stamps.items()):
        return False
    scratch = place.with_name(f".{name}.partial")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    for table, frame in tables(tier, runs, store).items():
        frame.to_parquet(scratch / f"{table}.parquet", index=False)
    for file, content in stamps.items():
        (scratch / file).write_text(content, "utf-8")
    shutil.rmtree(place, ignore_errors=True)
    os.replace(scratch, place)
    return True


def _holds(path: Path, content: str) -> bool:
    return path.is_file() and path.read_text("utf-8") == content


def read_manifests(folder: Path) -> list[Manifest]:
    """The manifests of a folder of tables, in its order; none where the folder has no file."""
    path = folder / MANIFESTS
    if not path.is_file():
        return []
    return [Manifest.model_validate_json(x) for x in path.read_text("utf-8").splitlines()]
