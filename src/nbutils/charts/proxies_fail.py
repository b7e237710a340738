"""charts.proxies_fail."""

import altair as alt
import pandas as pd
from altair.typing import ChartType

from nbutils.charts.parts import (
    PAIRING,
    WIDTH,
    checked,
    dashed,
    in_points,
    nothing,
    relation_color,
    selectors,
    tooltips,
)

# ---------------------------------------------------------------- proxies


def proxy_scatter(points: pd.DataFrame, correlations: pd.DataFrame) -> ChartType:
    """Proxy value against gain, one proxy at a time, with each student's rank correlation."""
    if points.empty:
        return nothing()
    rows = in_points(checked(points))
    choices, chosen = selectors(rows, "method", "proxy")
    who = alt.selection_point(name="who", fields=["student"], bind="legend")
    faded = alt.condition(who, alt.value(1), alt.value(0.15))
    base = (
        alt.Chart(rows)
        .transform_filter(chosen)
        .encode(
            x=alt.X("value:Q", title="value of the proxy").scale(zero=False, padding=14),
            opacity=faded,
            tooltip=tooltips("value", *PAIRING),
        )
    )
    marks = (
        base.mark_point(size=110, filled=True)
        .encode(
            y=alt.Y("gain:Q", title="gain (percentage points)").scale(zero=False),
            color=relation_color(rows),
            shape=alt.Shape("student:N", title="student").legend(columns=3),
        )
        .add_params(who)
    )
    whiskers = base.mark_rule(strokeWidth=1.2).encode(
        y="low:Q", y2="high:Q", color=relation_color(rows)
    )
    scatter = alt.layer(dashed("y"), whiskers, marks).properties(width=WIDTH, height=320)
    rho = (
        alt.Chart(correlations)
        .transform_filter(chosen)
        .encode(
            y=alt.Y("student:N", title=None),
            opacity=faded,
            tooltip=tooltips("student", "rho", "low", "high", "p_value", "points"),
        )
    )
    dots = rho.mark_point(filled=True, size=110, style="dot").encode(
        x=alt.X("rho:Q", title="Spearman's rank correlation with gain").scale(domain=[-1, 1])
    )
    spans = rho.mark_rule(strokeWidth=2, style="whisker").encode(x="low:Q", x2="high:Q")
    ladder = alt.layer(dashed("x"), spans, dots).properties(
        width=WIDTH,
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
