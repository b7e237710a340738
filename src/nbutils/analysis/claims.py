"""Claims: each judged from the tables of one result label, with the number that decides it."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from nbutils.analysis import predictors, verdicts
from nbutils.analysis.verdicts import EVERYONE, FALL, TOLERANCE, Judged, Number
from nbutils.config.design import TEMPERATURE

METHOD = "full"
SAID = {
    "ordering": "Self is no worse than lineage, and both are better than cross-family",
    "stranger": "A stronger stranger does not win",
    "proxies": "Neither resemblance to the benchmark nor likelihood predicts the gain",
    "decoupling": "Utility is kept while memorised passages are forgotten",
    "temperature": "No other temperature serves better than the model's own",
}
"""What each claim says in one line."""
TABLES = ("gains", "falls", "contrasts", "proxies")
"""The tables that claims are judged from."""
Tables = dict[str, pd.DataFrame]


def parts(tables: Tables, results: str) -> Tables:
    """Maps each claim that some results can judge to its judged parts.

    ``tables`` has ``TABLES``, with the result label in the column ``results``.
    """
    gains, falls, contrasts, proxies = (
        tables[name][tables[name]["results"].eq(results)] for name in TABLES
    )
    points = predictors.pairing_points(proxies[proxies["kind"].eq("proxy")], gains)
    judged = {
        "ordering": verdicts.judged(contrasts, "ordering"),
        "stranger": verdicts.judged(contrasts, "stranger"),
        "proxies": predictors.proxy_verdicts(predictors.proxy_correlations(points)),
        "decoupling": verdicts.decoupling_verdicts(verdicts.decoupling_pairings(gains, falls)),
        "temperature": verdicts.judged(contrasts, "temperature"),
    }
    by_method = {claim: rows[rows["method"].eq(METHOD)] for claim, rows in judged.items()}
    return {claim: rows for claim, rows in by_method.items() if len(rows)}


def combined(rows: pd.DataFrame) -> tuple[str, str]:
    """The verdict of a claim and the counts behind it, from its judged parts."""
    verdict, reason = verdicts.by(rows, "results")[["verdict", "reason"]].iloc[0]
    return str(verdict), str(reason)


def deciding(claim: str, rows: pd.DataFrame) -> pd.Series:
    """The part of a claim that speaks most against it, whichever way the verdict goes.

    It is the proxy that ranks best, the pairing that forgot least, or the contrast that falls
    furthest behind what it has to exceed, as a mean over students where there are several.
    """
    if claim == "proxies":
        return rows.sort_values("rho", ascending=False).iloc[0]
    if claim == "decoupling":
        return rows.sort_values("fall").iloc[0]
    means = verdicts.across_students(rows)
    rows = rows if means.empty else means
    return rows.iloc[int((rows["value"] - rows["threshold"]).argmin())]


def number(claim: str, row: pd.Series) -> Number:
    """The number of a deciding part, with what it means: points, per cent or a correlation."""
    if claim == "proxies":
        ranks = f"{row['proxy'].replace('_', ' ')} ranks corpora"
        return Number(
            f"{ranks} as their gains do, with a rank correlation of {{}}",
            f"{ranks} against their gains, with a rank correlation of minus {{}}",
            value=row["rho"],
            low=row["low"],
            high=row["high"],
            threshold=predictors.USEFUL_CORRELATION,
            unit="",
            digits=2,
        )
    if claim == "decoupling":
        return _of_pairing(row)
    everyone = row["student"] == EVERYONE
    who = "on average, students gain" if everyone else f"{row['student']} gains"
    compared = f"with {row['first']} than with {row['second']}"
    return Number(
        f"{who} {{}} more {compared}",
        f"{who} {{}} less {compared}",
        value=100 * row["value"],
        low=100 * row["low"],
        high=100 * row["high"],
        threshold=100 * row["threshold"],
    )


def _of_pairing(row: pd.Series) -> Number:
    """The change of utility of a pairing where that is what decides, else its fall."""
    name = f"{row['student']} ← {row['source']}"
    order = ("contradicted", "undecided", "supported")
    if order.index(row["kept"]) < order.index(row["forgotten"]):
        return Number(
            f"utility of {name} rose by {{}}",
            f"utility of {name} fell by {{}}",
            value=100 * row["gain"],
            low=100 * row["low"],
            high=100 * row["high"],
            threshold=-100 * TOLERANCE,
        )
    return Number(
        f"extraction of {name} fell by {{}}",
        f"extraction of {name} rose by {{}}",
        value=100 * row["fall"],
        low=100 * row["fall_low"],
        high=100 * row["fall_high"],
        threshold=100 * FALL,
        unit=" %",
        digits=0,
        limits="95 % limits",
    )


def judged(tables: Tables, results: str) -> list[Judged]:
    """Every claim that some results can judge. ``tables`` are as for ``parts``."""
    return [
        Judged(claim, SAID[claim], *combined(rows), number(claim, deciding(claim, rows)))
        for claim, rows in parts(tables, results).items()
    ]


# --- The pairings behind a claim --------------------------------------------------------------

PAIRING = ["student", "source", "temperature", "seed"]
RELATIONS = {
    **dict.fromkeys(("ordering", "stranger"), ("self", "lineage", "cross-family")),
    **{"decoupling": ("self", "lineage"), "temperature": ("self",)},
}
"""Relations of the pairings that a claim is about; without an entry, all."""


def pairings(claim: str, labels: pd.DataFrame) -> set[tuple[Any, ...]]:
    """The pairings that a claim is about, as values of ``PAIRING``.

    ``labels`` has one row per state, such as those of the table ``states`` or of a plan's runs.
    """
    rows = labels[labels["experiment"].eq("pairings") & labels["method"].eq(METHOD)]
    if claim in RELATIONS:
        rows = rows[rows["relation"].isin(RELATIONS[claim])]
    other = rows["temperature"].ne(TEMPERATURE)
    if claim == "temperature":
        rows = rows[rows["student"].isin(rows.loc[other, "student"])]
    else:
        rows = rows[~other]
    return _pairings(rows)


def behind(claim: str, tables: Tables) -> set[tuple[Any, ...]]:
    """The pairings that the judgement of a claim stands on, given the tables of a tier."""
    found = pairings(claim, tables["states"])
    return found & _pairings(tables["proxies"]) if claim == "proxies" else found


def _pairings(rows: pd.DataFrame) -> set[tuple[Any, ...]]:
    values: Iterable[tuple[Any, ...]] = rows[PAIRING].itertuples(index=False, name=None)
    return set(values)
