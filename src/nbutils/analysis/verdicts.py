"""The rules that judge the claims, fixed before any result: pure functions from tables to verdicts.

A claim about every student has several parts, such as one contrast per student. The claim is
*supported* when the 95 % interval of each part lies above a threshold: requiring that all parts
hold needs no correction for their number (Berger, 1982). One of many parts can lie below by
chance, so a part *contradicts* the claim only if its p-value, corrected for the number of parts
(Holm, 1979), is below 5 %. The exact limits of a fall are not corrected, and the page says so. All
else is *undecided*.

Every function takes tables with a ``results`` column, the label of a tier and its origin, and
judges each result label and each method separately.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from nbutils.analysis import inference
from nbutils.analysis.gains import STRONGER, with_memory
from nbutils.config.design import TEMPERATURE


def side(low: float, high: float, threshold: float, p_value: float = 0.0) -> str:
    """The verdict of one part, from its interval and its corrected p-value."""
    if low > threshold:
        return "supported"
    return "contradicted" if high < threshold and p_value < LEVEL else "undecided"


def combine(parts: Iterable[str]) -> str:
    """The verdict of a claim from those of its parts.

    The claim is supported if every part is, contradicted if any part is, and undecided otherwise.
    """
    verdicts = set(parts)
    if "contradicted" in verdicts:
        return "contradicted"
    return "supported" if verdicts == {"supported"} else "undecided"


def judged(contrasts: pd.DataFrame, claim: str) -> pd.DataFrame:
    """Every contrast of a claim with its threshold, corrected p-value and verdict.

    Holm's correction covers the contrasts of one result label, method and claim.
    """
    rows = contrasts[contrasts["claim"].eq(claim)].copy()
    keys = zip(rows["claim"], rows["first"], rows["second"], strict=True)
    rows["threshold"] = [THRESHOLDS.get(key, -TOLERANCE) for key in keys]
    estimates = (rows["value"], rows["error"], rows["degrees"])
    rows["p_value"] = inference.p_values(*estimates, rows["threshold"])
    rows = corrected(rows, "results", "method")
    columns = ["low", "high", "threshold", "p_value"]
    rows["verdict"] = [side(*r) for r in rows[columns].itertuples(index=False)]
    return rows.reset_index(drop=True)


def corrected(rows: pd.DataFrame, *keys: str) -> pd.DataFrame:
    """The rows, p-values corrected for the number of rows with the same ``keys`` (Holm, 1979)."""
    rows = rows.copy()
    for _, part in groups_of(rows, keys):
        rows.loc[part.index, "p_value"] = inference.holm(part["p_value"])
    return rows


@dataclass(frozen=True)
class Number:
    """The number that decides a claim, in its unit, with what its rule compares it to.

    ``more`` and ``less`` say what a number of zero and above, or below zero, means: clauses with
    ``{}`` in the place of its size. ``limits`` names the kind of ``low`` and ``high``.
    """

    more: str
    less: str
    value: float
    low: float
    high: float
    threshold: float
    unit: str = " points"
    digits: int = 1
    limits: str = "95 % interval"

    def text(self, value: float) -> str:
        """A value for people, rounded and without its unit."""
        return f"{round(value, self.digits) + 0.0:.{self.digits}f}"  # no minus before a zero

    @property
    def certainty(self) -> str:
        """The limits, and whether all between them lies on one side of the threshold."""
        above, under = self.low > self.threshold, self.high < self.threshold
        side_ = "all above" if above else "all below" if under else "not clear of"
        limits = f"{self.limits} {self.text(self.low)} to {self.text(self.high)}"
        return f"{limits}, {side_} {self.threshold:g}"


@dataclass(frozen=True)
class Judged:
    """A judged claim: what it says, its verdict, the counts of its parts, and a number."""

    claim: str
    said: str
    verdict: str
    reason: str
    number: Number


def sentence(judged: Judged) -> str:
    """One plain sentence on a judged claim: verdict, direction, size and certainty.

    The number need not lie on the side of the verdict: it can be a mean over students, and one
    student is enough to contradict.
    """
    number = judged.number
    clause = number.more if number.value >= 0 else number.less
    effect = clause.format(number.text(abs(number.value)) + number.unit)
    counted = f"{judged.verdict} ({judged.reason})"
    return f"{judged.said}: {counted}; {effect} ({number.certainty})."


# --- Around it -------------------------------------------------------------------------------


TOLERANCE = 0.005
"""A loss of accuracy smaller than this (half a point) counts as no loss."""
FALL = 0.95
"""The fall of extraction that the decoupling claim states, a fraction."""
LEVEL = 0.05
"""A corrected p-value below this is significant."""
EVERYONE = "all students"
NOT_DISTINGUISHED = "not told apart"
"""The text for an interval that covers zero, and for two intervals that overlap."""
THRESHOLDS = {
    ("ordering", "self", "lineage"): -TOLERANCE,
    ("ordering", "lineage", "cross-family"): 0.0,
    ("ordering", "self", "cross-family"): 0.0,
    ("stranger", "lineage", "stronger cross-family"): 0.0,
    ("stranger", "self", "stronger cross-family"): 0.0,
}
"""What a contrast must exceed, by claim and groups; every other contrast, ``-TOLERANCE``."""
_NO_LOSS = f"the whole 95 % interval lies above a loss of {100 * TOLERANCE:g} points"
_BELOW = f"its whole interval lies below, and p < {LEVEL:g} after Holm's correction"
RULES: dict[str, list[tuple[str, str, str]]] = {
    "ordering": [
        ("self minus lineage", f"{_NO_LOSS}: self is no worse", _BELOW),
        ("lineage minus cross-family", "the whole 95 % interval lies above 0", _BELOW),
        ("self minus cross-family", "the whole 95 % interval lies above 0", _BELOW),
    ],
    "stranger": [
        (
            "lineage, or self, minus stronger cross-family",
            "the whole 95 % interval lies above 0; a source is stronger when it has at least "
            f"{STRONGER:g} times the parameters",
            _BELOW,
        ),
    ],
    "controls": [
        ("self minus control", _NO_LOSS, _BELOW),
    ],
    "temperature": [
        (f"gain at temperature {TEMPERATURE:g} minus gain at another", _NO_LOSS, _BELOW),
    ],
    "rounds": [
        ("a later round minus round 1", _NO_LOSS, _BELOW),
    ],
    "decoupling": [
        ("kept: change of utility", _NO_LOSS, _BELOW),
        (
            "forgotten: fall of held-out extraction",
            f"the exact interval, one-sided at 95 %, lies above {100 * FALL:g} %",
            "the exact interval lies below, for any pairing: not corrected",
        ),
    ],
}
"""The rules of each claim: part, what supports it, what contradicts it."""


def rules(claim: str) -> pd.DataFrame:
    """The rules of a claim, as a table for its page."""
    return pd.DataFrame(RULES[claim], columns=["part", "supported when", "contradicted when"])


def reading(low: float, high: float) -> str:
    """The reading of the interval of a single gain, without correction."""
    return "a gain" if low > 0 else "a loss" if high < 0 else NOT_DISTINGUISHED


def groups_of(table: pd.DataFrame, keys: Sequence[str]) -> Any:
    """The groups of rows with the same ``keys``, missing ones included, in the table's order."""
    return table.groupby(list(keys), sort=False, dropna=False)


