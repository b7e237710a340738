"""Answers: reading what somebody put in a gap of the workshop, and saying what is wrong."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nbutils.config.design import Pairing
from nbutils.errors import UserError

Mistakes = Mapping[str, float]
"""What is wrong with an answer, and the value by which one knows."""


class GapError(UserError):
    """An answer is missing or wrong."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows: the explanation, and none of the code that found it."""
        return [f"Not yet. {self}"]


def filled(value: Any, name: str, meant: str) -> None:
    """Refuse dots; ``meant`` says what belongs in their place."""
    if value is ...:
        raise GapError(f"`{name}` is still a gap: put {meant} in place of the dots")


def keyed(value: Any, name: str, keys: Sequence[Any], meant: str) -> dict[Any, Any]:
    """A dictionary with exactly these keys."""
    filled(value, name, meant)
    if not isinstance(value, dict):
        raise GapError(f"`{name}` is a {type(value).__name__}: make it {meant}")
    for key in keys:
        if key not in value:
            raise GapError(
                f"`{name}` has no entry for {key!r}: it needs one for each of {listed(keys)}"
            )
    for key in value:
        if key not in keys:
            raise GapError(f"`{name}` has an entry for {key!r}: it takes {listed(keys)} alone")
    return value


def listed(keys: Sequence[Any]) -> str:
    """Keys for people."""
    return ", ".join(repr(key) for key in keys)


def number(value: Any, name: str, right: float, mistakes: Mistakes) -> None:
    """A number that is right, or wrong in a way that is known."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise GapError(f"`{name}` is a {type(value).__name__}: a single number is asked for")
    if math.isclose(value, right, rel_tol=1e-6, abs_tol=1e-9):
        return
    for why, wrong in mistakes.items():
        if math.isclose(value, wrong, rel_tol=1e-6, abs_tol=1e-9):
            raise GapError(f"`{name}` is {value:.4g}: {why}")
    raise GapError(f"`{name}` is {value:.4g}, which is not what the tables give: open the hints")


def pairing_like(value: Any, name: str, right: Pairing, what: Mapping[str, str]) -> None:
    """A pairing like the right one; ``what`` says, per field, what is wrong with another value."""
    if not isinstance(value, Pairing):
        raise GapError(f"`{name}` is a {type(value).__name__}: make it with `Pairing(...)`")
    for field, wanted in vars(right).items():
        given = getattr(value, field)
        if given != wanted:
            why = what.get(field, "what is compared must not differ in it")
            raise GapError(f"`{name}` has {field} {given!r} and not {wanted!r}: {why}")
