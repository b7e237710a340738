"""Errors that a person can mend: one message, no traceback."""

import difflib
import reprlib
from collections.abc import Iterable


class UserError(Exception):
    """Base of every error that a person can mend: one message, no traceback."""


class ParameterError(UserError):
    """A parameter has an unknown name, a wrong type or a value out of range."""


short = reprlib.Repr()
short.maxstring = short.maxother = 120


LISTED = 100
"""As many names are listed in a message; of more, the number is told."""


def unknown(kind: str, name: str, known: Iterable[str], where: str = "") -> str:
    """One line for a name that does not exist: what is allowed, or how many, and the nearest."""
    allowed = sorted(known)
    told = ", ".join(allowed) if len(allowed) <= LISTED else f"{len(allowed)} others"
    place = f" ({where})" if where else ""
    may = f"allowed are {told}" if allowed else "there is none"
    hint = nearest(name.rsplit(".", 1)[-1], allowed)
    return f"unknown {kind} {short.repr(name)}{place}: {may}{hint}"


def nearest(name: str, allowed: Iterable[str]) -> str:
    """A question after a wrong name, where one that is allowed is near it; else nothing."""
    near = difflib.get_close_matches(name[:100], list(allowed), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or its type where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
