"""The hierarchical bootstrap: by hand, and its coverage on data whose truth is known."""

import numpy as np
import pandas as pd
import pytest

from nbutils.analysis import bootstrap, power
from nbutils.analysis.bootstrap import Estimate, Resampled, estimate


def items(tasks: list[str], documents: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"task": tasks, "document": documents})


def test_points_by_hand() -> None:
    table = items(["a", "a", "b", "b"], ["d", "e", "d", "e"])
    correct = np.array([[1, 0], [1, 0], [0, 1], [1, 1]], dtype=bool)
    found = Resampled(table, correct)
    assert {t: p.tolist() for t, p in found.point.items()} == {"a": [1, 0], "b": [0.5, 1]}
    assert found.suite[0].tolist() == [0.75, 0.5]
    assert found.draws["a"].shape == (2, bootstrap.RESAMPLES)


def test_documents_are_drawn_whole() -> None:
    """Two documents with all right and all wrong: a resample is 0, a half or 1, as a coin says."""
    found = Resampled(items(["a"] * 20, ["d", "e"] * 10), np.array([[1], [0]] * 10))
    values, counts = np.unique(found.draws["a"], return_counts=True)
    assert values.tolist() == [0, 0.5, 1]
    assert counts / bootstrap.RESAMPLES == pytest.approx([0.25, 0.5, 0.25], abs=0.04)


def test_all_models_see_the_same_resamples() -> None:
    rng = np.random.default_rng(0)
    correct = np.repeat(rng.random((60, 1)) < 0.5, 3, axis=1)
    draws = Resampled(items(["a"] * 60, [f"d{i // 2}" for i in range(60)]), correct).draws["a"]
    assert (draws[0] == draws[1]).all()
    assert draws[0].std() > 0.01


def test_a_task_that_a_resample_misses_is_left_out_of_it() -> None:
    point, draws = Resampled(items(["a", "b"], ["d", "e"]), np.array([[1], [0]])).suite
    assert point.tolist() == [0.5]
    assert set(np.unique(draws)) == {0, 0.5, 1}


@pytest.mark.parametrize(("table", "answers"), [(0, 0), (2, 3)])
def test_items_and_answers_must_fit(table: int, answers: int) -> None:
    with pytest.raises(ValueError, match="one row of answers per item"):
        Resampled(items(["a"] * table, ["d"] * table), np.ones((answers, 1)))


def test_a_constant_has_no_uncertainty() -> None:
    found = estimate([0.2, 0.2], np.full((2, 50), 0.2))
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.2, 0.2))
    assert found.error == pytest.approx(0)


def test_seeds_without_values_are_refused() -> None:
    with pytest.raises(ValueError, match="0 seeds"):
        estimate([], np.empty((0, 10)))


def test_power_and_p_value_by_hand() -> None:
    """2.8 standard errors are found with 80 % power; 1.96 are just significant."""
    found = Estimate(value=0.0196, low=0.0, high=0.0392, error=0.01, degrees=np.inf)
    assert found.detectable == pytest.approx(0.02802, abs=1e-5)
    assert found.p_value() == pytest.approx(0.05, abs=1e-3)
    assert found.p_value(threshold=0.0196) == 1
    assert Estimate(0.0, 0.0, 0.0, 0.0, 1).p_value() == 1
    assert Estimate(0.1, 0.1, 0.1, 0.0, 1).p_value() == 0


def test_spread_seeds_widen_the_interval_and_equal_ones_do_not() -> None:
    draws = np.random.default_rng(0).normal(0, 0.01, size=(1, 2000)).repeat(3, axis=0)
    narrow = estimate([0.0, 0.0, 0.0], draws)
    wide = estimate([-0.1, 0.0, 0.1], draws + np.array([[-0.1], [0.0], [0.1]]))
    assert narrow.error == pytest.approx(0.01, rel=0.1)
    # a mean of three seeds, two degrees of freedom
    assert wide.high == pytest.approx(0.1 / 3**0.5 * 4.30, rel=0.1)


@pytest.mark.parametrize(
    ("seeds", "between", "shared"),
    [(1, 0.0, 0.5), (3, 0.003, 0.5), (3, 0.006, 0.5), (3, 0.008, 0.5), (5, 0.008, 0.7)],
)
def test_the_interval_covers_the_truth_as_often_as_it_says(
    seeds: int, between: float, shared: float
) -> None:
    """95 %, within what the number of worlds can tell: seed spreads up to the items' own."""
    assert 0.93 <= power.coverage(seeds, between, shared, 500) <= 0.97


def test_the_detectable_gain_is_found_as_often_as_it_says() -> None:
    """Nothing is found in 5 % of the worlds, the detectable gain in 80 %, within what 300 tell."""
    nothing, detectable = power.power([0.0, 1.0], worlds=300)["power"]
    assert 0.03 <= nothing <= 0.08
    assert 0.74 <= detectable <= 0.87
