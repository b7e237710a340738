"""Experiments: the rows behind a page's chart and tables, from the summary tables."""

import numpy as np
import pandas as pd

from nbutils.analysis import inference
from nbutils.analysis.gains import with_memory
from nbutils.analysis.verdicts import LEVEL, NOT_DISTINGUISHED, corrected, groups_of
from nbutils.config.design import TEMPERATURE


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


def temperature_rows(
    corpora: pd.DataFrame, gains: pd.DataFrame, falls: pd.DataFrame
) -> pd.DataFrame:
    """One row per self pairing and temperature: coverage, fidelity, gain and extraction share.

    Columns about the corpus are means over seeds; ``_low`` and ``_high`` are the range over seeds.
    """
    rows = with_memory(gains, falls)
    own = rows[rows["experiment"].eq("pairings") & rows["relation"].eq("self")]
    columns = [
        *("distinct_1", "distinct_2", "distinct_3", "benchmark_words", "mean_log_prob"),
        *("fidelity", "passage_hits", "documents"),
    ]
    base = corpora[corpora["round"].eq(1)]
    keys = ["results", "source", "temperature"]
    seeds = base.groupby(keys)[columns]
    corpus = seeds.mean().join(seeds.min().add_suffix("_low")).join(seeds.max().add_suffix("_high"))
    return own.merge(corpus.reset_index(), on=keys)


def recipe_gains(gains: pd.DataFrame, falls: pd.DataFrame) -> pd.DataFrame:
    """One row per recipe: its gain on the suite, with a p-value corrected for their number (Holm).

    Recipes have one seed each, so their intervals cover other items but not other seeds.
    """
    rows = with_memory(gains, falls)
    rows = rows[rows["experiment"].eq("recipes")].copy()
    rows["p_value"] = inference.p_values(rows["gain"], rows["error"], rows["degrees"])
    rows = corrected(rows, "results")
    sign = np.where(rows["gain"] > 0, "gain", "loss")
    rows["effect"] = np.where(rows["p_value"].lt(LEVEL), sign, NOT_DISTINGUISHED)
    rows["update"] = ["full" if pd.isna(rank) else f"LoRA, rank {rank}" for rank in rows["rank"]]
    return rows.reset_index(drop=True)


def trajectories(gains: pd.DataFrame, falls: pd.DataFrame) -> pd.DataFrame:
    """One row per trajectory and measured step: ``with_memory`` for trajectories."""
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
