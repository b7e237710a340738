"""Uncertainty: paired gains, exact shares and rank correlations, each with its interval.

Every gain is paired per item. An interval is two-sided and covers 95 % unless it says otherwise;
it speaks about other items of the same kind, not about other seeds or other models.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats as scipy_stats

RESAMPLES = 2_000
CONFIDENCE = 0.95
Interval = tuple[float, float, float]
Array = NDArray[Any]


# ---------------------------------------------------------------- intervals


def gain_interval(differences_by_task: Sequence[Array], seed: int = 0) -> Interval:
    """The suite's gain and its interval: ``(gain, low, high)`` as shares of 1.

    ``differences_by_task`` holds one array a task: for each item, correct after minus correct
    before. The gain is the unweighted mean of the tasks' means; the interval is a percentile
    bootstrap (Efron 1979) that resamples the items within each task. Raises ``ValueError``
    without a task or with an empty one.
    """
    tasks = [np.asarray(d, dtype=float) for d in differences_by_task]
    if not tasks or any(t.size == 0 for t in tasks):
        raise ValueError("a gain needs at least one task, and each task at least one item")
    gain = float(np.mean([t.mean() for t in tasks]))
    # A task without variation resamples to itself; scipy refuses such a degenerate sample.
    varying = [t for t in tasks if np.ptp(t) > 0]
    if not varying:
        return gain, gain, gain
    fixed = sum(float(t.mean()) for t in tasks if np.ptp(t) == 0)

    def suite_mean(*samples: Array, axis: int = -1) -> Array:
        return (sum(s.mean(axis=axis) for s in samples) + fixed) / len(tasks)

    interval = scipy_stats.bootstrap(
        varying,
        suite_mean,
        n_resamples=RESAMPLES,
        batch=250,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return gain, float(interval.low), float(interval.high)


def paired_gain(after: pd.DataFrame, before: pd.DataFrame, seed: int = 0) -> Interval:
    """The gain of ``after`` over ``before``: two parts of the utility table, paired per item.

    Where a part holds several runs (seeds, or the sources of one relation), an item counts with
    the mean of its runs. Raises ``ValueError`` when the two share no item.
    """
    keys = ["task", "item"]
    pair = pd.concat(
        [part.groupby(keys)["correct"].mean() for part in (after, before)], axis=1, join="inner"
    )
    if pair.empty:
        raise ValueError("the two runs share no item, so their gain cannot be paired")
    difference = pair.iloc[:, 0] - pair.iloc[:, 1]
    return gain_interval([d.to_numpy() for _, d in difference.groupby(level="task")], seed)


def exact_interval(
    successes: int, trials: int, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """The Clopper-Pearson interval of a binomial share. Raises ``ValueError`` on bad counts."""
    found = scipy_stats.binomtest(int(successes), int(trials)).proportion_ci(confidence, "exact")
    return float(found.low), float(found.high)


def over_seeds(table: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """One row for each ``keys``: the replicates' mean gain and the widest of their limits."""
    rules = {"gain": "mean", "low": "min", "high": "max", "base_accuracy": "mean"}
    rules |= {"accuracy": "mean", "items": "max", "chance": "mean", "run": "first"}
    return table.groupby(list(keys), dropna=False, as_index=False, sort=False).agg(
        **{column: (column, rule) for column, rule in rules.items()}, seeds=("seed", "nunique")
    )


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


# ---------------------------------------------------------------- correlation


@dataclass(frozen=True)
class Correlation:
    """Spearman's rho over ``points`` points, its bootstrap interval and permutation p-value."""

    rho: float
    low: float
    high: float
    p_value: float
    points: int


def _spearman(x: Array, y: Array, axis: int = -1) -> Array:
    """Rho along an axis; 0 where one side is constant and so ranks nothing."""
    a, b = (scipy_stats.rankdata(v, axis=axis) for v in (x, y))
    a, b = (v - v.mean(axis=axis, keepdims=True) for v in (a, b))
    scale = np.sqrt((a**2).sum(axis=axis) * (b**2).sum(axis=axis))
    return np.where(scale > 0, (a * b).sum(axis=axis) / np.where(scale > 0, scale, 1), 0.0)


def rank_correlation(
    x: Sequence[float] | Array, y: Sequence[float] | Array, seed: int = 0
) -> Correlation:
    """Spearman's rank correlation of paired values, with its uncertainty.

    The interval is a percentile bootstrap over points; the p-value is two-sided, from all
    pairings when there are few (seven points or fewer) and from 5,000 random ones otherwise.
    Raises ``ValueError`` on fewer than four points, unequal lengths or a missing value.
    """
    a, b = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if a.shape != b.shape or a.size < 4:
        raise ValueError(f"a rank correlation needs at least 4 pairs, not {a.size} and {b.size}")
    if np.isnan(a).any() or np.isnan(b).any():
        raise ValueError("a rank correlation needs a value at both sides of every pair")
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return Correlation(0.0, -1.0, 1.0, 1.0, int(a.size))
    test = scipy_stats.permutation_test(
        (a,),
        lambda v, axis=-1: _spearman(v, np.broadcast_to(b, v.shape), axis),
        permutation_type="pairings",
        vectorized=True,
        n_resamples=5_040,
        rng=np.random.default_rng(seed),
    )
    with warnings.catch_warnings():  # perfect agreement has a one-point bootstrap distribution
        warnings.simplefilter("ignore", scipy_stats.DegenerateDataWarning)
        interval = scipy_stats.bootstrap(
            (a, b),
            _spearman,
            paired=True,
            n_resamples=RESAMPLES,
            confidence_level=CONFIDENCE,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).confidence_interval
    return Correlation(
        float(_spearman(a, b)), float(interval.low), float(interval.high),
        float(test.pvalue), int(a.size),
    )  # fmt: skip
