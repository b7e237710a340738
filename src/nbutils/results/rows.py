"""The tidy rows of a finished tier, read from its runs."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from nbutils.analysis.gains import Rows, typed, wide
from nbutils.config.design import LABELS
from nbutils.config.tiers import Tier
from nbutils.protocol import prepare_suite
from nbutils.protocol.text import words
from nbutils.results.corpora import covered, distinct, passage_hits
from nbutils.runs.store import Store
from nbutils.runs.types import Run

MODEL_STAGES = ("prepare_model", "fetch_model")
SUITE_STAGES = ("prepare_suite", "prepare_benchmarks")
VERSION = 1
"""Of the tables: raise it when a column or a number of theirs changes for the same runs."""


def of_tier(tier: Tier, runs: list[Run], store: Store) -> dict[str, pd.DataFrame]:
    """Every table of a tier whose runs are all finished, without the summaries.

    Raises:
        RunError: A run is not finished.
    """
    states, answers, prompted = measured(runs, store)
    curves = [r for r in runs if r.labels.get("experiment") == "pairings"]
    corpora = [r for r in runs if r.stage == "sample_corpus"]
    fidelity = {
        run.inputs["corpus"].name: float(rows["log_likelihood"].iloc[0])
        for run, _, rows in _read(runs, store, "measure_fidelity", "fidelity.parquet")
    }
    vocabulary = _vocabulary(runs, store)
    extraction = [rows.assign(state=state) for state, rows in prompted.items()]
    return {
        "states": states,
        "utility": wide(answers),
        "extraction": pd.concat(extraction, ignore_index=True),
        "curves": _labelled(_read(curves, store, "self_train", "curve.parquet")),
        "proxies": _proxies(runs, store),
        "corpora": pd.DataFrame([_corpus(r, store, vocabulary, fidelity) for r in corpora]),
        "models": pd.DataFrame([_model(tier, r, store) for r in runs if r.stage in MODEL_STAGES]),
    }


def measured(runs: list[Run], store: Store) -> tuple[pd.DataFrame, Rows, Rows]:
    """Every state that was measured, and the answers and the extraction of each.

    Two cells can be one run, such as a recipe that is the tier's own: they share a state, which
    then has two rows of labels and is counted once.
    """
    utilities = _read(runs, store, "measure_utility", "utility.parquet")
    passages = _read(runs, store, "measure_extraction", "extraction.parquet")
    by_name = {run.name: (key, rows) for run, key, rows in passages}
    states: list[dict[str, object]] = []
    answers, prompted = Rows(), Rows()
    for run, state, rows in utilities:
        # a source that is no student may have no passages
        extraction_run, asked = by_name.get(run.name, (None, None))
        states.append({"state": state, "extraction_run": extraction_run, **run.labels})
        answers[state] = rows
        if asked is not None:
            prompted[state] = asked
    for run in (run for run in runs if run.stage == "trace"):
        folder = store.path(run)
        utility = pd.read_parquet(folder / "utility.parquet")
        extraction = pd.read_parquet(folder / "extraction.parquet")
        for step in sorted(utility["step"].unique()):
            state = f"{folder.name}@{step}"
            labels = run.labels | {"step": int(step)}
            states.append({"state": state, "extraction_run": folder.name, **labels})
            answers[state] = utility[utility["step"].eq(step)]
            prompted[state] = extraction[extraction["step"].eq(step)]
    columns = ["state", "extraction_run", "seed", *LABELS]
    return typed(pd.DataFrame(states, columns=columns)), answers, prompted


Found = list[tuple[Run, str, pd.DataFrame]]


def _read(runs: list[Run], store: Store, stage: str, file: str) -> Found:
    """Every run of a stage with its key and the rows of one of its files."""
    folders = [(run, store.path(run)) for run in runs if run.stage == stage]
    return [(run, folder.name, pd.read_parquet(folder / file)) for run, folder in folders]


def _labelled(found: Found) -> pd.DataFrame:
    """The rows behind their run's key and labels."""
    parts = []
    for run, key, rows in found:
        parts.append(rows.copy())
        for name, value in {"run": key, **run.labels}.items():
            parts[-1][name] = value
    return typed(pd.concat(parts, ignore_index=True))


def _proxies(runs: list[Run], store: Store) -> pd.DataFrame:
    measured = _labelled(_read(runs, store, "measure_proxies", "proxies.parquet"))
    parts = [measured.assign(kind="proxy")]
    diagnosed = _read(runs, store, "diagnose", "diagnostics.parquet")
    if diagnosed:
        rows = _labelled(diagnosed).rename(columns={"diagnostic": "proxy"})
        parts.append(rows.assign(kind="diagnostic", task=None))
    return pd.concat(parts, ignore_index=True).astype({"task": "string"})


def _vocabulary(runs: list[Run], store: Store) -> set[str]:
    """Every word of the benchmark's items."""
    folder = store.path(next(run for run in runs if run.stage in SUITE_STAGES))
    return {
        w for items in prepare_suite.texts(folder).values() for text in items for w in words(text)
    }


def _base(run: Run) -> Run:
    """The pre-trained model that a model comes from."""
    while run.stage not in MODEL_STAGES:
        run = run.inputs["student"]
    return run


def _corpus(
    run: Run, store: Store, vocabulary: set[str], fidelity: dict[str, float]
) -> dict[str, object]:
    folder = store.path(run)
    corpus = pd.read_parquet(folder / "corpus.parquet")
    base = store.path(_base(run.inputs["source"]))
    known = base / "passages.parquet"
    suffixes = list(pd.read_parquet(known).suffix_text) if known.is_file() else None
    texts = list(corpus.text)
    return {
        "run": folder.name,
        **{c: run.labels[c] for c in ("source", "temperature", "seed")},
        "round": run.labels.get("round", 1),
        "documents": len(corpus),
        "tokens": int(corpus.n_tokens.sum()),
        "finished": float(corpus.finished.mean()),
        **{f"distinct_{n}": distinct(texts, n) for n in (1, 2, 3)},
        "benchmark_words": covered(texts, vocabulary),
        "passage_hits": np.nan if suffixes is None else passage_hits(texts, suffixes),
        "mean_log_prob": float(np.average(corpus.mean_log_prob, weights=corpus.n_tokens)),
        "fidelity": fidelity.get(run.name, np.nan),
        "read_otherwise": float(corpus.read_otherwise.sum() / corpus.n_tokens.sum()),
    }


FACTS = ("parameters", "training_tokens", "planted_share", "exposures")
"""What a model's own facts add to its row."""


def _model(tier: Tier, run: Run, store: Store) -> dict[str, object]:
    folder: Path = store.path(run)
    facts = json.loads((folder / "facts.json").read_text("utf-8"))
    name = str(run.labels["model"])
    member = tier.models[name]
    family = tier.families.get(member.family)
    return {
        "run": folder.name,
        "model": name,
        "family": member.family,
        "domain": family.mixture.main() if family else None,
        "architecture": json.loads((folder / "config.json").read_text("utf-8"))["model_type"],
        "size": member.size,
        "student": name in tier.grid.students,
        **{name: facts[name] for name in FACTS},
    }
