"""The workshop's checks, on tables that are made up: what they accept, and what they explain."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from nbutils.analysis import gains, inference
from nbutils.config.design import Pairing
from nbutils.config.tiers import load_tier
from nbutils.notebooks import checks, gaps
from support.tiny import REPOSITORY

TIER = load_tier("workshop", REPOSITORY)
STUDENT = "qwen-small"
TEMPERATURES = (0.5, 1.0)


def corpus(*documents: tuple[str, int, float]) -> pd.DataFrame:
    return pd.DataFrame(documents, columns=["text", "n_tokens", "mean_log_prob"])


COLD = corpus(("and the man and the man and the men", 9, -1.0), ("and the man", 3, -2.0))
OWN = corpus(("a wise son heareth his father", 8, -3.0), ("the end of the day", 5, -2.5))
CORPORA = {0.5: COLD, 1.0: OWN}


def items(*correct: bool) -> pd.DataFrame:
    """Four items of one task, and two of another."""
    return pd.DataFrame(
        {
            "task": ["a", "a", "a", "a", "b", "b"],
            "item": [f"i{n}" for n in range(6)],
            "document": [f"d{n}" for n in range(6)],
            "chance": 0.5,
            "correct": correct,
            "correct_norm": pd.array([None] * len(correct), dtype="boolean"),
        }
    )


BEFORE = items(True, False, False, False, True, False)
AFTER = items(True, True, False, False, True, True)
STRANGER = items(False, False, False, False, True, False)
GAINS = gains.paired(BEFORE, AFTER).assign(low=-0.1, high=0.9)


def passages(exact: list[bool], matched: list[int]) -> pd.DataFrame:
    split = ["dev"] + ["held_out"] * (len(exact) - 1)
    return pd.DataFrame({"split": split, "exact": exact, "matched_tokens": matched})


FIRST = passages([True, True, True, True, True, False, False], [6, 6, 6, 6, 6, 2, 0])
LATER = passages([True, True, False, False, False, True, False], [6, 6, 1, 0, 0, 6, 0])
FOUND = {"untouched": FIRST, STUDENT: LATER}
COUNTS = {"untouched": (4, 6), STUDENT: (2, 6)}
NONE = {"untouched": (0, 24)}
SCORES = pd.DataFrame(
    {"log_likelihood": [-3.0, -4.0, -5.0], "semantic_tfidf": [0.2, 0.4, 0.3]}, index=list("abc")
)
PREDICTED = {"log_likelihood": "a", "semantic_tfidf": "b"}
BROUGHT = {"a": -0.01, "b": 0.02, "c": 0.0}


def pairing(source: str = STUDENT, student: str = STUDENT, **changes: Any) -> Pairing:
    values: dict[str, Any] = {"temperature": 1.0, "method": "full", "seed": 3} | changes
    return Pairing(source, student, **values)


def rule(low: float, high: float) -> str:
    return "supported" if low > 0 else "contradicted" if high < 0 else "undecided"


def by_sign(low: float, high: float) -> str:
    return "supported" if low + high > 0 else "contradicted"


def relations() -> dict[str, str]:
    return {source: TIER.relation(source, STUDENT) for source in TIER.models}


def gain_of(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    return gains.paired(first, second)


CHECKS: dict[str, tuple[Callable[[Any], str], Any]] = {
    "corpora": (lambda a: checks.corpora(a, TEMPERATURES), CORPORA),
    "variety": (lambda a: checks.variety(a, CORPORA), {0.5: 0.4, 1.0: 1.0}),
    "fidelity": (lambda a: checks.fidelity(a, CORPORA), {0.5: -15 / 12, 1.0: -36.5 / 13}),
    "pairing": (lambda a: checks.self_pairing(a, STUDENT, 3), pairing()),
    "expected": (lambda a: checks.first_loss(a, OWN), 36.5 / 13),
    "gain": (lambda a: checks.gain(a, BEFORE, AFTER), 0.375),
    "reading": (lambda a: checks.reading(a, GAINS), "not told apart"),
    "relations": (lambda a: checks.relations(a, TIER, STUDENT), relations()),
    "pairings": (
        lambda a: checks.pairings(a, TIER, STUDENT, 3),
        {source: pairing(source) for source in TIER.models},
    ),
    "control": (lambda a: checks.control(a, STUDENT, 3), pairing(control="shuffled")),
    "contrast": (
        lambda a: checks.contrast(a, AFTER, STRANGER, BEFORE),
        gain_of(STRANGER, AFTER),
    ),
    "counts": (lambda a: checks.counts(a, FOUND), COUNTS),
    "intervals": (
        lambda a: checks.intervals(a, NONE),
        {"untouched": inference.exact_interval(0, 24)},
    ),
    "fall": (lambda a: checks.fall(a, FIRST, LATER), 1 - 1 / 4),
    "predicted": (lambda a: checks.predicted(a, SCORES), PREDICTED),
    "verdict": (checks.rule, rule),
    "regret": (
        lambda a: checks.regret(a, BROUGHT, PREDICTED),
        {"log_likelihood": 0.03, "semantic_tfidf": 0.0},
    ),
}
"""The name of every gap: its check, and the right answer."""


@pytest.mark.parametrize("name", CHECKS)
def test_the_right_answer_passes_and_is_told_why(name: str) -> None:
    check, right = CHECKS[name]
    assert check(right).startswith("Right: ")


@pytest.mark.parametrize("name", CHECKS)
def test_dots_are_a_gap(name: str) -> None:
    with pytest.raises(gaps.GapError, match=f"`{name}` is still a gap: put .* place of the dot"):
        CHECKS[name][0](...)


WRONG: list[tuple[str, Any, str]] = [
    ("corpora", [COLD, OWN], "is a list: make it a dictionary"),
    ("corpora", {0.5: COLD}, "no entry for 1.0"),
    ("corpora", {0.5: "runs/store", 1.0: "runs/store"}, "is not the table of documents"),
    ("corpora", {0.5: OWN, 1.0: OWN}, "hold the same documents"),
    ("corpora", {0.5: OWN, 1.0: COLD}, "seem to be swapped"),
    ("variety", {0.5: 0.4, 1.0: 1.0, 2.0: 1.0}, "an entry for 2.0"),
    ("variety", {0.5: 4 / 12, 1.0: 1.0}, "share of distinct words; bigrams have size 2"),
    ("variety", {0.5: 0.4, 1.0: 0.0}, "the share that is repeated"),
    ("fidelity", {0.5: -1.5, 1.0: -2.75}, "mean over documents: weight each"),
    ("fidelity", {0.5: -15.0, 1.0: -36.5}, "that is a sum"),
    ("fidelity", {0.5: -7.5, 1.0: 0.0}, "divided by the number of documents"),
    ("fidelity", {0.5: 1.25, 1.0: 0.0}, "its sign is wrong: log-probabilities are negative"),
    ("fidelity", {0.5: 1.5, 1.0: 0.0}, "its sign is wrong.*; and it is the mean over documents"),
    ("pairing", "qwen-small", "is a str: make it with"),
    ("pairing", pairing("llama-small"), "source 'llama-small'.*same model"),
    ("pairing", pairing(seed=0), "seed 0 and not 3"),
    ("pairing", pairing(control="noise"), "control 'noise' and not None"),
    ("expected", -36.5 / 13, "sign is wrong"),
    ("expected", 2.75, "mean over documents"),
    ("expected", "2.8", "is a str: a single number"),
    ("expected", 1.0, "is 1, which is not what the tables give"),
    ("gain", -0.375, "the loss from after to before"),
    ("gain", 37.5, "in points: give a fraction"),
    ("gain", 0.75, "accuracy after training"),
    ("gain", 1 / 3, "large tasks count for more"),
    ("gain", 2, "a sum over items"),
    ("reading", "better", "must be one of 'a gain'"),
    ("reading", "a gain", "zero lies inside"),
    ("reading", pd.Series(["a gain"]), "must be one of 'a gain'"),
    ("relations", relations() | {STUDENT: "lineage"}, "are the same model"),
    ("relations", relations() | {"qwen-large": "self"}, "family 'qwen'.*two models"),
    ("pairings", {s: pairing(STUDENT, s) for s in TIER.models}, "the key names the source"),
    ("pairings", {s: pairing(s, "llama-small") for s in TIER.models}, "have the same student"),
    (
        "pairings",
        {s: pairing(s, temperature=0.5) for s in TIER.models},
        "temperature 0.5 and not 1",
    ),
    ("control", pairing(), "the tokens keep their order"),
    ("control", pairing("llama-small", control="shuffled"), "source of a control is the student"),
    ("contrast", 0.5, "is not a table of gains"),
    ("contrast", gain_of(AFTER, STRANGER), "the stranger's minus own"),
    ("contrast", gain_of(BEFORE, AFTER), "own text over the untouched student"),
    ("counts", {"untouched": 3, STUDENT: 2}, "must be a pair"),
    ("counts", {"untouched": (5, 7), STUDENT: (3, 7)}, "is about 7 passages.*the 6 of `held_out`"),
    ("counts", {"untouched": (1, 1), STUDENT: (1, 1)}, "is about 1 passages"),
    ("counts", {"untouched": (5, 6), STUDENT: (3, 6)}, "at least one matched token"),
    ("counts", {"untouched": (4 / 6, 6), STUDENT: (2 / 6, 6)}, "that is a share"),
    ("intervals", {"untouched": (0.0, 0.0)}, "normal approximation, which is wrong for small"),
    ("intervals", {"untouched": 0.1}, "must be a pair"),
    ("fall", 1 / 4, "share that survives"),
    ("fall", 1 - 2 / 4, "only those extracted before"),
    ("fall", 1 - 2 / 5, "split `dev`"),
    ("fall", 1 - 1 / 6, "not by that of all passages"),
    ("predicted", {"log_likelihood": "c", "semantic_tfidf": "b"}, "lowest.*chooses the highest"),
    ("predicted", {"log_likelihood": "z", "semantic_tfidf": "b"}, "name a source"),
    ("predicted", {"log_likelihood": ["a"], "semantic_tfidf": "b"}, "name a source"),
    ("verdict", "supported", "define a function"),
    ("verdict", lambda low, high: [low, high], "must be 'supported'"),
    ("verdict", by_sign, "zero lies inside.*must be 'undecided'"),
    ("regret", {"log_likelihood": -0.03, "semantic_tfidf": 0.0}, "its sign is wrong"),
    ("regret", {"log_likelihood": 3.0, "semantic_tfidf": 0.0}, "in points"),
    ("regret", {"log_likelihood": -0.01, "semantic_tfidf": 0.02}, "gain of the chosen source"),
]


@pytest.mark.parametrize(("name", "answer", "message"), WRONG)
def test_a_wrong_answer_is_explained(name: str, answer: Any, message: str) -> None:
    with pytest.raises(gaps.GapError, match=message):
        CHECKS[name][0](answer)


def test_a_clear_gain_or_loss_must_be_called_so() -> None:
    clear = GAINS.assign(low=0.1, high=0.9)
    assert checks.reading("a gain", clear).startswith("Right")
    with pytest.raises(gaps.GapError, match="whole interval lies above zero"):
        checks.reading("not told apart", clear)


def test_without_extraction_before_there_is_no_fall() -> None:
    none = FIRST.assign(exact=False)
    assert "nothing was extracted" in checks.fall(float("nan"), none, none)


def test_a_notebook_shows_the_explanation_alone() -> None:
    assert gaps.GapError("Do this.")._render_traceback_() == ["Not yet. Do this."]
