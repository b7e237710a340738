"""Losses: the training loss of one run, or of many side by side."""

import math

import altair as alt
import pandas as pd
from altair.typing import ChartType

from nbutils.charts import parts


def loss_curve(curve: pd.DataFrame) -> ChartType:
    """The training loss of one run over its steps, thinned to what a chart can hold."""
    rows = curve.iloc[thinned(len(curve), parts.MAX_ROWS)]
    return _loss(rows).encode(
        color=alt.value(parts.RELATIONS["self"]), tooltip=parts.tooltips("step", "loss")
    )


def loss_curves(curves: pd.DataFrame) -> ChartType:
    """Training loss over steps, one line per run, one student at a time."""
    if curves.empty:
        return parts.nothing()
    runs = [part for _, part in curves.groupby(["results", "run"], sort=False)]
    pieces = [part.iloc[thinned(len(part), max(1, parts.MAX_ROWS // len(runs)))] for part in runs]
    columns = ["results", "method", "student", "source", "relation", "run", "step", "loss"]
    rows = pd.concat(pieces)[columns].assign(run=lambda found: found["run"].str[:8])
    choices, chosen = parts.selectors(rows, "method", "student")
    return (
        _loss(rows)
        .transform_filter(chosen)
        .encode(
            color=parts.relation_color(rows),
            detail="run:N",
            tooltip=parts.tooltips("source", "student", "relation", "step", "loss"),
        )
        .add_params(*choices)
    )


def _loss(rows: pd.DataFrame) -> alt.Chart:
    """Lines of the loss over steps."""
    return (
        alt.Chart(rows, width=parts.WIDTH, height=260, description="Training loss over steps.")
        .mark_line(strokeWidth=1.8)
        .encode(
            x=alt.X("step:Q", title="step"),
            y=alt.Y("loss:Q", title="loss (nats per token)").scale(zero=False),
        )
    )


def thinned(count: int, most: int) -> list[int]:
    """Places of at most ``most`` out of ``count`` rows, evenly apart, the last among them."""
    return list(range(count))[:: -max(1, math.ceil(count / most))][::-1]
