"""Rank correlations within groups, their mean over groups, and what they predict for another group.

A group is a student and its points are the corpora that it could be given: a value that is said
to predict, and the gain. Values are ranked within a group alone, so a student that gains more
from everything does not count as agreement.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats as scipy_stats

from nbutils.analysis.inference import CONFIDENCE

RESAMPLES = 5_000
ALL_ORDERS = 7  # up to so many points every order of them is tried
Array = NDArray[Any]
Group = tuple[Array, Array]


@dataclass(frozen=True)
class Correlation:
    """Mean of Spearman's rho, its bootstrap interval and permutation p-value; all points."""

    rho: float
    low: float
    high: float
    p_value: float
    points: int


@dataclass(frozen=True)
class LeftOut:
    """Mean of Spearman's rho, signs learnt on the other groups, and the sign for each group."""

    rho: float
    low: float
    high: float
    p_value: float
    signs: tuple[int, ...]


def _unit(values: Array) -> Array:
    """Ranks along the last axis, centred and of unit length; zeros where all are equal."""
    ranks = scipy_stats.rankdata(values, axis=-1)
    ranks -= ranks.mean(axis=-1, keepdims=True)
    length = np.linalg.norm(ranks, axis=-1, keepdims=True)
    return np.where(length > 0, ranks / np.where(length > 0, length, 1), 0.0)


def _checked(groups: Sequence[tuple[Any, Any]]) -> list[Group]:
    checked = [(np.asarray(x, dtype=float), np.asarray(y, dtype=float)) for x, y in groups]
    if not checked:
        raise ValueError("a rank correlation needs at least one group of pairs")
    for x, y in checked:
        if x.shape != y.shape or x.size < 4:
            raise ValueError(
                f"a rank correlation needs at least 4 pairs, not {x.size} and {y.size}"
            )
        if np.isnan(x).any() or np.isnan(y).any():
            raise ValueError("a rank correlation needs a value at both sides of every pair")
    return checked


def _rhos(groups: list[Group]) -> Array:
    """Spearman's rho of every group, shape ``[groups]``; 0 where one side is constant."""
    return np.array([_unit(x) @ _unit(y) for x, y in groups])


def _permuted(groups: list[Group], rng: np.random.Generator) -> Array:
    """Rhos with the second side in other orders, shape ``[orders, groups]``.

    One small group is put into all of its orders, others into random ones.
    """
    columns = []
    for x, y in groups:
        if len(groups) == 1 and x.size <= ALL_ORDERS:
            orders = np.array(list(permutations(range(x.size))))
        else:
            orders = rng.permuted(np.tile(np.arange(x.size), (RESAMPLES, 1)), axis=1)
        columns.append(_unit(y)[orders] @ _unit(x))
    return np.stack(columns, axis=1)


def _resampled(groups: list[Group], rng: np.random.Generator) -> Array:
    """Rhos of resampled points, shape ``[resamples, groups]``."""
    columns = []
    for x, y in groups:
        index = rng.integers(0, x.size, size=(RESAMPLES, x.size))
        columns.append((_unit(x[index]) * _unit(y[index])).sum(axis=1))
    return np.stack(columns, axis=1)


def _share(extreme: Array, exact: bool) -> float:
    """The p-value: the share of orders at least as extreme; random ones count the one measured."""
    return float(extreme.mean() if exact else (1 + extreme.sum()) / (1 + extreme.size))


def _limits(draws: Array) -> tuple[float, float]:
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def rank_correlation(groups: Sequence[tuple[Any, Any]], seed: int = 0) -> Correlation:
    """The mean over groups of Spearman's rho within each, with its uncertainty.

    The interval is a percentile bootstrap that resamples the points of each group; the two-sided
    p-value permutes within groups. Raises ``ValueError`` on a group of fewer than four points,
    unequal lengths or a missing value.
    """
    checked = _checked(groups)
    rng = np.random.default_rng(seed)
    rho = float(_rhos(checked).mean())
    orders = _permuted(checked, rng).mean(axis=1)
    exact = len(checked) == 1 and len(orders) == math.factorial(checked[0][0].size)
    p_value = _share(np.abs(orders) >= abs(rho) - 1e-12, exact)
    low, high = _limits(_resampled(checked, rng).mean(axis=1))
    return Correlation(rho, low, high, p_value, sum(x.size for x, _ in checked))


def _signs(rhos: Array) -> Array:
    """For each group the sign of the mean of the others; shape as given, groups last."""
    others = rhos.sum(axis=-1, keepdims=True) - rhos
    return np.where(others < 0, -1, 1)


def leave_one_out(groups: Sequence[tuple[Any, Any]], seed: int = 0) -> LeftOut:
    """How well a value ranks a group's points when its sign is learnt on the other groups.

    The p-value is one-sided, that such a mean rho or a higher one comes from orders without
    meaning, for which signs are learnt anew. Raises ``ValueError`` as ``rank_correlation`` does,
    and on fewer than two groups.
    """
    checked = _checked(groups)
    if len(checked) < 2:
        raise ValueError("to leave one group out takes two or more")
    rng = np.random.default_rng(seed)
    rhos = _rhos(checked)
    signs = _signs(rhos)
    rho = float((signs * rhos).mean())
    orders = _permuted(checked, rng)
    p_value = _share((_signs(orders) * orders).mean(axis=1) >= rho - 1e-12, exact=False)
    draws = _resampled(checked, rng)
    low, high = _limits((_signs(draws) * draws).mean(axis=1))
    return LeftOut(rho, low, high, p_value, tuple(int(s) for s in signs))
