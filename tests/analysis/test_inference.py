"""Exact intervals, means over students and corrections, on cases small enough to check by hand."""

import numpy as np
import pytest

from nbutils.analysis import inference


def test_exact_interval_by_its_formula() -> None:
    """No hit in n: the upper limit p solves (1 - p)^n = 0.025."""
    low, high = inference.exact_interval(0, 60)
    assert low == 0
    assert high == pytest.approx(1 - 0.025 ** (1 / 60))
    assert inference.exact_interval(0, 60, 0.90)[1] == pytest.approx(1 - 0.05 ** (1 / 60))
    with pytest.raises(ValueError, match="k"):
        inference.exact_interval(3, 2)


def test_random_effects_of_agreeing_students_by_hand() -> None:
    """No spread beyond the errors: the plain mean, 0.01 / sqrt(2), t of one degree is 12.7062."""
    mean, low, high = inference.random_effects([0.02, 0.02], [0.01, 0.01])
    assert mean == pytest.approx(0.02)
    assert high - mean == mean - low == pytest.approx(12.7062 * 0.01 / 2**0.5, rel=1e-4)


def test_random_effects_of_disagreeing_students_by_hand() -> None:
    """Errors are nothing beside the spread: the interval is Student's for the three values."""
    values = [0.0, 1.0, 2.0]
    mean, low, high = inference.random_effects(values, [1e-6, 1e-6, 1e-6])
    assert mean == pytest.approx(1)
    assert (low, high) == pytest.approx((1 - 4.3027 / 3**0.5, 1 + 4.3027 / 3**0.5), rel=1e-3)


def test_a_precise_student_weighs_more() -> None:
    assert inference.random_effects([0.0, 0.01], [0.01, 0.03])[0] == pytest.approx(0.001)


@pytest.mark.parametrize(("values", "errors"), [([0.1], [0.1]), ([0.1, 0.2], [0.1, 0.0])])
def test_random_effects_need_students_with_errors(values: list[float], errors: list[float]) -> None:
    with pytest.raises(ValueError, match="two or more, each with a positive error"):
        inference.random_effects(values, errors)


def test_random_effects_cover_the_population_mean() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(1000):
        truth = rng.normal(0.01, 0.01, size=3)
        errors = rng.uniform(0.002, 0.006, size=3)
        _, low, high = inference.random_effects(rng.normal(truth, errors), errors)
        hits += low <= 0.01 <= high
    assert 0.93 <= hits / 1000 <= 0.98


def test_holm_by_hand() -> None:
    """0.01 x 3; 0.02 x 2 and 0.04 x 1, never below the one before."""
    assert inference.holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert inference.holm([0.9, 0.8]) == pytest.approx([1, 1])
    assert inference.holm([]).size == 0
