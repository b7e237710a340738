"""Predictors: do proxies and diagnostics rank corpora as the gains do? Pure functions.

A proxy is claimed to predict the gain; a diagnostic is a candidate that never looks at a
benchmark. Both are a number for a corpus and a student, and judged alike.
"""

import numpy as np
import pandas as pd

from nbutils.analysis.gains import SUITE
from nbutils.analysis.rank_correlation import leave_one_out, rank_correlation
from nbutils.analysis.verdicts import EVERYONE, LEVEL, corrected, groups_of
from nbutils.config.design import TEMPERATURE

USEFUL_CORRELATION = 0.5
"""The rank correlation from which a proxy would be worth using to choose a corpus."""


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
    """The rule for proxies, for its page."""
    return pd.DataFrame(RULES, columns=["claim", "supported when", "contradicted when"])


def pairing_points(proxies: pd.DataFrame, gains: pd.DataFrame) -> pd.DataFrame:
    """One row a (pairing, proxy) at temperature 1: the proxy's mean beside the suite's gain.

    Means are over tasks and seeds. Diagnostics are treated as proxies.
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
    """Rank correlations of proxy and gain: per student, and the mean over students.

    Groups of fewer than four pairings are left out.
    """
    rows = []
    columns = ["results", "method", "kind", "proxy"]
    for keys, part in groups_of(pairings, columns):
        mine = [p for _, p in part.groupby("student", sort=False) if len(p) >= 4]
        groups = [(p["value"].to_numpy(), p["gain"].to_numpy()) for p in mine]
        named = [(p["student"].iloc[0], [g]) for p, g in zip(mine, groups, strict=True)]
        for who, chosen in [*named, (EVERYONE, groups)] if groups else []:
            rows.append((*keys, who, *vars(rank_correlation(chosen, seed)).values()))
    return pd.DataFrame(
        rows, columns=[*columns, "student", "rho", "low", "high", "p_value", "points"]
    )


def proxy_verdicts(correlations: pd.DataFrame) -> pd.DataFrame:
    """Judge, for every result label, method and proxy, the claim that the proxy fails.

    By the mean over students, the proxy *fails* (claim supported) when the whole interval lies
    below ``USEFUL_CORRELATION``; it *predicts* (claim contradicted) when rho reaches it, the
    interval lies above zero and the permutation p-value, corrected for the number of proxies, is
    below ``LEVEL``.
    """
    means = correlations[correlations["student"].eq(EVERYONE)]
    rows = corrected(means, "results", "method", "kind")
    predicts = rows["rho"].ge(USEFUL_CORRELATION) & rows["low"].gt(0) & rows["p_value"].lt(LEVEL)
    fails = rows["high"].lt(USEFUL_CORRELATION)
    kinds = np.where(fails, "supported", np.where(predicts, "contradicted", "undecided"))
    return rows.assign(verdict=kinds).reset_index(drop=True)


def left_out(pairings: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """How well each proxy, its sign learnt on the other students, chooses for one left out.

    One row a (result label, method, proxy): ``rho`` is the mean over students of the rank
    correlation with gain, turned by the sign of the others' mean; ``regret`` is the gain lost by
    training on the corpus that the proxy puts first instead of the best one, as a mean over
    students and with their range. P-values permute gains within students and learn the signs anew.
    """
    rows = []
    columns = ["results", "method", "kind", "proxy"]
    for keys, part in groups_of(pairings, columns):
        mine = [p for _, p in part.groupby("student", sort=False) if len(p) >= 4]
        if len(mine) < 2:
            continue
        groups = [(p["value"].to_numpy(), p["gain"].to_numpy()) for p in mine]
        found = leave_one_out(groups, seed)
        regrets = [
            g.max() - g[np.argmax(sign * v)]
            for (v, g), sign in zip(groups, found.signs, strict=True)
        ]
        chance = [g.max() - g.mean() for _, g in groups]
        numbers = (found.rho, found.low, found.high, found.p_value)
        lost = (np.mean(regrets), min(regrets), max(regrets), np.mean(chance))
        rows.append((*keys, len(mine), *numbers, *lost))
    further = ["students", "rho", "low", "high", "p_value"]
    regret = ["regret", "regret_low", "regret_high", "regret_at_random"]
    return pd.DataFrame(rows, columns=[*columns, *further, *regret])


def useful(tried: pd.DataFrame) -> pd.DataFrame:
    """Mark the predictors that are useful for a student left out.

    Rho reaches ``USEFUL_CORRELATION``, its interval lies above zero, and the p-value, corrected
    over the predictors of one result label and method, is below ``LEVEL``.
    """
    rows = corrected(tried, "results", "method")
    strong = rows["rho"].ge(USEFUL_CORRELATION) & rows["low"].gt(0)
    return rows.assign(useful=strong & rows["p_value"].lt(LEVEL))
