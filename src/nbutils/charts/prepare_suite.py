"""The page *Prepare the suite*: how many items there are, and what they look like."""

import pandas as pd

SHOWN = 120
"""Characters of an item's context that a table shows: the last ones."""


def sizes(items: pd.DataFrame) -> pd.DataFrame:
    """One row per task: its domain and kind, its items, their documents, and what a guess gets."""
    table = items.groupby("task", as_index=False).agg(
        items=("item", "size"),
        documents=("document", "nunique"),
        chance=("choices", lambda found: (1 / found.str.len()).mean()),
    )
    names = table.pop("task").str.rpartition("_")
    table.insert(0, "domain", names[0])
    table.insert(1, "kind", names[2])
    return table


def examples(items: pd.DataFrame) -> pd.DataFrame:
    """The first item of each kind, with all its choices and the right one."""
    kinds = items["task"].str.rpartition("_")[2]
    rows = [
        {
            "kind": kind,
            "context": f"…{item['query'][-SHOWN:]}",
            "choices": " /".join(item["choices"]),
            "right": item["choices"][item["gold"]],
        }
        for kind, part in items.groupby(kinds)
        for item in part.head(1).to_dict("records")
    ]
    return pd.DataFrame(rows)
