"""The page *Fetch a model*: the shortcuts that were tried on it."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

SHORTCUTS = {
    "packed": "several documents stand in one row of training",
    "tree": "requests of scoring share what they begin with",
    "memory": "what was read is remembered while sampling",
    "shrunk": "finished documents leave the batch",
}
"""What each shortcut spares."""


def shortcuts(facts: Mapping[str, Any]) -> pd.DataFrame:
    """One row per shortcut: whether it is taken, and how far it is from the plain way.

    Differences are shares of the largest logit. ``facts`` are those of a fetched or made model.
    """
    rows = [
        {
            "shortcut": meaning,
            "taken": "yes" if found["right"] else "no",
            "small copy": _difference(found["copy"]),
            "allowed there": _difference(found["copy_bound"]),
            "this model": _difference(found["model"]),
            "allowed here": _difference(found["model_bound"]),
        }
        for name, meaning in SHORTCUTS.items()
        for found in [facts["shortcuts"][name]]
    ]
    return pd.DataFrame(rows)


def _difference(value: float | None) -> str:
    return "not tried" if value is None else f"{value:.1e}"