def across_students(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per judged contrast: its mean over students, as a sample of students.

    The mean is that of ``inference.random_effects``, judged without correction. Students whose
    contrast has no error are left out, and so are contrasts with fewer than two students.
    """
    means = []
    keys = ["results", "method", "claim", "first", "second"]
    for names, part in groups_of(rows, keys):
        part = part[part["error"] > 0]
        if len(part) < 2:
            continue
        value, low, high = inference.random_effects(part["value"], part["error"])
        threshold = float(part["threshold"].iloc[0])
        verdict = side(low, high, threshold)
        seeds = int(part["seeds"].min())
        means.append((*names, EVERYONE, len(part), value, low, high, threshold, verdict, seeds))
    columns = [*keys, "student", "students", "value", "low", "high", "threshold", "verdict"]
    columns.append("seeds")
    return pd.DataFrame(means, columns=columns)


def by(rows: pd.DataFrame, *keys: str) -> pd.DataFrame:
    """One row per group with the same ``keys``: its combined verdict, and the counts behind it."""
    combined = []
    for names, part in groups_of(rows, keys):
        counts = part["verdict"].value_counts()
        counted = ", ".join(f"{n} {verdict}" for verdict, n in counts.items())
        combined.append((*names, combine(part["verdict"]), f"{counted}, of {len(part)}"))
    return pd.DataFrame(combined, columns=[*keys, "verdict", "reason"])


def overall(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per result label and method: the combined verdict of all its rows."""
    return by(rows, "results", "method")


def decoupling_pairings(gains: pd.DataFrame, falls: pd.DataFrame) -> pd.DataFrame:
    """One row per pairing or control: the changes of utility and of extraction.

    Students that extract no passage before training have nothing to forget and are left out.
    """
    rows = with_memory(gains, falls)
    kinds = rows["experiment"].isin(["pairings", "controls"])
    return rows[kinds & rows["before"].gt(0)].reset_index(drop=True)


def decoupling_verdicts(pairings: pd.DataFrame) -> pd.DataFrame:
    """Judge every self and lineage pairing at temperature 1: utility kept *and* text forgotten.

    ``pairings`` are rows of ``decoupling_pairings``. Utility is kept when the interval of the gain
    lies above ``-TOLERANCE``; text is forgotten when the interval of the fall lies above ``FALL``.
    A pairing contradicts the claim when either interval lies below, and for the gain only if the
    p-value, corrected for the number of pairings of one result label and method, is below
    ``LEVEL``.
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
    """What each control implies about the student's self pairing, by rules on intervals.

    ``pairings`` are rows of ``decoupling_pairings``. ``utility`` reads the interval of self minus
    control. ``forgets`` says whether the control forgets more or less than self: the two falls
    differ if their intervals do not overlap. ``forgot`` marks a self pairing whose fall is above
    zero. ``enough`` marks, for such a pairing, a control that suffices: even the lower limit of
    its fall reaches the fall of self, and the interval of self minus control lies below
    ``TOLERANCE``.
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
    forgets = np.select([more, less], ["more", "less"], NOT_DISTINGUISHED)
    forgot = rows["fall_low_self"] > 0
    enough = forgot & (rows["fall_low"] >= rows["fall_self"]) & (rows["self_high"] < TOLERANCE)
    utility = np.select([better, worse], ["self is better", "self is worse"], NOT_DISTINGUISHED)
    return rows.assign(forgets=forgets, utility=utility, forgot=forgot, enough=enough)
