"""Simulated worlds with a known gain: coverage of the intervals and power of the test."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats as scipy_stats

from nbutils.analysis.bootstrap import Estimate, Resampled, estimate
from nbutils.analysis.inference import CONFIDENCE, exact_interval

ITEMS_PER_DOCUMENT = 3
CHANGED = 0.08  # share of the items whose answers before and after training differ
DOCUMENT_WEIGHT = 0.5  # weight of what the items of one document have in common
RESAMPLES = 400


def simulated_estimate(
    rng: np.random.Generator, gain: float, seeds: int, between: float, shared: float, items: int
) -> Estimate:
    """The estimate of a gain in one simulated world.

    Args:
        rng: Source of all random numbers.
        gain: The true gain, a fraction.
        seeds: Number of seeds.
        between: Standard deviation of the gain between seeds.
        shared: Share that all seeds have in common of what decides which items change.
        items: Number of items.
    """
    document = np.arange(items) // ITEMS_PER_DOCUMENT
    effect = rng.normal(size=items)
    effect += DOCUMENT_WEIGHT * rng.normal(size=document.max() + 1)[document]
    change = np.zeros((items, seeds))
    for seed in range(seeds):
        own = rng.normal(size=items)
        mixed = (shared / (1 + DOCUMENT_WEIGHT**2)) ** 0.5 * effect + (1 - shared) ** 0.5 * own
        quantile = scipy_stats.norm.cdf(mixed)
        shift = (gain + rng.normal(0, between)) / 2
        change[quantile > 1 - CHANGED / 2 - shift, seed] = 1
        change[quantile < CHANGED / 2 - shift, seed] = -1
    table = pd.DataFrame({"task": "task", "document": document})
    bootstrap_seed = int(rng.integers(2**32))
    resampled = Resampled(table, change, bootstrap_seed, RESAMPLES)
    return estimate(*resampled.suite, seed=bootstrap_seed)


def coverage(
    seeds: int, between: float, shared: float, worlds: int, gain: float = 0.01, items: int = 900
) -> float:
    """Share of ``worlds`` simulated worlds whose interval contains the true gain."""
    rng = np.random.default_rng(seeds)
    estimates = [
        simulated_estimate(rng, gain, seeds, between, shared, items) for _ in range(worlds)
    ]
    return float(np.mean([e.low <= gain <= e.high for e in estimates]))


def coverages(worlds: int) -> pd.DataFrame:
    """Coverage, with exact limits: one row per number of seeds and spread between seeds."""
    rows = []
    for seeds, between in ((1, 0.0), (3, 0.0), (3, 0.003), (3, 0.006), (5, 0.006)):
        share = coverage(seeds, between, 0.5, worlds)
        limits = exact_interval(round(share * worlds), worlds)
        rows.append((seeds, 100 * between, share, *limits))
    columns = ["seeds", "spread of seeds (points)", "share that holds the truth", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def power(multiples: Sequence[float], worlds: int, items: int = 900) -> pd.DataFrame:
    """Power of the test, with exact limits: one row per multiple of the detectable gain."""
    rng = np.random.default_rng(0)

    def estimates(gain: float) -> list[Estimate]:
        return [simulated_estimate(rng, gain, 3, 0.004, 0.5, items) for _ in range(worlds)]

    detectable = float(np.mean([e.detectable for e in estimates(0.0)]))
    rows = []
    for multiple in multiples:
        significant = sum(e.p_value() < 1 - CONFIDENCE for e in estimates(multiple * detectable))
        share = significant / worlds
        rows.append((multiple, share, *exact_interval(significant, worlds)))
    return pd.DataFrame(rows, columns=["multiple", "power", "low", "high"])
