"""Tables: frames, sentences and numbers with their limits, as a page shows them."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
from IPython.display import HTML

from nbutils.analysis.gains import FIRST, MEASURED, NORM
from nbutils.escaping import for_page

SETTINGS = ("temperature", "learning_rate", "rank")
"""Columns whose numbers somebody chose: shown as they were given."""
_NOTHING = '<p class="nbutils-empty">There is nothing to show here.</p>'


def table(frame: pd.DataFrame, digits: int = 3) -> HTML:
    """A table for the page, every cell escaped; a ``verdict`` column becomes a badge."""

    def badge(value: object) -> str:
        kind = for_page(value)
        return f'<span class="nbutils-badge {kind}">{kind}</span>'

    def cell(value: Any) -> str:
        missing = pd.api.types.is_scalar(value) and pd.isna(value)
        text = "–" if missing else for_page(value)
        # Long text keeps a readable width on a phone, where the table scrolls.
        return f'<span class="nbutils-long">{text}</span>' if len(text) > 60 else text

    if frame.empty:
        return HTML(_NOTHING)
    shown = frame.infer_objects()  # numbers of which one tier has none are objects
    for column in shown.columns:
        if column == "verdict":
            shown[column] = shown[column].map(badge)
        elif pd.api.types.is_bool_dtype(shown[column]):
            shown[column] = shown[column].map(cell)
        elif pd.api.types.is_numeric_dtype(shown[column]):
            form = _number_format(shown[column], digits)
            shown[column] = [format(v, form) if pd.notna(v) else "–" for v in shown[column]]
        else:
            shown[column] = shown[column].map(cell)
    shown.columns = [for_page(str(c).replace("_", " ")) for c in shown.columns]
    body = shown.to_html(index=False, escape=False, border=0, classes="nbutils-table")
    return HTML(f'<div class="nbutils-scroll">{body}</div>')


def _number_format(numbers: pd.Series, digits: int) -> str:
    """Counts and what is as large as counts without digits; settings as they were given."""
    if numbers.name in SETTINGS:
        return "g"
    large = pd.api.types.is_integer_dtype(numbers) or numbers.abs().max() >= 1000
    return ",.0f" if large else f".{digits}f"


def settings(values: Mapping[str, Any], within: str = "") -> pd.DataFrame:
    """Parameters for people, as they were given: one row each, nested ones by dotted names."""
    parts = [
        settings(value, f"{within}{name}.")
        if isinstance(value, Mapping)
        else pd.DataFrame(
            {"setting": [within + name], "value": ["–" if value is None else str(value)]}
        )
        for name, value in values.items()
    ]
    return pd.concat(parts, ignore_index=True)


def sentences(lines: Iterable[str]) -> HTML:
    """Computed sentences for the page, escaped, one per line."""
    items = "".join(f"<li>{for_page(line)}</li>" for line in lines)
    return HTML(f'<ul class="nbutils-said">{items}</ul>' if items else _NOTHING)


def contrast_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Judged contrasts for a page: the difference in points, and what it had to exceed."""
    limits = zip(rows["value"], rows["low"], rows["high"], strict=True)
    table = rows[["results", "student"]].copy()
    table["contrast"] = rows["first"] + " minus " + rows["second"]
    table["verdict"] = rows["verdict"]
    table["points"] = [format_points(*x) for x in limits]
    table["to exceed"] = [f"{100 * t:+.1f}" for t in rows["threshold"]]
    if "p_value" in rows:
        table["corrected p"] = rows["p_value"]
    table["seeds"] = rows["seeds"]
    table["method"] = rows["method"]
    return table


def format_interval(value: float, low: float, high: float) -> str:
    """A number with its limits for people."""
    return f"{value:+.2f} [{low:+.2f}, {high:+.2f}]"


def format_points(value: float, low: float, high: float) -> str:
    """An estimate for people, in percentage points."""
    return format_interval(100 * value, 100 * low, 100 * high)


def percent(values: Iterable[float], low: Iterable[float], high: Iterable[float]) -> list[str]:
    """Shares with their limits for people."""
    return [
        f"{100 * v:.0f} % [{100 * a:.0f}, {100 * b:.0f}]"
        for v, a, b in zip(values, low, high, strict=True)
    ]


def with_limits(rows: pd.DataFrame, value: str = "gain") -> list[str]:
    """A column and its limits in percentage points for people."""
    limits = rows[[value, "low", "high"]].to_numpy(dtype=float)
    return [format_points(*row) for row in limits]


def by_metric(gains: pd.DataFrame) -> pd.DataFrame:
    """The rows of gains, and a second one for each task that defines both metrics of lm-eval.

    ``metric`` names the metric of those two rows and is empty elsewhere. They stand together,
    first the metric that published tables use.
    """
    gains = gains.reset_index(drop=True)
    both = gains["gain" + NORM].notna()
    normed = gains.assign(metric="acc_norm", **{name: gains[name + NORM] for name in MEASURED})
    rows = pd.concat([gains.assign(metric=both.map({True: "acc", False: ""})), normed[both]])
    second = rows["metric"].ne("") & rows["metric"].ne(rows["task"].map(FIRST).fillna("acc"))
    return pd.concat([rows[~second], rows[second]]).sort_index(kind="stable", ignore_index=True)


def task_names(rows: pd.DataFrame) -> pd.Series:
    """The names of tasks for people, with the metric where there are two."""
    return rows["task"] + rows["metric"].map(lambda metric: metric and f", {metric}")
