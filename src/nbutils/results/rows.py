"""The tables of a finished tier in tidy form, made from what its runs measured."""

import numpy as np
import pandas as pd

from nbutils.analysis.gains import Rows, typed, wide
from nbutils.config.design import LABELS
from nbutils.config.tiers import Tier
from nbutils.results.measurements import MODEL_STAGES, TABLES, Measurements
from nbutils.runs.store import Store
from nbutils.runs.types import Run

MEASURING = ("measure_utility", "measure_extraction")
"""Stages that together measure one state."""
STATES = (*MEASURING, "trace")
"""Stages that measure states."""
EMPTY = {
    "extraction": {
        **dict.fromkeys(("state", "split"), "str"),
        **dict.fromkeys(("passage", "matched_tokens", "suffix_tokens"), "int64"),
        "exact": "bool",
    },
    "proxies": {
        **dict.fromkeys(("run", "student", "source", "relation", "task", "proxy"), "str"),
        **dict.fromkeys(("temperature", "value"), "float64"),
        "seed": "int64",
    },
}
"""Columns and types of the tables that can be without rows while a tier is computed."""
VERSION = 1
"""Version of the tables: raise it when a column or a number changes for the same runs."""


def with_rows(runs: list[Run], store: Store) -> list[Run]:
    """The finished runs of a tier whose rows can be in its tables already.

    A trained student has rows once all its measurements are finished, and so are those of the
    untouched student.
    """
    finished = [run for run in runs if store.finished(run) is not None]
    done = {(run.stage, run.name) for run in finished}
    unmeasured = {r.name for r in runs if r.stage in MEASURING and (r.stage, r.name) not in done}
    untouched = {
        run.labels["student"]
        for run in finished
        if run.labels.get("experiment") == "untouched" and run.name not in unmeasured
    }
    return [
        run
        for run in finished
        if run.stage not in STATES
        or (
            run.labels["student"] in untouched
            and (run.stage == "trace" or run.name not in unmeasured)  # a trace has a pairing's name
        )
    ]


def of_tier(tier: Tier, runs: list[Run], measured: Measurements) -> dict[str, pd.DataFrame]:
    """Every table of a tier whose runs are all finished, without the summaries.

    Raises:
        RunError: A run is not finished.
    """
    states, answers, passages = of_states(runs, measured)
    curves = [r for r in runs if r.labels.get("experiment") == "pairings"]
    extraction = [rows.assign(state=state) for state, rows in passages.items()]
    models = [run for run in runs if run.stage in MODEL_STAGES]
    return {
        "states": states,
        "utility": wide(answers),
        "extraction": _joined("extraction", extraction),
        "curves": _labelled(curves, measured, "self_train"),
        "proxies": _proxies(runs, measured),
        "corpora": _corpora(runs, measured),
        "models": pd.DataFrame([_model(tier, run, measured) for run in models]),
    }


def of_states(runs: list[Run], measured: Measurements) -> tuple[pd.DataFrame, Rows, Rows]:
    """Every state that was measured, and the answers and the extraction of each.

    Two pairings can be one run, such as a recipe that is the tier's own: they share a state, which
    then has two rows of labels and is counted once.
    """
    prompted = {run.name: run for run in runs if run.stage == "measure_extraction"}
    states: list[dict[str, object]] = []
    answers, passages = Rows(), Rows()
    for run in (run for run in runs if run.stage == "measure_utility"):
        state, extraction = measured.key_of(run), None
        answers[state] = measured.frame(run, "utility")
        if run.name in prompted:  # a source that is no student may have no passages
            extraction = measured.key_of(prompted[run.name])
            passages[state] = measured.frame(prompted[run.name], "extraction")
        states.append({"state": state, "extraction_run": extraction, **run.labels})
    for run in (run for run in runs if run.stage == "trace"):
        key = measured.key_of(run)
        utility, extracted = (measured.frame(run, name) for name in ("utility", "extraction"))
        for step in sorted(utility["step"].unique()):
            state = f"{key}@{step}"
            labels = run.labels | {"step": int(step)}
            states.append({"state": state, "extraction_run": key, **labels})
            answers[state] = utility[utility["step"].eq(step)]
            passages[state] = extracted[extracted["step"].eq(step)]
    columns = ["state", "extraction_run", "seed", *LABELS]
    return typed(pd.DataFrame(states, columns=columns)), answers, passages


def _labelled(runs: list[Run], measured: Measurements, stage: str) -> pd.DataFrame:
    """The rows of a stage's runs behind their run's key and labels."""
    parts = []
    for run in (run for run in runs if run.stage == stage):
        parts.append(measured.frame(run, TABLES[stage]))
        for name, value in {"run": measured.key_of(run), **run.labels}.items():
            parts[-1][name] = value
    return typed(_joined(TABLES[stage], parts))


def _joined(name: str, parts: list[pd.DataFrame]) -> pd.DataFrame:
    """The parts of a table below one another; without any, its columns in their types."""
    if parts:
        return pd.concat(parts, ignore_index=True)
    return pd.DataFrame({c: pd.Series(dtype=kind) for c, kind in EMPTY[name].items()})


def _proxies(runs: list[Run], measured: Measurements) -> pd.DataFrame:
    parts = [_labelled(runs, measured, "measure_proxies").assign(kind="proxy")]
    if any(run.stage == "diagnose" for run in runs):
        rows = _labelled(runs, measured, "diagnose").rename(columns={"diagnostic": "proxy"})
        parts.append(rows.assign(kind="diagnostic", task=None))
    return pd.concat(parts, ignore_index=True).astype({"task": "string"})


def _corpora(runs: list[Run], measured: Measurements) -> pd.DataFrame:
    fidelity = {
        run.inputs["corpus"].name: float(measured.frame(run, "fidelity")["log_likelihood"].iloc[0])
        for run in runs
        if run.stage == "measure_fidelity"
    }
    rows = [
        {
            "run": measured.key_of(run),
            **{c: run.labels[c] for c in ("source", "temperature", "seed")},
            "round": run.labels.get("round", 1),
            **{k: np.nan if v is None else v for k, v in measured.facts(run).items()},
            "fidelity": fidelity.get(run.name, np.nan),
        }
        for run in runs
        if run.stage == "sample_corpus"
    ]
    return pd.DataFrame(rows)


def _model(tier: Tier, run: Run, measured: Measurements) -> dict[str, object]:
    name = str(run.labels["model"])
    member = tier.models[name]
    family = tier.families.get(member.family)
    return {
        "run": measured.key_of(run),
        "model": name,
        "family": member.family,
        "domain": family.mixture.main() if family else None,
        "size": member.size,
        "student": name in tier.grid.students,
        **measured.facts(run),
    }
