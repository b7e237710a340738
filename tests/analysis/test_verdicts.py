"""The decision rules: by hand at their edges, and on tables with a planted effect."""

from pathlib import Path

import pandas as pd
import pytest

from nbutils.analysis import experiments, predictors, verdicts
from nbutils.charts import (
    compatibility_diagnostics,
    memorization_decoupling,
    provenance,
    recipe_map,
    relational_utility,
    temperature,
    trajectories,
)
from nbutils.charts.rounds import rounds_table
from nbutils.charts.tables import contrast_table
from nbutils.results import tables as results_tables
from nbutils.results.tables import COLUMNS
from support.synthetic import write_tables


@pytest.mark.parametrize(
    ("low", "high", "p_value", "expected"),
    [
        (0.1, 0.3, 0.9, "supported"),
        (-0.3, -0.1, 0.01, "contradicted"),
        (-0.3, -0.1, 0.2, "undecided"),
        (-0.1, 0.3, 0.01, "undecided"),
        (0.0, 0.0, 0.0, "undecided"),
    ],
)
def test_a_side_needs_the_whole_interval(
    low: float, high: float, p_value: float, expected: str
) -> None:
    """Touching the threshold is straddling it; a contradiction must survive the correction."""
    assert verdicts.side(low, high, 0.0, p_value) == expected


def test_combine_needs_all_and_falls_by_one() -> None:
    assert verdicts.combine(["supported", "supported"]) == "supported"
    assert verdicts.combine(["supported", "undecided"]) == "undecided"
    assert verdicts.combine(["supported", "undecided", "contradicted"]) == "contradicted"
    assert verdicts.combine([]) == "undecided"


Tables = dict[str, pd.DataFrame]


def load(root: Path) -> Tables:
    return {name: results_tables.load(name, root) for name in COLUMNS}


@pytest.fixture(scope="module", params=["supported", "contradicted", "undecided"])
def planted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Tables, str]:
    """Tables that hold a planted effect, and that effect's name."""
    root: Path = tmp_path_factory.mktemp(request.param)
    write_tables(root / "book/results/tiny", request.param)
    return load(root), request.param


def full(rows: pd.DataFrame) -> str:
    found = verdicts.overall(rows)
    return str(found.loc[found["method"].eq("full"), "verdict"].item())


@pytest.mark.parametrize("claim", ["ordering", "stranger"])
def test_the_relational_rules_find_the_planted_effect(
    planted: tuple[Tables, str], claim: str
) -> None:
    tables, effect = planted
    judged = verdicts.judged(tables["contrasts"], claim)
    assert full(judged) == effect
    students = verdicts.by(judged, "results", "method", "student")
    assert set(students["student"]) == {"neox-small", "llama-small", "qwen-small"}
    across = verdicts.across_students(judged)
    kinds = set(across["verdict"])
    assert kinds == {effect} if effect != "contradicted" else "contradicted" in kinds


def test_the_decoupling_rule_finds_the_planted_effect(planted: tuple[Tables, str]) -> None:
    """Kept and forgotten, lost and remembered, or in between."""
    tables, effect = planted
    pairings = verdicts.decoupling_pairings(tables["gains"], tables["falls"])
    assert pairings["fall_low"].le(pairings["fall"]).all()
    judged = verdicts.decoupling_verdicts(pairings)
    assert full(judged) == effect
    assert len(memorization_decoupling.decoupling_table(judged)) == len(judged)


def test_controls_tell_what_self_training_adds(planted: tuple[Tables, str]) -> None:
    """Planted: controls halve extraction; rate zero leaves everything as it was."""
    tables, effect = planted
    pairings = verdicts.decoupling_pairings(tables["gains"], tables["falls"])
    implied = verdicts.control_implications(tables["contrasts"], pairings)
    frozen = implied[implied["source"].eq("rate zero")]
    assert frozen[["gain", "fall"]].eq(0).all(axis=None)
    assert frozen["forgets"].eq("less").all()
    others = implied[implied["source"].ne("rate zero")]
    expected = {
        "supported": ("less", "self is better"),
        "contradicted": ("not told apart", "self is worse"),
        "undecided": ("less", "not told apart"),
    }
    assert others["forgets"].mode().item() == expected[effect][0]
    assert others["utility"].mode().item() == expected[effect][1]
    said = memorization_decoupling.special(implied).set_index("control")["reason"]
    assert len(said) == 4
    if effect == "supported":
        assert "this forgetting needs the direction of the update" in said["noise"]
    assert not any("does not need" in reason for reason in said)


@pytest.mark.parametrize("low", [1.0, 0.1])
def test_a_control_that_does_the_work_is_told(low: float, planted: tuple[Tables, str]) -> None:
    """Noise that forgets everything does it where self is worse; not by wide limits or at a cost.

    Planted: self keeps more utility than noise, less, or about as much, by which nothing is told.
    """
    tables, effect = planted
    falls = tables["falls"].copy()
    noise = falls["source"].eq("noise") & falls["experiment"].eq("controls")
    falls.loc[noise, ["fall", "low", "high"]] = [1.0, low, 1.0]
    pairings = verdicts.decoupling_pairings(tables["gains"], falls)
    implied = verdicts.control_implications(tables["contrasts"], pairings)
    said = memorization_decoupling.special(implied).set_index("control")["reason"]
    does = effect == "contradicted" and low == 1
    assert ("does not need the direction" in said["noise"]) == does
    assert ("is not settled" in said["noise"]) == (not does)


