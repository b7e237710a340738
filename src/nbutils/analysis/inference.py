"""Uncertainty: exact shares, means over students, and correction for many comparisons."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats as scipy_stats

CONFIDENCE = 0.95
Interval = tuple[float, float, float]
Array = NDArray[Any]


@cache
def exact_interval(
    successes: int, trials: int, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """The Clopper-Pearson interval of a binomial share. Raises ``ValueError`` on bad counts."""
    found = scipy_stats.binomtest(int(successes), int(trials)).proportion_ci(confidence, "exact")
    return float(found.low), float(found.high)


def random_effects(values: Sequence[float] | Array, errors: Sequence[float] | Array) -> Interval:
    """Mean over students, each an estimate with its standard error: ``(mean, low, high)``.

    Students are a sample: what holds for these few need not hold for the next. Variance between
    them by DerSimonian and Laird (1986), interval by Hartung and Knapp (2001) with Student's t.
    Raises ``ValueError`` on fewer than two students or an error that is not positive.
    """
    y, se = np.asarray(values, dtype=float), np.asarray(errors, dtype=float)
    if y.shape != se.shape or y.size < 2 or not (se > 0).all():
        raise ValueError("a mean over students needs two or more, each with a positive error")
    weights = se**-2
    fixed = np.average(y, weights=weights)
    excess = (weights * (y - fixed) ** 2).sum() - (y.size - 1)
    scale = weights.sum() - (weights**2).sum() / weights.sum()
    weights = 1 / (se**2 + max(0.0, excess / scale))
    mean = float(np.average(y, weights=weights))
    spread = (weights * (y - mean) ** 2).sum() / (y.size - 1) / weights.sum()
    # Never narrower than the students' own errors allow (Roever, Knapp and Friede, 2015).
    error = float(np.sqrt(max(spread, 1 / weights.sum())))
    half = float(scipy_stats.t.ppf((1 + CONFIDENCE) / 2, y.size - 1)) * error
    return mean, mean - half, mean + half


def holm(p_values: Sequence[float] | Array) -> Array:
    """P-values corrected for their number, so that all claims together err in 5 % (Holm, 1979)."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p)
    steps = p[order] * np.arange(p.size, 0, -1)
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(1, np.maximum.accumulate(steps))
    return corrected


def p_values(value: Any, error: Any, degrees: Any, threshold: Any = 0.0) -> Array:
    """Two-sided p-values, by Student's t, that true values are ``threshold``; arrays broadcast.

    Without any error a value is the truth: the p-value is 1 at the threshold and 0 elsewhere.
    """
    distance = np.abs(np.asarray(value, dtype=float) - np.asarray(threshold, dtype=float))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(distance == 0, 0.0, distance / np.asarray(error, dtype=float))
    return 2 * scipy_stats.t.sf(ratio, np.asarray(degrees, dtype=float))
