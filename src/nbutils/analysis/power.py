"""Made-up worlds with a known gain: how often intervals hold it, and how often it is found."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats as scipy_stats

from nbutils.analysis.bootstrap import Estimate, Resampled, estimate
from nbutils.analysis.inference import CONFIDENCE, exact_interval

ITEMS_A_DOCUMENT = 3
CHANGING = 0.08  # share of the items on whose answer before and after differ
ALIKE = 0.5  # weight of what the items of one document have in common
RESAMPLES = 400


def world(
    rng: np.random.Generator, gain: float, seeds: int, between: float, shared: float, items: int
) -> Estimate:
    """The estimate of a gain in one made-up world.

    Seeds differ by a standard deviation of ``between`` around ``gain``; ``shared`` of what decides
    which items change is the same for every seed.
    """
    document = np.arange(items) // ITEMS_A_DOCUMENT
    common = rng.normal(size=items) + ALIKE * rng.normal(size=document.max() + 1)[document]
    change = np.zeros((items, seeds))
    for seed in range(seeds):
        own = rng.normal(size=items)
        mixed = (shared / (1 + ALIKE**2)) ** 0.5 * common + (1 - shared) ** 0.5 * own
        place = scipy_stats.norm.cdf(mixed)
        shift = (gain + rng.normal(0, between)) / 2
        change[place > 1 - CHANGING / 2 - shift, seed] = 1
        change[place < CHANGING / 2 - shift, seed] = -1
    table = pd.DataFrame({"task": "task", "document": document})
    chosen = int(rng.integers(2**32))
    return estimate(*Resampled(table, change, chosen, RESAMPLES).suite, seed=chosen)


def coverage(
    seeds: int, between: float, shared: float, worlds: int, gain: float = 0.01, items: int = 900
) -> float:
    """How often the interval holds the true gain."""
    rng = np.random.default_rng(seeds)
    found = [world(rng, gain, seeds, between, shared, items) for _ in range(worlds)]
    return float(np.mean([e.low <= gain <= e.high for e in found]))


def coverages(worlds: int) -> pd.DataFrame:
    """Coverage for several numbers of seeds and spreads between them, with exact limits."""
    rows = []
    for seeds, between in ((1, 0.0), (3, 0.0), (3, 0.003), (3, 0.006), (5, 0.006)):
        share = coverage(seeds, between, 0.5, worlds)
        limits = exact_interval(round(share * worlds), worlds)
        rows.append((seeds, 100 * between, share, *limits))
    columns = ["seeds", "spread of seeds (points)", "share that holds the truth", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def power(multiples: Sequence[float], worlds: int, items: int = 900) -> pd.DataFrame:
    """How often a gain is found, for gains that are multiples of the detectable one."""
    rng = np.random.default_rng(0)
    pilot = [world(rng, 0.0, 3, 0.004, 0.5, items).detectable for _ in range(worlds)]
    unit = float(np.mean(pilot))
    rows = []
    for multiple in multiples:
        found = [world(rng, multiple * unit, 3, 0.004, 0.5, items) for _ in range(worlds)]
        hits = sum(e.p_value() < 1 - CONFIDENCE for e in found)
        rows.append((multiple, hits / worlds, *exact_interval(hits, worlds)))
    return pd.DataFrame(rows, columns=["multiple", "power", "low", "high"])
