"""The rules that judge the claims, fixed before any result: pure functions from tables to verdicts.

A claim that speaks of every student is the intersection of its parts, so it is supported when
each part's own 95 % interval lies on its side: no correction is needed to demand that all hold
(Berger, 1982). One part among many can lie on the wrong side by chance, so a part *contradicts*
only by a p-value corrected for the number of parts (Holm, 1979); the exact limits of a fall are not
corrected, and the page says so. Anything else is undecided.
Every function takes tables with a ``results`` column (which tier, and whose) and judges each
result label and each method by itself.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from nbutils.analysis import inference
from nbutils.analysis.gains import STRONGER, with_memory
from nbutils.config.design import TEMPERATURE


def side(low: float, high: float, threshold: float, p_value: float = 0.0) -> str:
    """The side of the threshold on which an interval lies; ``p_value`` is the corrected one."""
    if low > threshold:
        return "supported"
    return "contradicted" if high < threshold and p_value < LEVEL else "undecided"


def combine(kinds: Iterable[str]) -> str:
    """All must hold: supported if every part is, contradicted if any is, undecided otherwise."""
    found = set(kinds)
    if "contradicted" in found:
        return "contradicted"
    return "supported" if found == {"supported"} else "undecided"


def judged(contrasts: pd.DataFrame, claim: str) -> pd.DataFrame:
    """Every contrast of a claim with its threshold, corrected p-value and verdict.

    Holm's correction runs over the contrasts of one result label, method and claim.
    """
    rows = contrasts[contrasts["claim"].eq(claim)].copy()
    named = zip(rows["claim"], rows["first"], rows["second"], strict=True)
    rows["threshold"] = [THRESHOLDS.get(key, -TOLERANCE) for key in named]
    measured = (rows["value"], rows["error"], rows["degrees"])
    rows["p_value"] = inference.p_values(*measured, rows["threshold"])
    rows = corrected(rows, "results", "method")
    columns = ["low", "high", "threshold", "p_value"]
    rows["verdict"] = [side(*r) for r in rows[columns].itertuples(index=False)]
    return rows.reset_index(drop=True)


def corrected(rows: pd.DataFrame, *keys: str) -> pd.DataFrame:
    """The rows with their p-values corrected for their number within ``keys`` (Holm, 1979)."""
    rows = rows.copy()
    for _, part in groups_of(rows, keys):
        rows.loc[part.index, "p_value"] = inference.holm(part["p_value"])
    return rows


# --- Around it -------------------------------------------------------------------------------


TOLERANCE = 0.005
"""A change of accuracy smaller than this (half a point) counts as no loss."""
FALL = 0.95
"""The fall of extraction that the decoupling claim promises."""
LEVEL = 0.05
"""A corrected p-value below this contradicts."""
EVERYONE = "all students"
NOT_TOLD = "not told apart"
"""Zero, or the other one, lies inside the interval."""
THRESHOLDS = {
    ("ordering", "self", "lineage"): -TOLERANCE,
    ("ordering", "lineage", "cross-family"): 0.0,
    ("ordering", "self", "cross-family"): 0.0,
    ("stranger", "lineage", "stronger cross-family"): 0.0,
    ("stranger", "self", "stronger cross-family"): 0.0,
}
"""What the contrast of a claim must exceed; of a claim that is not here, the tolerance's loss."""
_LOSS = f"{100 * TOLERANCE:g} points"
_KEPT = f"the whole 95 % interval lies above a loss of {_LOSS}"
_WRONG = f"its whole interval lies below, and p < {LEVEL:g} after Holm's correction"
RULES: dict[str, list[tuple[str, str, str]]] = {
    "ordering": [
        ("self minus lineage", f"{_KEPT}: self is no worse", _WRONG),
        ("lineage minus cross-family", "the whole 95 % interval lies above 0", _WRONG),
        ("self minus cross-family", "the whole 95 % interval lies above 0", _WRONG),
    ],
    "stranger": [
        (
            "lineage, or self, minus stronger cross-family",
            "the whole 95 % interval lies above 0; a source is stronger when it has at least "
            f"{STRONGER:g} times the parameters",
            _WRONG,
        ),
    ],
    "controls": [
        ("self minus control", _KEPT, _WRONG),
    ],
    "temperature": [
        (f"gain at temperature {TEMPERATURE:g} minus gain at another", _KEPT, _WRONG),
    ],
    "rounds": [
        ("a later round minus round 1", _KEPT, _WRONG),
    ],
    "decoupling": [
        ("kept: change of utility", _KEPT, _WRONG),
        (
            "forgotten: fall of held-out extraction",
            f"the exact interval, one-sided at 95 %, lies above {100 * FALL:g} %",
            "the exact interval lies below, for any pairing: not corrected",
        ),
    ],
}
"""The rules of each claim, part by part: what supports and what contradicts it."""


def rules(claim: str) -> pd.DataFrame:
    """The rules of a claim, for its page."""
    return pd.DataFrame(RULES[claim], columns=["part", "supported when", "contradicted when"])


def reading(low: float, high: float) -> str:
    """What the interval of a single gain says, without correction."""
    return "a gain" if low > 0 else "a loss" if high < 0 else NOT_TOLD


