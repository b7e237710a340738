"""Gains, contrasts and falls, on tables small enough to check by hand."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from nbutils.analysis import gains
from nbutils.analysis.gains import Accuracy
from nbutils.config.design import LABELS

ITEMS = pd.DataFrame(
    {
        "task": ["x_agreement"] * 2 + ["x_cloze"] * 4,
        "item": ["e", "f", "a", "b", "c", "d"],
        "document": ["1", "2", "1", "2", "3", "4"],
        "chance": [0.5] * 2 + [0.25] * 4,
    }
)
PLAIN = {"method": "full", "temperature": 1.0, "round": 1, "learning_rate": 1.0, "steps": 9}


def state(name: str, student: str, source: str | None, seed: int | None, **other: Any) -> Any:
    kinds = {"experiment": "pairings" if source else "untouched", "relation": "self"}
    row = dict.fromkeys(LABELS) | {"state": name, "student": student, "source": source}
    return row | {"seed": seed} | kinds | (PLAIN if source else {}) | other


def tables(states: list[Any], answers: dict[str, Any]) -> Any:
    columns: Any = {name: pd.array(a, dtype="boolean") for name, a in answers.items()}
    frame = pd.concat([ITEMS, pd.DataFrame(columns)], axis=1)
    table = gains.typed(pd.DataFrame(states))
    return Accuracy(frame, table), table


TWO_SEEDS = [state("u", "s", None, None), state("r0", "s", "s", 0), state("r1", "s", "s", 1)]
ANSWERS: dict[str, Any] = {
    "u": [1, 1, 1, 0, 0, 0],
    "r0": [1, 0, 0, 1, 1, 1],
    "r1": [1, 1, 1, 1, 0, 0],
}


def test_gains_by_hand() -> None:
    """Cloze: 1/4 to 3/4 and to 2/4; agreement: 1 to 1/2 and to 1. The suite weighs tasks alike."""
    measured, states = tables(TWO_SEEDS, ANSWERS)
    found = gains.gains(measured, states).set_index("task")
    assert found["gain"].to_dict() == pytest.approx(
        {"x_agreement": -0.25, "x_cloze": 0.375, "suite": 0.0625}
    )
    assert found["base_accuracy"].to_dict() == pytest.approx(
        {"x_agreement": 1.0, "x_cloze": 0.25, "suite": 0.625}
    )
    assert found["items"].to_dict() == {"x_agreement": 2, "x_cloze": 4, "suite": 6}
    assert found.loc["suite", "chance"] == pytest.approx(0.375)
    assert found["seeds"].eq(2).all()
    assert (found["low"] <= found["gain"]).all()
    assert (found["gain"] <= found["high"]).all()


def test_a_part_of_the_items_is_paired_with_the_same_part() -> None:
    """Asked on e, a and b alone: before 1 and 1/2, after 1 and 1."""
    answers = ANSWERS | {"r0": [1, None, 1, 1, None, None]}
    measured, states = tables(TWO_SEEDS[:2], {k: answers[k] for k in ("u", "r0")})
    found = gains.gains(measured, states).set_index("task")
    assert found["gain"].to_dict() == {"x_agreement": 0, "x_cloze": 0.5, "suite": 0.25}
    assert found.loc["suite", "items"] == 3


def test_contrasts_pair_seeds_and_average_sources() -> None:
    """Seed 0 alone is shared: own suite 5/8 less the mean of strangers' 3/4 and 1/2."""
    others = [state("x", "s", "m", 0), state("y", "s", "n", 0), state("z", "s", "n", 2)]
    answers = ANSWERS | {"x": [1, 1, 1, 1, 0, 0], "y": [1, 1, 0, 0, 0, 0], "z": [0] * 6}
    measured, states = tables([*TWO_SEEDS, *others], answers)
    own, foreign = states[states["source"].eq("s")], states[states["source"].isin(["m", "n"])]
    found = gains.contrast(measured, own, foreign)
    assert found is not None
    assert found.value == pytest.approx(5 / 8 - (3 / 4 + 1 / 2) / 2)
    assert gains.contrast(measured, own, foreign[foreign["seed"].eq(2)]) is None


def test_a_control_of_one_seed_is_compared_with_that_seed() -> None:
    """Rate zero alone stands for every seed, which cannot change it."""
    controls = [
        state("x", "s", "shuffled self", 0, relation="control", experiment="controls"),
        state("y", "s", "rate zero", 0, relation="control", experiment="controls"),
    ]
    answers = ANSWERS | {"x": [1, 1, 1, 1, 0, 0], "y": [1, 1, 1, 0, 0, 0]}
    measured, states = tables([*TWO_SEEDS, *controls], answers)
    parameters = pd.DataFrame({"model": ["s"], "parameters": [10]})
    found = gains.contrasts(measured, states, parameters).set_index("second")
    assert found.loc["shuffled self", "seeds"] == 1
    assert found.loc["shuffled self", "value"] == pytest.approx(5 / 8 - 3 / 4)
    assert found.loc["rate zero", "seeds"] == 2


def test_stronger_means_a_quarter_more_parameters() -> None:
    """The stranger of 13 is above the threshold over kin of 10, that of 12 is not."""
    states = [
        state("u", "s", None, None), state("k", "s", "kin", 0, relation="lineage"),
        state("o", "s", "s", 0), state("p", "s", "big", 0, relation="cross-family"),
        state("q", "s", "less", 0, relation="cross-family"),
    ]  # fmt: skip
    rng = np.random.default_rng(0)
    answers = {str(r["state"]): [int(x) for x in rng.integers(0, 2, 6)] for r in states}
    measured, table = tables(states, answers)
    parameters = {"model": ["kin", "s", "big", "less"], "parameters": [10, 20, 13, 12]}
    found = gains.contrasts(measured, table, pd.DataFrame(parameters))
    stranger = found[found["claim"].eq("stranger")]
    assert list(stranger["first"]) == ["lineage"]
    expected = measured.of(["k"])[0] - measured.of(["p"])[0]
    assert stranger["value"].item() == pytest.approx(expected)