def test_the_proxy_rule_tells_a_following_proxy_from_noise(planted: tuple[Tables, str]) -> None:
    tables, effect = planted
    points = predictors.pairing_points(tables["proxies"], tables["gains"])
    judged = predictors.proxy_verdicts(predictors.proxy_correlations(points))
    mine = judged[judged["method"].eq("full")]
    predicts = mine["verdict"].eq("contradicted")
    assert predicts.all() if effect == "contradicted" else not predicts.any()
    useful = predictors.useful(predictors.left_out(points))
    if effect == "contradicted":
        assert useful["useful"].any()
    else:
        assert not useful["useful"].any()
    assert useful["regret"].ge(0).all()


def test_the_stopping_rule_looks_at_dev_and_reports_held_out(planted: tuple[Tables, str]) -> None:
    """Planted: everything is forgotten at the last step, or a part of it never is."""
    tables, effect = planted
    stops = experiments.stopping_rule(tables["falls"], tables["gains"])
    assert len(stops) == 9
    assert stops["step"].eq(60).all()
    if effect == "supported":
        assert stops["all_gone"].all()
        assert stops["fall"].eq(1).all()
    if effect == "contradicted":
        assert not stops["all_gone"].any()
    # the rule sees dev passages alone: other held-out rows change what it reports, not the step
    falls = tables["falls"].copy()
    falls.loc[falls["split"].eq("held_out"), "after"] = 1.0
    again = experiments.stopping_rule(falls, tables["gains"])
    assert list(again["step"]) == list(stops["step"])


def test_temperature_rows_and_trade(planted: tuple[Tables, str]) -> None:
    """Planted: coverage rises with temperature and fidelity falls."""
    tables, _ = planted
    rows = experiments.temperature_rows(tables["corpora"], tables["gains"], tables["falls"])
    assert rows.groupby("student")["temperature"].nunique().eq(3).all()
    trade = temperature.trades(tables["corpora"])
    assert set(trade.loc[trade["source"].str.endswith("small"), "trade"]) == {"yes"}
    assert len(verdicts.judged(tables["contrasts"], "temperature")) == 6


def test_rounds_start_at_the_self_pairing(planted: tuple[Tables, str]) -> None:
    tables, _ = planted
    rows = experiments.round_rows(tables["gains"], tables["falls"], tables["corpora"])
    assert rows.groupby("student")["round"].apply(sorted).tolist() == [[1, 2]] * 3
    judged = verdicts.judged(tables["contrasts"], "rounds")
    assert judged["value"].lt(0).all()


def test_recipes_are_corrected_for_their_number(planted: tuple[Tables, str]) -> None:
    tables, effect = planted
    rows = experiments.recipe_gains(tables["gains"], tables["falls"])
    assert len(rows) == 18
    expected = {"supported": "gain", "contradicted": "loss", "undecided": "not told apart"}
    assert rows["effect"].mode().item() == expected[effect]
    assert str(len(rows)) in recipe_map.recipe_answer(rows)["answer"].item()


def test_one_seed_changes_the_verdict(tmp_path: Path) -> None:
    """With one of three seeds far off, what was supported is no longer."""
    write_tables(tmp_path / "a/book/results/tiny", "supported")
    write_tables(tmp_path / "b/book/results/tiny", "supported", shifts={1: -0.12})
    calm, moved = (
        verdicts.judged(results_tables.load("contrasts", tmp_path / x), "ordering") for x in "ab"
    )
    assert full(calm) == "supported"
    assert full(moved) == "undecided"
    own = calm["first"].eq("self")
    widths = [(t["high"] - t["low"]) for t in (calm, moved)]
    assert (widths[1] > 2 * widths[0])[own].all()
    assert widths[1][~own].to_numpy() == pytest.approx(widths[0][~own].to_numpy(), rel=0.5)


def test_rules_say_nothing_of_nothing(tmp_path: Path) -> None:
    """Without tables every rule gives an empty table, not an error."""
    tables = load(tmp_path)
    gains, falls, contrasts = tables["gains"], tables["falls"], tables["contrasts"]
    pairings = verdicts.decoupling_pairings(gains, falls)
    points = predictors.pairing_points(tables["proxies"], gains)
    judged = verdicts.judged(contrasts, "ordering")
    stops = experiments.stopping_rule(falls, gains)
    implied = verdicts.control_implications(contrasts, pairings)
    recipes = experiments.recipe_gains(gains, falls)
    left_out = predictors.useful(predictors.left_out(points))
    rounds = experiments.round_rows(gains, falls, tables["corpora"])
    frames = [
        judged, contrast_table(judged), verdicts.across_students(judged), verdicts.overall(judged),
        contrast_table(verdicts.across_students(judged)), pairings, implied, stops, recipes,
        predictors.proxy_verdicts(predictors.proxy_correlations(points)), left_out, rounds,
        verdicts.decoupling_verdicts(pairings), temperature.trades(tables["corpora"]),
        experiments.temperature_rows(tables["corpora"], gains, falls),
        relational_utility.by_domain(gains, tables["models"]),
        memorization_decoupling.controls_table(implied),
        memorization_decoupling.decoupling_table(verdicts.decoupling_verdicts(pairings)),
        memorization_decoupling.special(implied),
        pd.DataFrame(relational_utility.seeds(gains)), relational_utility.starts(gains),
        trajectories.stops_table(stops),
        compatibility_diagnostics.predictors_table(left_out),
        compatibility_diagnostics.best_predictors(left_out),
        rounds_table(gains, falls, tables["corpora"]),
        recipe_map.best_recipes(recipes), recipe_map.recipe_answer(recipes),
    ]  # fmt: skip
    assert all(frame.empty for frame in frames)
    assert provenance.keys_of(tables["states"], "trajectories") == []
