"""Rows of each experiment: memorization, trajectories, rounds, temperatures, recipes."""

import numpy as np
import pandas as pd

from nbutils.analysis import inference
from nbutils.analysis.gains import SUITE
from nbutils.analysis.verdicts import LEVEL, NOT_DISTINGUISHED, corrected, groups_of
from nbutils.config.design import LABELS, TEMPERATURE

# ---------------------------------------------------------------- memorization


def with_memory(gains: pd.DataFrame, falls: pd.DataFrame) -> pd.DataFrame:
    """One row per pairing or control: the suite's gain, and held-out extraction before and after.

    The fall and its limits are ``fall``, ``fall_low`` and ``fall_high``. The extraction of the
    untouched student is ``before_share``, with limits ``before_share_low`` and ``_high``.
    """
    suite = gains[gains["task"].eq(SUITE)]
    held_out = falls[falls["split"].eq("held_out")]
    columns = ["share", "share_low", "share_high"]
    untouched = held_out[held_out["experiment"].eq("untouched")].set_index(["results", "student"])
    memory = held_out.rename(columns={"low": "fall_low", "high": "fall_high"})
    counts = ["passages", "before", "after", *columns, "fall", "fall_low", "fall_high"]
    keys = ["results", *LABELS]
    rows = suite.merge(memory[[*keys, *counts]], on=keys)
    return rows.join(untouched[columns].add_prefix("before_"), on=["results", "student"])


def decoupling_pairings(gains: pd.DataFrame, falls: pd.DataFrame) -> pd.DataFrame:
    """``with_memory`` for the pairings and controls of students that have something to forget.

    Students that extract no passage before training are left out.
    """
    rows = with_memory(gains, falls)
    kinds = rows["experiment"].isin(["pairings", "controls"])
    return rows[kinds & rows["before"].gt(0)].reset_index(drop=True)


def stopping_rule(falls: pd.DataFrame, gains: pd.DataFrame) -> pd.DataFrame:
    """One row per trajectory: the step at which to stop, chosen on the dev passages only.

    This is the first measured step at which no dev passage is extracted, or the last step if there
    is none. Gain and fall at this step are reported, the fall on the held-out passages.
    Trajectories whose untouched student extracts no dev passage offer no choice and are left out.
    """
    rows = []
    keys = ["results", "student", "source", "relation"]
    traced = falls[falls["experiment"].eq("trajectories") & falls["step"].gt(0)]
    for names, part in groups_of(traced, keys):
        dev = part[part["split"].eq("dev")].sort_values("step")
        if dev.empty or dev["before"].iloc[0] == 0:
            continue
        gone = dev[dev["after"].eq(0)]
        step = int((gone if len(gone) else dev.tail(1))["step"].iloc[0])
        rows.append((*names, int(dev["before"].iloc[0]), step, len(gone) > 0))
    stops = pd.DataFrame(rows, columns=[*keys, "dev_before", "step", "all_gone"])
    path = with_memory(gains, falls)
    path = path[path["experiment"].eq("trajectories")]
    on = ["results", "student", "source", "step"]
    columns = ["before", "after", "fall", "fall_low", "fall_high", "gain", "low", "high"]
    return stops.astype({"step": "Int64"}).merge(path[[*on, *columns]], on=on)


# ---------------------------------------------------------------- temperature and recipes


def temperature_rows(
    corpora: pd.DataFrame, gains: pd.DataFrame, falls: pd.DataFrame
) -> pd.DataFrame:
    """One row per self pairing and temperature: coverage, fidelity, gain and extraction share.

    Columns about the corpus are means over seeds; ``_low`` and ``_high`` are the range over seeds.
    """
    pairings = with_memory(gains, falls)
    own = pairings[pairings["experiment"].eq("pairings") & pairings["relation"].eq("self")]
    columns = [
        *("distinct_1", "distinct_2", "distinct_3", "benchmark_words", "mean_log_prob"),
        *("fidelity", "passage_hits", "documents"),
    ]
    base = corpora[corpora["round"].eq(1)]
    keys = ["results", "source", "temperature"]
    seeds = base.groupby(keys)[columns]
    corpus = seeds.mean().join(seeds.min().add_suffix("_low")).join(seeds.max().add_suffix("_high"))
    return own.merge(corpus.reset_index(), on=keys)


def temperature_trades(corpora: pd.DataFrame) -> pd.DataFrame:
    """One row per source: whether coverage rises and fidelity falls with each higher temperature.

    Fidelity is measured by a larger relative where the source has one, else by the source itself.
    """
    rows = []
    base = corpora[corpora["round"].eq(1)]
    for keys, part in base.groupby(["results", "source"], sort=False):
        fidelity = "fidelity" if part["fidelity"].notna().any() else "mean_log_prob"
        steps = part.groupby("temperature")[["distinct_2", "benchmark_words", fidelity]].mean()
        steps = steps.dropna().sort_index()
        if len(steps) < 2:
            continue
        rises = bool((steps["distinct_2"].diff().dropna() > 0).all())
        falls = bool((steps[fidelity].diff().dropna() < 0).all())
        reason = (
            f"coverage {'rises' if rises else 'does not always rise'}, "
            f"fidelity {'falls' if falls else 'does not always fall'}"
        )
        rows.append((*keys, len(steps), "yes" if rises and falls else "no", reason))
    return pd.DataFrame(rows, columns=["results", "source", "temperatures", "trade", "reason"])


def recipe_gains(pairings: pd.DataFrame) -> pd.DataFrame:
    """One row per recipe: its gain on the suite, with a p-value corrected for their number (Holm).

    ``pairings`` are rows of ``with_memory``. Recipes have one seed each, so their intervals cover
    other items but not other seeds.
    """
    rows = pairings[pairings["experiment"].eq("recipes")].copy()
    rows["p_value"] = inference.p_values(rows["gain"], rows["error"], rows["degrees"])
    rows = corrected(rows, "results")
    sign = np.where(rows["gain"] > 0, "gain", "loss")
    rows["effect"] = np.where(rows["p_value"].lt(LEVEL), sign, NOT_DISTINGUISHED)
    rows["update"] = ["full" if pd.isna(rank) else f"LoRA, rank {rank}" for rank in rows["rank"]]
    return rows.reset_index(drop=True)


def trajectories(gains: pd.DataFrame, falls: pd.DataFrame) -> pd.DataFrame:
    """One row per trajectory and step: ``with_memory`` for trajectories."""
    rows = with_memory(gains, falls)
    return rows[rows["experiment"].eq("trajectories")].reset_index(drop=True)


def round_rows(gains: pd.DataFrame, falls: pd.DataFrame, corpora: pd.DataFrame) -> pd.DataFrame:
    """One row per student and round: gain, extraction, and the corpus it was trained on."""
    rows = with_memory(gains, falls)
    later = rows[rows["experiment"].eq("rounds")]
    keys = ["results", "student"]
    students = later[keys].drop_duplicates()
    first = rows[
        rows["experiment"].eq("pairings")
        & rows["relation"].eq("self")
        & rows["temperature"].eq(TEMPERATURE)
        & rows["method"].eq("full")
    ].merge(students, on=keys)
    at_one = corpora[corpora["temperature"].eq(TEMPERATURE)]
    by = ["results", "source", "round"]
    columns = ["distinct_1", "distinct_2", "distinct_3", "benchmark_words", "passage_hits"]
    corpus = at_one.groupby(by, as_index=False)[[*columns, "mean_log_prob"]].mean()
    return pd.concat([first, later], ignore_index=True).merge(corpus, on=by)
