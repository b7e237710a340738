"""Intervals, correlations and verdict rules, on cases small enough to check by hand."""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbutils import results, stats, verdicts
from synthetic import write_tables

difference = st.lists(st.sampled_from([-1, 0, 1]), min_size=1, max_size=40)


def test_gain_is_the_unweighted_mean_of_the_tasks() -> None:
    """A task of two items weighs as much as one of four: (1/2 + 0) / 2."""
    gain, low, high = stats.gain_interval([np.array([1, 0]), np.array([1, -1, 0, 0])])
    assert gain == pytest.approx(0.25)
    assert low <= gain <= high


def test_equal_differences_have_no_width_and_no_warning() -> None:
    """Nothing varies, so every resample is the sample."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert stats.gain_interval([np.zeros(5)]) == (0, 0, 0)
        assert stats.gain_interval([np.ones(3), np.ones(1)]) == (1, 1, 1)
        gain, low, high = stats.gain_interval([np.array([1]), np.array([0, 1, 0, -1])])
    assert gain == pytest.approx(0.5)
    assert low < gain < high


def test_interval_agrees_with_the_normal_one_for_a_large_sample() -> None:
    """With 4,000 items the percentile bootstrap is close to mean +- 1.96 standard errors."""
    d = np.random.default_rng(1).choice([-1, 0, 1], 4_000, p=[0.1, 0.75, 0.15])
    gain, low, high = stats.gain_interval([d])
    error = 1.96 * d.std() / np.sqrt(d.size)
    assert low == pytest.approx(gain - error, abs=0.002)
    assert high == pytest.approx(gain + error, abs=0.002)


def test_gain_needs_items() -> None:
    """No task and an empty task are errors, not zeros."""
    for bad in ([], [np.array([])]):
        with pytest.raises(ValueError, match="at least one"):
            stats.gain_interval(bad)


@settings(max_examples=30, deadline=None)
@given(st.lists(difference, min_size=1, max_size=4), st.integers(0, 9))
def test_intervals_hold_the_gain_and_repeat(tasks: list[list[int]], seed: int) -> None:
    """Same seed, same limits; the limits lie within [-1, 1] and around the gain."""
    arrays = [np.array(t) for t in tasks]
    gain, low, high = stats.gain_interval(arrays, seed)
    assert (gain, low, high) == stats.gain_interval(arrays, seed)
    assert -1 <= low <= gain + 1e-9
    assert gain - 1e-9 <= high <= 1


def test_paired_gain_joins_items_and_averages_runs() -> None:
    """Item a: mean of 1 and 0 minus 0; item b: 1 minus 1; item c is on one side only."""
    after = pd.DataFrame({"task": ["t"] * 4, "item": ["a", "a", "b", "c"], "correct": [1, 0, 1, 1]})
    before = pd.DataFrame({"task": ["t"] * 2, "item": ["a", "b"], "correct": [0, 1]})
    assert stats.paired_gain(after, before)[0] == pytest.approx(0.25)
    with pytest.raises(ValueError, match="share no item"):
        stats.paired_gain(after, before.assign(task="other"))


def test_exact_interval_by_its_formula() -> None:
    """No hit in n: the upper limit p solves (1 - p)^n = 0.025."""
    low, high = stats.exact_interval(0, 60)
    assert low == 0
    assert high == pytest.approx(1 - 0.025 ** (1 / 60))
    assert stats.exact_interval(0, 60, 0.90)[1] == pytest.approx(1 - 0.05 ** (1 / 60))
    with pytest.raises(ValueError, match="k"):
        stats.exact_interval(3, 2)


def test_rank_correlation_by_hand() -> None:
    """1 2 3 4 against 1 2 4 3: rho = 1 - 6 * 2 / (4 * 15) = 0.8."""
    found = stats.rank_correlation([1, 2, 3, 4], [1, 2, 4, 3])
    assert found.rho == pytest.approx(0.8)
    # Of the 24 orders, 4 have rho >= 0.8 and 4 have rho <= -0.8.
    assert found.p_value == pytest.approx(8 / 24)
    assert found.low <= found.rho <= found.high
    assert found.points == 4


def test_rank_correlation_of_agreement_and_of_nothing() -> None:
    """Perfect agreement is 1; a constant side ranks nothing and says nothing."""
    assert stats.rank_correlation(range(6), range(6)).rho == pytest.approx(1)
    assert stats.rank_correlation(range(6), range(6)).p_value == pytest.approx(2 / 720)
    flat = stats.rank_correlation([1, 1, 1, 1], [1, 2, 3, 4])
    assert (flat.rho, flat.low, flat.high, flat.p_value) == (0, -1, 1, 1)
    for bad in ([1, 2, 3], [1, 2, 3, np.nan]):
        with pytest.raises(ValueError, match="rank correlation"):
            stats.rank_correlation(bad, list(range(len(bad))))


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ((0.2, 0.1, 0.3), "supported"),
        ((-0.2, -0.3, -0.1), "contradicted"),
        ((0.1, -0.1, 0.3), "undecided"),
        ((0.0, 0.0, 0.0), "undecided"),
    ],
)
def test_judge_looks_at_the_whole_interval(
    interval: tuple[float, float, float], expected: str
) -> None:
    """Touching the threshold is straddling it."""
    verdict = verdicts.judge("it", interval, 0.0)
    assert verdict.verdict == expected
    assert f"{100 * interval[0]:+.1f}" in verdict.reason


def test_combine_needs_all_and_falls_by_one() -> None:
    """Every part must hold; a single contradiction contradicts."""
    yes, no, open_ = (verdicts.Verdict(v, v) for v in ("supported", "contradicted", "undecided"))
    assert verdicts.combine([yes, yes]).verdict == "supported"
    assert verdicts.combine([yes, open_]).verdict == "undecided"
    assert verdicts.combine([yes, open_, no]).verdict == "contradicted"
    assert verdicts.combine([]).verdict == "undecided"


@pytest.fixture(scope="module", params=["supported", "contradicted", "undecided"])
def planted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """A project whose tables hold a planted effect, and that effect's name."""
    root: Path = tmp_path_factory.mktemp(request.param)
    write_tables(root / "book/results/tiny", request.param)
    return root, request.param


