"""Recipe map: the gain over learning rate, steps and kind of update."""

import altair as alt
import pandas as pd
from altair.typing import ChartType

from nbutils.analysis import verdicts
from nbutils.analysis.verdicts import LEVEL, groups_of
from nbutils.charts import parts
from nbutils.charts.tables import with_limits


def recipe_map(rows: pd.DataFrame) -> ChartType:
    """Gain over learning rate, steps and kind of update; pale where zero cannot be ruled out."""
    if rows.empty:
        return parts.nothing("nbutils run lab")
    keys = ["results", "student", "update", "learning_rate", "steps", "effect"]
    columns = [*keys, "gain", "low", "high", "p_value", "fall", "before", "after"]
    rows = parts.in_points(parts.checked(rows[columns]))
    rows["forgotten"] = (100 * rows["fall"]).round().astype("Float64")
    choices, chosen = parts.selectors(rows, "student")
    choices.append(parts.shades())
    reach = float(rows["gain"].abs().max()) or 1.0
    tip = parts.tooltips(
        "update", "learning_rate", "steps", *parts.GAIN, "p_value", "before", "after"
    )
    base = alt.Chart().encode(
        x=alt.X("learning_rate:O", title="learning rate (multiple of the tier's own)").axis(
            labelAngle=0, format=".2~f"
        ),
        y=alt.Y("steps:O", title="steps", sort="descending").axis(titleAnchor="middle"),
        tooltip=tip,
    )
    squares = base.mark_rect(cornerRadius=4).encode(
        fill=alt.Fill("gain:Q", title="gain (points)")
        .scale(parts.diverging(reach, -reach))
        .legend(gradientLength=160, format="+.2~f", tickCount=3),
        fillOpacity=alt.condition(
            f"datum.effect == '{verdicts.NOT_DISTINGUISHED}'", alt.value(0.35), alt.value(1)
        ),
    )
    number = base.mark_text(dy=-14, fontSize=13, fontWeight=600, style="number").encode(
        text=alt.Text("gain:Q", format="+.2f")
    )
    limits = parts.limits(base, 2, ".2f")
    memory = (
        base.transform_calculate(
            text="isValid(datum.forgotten) ? 'forgets ' + format(datum.forgotten, 'd') + ' %' : ''"
        )
        .mark_text(dy=16, fontSize=10, style="number")
        .encode(text="text:N")
    )
    layers = alt.layer(squares, number, limits, memory, data=rows).properties(
        width=parts.WIDTH, height=alt.Step(58)
    )
    order = sorted(rows["update"].unique(), key=lambda u: (u != "full", len(u), u))
    return (
        layers.facet(
            row=alt.Row("update:N", title=None, sort=order).header(
                labelAngle=0, labelOrient="top", labelAnchor="start", labelFontSize=13
            )
        )
        .transform_filter(chosen)
        .add_params(*choices)
        .properties(
            description="Heat maps of the gain of self-training over learning rate and steps, "
            "one for full fine-tuning and for each LoRA rank."
        )
    )


def counts(rows: pd.DataFrame) -> pd.DataFrame:
    """How many recipes gain, lose or do neither, by student and kind of update."""
    keys = ["results", "student", "update", "effect"]
    return rows.groupby(keys, as_index=False).size().rename(columns={"size": "recipes"})


def best_recipes(rows: pd.DataFrame) -> pd.DataFrame:
    """For every student the recipe with the highest gain."""
    best = rows.loc[rows.groupby(["results", "student"], sort=False)["gain"].idxmax()]
    columns = ["results", "student", "update", "learning_rate", "steps"]
    table = best[columns].rename(columns={"learning_rate": "learning rate"})
    table["gain"] = with_limits(best)
    table["corrected p"] = best["p_value"]
    table["effect"] = best["effect"]
    return table


def recipe_answer(rows: pd.DataFrame) -> pd.DataFrame:
    """One sentence per result label: how many recipes gain or lose."""
    found = []
    for (results,), part in groups_of(rows, ["results"]):
        count = part["effect"].value_counts()
        answer = (
            f"of {len(part)} recipes over {part['student'].nunique()} students "
            f"{count.get('gain', 0)} gain and {count.get('loss', 0)} lose after correction at "
            f"{LEVEL:g}; the highest gain is {100 * part['gain'].max():+.2f} points"
        )
        found.append((results, answer))
    return pd.DataFrame(found, columns=["results", "answer"])
