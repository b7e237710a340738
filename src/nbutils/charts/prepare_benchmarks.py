"""The page *Prepare benchmarks*: the tasks, the versions of their data, and one item of each."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

SHOWN = 400
"""Characters of an item that a table shows: the last ones, which hold the right answer."""


def tasks(
    sources: Mapping[str, Mapping[str, Any]], texts: Mapping[str, Sequence[str]]
) -> pd.DataFrame:
    """One row per task: its items, and which version of which data they come from.

    ``sources`` and ``texts`` are what the stage wrote to ``tasks.json`` and ``texts.json``.
    """
    rows = [
        {
            "task": task,
            "items": len(texts[task]),
            "data": " ".join(filter(None, (source["data"], source["name"]))),
            "version": source["revision"] or "not stated",
            "split": source["split"],
            "shots from": source["shots"] or "no shots",
        }
        for task, source in sources.items()
    ]
    return pd.DataFrame(rows)


def examples(texts: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """The first item of every task, with its right answer."""
    rows = [(task, " ".join(found[0].split())[-SHOWN:]) for task, found in texts.items()]
    return pd.DataFrame(rows, columns=["task", "item"])
