"""Gaps of the workshop: the form of an answer, and messages about what is wrong with it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nbutils.config.design import Pairing
from nbutils.errors import UserError

Mistakes = Mapping[str, float]
"""Maps a message about a mistake to the value that the mistake gives."""


class GapError(UserError):
    """An answer is missing or wrong."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows: the message, without a traceback."""
        return [f"Not yet. {self}"]


def filled(value: Any, name: str, expected: str) -> None:
    """Check that an answer is not dots.

    ``expected`` says what belongs in their place.

    Raises:
        GapError: It is dots.
    """
    if value is ...:
        raise GapError(f"`{name}` is still a gap: put {expected} in place of the dots")


def keyed(value: Any, name: str, keys: Sequence[Any], expected: str) -> dict[Any, Any]:
    """Check that an answer is a dictionary with exactly these keys, and return it.

    Raises:
        GapError: The answer is dots or no dictionary, or a key is missing or not allowed.
    """
    filled(value, name, expected)
    if not isinstance(value, dict):
        raise GapError(f"`{name}` is a {type(value).__name__}: make it {expected}")
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
    """Keys as a list for messages."""
    return ", ".join(repr(key) for key in keys)


def number(value: Any, name: str, right: float, mistakes: Mistakes) -> None:
    """Check that an answer is the right number, up to rounding.

    Raises:
        GapError: It is not; the message is that of a known mistake, if the value is one of those.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise GapError(f"`{name}` is a {type(value).__name__}: a single number is needed")
    if math.isclose(value, right, rel_tol=1e-6, abs_tol=1e-9):
        return
    for why, wrong in mistakes.items():
        if math.isclose(value, wrong, rel_tol=1e-6, abs_tol=1e-9):
            raise GapError(f"`{name}` is {value:.4g}: {why}")
    raise GapError(f"`{name}` is {value:.4g}, which is not what the tables give: open the hints")


def pairing_like(value: Any, name: str, right: Pairing, mistakes: Mapping[str, str]) -> None:
    """Check that an answer is the right pairing.

    ``mistakes`` maps a field to a message for the case that its value is wrong.

    Raises:
        GapError: It is not a pairing, or a field is wrong.
    """
    if not isinstance(value, Pairing):
        raise GapError(f"`{name}` is a {type(value).__name__}: make it with `Pairing(...)`")
    for field, wanted in vars(right).items():
        given = getattr(value, field)
        if given != wanted:
            why = mistakes.get(field, "compared pairings must not differ in it")
            raise GapError(f"`{name}` has {field} {given!r} and not {wanted!r}: {why}")
