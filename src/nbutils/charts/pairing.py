"""charts.pairing."""

from collections.abc import Iterable

import altair as alt
import pandas as pd
from altair.typing import ChartType

from nbutils.analysis.gains import SUITE
from nbutils.analysis.inference import exact_interval
from nbutils.analysis.verdicts import NOT_DISTINGUISHED, reading
from nbutils.charts.parts import (
    GAIN,
    SIZE,
    WIDTH,
    checked,
    dashed,
    in_points,
    relation_color,
    tooltips,
)
from nbutils.charts.tables import by_metric, percent, task_names, with_limits
from nbutils.runs.types import Manifest


def gains(rows: pd.DataFrame) -> ChartType:
    """The gain of one student from each of several sources, with its interval."""
    told = "Gain from each source, in points, with its interval."
    columns = ["source", "relation", *GAIN]
    base = alt.Chart(in_points(checked(rows[columns])), description=told)
    y = alt.Y("source:N", title=None, sort=None)
    x = alt.X("gain:Q", title="gain (points)")
    color = relation_color(rows)
    tips = tooltips("source", "relation", *GAIN)
    spans = base.mark_rule(strokeWidth=2).encode(y=y, x=alt.X("low:Q"), x2="high:Q", color=color)
    dots = base.mark_point(filled=True, opacity=1).encode(
        y=y, x=x, color=color, size=SIZE, tooltip=tips
    )
    return alt.layer(dashed("x"), spans, dots).properties(width=WIDTH, height=alt.Step(30))


# ---------------------------------------------------------------- one pairing


def gain_table(gains: pd.DataFrame) -> pd.DataFrame:
    """Every task's accuracy before and after, and the gain in points, by both metrics if it can."""
    rows = by_metric(gains)
    table = rows[["items", "chance", "base_accuracy", "accuracy"]].copy()
    table.insert(0, "task", task_names(rows))
    table["gain (points)"] = with_limits(rows)
    table["detectable (points)"] = [f"{100 * d:.2f}" for d in rows["detectable"]]
    return table


def gain_sentence(gains: pd.DataFrame, name: str) -> str:
    """What the suite's interval says about a pairing."""
    suite = gains[gains["task"].eq(SUITE)]
    low, high = suite[["low", "high"]].iloc[0]
    told = reading(low, high)
    than = " from no change" if told == NOT_DISTINGUISHED else ""
    return f"{name}: {with_limits(suite)[0]} points on the suite, {told}{than}"


def scores(proxies: pd.DataFrame, diagnostics: pd.DataFrame) -> pd.DataFrame:
    """Every proxy, as its mean over tasks, and every diagnostic."""
    means = proxies.groupby("proxy", as_index=False)["value"].mean().assign(kind="proxy")
    others = diagnostics.rename(columns={"diagnostic": "proxy"}).assign(kind="diagnostic")
    table = pd.concat([means, others], ignore_index=True)
    return table[["kind", "proxy", "value"]].rename(columns={"proxy": "score"})


def extraction(found: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Exact passages before and after, by split, with exact intervals."""
    rows = []
    for moment, passages in found.items():
        for split, part in passages.groupby("split"):
            hits, number = int(part["exact"].sum()), len(part)
            low, high = exact_interval(hits, number)
            rows.append((moment, split, number, hits, *percent([hits / number], [low], [high])))
    return pd.DataFrame(rows, columns=["", "split", "passages", "exact", "share"])


def cost(done: Iterable[Manifest]) -> pd.DataFrame:
    """Seconds and memory of every stage, each run counted once."""
    runs_ = {m.key: m for m in done}.values()
    rows = pd.DataFrame([(m.stage, m.wall_seconds, m.peak_memory_mib) for m in runs_])
    rows.columns = pd.Index(["stage", "seconds", "peak memory (MiB)"])
    rules = {"seconds": "sum", "peak memory (MiB)": "max"}
    return rows.groupby("stage", as_index=False, sort=False).agg(rules)
