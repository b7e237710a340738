"""How sure: the power curve, and the gains that each tier can detect."""

import altair as alt
import pandas as pd
from altair.typing import ChartType

from nbutils.analysis.bootstrap import POWER
from nbutils.analysis.gains import SUITE
from nbutils.analysis.inference import CONFIDENCE
from nbutils.charts import parts


def power_curve(rows: pd.DataFrame) -> ChartType:
    """The power curve of ``power.power``, with the promised power at the detectable gain marked."""
    base = alt.Chart(rows).encode(
        x=alt.X("multiple:Q", title="true gain, in multiples of the detectable gain"),
        tooltip=parts.tooltips("multiple", "power", "low", "high"),
    )
    share = alt.Y("power:Q", title="how often it is found").scale(domain=[0, 1]).axis(format="%")
    color = parts.RELATIONS["self"]
    return alt.layer(
        parts.dashed("y", POWER),
        parts.dashed("x", 1),
        base.mark_line(strokeWidth=2, color=color).encode(y=share),
        base.mark_rule(strokeWidth=1.4, color=color).encode(y="low:Q", y2="high:Q"),
        base.mark_point(filled=True, size=70, opacity=1, color=color).encode(y=share),
    ).properties(
        width=parts.WIDTH,
        height=280,
        description="Power against the true gain, in multiples of the detectable gain.",
    )


def detectable(gains: pd.DataFrame) -> pd.DataFrame:
    """The median and the largest detectable gain of the suite, in points, by experiment."""
    suite = gains[gains["task"].eq(SUITE) & gains["error"].gt(0)]
    by = suite.groupby(["results", "experiment"], sort=False)["detectable"]
    return (100 * by.agg(["median", "max"])).reset_index()


def description(worlds: int) -> str:
    """How many worlds are made up, and which intervals are tried in them."""
    return f"{worlds} worlds for each number, {CONFIDENCE:.0%} intervals"
