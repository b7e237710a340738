"""Errors that a user can correct: one message, no traceback."""

import difflib
import reprlib
from collections.abc import Iterable


class UserError(Exception):
    """Base class of errors that a user can correct: one message, no traceback."""


class ParameterError(UserError):
    """A parameter has an unknown name, a wrong type or a value out of range."""


short = reprlib.Repr()
short.maxstring = short.maxother = 120


LISTED = 100
"""The largest number of names that a message lists; of more names it gives the number."""


def unknown(kind: str, name: str, known: Iterable[str], where: str = "") -> str:
    """A message, one line, about an unknown name: the allowed names, or their number, and a hint.

    ``kind`` says what the name is of, such as ``tier``.
    """
    allowed = sorted(known)
    names = ", ".join(allowed) if len(allowed) <= LISTED else f"{len(allowed)} others"
    place = f" ({where})" if where else ""
    choice = f"allowed are {names}" if allowed else "there is none"
    hint = nearest(name.rsplit(".", 1)[-1], allowed)
    return f"unknown {kind} {short.repr(name)}{place}: {choice}{hint}"


def nearest(name: str, allowed: Iterable[str]) -> str:
    """A hint with the allowed name that is closest to a wrong one; empty if none is close."""
    close = difflib.get_close_matches(name[:100], list(allowed), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type if the message is empty."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
