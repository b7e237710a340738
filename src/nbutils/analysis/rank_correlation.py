"""Rank correlations within groups, their mean over groups, and what they predict for another group.

A group is a student. Its points are the corpora that it could be trained on, each with the value
of a predictor and the gain. Values are ranked within their group only, so a student that gains
more from every corpus adds nothing to the correlation.
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
ALL_ORDERS = 7  # the largest number of points whose orders are all tried
Array = NDArray[Any]
Group = tuple[Array, Array]


@dataclass(frozen=True)
class Correlation:
    """Mean of Spearman's rho, its interval and p-value, and the number of points in all groups."""

    rho: float
    low: float
    high: float
    p_value: float
    points: int


@dataclass(frozen=True)
class LeftOut:
    """The same with each group's sign learnt on the other groups, and the sign of each group."""

    rho: float
    low: float
    high: float
    p_value: float
    signs: tuple[int, ...]


def _unit_ranks(values: Array) -> Array:
    """Ranks along the last axis, centred and scaled to length 1; zeros where all are equal."""
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
                "a rank correlation needs two sides of the same length, at least 4, not of "
                f"{x.size} and {y.size} values"
            )
        if np.isnan(x).any() or np.isnan(y).any():
            raise ValueError("a rank correlation needs both values of every pair: one is missing")
    return checked


def _rhos(groups: list[Group]) -> Array:
    """Spearman's rho of every group, shape ``[groups]``; 0 where one side is constant."""
    return np.array([_unit_ranks(x) @ _unit_ranks(y) for x, y in groups])


def _permuted(groups: list[Group], rng: np.random.Generator) -> Array:
    """Rhos with the second side permuted, shape ``[orders, groups]``.

    A single small group takes every order of its points, other groups take random orders.
    """
    columns = []
    for x, y in groups:
        if len(groups) == 1 and x.size <= ALL_ORDERS:
            orders = np.array(list(permutations(range(x.size))))
        else:
            orders = rng.permuted(np.tile(np.arange(x.size), (RESAMPLES, 1)), axis=1)
        columns.append(_unit_ranks(y)[orders] @ _unit_ranks(x))
    return np.stack(columns, axis=1)


def _resampled(groups: list[Group], rng: np.random.Generator) -> Array:
    """Rhos of resampled points, shape ``[resamples, groups]``."""
    columns = []
    for x, y in groups:
        index = rng.integers(0, x.size, size=(RESAMPLES, x.size))
        columns.append((_unit_ranks(x[index]) * _unit_ranks(y[index])).sum(axis=1))
    return np.stack(columns, axis=1)


def _p_value(extreme: Array, exact: bool) -> float:
    """Share of the orders that are at least as extreme as the observed one.

    Random orders (not ``exact``) are counted with the observed one added to them.
    """
    return float(extreme.mean() if exact else (1 + extreme.sum()) / (1 + extreme.size))


def _limits(draws: Array) -> tuple[float, float]:
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def rank_correlation(groups: Sequence[tuple[Any, Any]], seed: int = 0) -> Correlation:
    """Spearman's rho within each group, as a mean over groups with its uncertainty.

    The interval is a percentile bootstrap that resamples the points of each group. The two-sided
    p-value is that of a permutation test within groups.

    Args:
        groups: Two sides of equal length for each group.
        seed: Seed of the bootstrap and of the permutations.

    Raises:
        ValueError: There is no group, a group has fewer than four points or two unequal sides, or
            a value is missing.
    """
    checked = _checked(groups)
    rng = np.random.default_rng(seed)
    rho = float(_rhos(checked).mean())
    orders = _permuted(checked, rng).mean(axis=1)
    exact = len(checked) == 1 and len(orders) == math.factorial(checked[0][0].size)
    p_value = _p_value(np.abs(orders) >= abs(rho) - 1e-12, exact)
    low, high = _limits(_resampled(checked, rng).mean(axis=1))
    return Correlation(rho, low, high, p_value, sum(x.size for x, _ in checked))


def _signs(rhos: Array) -> Array:
    """For each group the sign of the mean over the other groups, shape ``[..., groups]``."""
    others = rhos.sum(axis=-1, keepdims=True) - rhos
    return np.where(others < 0, -1, 1)


def leave_one_out(groups: Sequence[tuple[Any, Any]], seed: int = 0) -> LeftOut:
    """How well a value ranks a group's points when its sign is learnt on the other groups.

    The one-sided p-value is the probability of such a mean rho, or a higher one, in random orders,
    for which the signs are learnt again.

    Args:
        groups: Two sides of equal length for each group.
        seed: Seed of the bootstrap and of the permutations.

    Raises:
        ValueError: There are fewer than two groups, or as for ``rank_correlation``.
    """
    checked = _checked(groups)
    if len(checked) < 2:
        raise ValueError("leaving one group out needs two or more groups, not 1")
    rng = np.random.default_rng(seed)
    rhos = _rhos(checked)
    signs = _signs(rhos)
    rho = float((signs * rhos).mean())
    orders = _permuted(checked, rng)
    p_value = _p_value((_signs(orders) * orders).mean(axis=1) >= rho - 1e-12, exact=False)
    draws = _resampled(checked, rng)
    low, high = _limits((_signs(draws) * draws).mean(axis=1))
    return LeftOut(rho, low, high, p_value, tuple(int(s) for s in signs))
