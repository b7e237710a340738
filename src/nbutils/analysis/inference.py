"""Uncertainty: exact intervals, means over students, p-values and their correction."""

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
    """The exact interval of a binomial share, ``(low, high)`` (Clopper and Pearson, 1934).

    Raises:
        ValueError: There is no trial, or more successes than trials.
    """
    limits = scipy_stats.binomtest(int(successes), int(trials)).proportion_ci(confidence, "exact")
    return float(limits.low), float(limits.high)


def random_effects(values: Sequence[float] | Array, errors: Sequence[float] | Array) -> Interval:
    """Mean over students, each an estimate with its standard error: ``(mean, low, high)``.

    Students are a sample: what holds for these few need not hold for the next. The variance
    between them is that of DerSimonian and Laird (1986), the interval that of Hartung and Knapp
    (2001) with Student's t.

    Raises:
        ValueError: There are fewer than two students, or an error is not positive.
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
    """P-values corrected for their number, shape ``[tests]`` (Holm, 1979).

    The probability that any true hypothesis is rejected at 5 % is then at most 5 %.
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p)
    steps = p[order] * np.arange(p.size, 0, -1)
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(1, np.maximum.accumulate(steps))
    return corrected


def p_values(value: Any, error: Any, degrees: Any, threshold: Any = 0.0) -> Array:
    """Two-sided p-values, by Student's t, of the hypothesis that true values are ``threshold``.

    Arrays broadcast. A value without error is exact: its p-value is 1 at the threshold, else 0.
    """
    distance = np.abs(np.asarray(value, dtype=float) - np.asarray(threshold, dtype=float))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(distance == 0, 0.0, distance / np.asarray(error, dtype=float))
    return 2 * scipy_stats.t.sf(ratio, np.asarray(degrees, dtype=float))
