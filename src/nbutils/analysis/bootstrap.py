"""The hierarchical bootstrap: the uncertainty of a gain over items and over seeds.

A repeated experiment would use other items, and other seeds to sample and to train. The bootstrap
resamples both:

* Items, by document, because items of one document are not independent. All models answer the
  same items, so one set of resampled documents serves them all, and a quantity that is linear in
  the answers (a gain, a contrast of relations) is the same combination of resampled means.
* Seeds, by a random deviation of their mean, because three seeds are too few to resample
  directly. The variance between seeds is the variance of their values minus the part that items
  add to it (parametric bootstrap of a variance component; Davison and Hinkley, 1997, section
  3.8). Few degrees of freedom estimate it, so the interval is widened as Student's t is
  (Satterthwaite, 1946).
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
    """A quantity with its 95 % interval, its standard error, and the error's degrees of freedom."""

    value: float
    low: float
    high: float
    error: float
    degrees: float

    @property
    def detectable(self) -> float:
        """The smallest true value that a two-sided 5 % test detects with 80 % power."""
        quantiles = scipy_stats.t.ppf([(1 + CONFIDENCE) / 2, POWER], self.degrees)
        return float(quantiles.sum() * self.error)

    def p_value(self, threshold: float = 0.0) -> float:
        """Two-sided p-value of the hypothesis that the true value is ``threshold``."""
        return float(inference.p_values(self.value, self.error, self.degrees, threshold))


def estimate(points: Sequence[float] | Array, draws: Array, seed: int = 0) -> Estimate:
    """The mean of a quantity over seeds, with its 95 % interval over items and seeds.

    Args:
        points: The quantity for each seed, shape ``[seeds]``.
        draws: The quantity on each set of resampled documents, shape ``[seeds, resamples]``.
        seed: Seed of the random deviations.

    Raises:
        ValueError: There is no seed, or a seed without draws.
    """
    values, draws = np.asarray(points, dtype=float), np.asarray(draws, dtype=float)
    seeds = len(values)
    if seeds == 0 or len(draws) != seeds:
        raise ValueError(f"{seeds} seeds, draws of {len(draws)}: give both for one or more seeds")
    draws = draws[:, ~np.isnan(draws).any(axis=0)]  # without resamples that miss the task
    mean, item_draws = float(values.mean()), draws.mean(axis=0)
    item_variance = float(item_draws.var(ddof=1))
    seed_variance = _between_seeds(values, draws) / seeds
    rng = np.random.default_rng(seed)
    all_draws = item_draws + rng.normal(0, np.sqrt(seed_variance), size=item_draws.shape)
    error = float(np.sqrt(item_variance + seed_variance))
    if seed_variance == 0:
        degrees, stretch = np.inf, 1.0
    else:
        degrees = (seeds - 1) * ((item_variance + seed_variance) / seed_variance) ** 2
        upper = (1 + CONFIDENCE) / 2
        stretch = scipy_stats.t.ppf(upper, degrees) / scipy_stats.norm.ppf(upper)
    limits = np.quantile(all_draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    low, high = mean + stretch * (limits - mean)
    return Estimate(mean, float(low), float(high), error, float(degrees))


def _between_seeds(values: Array, draws: Array) -> float:
    """Variance between seeds, without the noise that items add to it; 0 for a single seed."""
    seeds = len(values)
    if seeds == 1:
        return 0.0
    # Only the item noise that seeds do not share adds to their spread.
    unshared = draws.var(axis=1, ddof=1).mean() - draws.mean(axis=0).var(ddof=1)
    return max(0.0, float(values.var(ddof=1) - unshared * seeds / (seeds - 1)))


# --- Around it -------------------------------------------------------------------------------


RESAMPLES = 2_000
POWER = 0.80


class Resampled:
    """Accuracy of many models on one suite, on the suite itself and on resampled documents.

    ``point`` maps each task to accuracies of shape ``[models]``, ``draws`` to accuracies of shape
    ``[models, resamples]``. A draw is NaN where the resample contains no document of the task.
    """

    def __init__(
        self, items: pd.DataFrame, correct: Array, seed: int = 0, resamples: int = RESAMPLES
    ) -> None:
        """Resample documents.

        Args:
            items: One row per item, with columns ``task`` and ``document``.
            correct: Whether each model answered each item correctly, shape ``[items, models]``.
            seed: Seed of the resampling.
            resamples: Number of resamples.

        Raises:
            ValueError: There is no item, or ``correct`` has another number of rows.
        """
        if len(items) == 0 or len(items) != len(correct):
            raise ValueError(
                f"{len(items)} items and {len(correct)} rows of answers: give one row of answers "
                "per item, and at least one item"
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
        """Accuracy on the suite, the unweighted mean over its tasks: point and draws."""
        point = np.mean(list(self.point.values()), axis=0)
        return point, np.nanmean(list(self.draws.values()), axis=0)
