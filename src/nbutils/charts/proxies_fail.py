"""Proxies fail: a proxy's value against the gain, and how well it ranks."""

import altair as alt
import pandas as pd
from altair.typing import ChartType

from nbutils.analysis import verdicts
from nbutils.charts import parts


def proxy_scatter(points: pd.DataFrame, correlations: pd.DataFrame) -> ChartType:
    """Proxy value against gain, one proxy at a time, with each student's rank correlation."""
    if points.empty:
        return parts.nothing()
    rows = parts.in_points(parts.checked(points))
    choices, chosen = parts.selectors(rows, "method", "proxy")
    who = alt.selection_point(name="who", fields=["student"], bind="legend")
    faded = alt.condition(who, alt.value(1), alt.value(0.15))
    base = (
        alt.Chart(rows)
        .transform_filter(chosen)
        .encode(
            x=alt.X("value:Q", title="value of the proxy").scale(zero=False, padding=14),
            opacity=faded,
            tooltip=parts.tooltips("value", *parts.PAIRING),
        )
    )
    marks = (
        base.mark_point(size=110, filled=True)
        .encode(
            y=alt.Y("gain:Q", title="gain (percentage points)").scale(zero=False),
            color=parts.relation_color(rows),
            shape=alt.Shape("student:N", title="student").legend(columns=3),
        )
        .add_params(who)
    )
    whiskers = base.mark_rule(strokeWidth=1.2).encode(
        y="low:Q", y2="high:Q", color=parts.relation_color(rows)
    )
    scatter = alt.layer(parts.dashed("y"), whiskers, marks).properties(
        width=parts.WIDTH, height=320
    )
    rho = (
        alt.Chart(correlations)
        .transform_filter(chosen)
        .encode(
            y=alt.Y("student:N", title=None),
            opacity=faded,
            tooltip=parts.tooltips("student", "rho", "low", "high", "p_value", "points"),
        )
    )
    dots = rho.mark_point(filled=True, size=110, style="dot").encode(
        x=alt.X("rho:Q", title="Spearman's rank correlation with gain").scale(domain=[-1, 1])
    )
    spans = rho.mark_rule(strokeWidth=2, style="whisker").encode(x="low:Q", x2="high:Q")
    ladder = alt.layer(parts.dashed("x"), spans, dots).properties(
        width=parts.WIDTH,
        height=alt.Step(30),
        title="Rank correlation, student by student",
    )
    return (
        alt.vconcat(scatter, ladder, spacing=28)
        .add_params(*choices)
        .properties(
            description="Scatter plot of a proxy's value against the gain, one point a pairing, "
            "and the rank correlation of the two for every student."
        )
    )


def verdict(judged: pd.DataFrame) -> list[str]:
    """One sentence per result label and method, from the judged correlations."""
    return [
        f"{row.results}, {row.method}: the claim is {row.verdict} ({row.reason} proxies)"
        for row in verdicts.overall(judged).itertuples()
    ]