def groups_of(table: pd.DataFrame, keys: Sequence[str]) -> Any:
    """The parts of a table by their keys, in the table's order."""
    return table.groupby(list(keys), sort=False, dropna=False)


def across_students(rows: pd.DataFrame) -> pd.DataFrame:
    """Each judged contrast as a mean over students, who are a sample: random effects.

    There is one mean per contrast, judged without correction. Students without any uncertainty are
    left out, and contrasts of a single student.
    """
    found = []
    keys = ["results", "method", "claim", "first", "second"]
    for names, part in groups_of(rows, keys):
        part = part[part["error"] > 0]
        if len(part) < 2:
            continue
        value, low, high = inference.random_effects(part["value"], part["error"])
        threshold = float(part["threshold"].iloc[0])
        verdict = side(low, high, threshold)
        seeds = int(part["seeds"].min())
        found.append((*names, EVERYONE, len(part), value, low, high, threshold, verdict, seeds))
    columns = [*keys, "student", "students", "value", "low", "high", "threshold", "verdict"]
    columns.append("seeds")
    return pd.DataFrame(found, columns=columns)


def by(rows: pd.DataFrame, *keys: str) -> pd.DataFrame:
    """One verdict for each ``keys``: over all its rows, and how many said what."""
    found = []
    for names, part in groups_of(rows, keys):
        counts = part["verdict"].value_counts()
        said = ", ".join(f"{n} {kind}" for kind, n in counts.items())
        found.append((*names, combine(part["verdict"]), f"{said}, of {len(part)}"))
    return pd.DataFrame(found, columns=[*keys, "verdict", "reason"])


def overall(rows: pd.DataFrame) -> pd.DataFrame:
    """One verdict for each result label and method, over all its rows."""
    return by(rows, "results", "method")


def decoupling_pairings(gains: pd.DataFrame, falls: pd.DataFrame) -> pd.DataFrame:
    """One row per pairing and control, with both changes: of utility and of extraction.

    Students that extract nothing before training cannot forget, and are left out.
    """
    rows = with_memory(gains, falls)
    kinds = rows["experiment"].isin(["pairings", "controls"])
    return rows[kinds & rows["before"].gt(0)].reset_index(drop=True)


def decoupling_verdicts(pairings: pd.DataFrame) -> pd.DataFrame:
    """Judge every compatible pairing (self, lineage) at temperature 1: kept *and* forgotten.

    Kept: the gain's interval lies above the tolerance's loss. Forgotten: the interval of the fall
    lies above ``FALL``. A pairing is contradicted when either lies on the wrong side; for the gain
    by a p-value corrected over the pairings of one result label and method.
    """
    rows = pairings[
        pairings["experiment"].eq("pairings")
        & pairings["temperature"].eq(TEMPERATURE)
        & pairings["relation"].isin(["self", "lineage"])
    ].copy()
    rows["p_value"] = inference.p_values(rows["gain"], rows["error"], rows["degrees"], -TOLERANCE)
    rows = corrected(rows, "results", "method")
    limits = rows[["low", "high", "p_value"]].to_numpy(dtype=float)
    rows["kept"] = [side(low, high, -TOLERANCE, p) for low, high, p in limits]
    limits = rows[["fall_low", "fall_high"]].to_numpy(dtype=float)
    rows["forgotten"] = [side(low, high, FALL) for low, high in limits]
    rows["verdict"] = [combine(x) for x in zip(rows["kept"], rows["forgotten"], strict=True)]
    return rows.reset_index(drop=True)


def control_implications(contrasts: pd.DataFrame, pairings: pd.DataFrame) -> pd.DataFrame:
    """What each control of a student says about self-training, by rules on intervals.

    *Utility*: self minus control, better, worse or not told apart. *Forgetting*: the control
    forgets more or less where the intervals of the falls do not meet, else they are not told
    apart. ``enough`` marks a control that does the work: even its lower limit forgets what self
    forgets, and self is surely no better by more than the tolerance.
    """
    keys = ["results", "method", "student"]
    at_one = pairings["temperature"].eq(TEMPERATURE) & pairings["relation"].eq("self")
    own = pairings[pairings["experiment"].eq("pairings") & at_one]
    fall = ["fall", "fall_low", "fall_high"]
    rows = pairings[pairings["experiment"].eq("controls")].merge(
        own[[*keys, *fall]], on=keys, suffixes=("", "_self")
    )
    against = contrasts[contrasts["claim"].eq("controls")].rename(columns={"second": "source"})
    limits = ["value", "low", "high"]
    rows = rows.merge(
        against[[*keys, "source", *limits]], on=[*keys, "source"], suffixes=("", "_self")
    )
    rows = rows.rename(columns={"low_self": "self_low", "high_self": "self_high"})
    more = rows["fall_low"] > rows["fall_high_self"]
    less = rows["fall_high"] < rows["fall_low_self"]
    better, worse = rows["self_low"] > 0, rows["self_high"] < 0
    forgets = np.select([more, less], ["more", "less"], NOT_TOLD)
    forgot = rows["fall_low_self"] > 0
    enough = forgot & (rows["fall_low"] >= rows["fall_self"]) & (rows["self_high"] < TOLERANCE)
    utility = np.select([better, worse], ["self is better", "self is worse"], NOT_TOLD)
    return rows.assign(forgets=forgets, utility=utility, forgot=forgot, enough=enough)
