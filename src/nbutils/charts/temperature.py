"""charts.temperature."""

import json

import altair as alt
import pandas as pd
from altair.typing import ChartType

from nbutils.charts import parts as charts_parts
from nbutils.charts.parts import (
    CELL,
    GAIN,
    WIDTH,
    aside,
    checked,
    in_points,
    line_panel,
    nothing,
    outcomes,
    selectors,
    tooltips,
)

# ---------------------------------------------------------------- temperature


COVERAGE = {
    "distinct bigrams": "distinct_2",
    "benchmark vocabulary": "benchmark_words",
    "documents that hold a passage": "passage_hits",
}
FIDELITY = {"a larger relative": "fidelity", "the source itself": "mean_log_prob"}


def temperatures(rows: pd.DataFrame) -> ChartType:
    """Coverage against fidelity, then gain and extraction over temperature; a slider links them."""
    if rows.empty:
        return nothing()
    numbers = ["gain", "low", "high", "share", "share_low", "share_high"]
    measures = [*COVERAGE.values(), *FIDELITY.values()]
    limits = [f"{measure}_{limit}" for measure in measures for limit in ("low", "high")]
    rows = rows[[*CELL, *numbers, *measures, *limits]]
    rows = in_points(checked(rows))
    steps = sorted(rows["temperature"].unique())
    slider = alt.binding_range(min=steps[0], max=steps[-1], step=0.1, name="Temperature")
    rows["aside"] = aside(rows, "temperature", "student")
    choices, chosen = selectors(rows, "method")
    choices += [
        charts_parts.choice("coverage_choice", "Coverage by", COVERAGE),
        charts_parts.choice("judge_choice", "Fidelity judged by", FIDELITY),
        alt.param(name="near", value=1.0, bind=slider),
    ]
    tip = tooltips("student", "temperature", *measures, *GAIN, "share")
    base = (
        alt.Chart(rows)
        .transform_filter(chosen)
        .transform_calculate(
            **{
                f"{name}{limit}": f"datum[({json.dumps(known)})[{choice}] + '{limit}']"
                for name, known, choice in (
                    ("coverage", COVERAGE, "coverage_choice"),
                    ("judged", FIDELITY, "judge_choice"),
                )
                for limit in ("", "_low", "_high")
            }
        )
        .encode(color=alt.Color("student:N", title="student"), order="temperature:Q", tooltip=tip)
    )
    size = alt.condition("abs(datum.temperature - near) < 0.05", alt.value(230), alt.value(60))
    coverage = alt.X("coverage:Q", title="coverage, as chosen above").scale(zero=False)
    fidelity = alt.Y("judged:Q", title="fidelity: mean log-likelihood a token").scale(zero=False)
    over = alt.X("aside:Q", title="temperature").scale(zero=False, padding=16)
    over = over.axis(values=steps, format=".2~f")
    title = "Coverage against fidelity"
    across = base.mark_rule(strokeWidth=1.4).encode(
        x="coverage_low:Q", x2="coverage_high:Q", y=fidelity
    )
    plane = across + line_panel(base, coverage, fidelity, title, "judged_low", size)
    plane = plane.properties(width=WIDTH, height=260, title=title)
    return (
        alt.vconcat(plane, *outcomes(base, over, size), spacing=24)
        .add_params(*choices)
        .properties(
            description="Coverage against fidelity of each self corpus, and the gain and the "
            "extraction after training on it, over sampling temperatures."
        )
    )
