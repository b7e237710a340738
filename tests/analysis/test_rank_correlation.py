"""Rank correlations within groups, by hand and by how often their tests err."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nbutils.analysis.rank_correlation import leave_one_out, rank_correlation


def test_one_group_by_hand() -> None:
    """1 2 3 4 against 1 2 4 3: rho = 1 - 6 * 2 / (4 * 15) = 0.8."""
    found = rank_correlation([([1, 2, 3, 4], [1, 2, 4, 3])])
    assert found.rho == pytest.approx(0.8)
    # Of the 24 orders, 4 have rho >= 0.8 and 4 have rho <= -0.8.
    assert found.p_value == pytest.approx(8 / 24)
    assert found.low <= found.rho <= found.high
    assert found.points == 4


def test_agreement_and_nothing() -> None:
    """Perfect agreement is 1; a constant side ranks nothing and says nothing."""
    same = rank_correlation([(range(6), range(6))])
    assert (same.rho, same.p_value) == pytest.approx((1, 2 / 720))
    flat = rank_correlation([([1, 1, 1, 1], [1, 2, 3, 4])])
    assert (flat.rho, flat.p_value) == (0, 1)


def test_groups_are_ranked_within_and_averaged() -> None:
    """One group agrees, one disagrees; that the second gains more from everything is no matter."""
    groups = [([1, 2, 3, 4], [1, 2, 3, 4]), ([11, 12, 13, 14], [29, 28, 27, 26])]
    assert rank_correlation(groups).rho == pytest.approx(0)
    assert rank_correlation([groups[0], ([11, 12, 13, 14], [26, 27, 28, 29])]).rho == 1


@pytest.mark.parametrize(
    "groups",
    [[], [([1, 2, 3], [1, 2, 3])], [(range(4), range(5))], [(range(4), [1, 2, 3, np.nan])]],
)
def test_bad_groups_are_refused(groups: list[tuple[list[float], list[float]]]) -> None:
    with pytest.raises(ValueError, match="rank correlation needs"):
        rank_correlation(groups)
    with pytest.raises(ValueError, match="rank correlation needs"):
        leave_one_out(groups)


@pytest.mark.parametrize("test", [rank_correlation, leave_one_out])
@pytest.mark.slow
def test_the_permutation_test_errs_as_often_as_it_says(test: Callable[..., Any]) -> None:
    """Unrelated ranks within students: p below 0.05 in 3 to 7 % of the cases."""
    rng = np.random.default_rng(1)
    found = [
        test([(rng.normal(size=6), rng.normal(size=6)) for _ in range(3)]).p_value
        for _ in range(1000)
    ]
    assert 0.03 <= np.mean(np.array(found) < 0.05) <= 0.07


def test_signs_are_learnt_on_the_others() -> None:
    """All fall: each group learns from the others to turn the value round."""
    falling = [(range(6), range(6, 0, -1))] * 3
    found = leave_one_out(falling)
    assert found.signs == (-1, -1, -1)
    assert found.rho == pytest.approx(1)
    assert found.p_value < 0.01


def test_a_group_that_contradicts_the_others_counts_against() -> None:
    """Two rise and one falls: its sign is learnt wrong, and theirs from a tie of +1 and -1."""
    groups = [(range(6), range(6)), (range(6), range(6)), (range(6), range(6, 0, -1))]
    found = leave_one_out(groups)
    assert found.signs == (1, 1, 1)
    assert found.rho == pytest.approx(1 / 3)


def test_one_group_cannot_be_left_out() -> None:
    with pytest.raises(ValueError, match="two or more"):
        leave_one_out([(range(6), range(6))])