def test_relational_rule_finds_the_planted_effect(planted: tuple[Path, str]) -> None:
    """The rule says of each student what was planted, and the overall verdict follows."""
    root, effect = planted
    utility = results.load("utility", root)
    found = verdicts.relational_verdicts(utility)
    assert len(found) == 6
    assert set(verdicts.overall(found)["verdict"]) == {effect}
    stronger = verdicts.stronger_verdicts(utility, results.load("models", root))
    assert set(verdicts.overall(stronger)["verdict"]) == {effect}


def test_decoupling_rule_finds_the_planted_effect(planted: tuple[Path, str]) -> None:
    """Kept and forgotten, lost and remembered, or in between."""
    root, effect = planted
    cells = verdicts.decoupling_cells(results.load("gains", root), results.load("extraction", root))
    assert len(cells) == 42
    assert cells["fall_low"].le(cells["fall"]).all()
    kinds = verdicts.decoupling_verdicts(cells)["verdict"].value_counts()
    assert kinds.idxmax() == effect


def test_proxy_rule_tells_a_following_proxy_from_noise(planted: tuple[Path, str]) -> None:
    """A proxy built from the gain predicts; noise never does."""
    root, effect = planted
    points = verdicts.proxy_points(results.load("proxies", root), results.load("gains", root))
    judged = verdicts.proxy_verdicts(verdicts.proxy_correlations(points))
    full = judged[judged["method"].eq("full")].set_index("proxy")["verdict"]
    if effect == "contradicted":
        assert (full == "contradicted").any()
    else:
        assert not (full == "contradicted").any()


def test_temperature_rule_and_trade(planted: tuple[Path, str]) -> None:
    """Planted: coverage rises with temperature and fidelity falls."""
    root, _ = planted
    judged = verdicts.temperature_verdicts(results.load("utility", root))
    assert len(judged) == 3
    assert set(verdicts.temperature_trades(results.load("corpora", root))["trade"]) == {"yes"}


def test_rules_say_nothing_of_nothing(tmp_path: Path) -> None:
    """Without tables every rule gives an empty table, not an error."""
    tables = {name: results.load(name, tmp_path) for name in results.COLUMNS}
    utility, gains = tables["utility"], tables["gains"]
    points = verdicts.proxy_points(tables["proxies"], gains)
    frames = [
        verdicts.relational_verdicts(utility),
        verdicts.stronger_verdicts(utility, tables["models"]),
        verdicts.proxy_verdicts(verdicts.proxy_correlations(points)),
        verdicts.decoupling_verdicts(verdicts.decoupling_cells(gains, tables["extraction"])),
        verdicts.temperature_verdicts(utility),
        verdicts.temperature_trades(tables["corpora"]),
    ]
    assert all(frame.empty for frame in frames)
    assert verdicts.overall(frames[0]).empty


def test_random_effects_of_agreeing_students_by_hand() -> None:
    """No spread beyond the errors: the plain mean, 0.01 / sqrt(2), t of one degree is 12.7062."""
    mean, low, high = stats.random_effects([0.02, 0.02], [0.01, 0.01])
    assert mean == pytest.approx(0.02)
    assert high - mean == mean - low == pytest.approx(12.7062 * 0.01 / 2**0.5, rel=1e-4)


def test_random_effects_of_disagreeing_students_by_hand() -> None:
    """Errors are nothing beside the spread: the interval is Student's for the three values."""
    values = [0.0, 1.0, 2.0]
    mean, low, high = stats.random_effects(values, [1e-6, 1e-6, 1e-6])
    assert mean == pytest.approx(1)
    assert (low, high) == pytest.approx((1 - 4.3027 / 3**0.5, 1 + 4.3027 / 3**0.5), rel=1e-3)


def test_a_precise_student_weighs_more() -> None:
    assert stats.random_effects([0.0, 0.01], [0.01, 0.03])[0] == pytest.approx(0.001)


@pytest.mark.parametrize(("values", "errors"), [([0.1], [0.1]), ([0.1, 0.2], [0.1, 0.0])])
def test_random_effects_need_students_with_errors(values: list[float], errors: list[float]) -> None:
    with pytest.raises(ValueError, match="two or more, each with a positive error"):
        stats.random_effects(values, errors)


def test_random_effects_cover_the_population_mean() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(1000):
        truth = rng.normal(0.01, 0.01, size=3)
        errors = rng.uniform(0.002, 0.006, size=3)
        _, low, high = stats.random_effects(rng.normal(truth, errors), errors)
        hits += low <= 0.01 <= high
    assert 0.93 <= hits / 1000 <= 0.98


def test_holm_by_hand() -> None:
    """0.01 x 3; 0.02 x 2 and 0.04 x 1, never below the one before."""
    assert stats.holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert stats.holm([0.9, 0.8]) == pytest.approx([1, 1])
    assert stats.holm([]).size == 0


def test_the_permutation_test_errs_as_often_as_it_says() -> None:
    """Unrelated ranks within students: p below 0.05 in 3 to 7 % of the cases."""
    rng = np.random.default_rng(1)
    found = [
        stats.rank_correlation(rng.normal(size=18), rng.normal(size=18)).p_value < 0.05
        for _ in range(1000)
    ]
    assert 0.03 <= np.mean(found) <= 0.07
