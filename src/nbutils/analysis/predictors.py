"""Predictors: do proxies and diagnostics rank corpora as the gains do? Pure functions.

A proxy is claimed to predict the gain. A diagnostic is a candidate that uses no benchmark. Each
gives one number per corpus and student, and the same rules judge both.
"""

import numpy as np
import pandas as pd

from nbutils.analysis.gains import SUITE
from nbutils.analysis.rank_correlation import leave_one_out, rank_correlation
from nbutils.analysis.verdicts import EVERYONE, LEVEL, corrected, groups_of
from nbutils.config.design import TEMPERATURE

USEFUL_CORRELATION = 0.5
"""The smallest rank correlation with which a proxy is worth using to choose a corpus."""

RULES = [
    (
        "the proxy fails",
        f"the whole 95 % interval of rho lies below {USEFUL_CORRELATION:g}",
        f"rho reaches {USEFUL_CORRELATION:g}, its interval lies above 0, and the "
        f"permutation p-value is below {LEVEL:g} after Holm's correction",
    )
]
"""What supports and what contradicts the claim that a proxy fails."""


def rules() -> pd.DataFrame:
    """The rule for proxies, as a table for its page."""
    return pd.DataFrame(RULES, columns=["claim", "supported when", "contradicted when"])


def pairing_points(proxies: pd.DataFrame, gains: pd.DataFrame) -> pd.DataFrame:
    """One row per pairing and proxy at temperature 1: the proxy's mean and the suite's gain.

    Means are over tasks and seeds. Diagnostics count as proxies.
    """
    pairing = ["results", "student", "source", "relation"]
    suite = gains[
        gains["task"].eq(SUITE)
        & gains["experiment"].eq("pairings")
        & gains["temperature"].eq(TEMPERATURE)
    ]
    at_one = proxies[proxies["temperature"].eq(TEMPERATURE)]
    values = at_one.groupby([*pairing, "kind", "proxy"], as_index=False)["value"].mean()
    columns = [*pairing, "method", "gain", "low", "high", "seeds"]
    return suite[columns].merge(values, on=pairing)


def proxy_correlations(pairings: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Rank correlations of proxy and gain: one row per student, and one for their mean.

    ``pairings`` are rows of ``pairing_points``. Students with fewer than four pairings are left
    out.
    """
    rows = []
    columns = ["results", "method", "kind", "proxy"]
    for keys, part in groups_of(pairings, columns):
        students = [p for _, p in part.groupby("student", sort=False) if len(p) >= 4]
        groups = [(p["value"].to_numpy(), p["gain"].to_numpy()) for p in students]
        named = [(p["student"].iloc[0], [g]) for p, g in zip(students, groups, strict=True)]
        for student, selected in [*named, (EVERYONE, groups)] if groups else []:
            rows.append((*keys, student, *vars(rank_correlation(selected, seed)).values()))
    return pd.DataFrame(
        rows, columns=[*columns, "student", "rho", "low", "high", "p_value", "points"]
    )


def proxy_verdicts(correlations: pd.DataFrame) -> pd.DataFrame:
    """Judge the claim that a proxy fails, for each result label, method and proxy.

    The rule looks at the mean over students. The proxy *fails* (claim supported) when the whole
    interval lies below ``USEFUL_CORRELATION``. It *predicts* (claim contradicted) when rho is at
    least that, the interval lies above zero, and the permutation p-value, corrected for the number
    of proxies, is below ``LEVEL``.
    """
    means = correlations[correlations["student"].eq(EVERYONE)]
    rows = corrected(means, "results", "method", "kind")
    predicts = rows["rho"].ge(USEFUL_CORRELATION) & rows["low"].gt(0) & rows["p_value"].lt(LEVEL)
    fails = rows["high"].lt(USEFUL_CORRELATION)
    kinds = np.where(fails, "supported", np.where(predicts, "contradicted", "undecided"))
    return rows.assign(verdict=kinds).reset_index(drop=True)


def left_out(pairings: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """How well each proxy chooses a corpus for a student, with its sign learnt on the others.

    One row per result label, method and proxy. ``rho`` is the mean over students of the rank
    correlation with gain, each multiplied by the sign of the mean over the other students.
    ``regret`` is the gain lost by training on the corpus that the proxy ranks first instead of the
    best one: mean and range over students. P-values permute gains within students and learn the
    signs again.
    """
    rows = []
    columns = ["results", "method", "kind", "proxy"]
    for keys, part in groups_of(pairings, columns):
        students = [p for _, p in part.groupby("student", sort=False) if len(p) >= 4]
        if len(students) < 2:
            continue
        groups = [(p["value"].to_numpy(), p["gain"].to_numpy()) for p in students]
        result = leave_one_out(groups, seed)
        regrets = [
            g.max() - g[np.argmax(sign * v)]
            for (v, g), sign in zip(groups, result.signs, strict=True)
        ]
        at_random = [g.max() - g.mean() for _, g in groups]
        correlation = (result.rho, result.low, result.high, result.p_value)
        regret = (np.mean(regrets), min(regrets), max(regrets), np.mean(at_random))
        rows.append((*keys, len(students), *correlation, *regret))
    columns += ["students", "rho", "low", "high", "p_value"]
    columns += ["regret", "regret_low", "regret_high", "regret_at_random"]
    return pd.DataFrame(rows, columns=columns)


def useful(tried: pd.DataFrame) -> pd.DataFrame:
    """Mark the predictors that are useful for a student that was left out.

    ``tried`` are rows of ``left_out``. A predictor is useful when rho is at least
    ``USEFUL_CORRELATION``, its interval lies above zero, and the p-value, corrected for the number
    of predictors of one result label and method, is below ``LEVEL``.
    """
    rows = corrected(tried, "results", "method")
    strong = rows["rho"].ge(USEFUL_CORRELATION) & rows["low"].gt(0)
    return rows.assign(useful=strong & rows["p_value"].lt(LEVEL))
