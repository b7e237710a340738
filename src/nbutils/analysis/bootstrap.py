"""The hierarchical bootstrap: how sure a gain is, over items and over seeds.

Two things would differ if a cell were measured again: other items would be asked, and other
seeds would sample and train. Both are resampled:

* Items, by document: items of one document are no independent draws. Every model answers the
  same items, so one set of resampled documents serves all, and whatever is linear in the answers
  (a gain, a contrast of relations) is the same combination of resampled means.
* Seeds, by a draw of their mean's deviation: three seeds are too few to be resampled as they are.
  The variance between seeds is that of their values less what items add to it (the parametric
  bootstrap of a variance component; Davison and Hinkley, 1997, section 3.8). It is known from
  few degrees of freedom, so the interval is stretched as Student's t is (Satterthwaite, 1946).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from scipy import stats as scipy_stats

from nbutils.analysis import inference
from nbutils.analysis.inference import CONFIDENCE

Array = NDArray[Any]


@dataclass(frozen=True)
class Estimate:
    """A quantity, its 95 % interval, and its standard error with that one's degrees of freedom."""

    value: float
    low: float
    high: float
    error: float
    degrees: float

    @property
    def detectable(self) -> float:
        """The smallest true value that a two-sided 5 % test finds with 80 % power."""
        quantiles = scipy_stats.t.ppf([(1 + CONFIDENCE) / 2, POWER], self.degrees)
        return float(quantiles.sum() * self.error)

    def p_value(self, threshold: float = 0.0) -> float:
        """Two-sided p-value of the hypothesis that the true value is ``threshold``."""
        return float(inference.p_values(self.value, self.error, self.degrees, threshold))


def estimate(points: Sequence[float] | Array, draws: Array, seed: int = 0) -> Estimate:
    """A quantity over seeds, with an interval over items and seeds.

    Args:
        points: The quantity for each seed, shape ``[seeds]``.
        draws: The same on each set of resampled documents, shape ``[seeds, resamples]``.
        seed: Seed of the resampling of seeds.

    Raises:
        ValueError: There is no seed.
    """
    values, draws = np.asarray(points, dtype=float), np.asarray(draws, dtype=float)
    number = len(values)
    if number == 0 or len(draws) != number:
        raise ValueError(f"{number} seeds and draws of {len(draws)}: give as many, and some")
    draws = draws[:, ~np.isnan(draws).any(axis=0)]  # resamples that missed the task
    centre, items = float(values.mean()), draws.mean(axis=0)
    over_items, over_seeds = float(items.var(ddof=1)), _between(values, draws) / number
    rng = np.random.default_rng(seed)
    shifted = items + rng.normal(0, np.sqrt(over_seeds), size=items.shape)
    error = float(np.sqrt(over_items + over_seeds))
    if over_seeds == 0:
        degrees, stretch = np.inf, 1.0
    else:
        degrees = (number - 1) * ((over_items + over_seeds) / over_seeds) ** 2
        upper = (1 + CONFIDENCE) / 2
        stretch = scipy_stats.t.ppf(upper, degrees) / scipy_stats.norm.ppf(upper)
    limits = np.quantile(shifted, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    low, high = centre + stretch * (limits - centre)
    return Estimate(centre, float(low), float(high), error, float(degrees))


def _between(values: Array, draws: Array) -> float:
    """Variance between seeds that is none of the items' noise."""
    number = len(values)
    if number == 1:
        return 0.0
    # What items add to the spread of seeds: the part of their noise that seeds do not share.
    alone = draws.var(axis=1, ddof=1).mean() - draws.mean(axis=0).var(ddof=1)
    return max(0.0, float(values.var(ddof=1) - alone * number / (number - 1)))


# --- Around it -------------------------------------------------------------------------------


RESAMPLES = 2_000
POWER = 0.80


class Resampled:
    """Accuracy of many models on one suite, on the suite itself and on resampled documents.

    ``tasks`` maps a task to its accuracies: ``point`` of shape ``[models]`` and ``draws`` of
    shape ``[models, resamples]``. Of a task that a resample happens to miss, its draw is NaN.
    """

    def __init__(
        self, items: pd.DataFrame, correct: Array, seed: int = 0, resamples: int = RESAMPLES
    ) -> None:
        """Resample documents.

        ``items`` has columns ``task`` and ``document``; ``correct`` has shape
        ``[items, models]``. Raises ``ValueError`` without an item or when the two do not fit.
        """
        if len(items) == 0 or len(items) != len(correct):
            raise ValueError(
                f"{len(items)} items and {len(correct)} answers to each: give as many, and some"
            )
        place, documents = pd.factorize(items["document"])
        rng = np.random.default_rng(seed)
        even = np.full(len(documents), 1 / len(documents))
        times = rng.multinomial(len(documents), even, size=resamples).astype(np.float32)
        self.point: dict[str, Array] = {}
        self.draws: dict[str, Array] = {}
        for task, index in items.groupby("task", sort=True).indices.items():
            answers = np.asarray(correct[index], dtype=np.float32)
            ones = np.ones(len(index), dtype=np.float32)
            shape = (len(documents), len(index))
            gather = sparse.csr_array((ones, (place[index], np.arange(len(index)))), shape=shape)
            self.point[str(task)] = answers.mean(axis=0, dtype=np.float64)
            counts = times @ (gather @ ones)
            with np.errstate(invalid="ignore"):
                self.draws[str(task)] = ((times @ (gather @ answers)) / counts[:, None]).T

    @cached_property
    def suite(self) -> tuple[Array, Array]:
        """Accuracy on the suite, the unweighted mean of its tasks: point and draws."""
        point = np.mean(list(self.point.values()), axis=0)
        return point, np.nanmean(list(self.draws.values()), axis=0)
