"""charts.losses."""

import math

import altair as alt
import pandas as pd
from altair.typing import ChartType

from nbutils.charts.parts import (
    MAX_ROWS,
    RELATIONS,
    WIDTH,
    nothing,
    relation_color,
    selectors,
    tooltips,
)

# ---------------------------------------------------------------- losses and tables


def thinned(count: int, most: int) -> list[int]:
    """Places of at most ``most`` out of ``count`` rows, evenly apart, the last among them."""
    return list(range(count))[:: -max(1, math.ceil(count / most))][::-1]


def loss_curve(curve: pd.DataFrame) -> ChartType:
    """The training loss of one run over its steps, thinned to what a chart can hold."""
    rows = curve.iloc[thinned(len(curve), MAX_ROWS)]
    return _loss(rows).encode(color=alt.value(RELATIONS["self"]), tooltip=tooltips("step", "loss"))


def loss_curves(curves: pd.DataFrame) -> ChartType:
    """Training loss over steps, one line a run, one student at a time."""
    if curves.empty:
        return nothing()
    runs = [part for _, part in curves.groupby(["results", "run"], sort=False)]
    parts = [part.iloc[thinned(len(part), max(1, MAX_ROWS // len(runs)))] for part in runs]
    columns = ["results", "method", "student", "source", "relation", "run", "step", "loss"]
    rows = pd.concat(parts)[columns].assign(run=lambda found: found["run"].str[:8])
    choices, chosen = selectors(rows, "method", "student")
    return (
        _loss(rows)
        .transform_filter(chosen)
        .encode(
            color=relation_color(rows),
            detail="run:N",
            tooltip=tooltips("source", "student", "relation", "step", "loss"),
        )
        .add_params(*choices)
    )


def _loss(rows: pd.DataFrame) -> alt.Chart:
    return (
        alt.Chart(rows, width=WIDTH, height=260, description="Training loss over steps.")
        .mark_line(strokeWidth=1.8)
        .encode(
            x=alt.X("step:Q", title="step"),
            y=alt.Y("loss:Q", title="loss (nats per token)").scale(zero=False),
        )
    )
