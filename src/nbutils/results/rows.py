"""The tables of a finished tier in tidy form, read from its runs."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from nbutils.analysis.gains import Rows, typed, wide
from nbutils.config.design import LABELS
from nbutils.config.tiers import Tier
from nbutils.protocol import prepare_suite
from nbutils.protocol.text import words
from nbutils.results.corpora import distinct, passage_hits, vocabulary_coverage
from nbutils.runs.store import Store
from nbutils.runs.types import Run

MODEL_STAGES = ("prepare_model", "fetch_model")
SUITE_STAGES = ("prepare_suite", "prepare_benchmarks")
VERSION = 1
"""Version of the tables: raise it when a column or a number changes for the same runs."""


def of_tier(tier: Tier, runs: list[Run], store: Store) -> dict[str, pd.DataFrame]:
    """Every table of a tier except the summaries, by name; all of its runs must be finished.

    Raises:
        RunError: A run is not finished.
    """
    states, answers, passages = measured(runs, store)
    curves = [r for r in runs if r.labels.get("experiment") == "pairings"]
    corpora = [r for r in runs if r.stage == "sample_corpus"]
    fidelity = {
        run.inputs["corpus"].name: float(rows["log_likelihood"].iloc[0])
        for run, _, rows in _read(runs, store, "measure_fidelity", "fidelity.parquet")
    }
    vocabulary = _vocabulary(runs, store)
    extraction = [rows.assign(state=state) for state, rows in passages.items()]
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
    """Every state that was measured, with its labels, its answers and its extraction.

    Two pairings can be one run, such as a recipe that is the tier's own. They share a state, which
    then has two rows of labels but is counted once.

    Returns:
        One row per state and pairing, and the rows of items and of passages by state.
    """
    utilities = _read(runs, store, "measure_utility", "utility.parquet")
    extractions = _read(runs, store, "measure_extraction", "extraction.parquet")
    by_name = {run.name: (key, rows) for run, key, rows in extractions}
    states: list[dict[str, object]] = []
    answers, passages = Rows(), Rows()
    for run, state, rows in utilities:
        # a source that is not a student may have no passages
        extraction_run, extracted = by_name.get(run.name, (None, None))
        states.append({"state": state, "extraction_run": extraction_run, **run.labels})
        answers[state] = rows
        if extracted is not None:
            passages[state] = extracted
    for run in (run for run in runs if run.stage == "trace"):
        folder = store.path(run)
        utility = pd.read_parquet(folder / "utility.parquet")
        extraction = pd.read_parquet(folder / "extraction.parquet")
        for step in sorted(utility["step"].unique()):
            state = f"{folder.name}@{step}"
            labels = run.labels | {"step": int(step)}
            states.append({"state": state, "extraction_run": folder.name, **labels})
            answers[state] = utility[utility["step"].eq(step)]
            passages[state] = extraction[extraction["step"].eq(step)]
    columns = ["state", "extraction_run", "seed", *LABELS]
    return typed(pd.DataFrame(states, columns=columns)), answers, passages


RunRows = list[tuple[Run, str, pd.DataFrame]]


def _read(runs: list[Run], store: Store, stage: str, file: str) -> RunRows:
    """Every run of a stage, with its key and the rows of one of its files."""
    folders = [(run, store.path(run)) for run in runs if run.stage == stage]
    return [(run, folder.name, pd.read_parquet(folder / file)) for run, folder in folders]


def _labelled(runs: RunRows) -> pd.DataFrame:
    """All rows in one table, with the key and the labels of their run."""
    parts = []
    for run, key, rows in runs:
        parts.append(rows.copy())
        for name, value in {"run": key, **run.labels}.items():
            parts[-1][name] = value
    return typed(pd.concat(parts, ignore_index=True))


def _proxies(runs: list[Run], store: Store) -> pd.DataFrame:
    """One row per run and proxy or diagnostic."""
    measured = _labelled(_read(runs, store, "measure_proxies", "proxies.parquet"))
    parts = [measured.assign(kind="proxy")]
    diagnosed = _read(runs, store, "diagnose", "diagnostics.parquet")
    if diagnosed:
        rows = _labelled(diagnosed).rename(columns={"diagnostic": "proxy"})
        parts.append(rows.assign(kind="diagnostic", task=None))
    return pd.concat(parts, ignore_index=True).astype({"task": "string"})


def _vocabulary(runs: list[Run], store: Store) -> set[str]:
    """All words of the benchmark's items."""
    folder = store.path(next(run for run in runs if run.stage in SUITE_STAGES))
    return {
        w for items in prepare_suite.texts(folder).values() for text in items for w in words(text)
    }


def _base(run: Run) -> Run:
    """The run of the pre-trained model that a model was trained from."""
    while run.stage not in MODEL_STAGES:
        run = run.inputs["student"]
    return run


def _corpus(
    run: Run, store: Store, vocabulary: set[str], fidelity: dict[str, float]
) -> dict[str, object]:
    """The row of one corpus; ``passage_hits`` counts passages of the pre-trained source."""
    folder = store.path(run)
    corpus = pd.read_parquet(folder / "corpus.parquet")
    passages = store.path(_base(run.inputs["source"])) / "passages.parquet"
    suffixes = list(pd.read_parquet(passages).suffix_text) if passages.is_file() else None
    texts = list(corpus.text)
    return {
        "run": folder.name,
        **{c: run.labels[c] for c in ("source", "temperature", "seed")},
        "round": run.labels.get("round", 1),
        "documents": len(corpus),
        "tokens": int(corpus.n_tokens.sum()),
        "finished": float(corpus.finished.mean()),
        **{f"distinct_{n}": distinct(texts, n) for n in (1, 2, 3)},
        "benchmark_words": vocabulary_coverage(texts, vocabulary),
        "passage_hits": np.nan if suffixes is None else passage_hits(texts, suffixes),
        "mean_log_prob": float(np.average(corpus.mean_log_prob, weights=corpus.n_tokens)),
        "fidelity": fidelity.get(run.name, np.nan),
        "read_otherwise": float(corpus.read_otherwise.sum() / corpus.n_tokens.sum()),
    }


FACTS = ("parameters", "training_tokens", "planted_share", "exposures")
"""Columns of a model's row that come from its ``facts.json``."""


def _model(tier: Tier, run: Run, store: Store) -> dict[str, object]:
    """The row of one pre-trained model."""
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