def passages(state_: str, exact: int, of: int = 10) -> pd.DataFrame:
    rows = {"state": state_, "split": "held_out", "passage": np.arange(of)}
    return pd.DataFrame(rows | {"exact": np.arange(of) < exact})


def test_falls_by_hand() -> None:
    """8 before, 2 and 4 survive: a fall of 1 - 3/8, its limits those of 4 and of 2 of 8."""
    _, states = tables(TWO_SEEDS, ANSWERS)
    rows = pd.concat([passages("u", 8), passages("r0", 2), passages("r1", 4)])
    found = gains.falls(rows, states).set_index("experiment")
    row = found.loc["pairings"]
    assert (row["before"], row["after"], row["passages"]) == (8, 3, 10)
    assert row["fall"] == pytest.approx(5 / 8)
    # P(X >= 4 | 8, p) and P(X <= 2 | 8, p) are 5 % at these p
    assert 1 - row["low"] == pytest.approx(0.80710, abs=1e-4)
    assert 1 - row["high"] == pytest.approx(0.04639, abs=1e-4)
    assert found.loc["untouched", "share"] == pytest.approx(0.8)


def test_passages_extracted_anew_do_not_survive() -> None:
    """Before a and b, after c and d alone: what was known is forgotten, the share is the same."""
    _, states = tables(TWO_SEEDS[:2], {k: ANSWERS[k] for k in ("u", "r0")})
    after = passages("r0", 0)
    after.loc[after["passage"].isin([2, 3]), "exact"] = True
    found = gains.falls(pd.concat([passages("u", 2), after]), states)
    row = found.set_index("experiment").loc["pairings"].to_dict()
    assert (row["before"], row["after"], row["survivors"], row["fall"]) == (2, 2, 0, 1)


def test_a_rise_is_no_fall_and_nothing_cannot_fall() -> None:
    _, states = tables(TWO_SEEDS, ANSWERS)
    risen = pd.concat([passages("u", 2), passages("r0", 5), passages("r1", 5)])
    row = gains.falls(risen, states).set_index("experiment").loc["pairings"]
    assert (row["fall"], row["low"], row["share"]) == (0, 0, 0.5)  # both survive
    none = pd.concat([passages("u", 0), passages("r0", 5), passages("r1", 5)])
    assert np.isnan(gains.falls(none, states)["fall"]).all()


# Cloze defines acc_norm, agreement does not.
NORMED: dict[str, Any] = {
    "u_norm": [None, None, 1, 1, 0, 0],
    "r0_norm": [None, None, 1, 1, 1, 0],
    "r1_norm": [None, None, 1, 1, 1, 1],
}


def test_gains_by_acc_norm_by_hand() -> None:
    """Cloze: 2/4 to 3/4 and to 4/4; nothing else has it, and nothing else changes."""
    measured, states = tables(TWO_SEEDS, ANSWERS | NORMED)
    found = gains.gains(measured, states).set_index("task")
    cloze = found.loc["x_cloze"]
    assert (cloze["base_accuracy_norm"], cloze["accuracy_norm"]) == (0.5, 0.875)
    assert cloze["low_norm"] <= cloze["gain_norm"] == 0.375 <= cloze["high_norm"]
    others = [name + gains.NORM for name in gains.MEASURED]
    assert found.drop("x_cloze")[others].isna().all(axis=None)
    plain = gains.gains(*tables(TWO_SEEDS, ANSWERS)).set_index("task")
    pd.testing.assert_frame_equal(found.drop(columns=others), plain.drop(columns=others))


def test_both_metrics_are_one_computation() -> None:
    """Answers that are alike by both give the same numbers by both."""
    normed = {f"{k}_norm": [None, None, *a[2:]] for k, a in ANSWERS.items()}
    cloze = {k: [None, None, *a[2:]] for k, a in ANSWERS.items()}
    measured, states = tables(TWO_SEEDS, cloze | normed)
    found = gains.gains(measured, states).set_index("task").loc["x_cloze"]
    for name in gains.MEASURED:
        assert found[name] == found[name + gains.NORM], name


@pytest.mark.parametrize("without", NORMED)
def test_a_cell_whose_states_do_not_all_have_acc_norm_has_none(without: str) -> None:
    some = {name: answers for name, answers in NORMED.items() if name != without}
    found = gains.gains(*tables(TWO_SEEDS, ANSWERS | some))
    assert found["gain_norm"].isna().all()


def test_paired_agrees_with_the_tables() -> None:
    """Two models' rows in any order give the same gains as the wide table."""
    answers = {k: a for k, a in (ANSWERS | NORMED).items() if not k.startswith("r1")}
    rows = {
        name: ITEMS.assign(
            correct=np.array(answers[name], dtype=bool),
            correct_norm=pd.array(answers[f"{name}_norm"], dtype="boolean"),
        )
        for name in ("u", "r0")
    }
    measured, states = tables(TWO_SEEDS[:2], answers)
    expected = gains.gains(measured, states)
    columns = ["task", "gain", "low", "high", "gain_norm", "low_norm", "high_norm"]
    found = gains.paired(rows["u"], rows["r0"].iloc[::-1])
    pd.testing.assert_frame_equal(found[columns], expected[columns])
