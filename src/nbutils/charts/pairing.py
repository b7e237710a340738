"""One pairing: its gain, extraction, scores and cost."""

from collections.abc import Iterable

import altair as alt
import pandas as pd
from altair.typing import ChartType

from nbutils.analysis.gains import SUITE
from nbutils.analysis.inference import exact_interval
from nbutils.analysis.verdicts import NOT_DISTINGUISHED, reading
from nbutils.charts import parts
from nbutils.charts.tables import by_metric, percent, task_names, with_limits
from nbutils.runs.types import Manifest


def gains(rows: pd.DataFrame) -> ChartType:
    """The gain of one student from each of several sources, with its interval."""
    description = "Gain from each source, in points, with its interval."
    columns = ["source", "relation", *parts.GAIN]
    base = alt.Chart(parts.in_points(parts.checked(rows[columns])), description=description)
    y = alt.Y("source:N", title=None, sort=None)
    x = alt.X("gain:Q", title="gain (points)")
    color = parts.relation_color(rows)
    tips = parts.tooltips("source", "relation", *parts.GAIN)
    spans = base.mark_rule(strokeWidth=2).encode(y=y, x=alt.X("low:Q"), x2="high:Q", color=color)
    dots = base.mark_point(filled=True, opacity=1).encode(
        y=y, x=x, color=color, size=parts.SIZE, tooltip=tips
    )
    return alt.layer(parts.dashed("x"), spans, dots).properties(
        width=parts.WIDTH, height=alt.Step(30)
    )


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
    effect = reading(low, high)
    than = " from no change" if effect == NOT_DISTINGUISHED else ""
    return f"{name}: {with_limits(suite)[0]} points on the suite, {effect}{than}"


def scores(proxies: pd.DataFrame, diagnostics: pd.DataFrame) -> pd.DataFrame:
    """Every proxy, as its mean over tasks, and every diagnostic."""
    means = proxies.groupby("proxy", as_index=False)["value"].mean().assign(kind="proxy")
    others = diagnostics.rename(columns={"diagnostic": "proxy"}).assign(kind="diagnostic")
    table = pd.concat([means, others], ignore_index=True)
    return table[["kind", "proxy", "value"]].rename(columns={"proxy": "score"})


def by_source(rows: pd.DataFrame, score: str) -> pd.DataFrame:
    """One row per source and one column per score, each the mean over tasks where it has some.

    ``score`` is the column that names the scores: ``proxy`` or ``diagnostic``.
    """
    wide = rows.pivot_table("value", ["source", "relation"], score, sort=False)
    return wide.reset_index().rename_axis(columns=None)


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
    """CPU seconds per thread and memory of every stage, each run counted once."""
    once = {m.key: m for m in done}.values()
    rows = pd.DataFrame([(m.stage, m.seconds, m.peak_memory_mib) for m in once])
    rows.columns = pd.Index(["stage", "CPU seconds", "peak memory (MiB)"])
    rules = {"CPU seconds": "sum", "peak memory (MiB)": "max"}
    return rows.groupby("stage", as_index=False, sort=False).agg(rules)
