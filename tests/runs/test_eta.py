"""The time that runs take, from what such runs took before."""

import pytest

from nbutils.config import schema
from nbutils.runs import eta
from nbutils.runs.eta import Seconds
from nbutils.runs.types import Run


def named(stage: str, name: str) -> Run:
    return Run(stage, name, schema.MeasureExtraction())


def test_expected_is_what_it_took_else_the_median_of_the_stage() -> None:
    known: Seconds = {("a", "x"): 3.0, ("a", "y"): 5.0, ("a", "z"): 100.0, ("b", "x"): 7.0}
    runs_ = [named("a", "x"), named("a", "new"), named("c", "x")]
    assert eta.expected(runs_, known) == [3, 5, None]


def test_remaining_by_hand() -> None:
    """180 s for what took 60, and a minute at the known pace beside them: everything doubles."""
    known: Seconds = {("a", "x"): 60.0, ("a", "y"): 90.0, ("b", "x"): 210.0}
    measured: Seconds = {("a", "x"): 180.0}
    todo = [named("a", "y"), named("b", "x"), named("a", "new")]
    assert eta.remaining(todo, known, measured, 1) == pytest.approx(180 + 420 + 180)
    assert eta.remaining(todo, known, measured, 2) == pytest.approx(390)
    assert eta.remaining(todo, known, {}, 1) == pytest.approx(90 + 210 + 75)
    assert eta.remaining([named("c", "x"), *todo], known, measured, 1) is None
    assert eta.remaining([], known, measured, 1) == 0
