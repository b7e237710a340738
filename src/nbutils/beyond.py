"""The charts of what goes beyond the paper: trajectories, rounds, recipes and diagnostics."""

import altair as alt
import pandas as pd
from altair.typing import ChartType

from nbutils import charts, theme, verdicts
from nbutils.cells import TEMPERATURE

KINDS = {"proxy": theme.GREY, "diagnostic": theme.VIOLET}
"""What may predict a gain, and its colour."""


def frontier(rows: pd.DataFrame, stops: pd.DataFrame) -> ChartType:
    """Utility against extraction along fine-tuning, one line a relation; rings mark the stops.

    ``rows`` are trajectories by ``verdicts.with_memory``, ``stops`` the choices of
    ``verdicts.stopping_rule``.
    """
    if rows.empty:
        return charts.nothing("nbutils run lab")
    keys = ["results", "student", "source", "relation", "step"]
    numbers = ["gain", "low", "high", "share", "share_low", "share_high"]
    rows = charts.in_points(charts.checked(rows[[*keys, *numbers]]))
    chosen_steps = stops[["results", "student", "source", "step"]].assign(stop=True)
    rows = rows.merge(chosen_steps, how="left", on=["results", "student", "source", "step"])
    rows["stop"] = rows["stop"].eq(True).fillna(False).astype(bool)
    rows["aside"] = charts.aside(rows, "step", "relation")
    choices, chosen = charts.selectors(rows, "student")
    tip = charts.tooltips("source", "relation", "step", *charts.GAIN, "share")
    base = alt.Chart(rows).transform_filter(chosen).encode(
        color=charts.relation_color(rows), detail="source:N", tooltip=tip
    )  # fmt: skip
    share = alt.Y("share:Q", title="held-out extraction").axis(format="%")
    gain = alt.X("gain:Q", title="change of utility (percentage points)").scale(padding=12)
    path = base.mark_line(strokeWidth=1.8, opacity=0.7).encode(x=gain, y=share, order="step:Q")
    dots = base.mark_point(filled=True, size=70, opacity=1).encode(x=gain, y=share)
    spans = base.mark_rule(strokeWidth=1, opacity=0.45).encode(x="low:Q", x2="high:Q", y=share)
    heights = base.mark_rule(strokeWidth=1, opacity=0.45).encode(
        x=gain, y="share_low:Q", y2="share_high:Q"
    )
    rings = (
        base.transform_filter("datum.stop")
        .mark_point(size=260, strokeWidth=2.5, filled=False)
        .encode(x=gain, y=share)
    )
    plane = alt.layer(charts.dashed("x"), spans, heights, path, dots, rings)

    plane = plane.properties(
        width=charts.WIDTH, height=320, title="Utility against extraction, step by step"
    )
    over = alt.X("aside:Q", title="fine-tuning step")
    return (
        alt.vconcat(plane, *charts.outcomes(base, over), spacing=24)
        .add_params(*choices)
        .properties(
            description="Change of utility against held-out extraction along fine-tuning, one "
            "line a relation, with the step that the stopping rule chooses marked by a ring."
        )
    )


def rounds(rows: pd.DataFrame) -> ChartType:
    """Utility, extraction and diversity over rounds of self-training, one line a student."""
    if rows.empty:
        return charts.nothing("nbutils run lab")
    keys = ["results", "student", "round"]
    numbers = ["gain", "low", "high", "share", "share_low", "share_high", "distinct_2"]
    rows = charts.in_points(charts.checked(rows[[*keys, *numbers]]))
    rows["aside"] = charts.aside(rows, "round", "student")
    choices, chosen = charts.selectors(rows)
    base = alt.Chart(rows).transform_filter(chosen).encode(
        color=alt.Color("student:N", title="student"),
        tooltip=charts.tooltips("student", "round", *charts.GAIN, "share", "distinct_2"),
    )  # fmt: skip
    over = alt.X("aside:Q", title="round").scale(zero=False, padding=16)
    over = over.axis(values=sorted(rows["round"].unique()), format="d")
    words = alt.Y("distinct_2:Q", title="distinct bigrams").scale(zero=False)
    read = "Diversity of the corpus that the round read"
    diversity = charts.line_panel(base, over, words, read)
    return (
        alt.vconcat(*charts.outcomes(base, over), diversity, spacing=24)
        .add_params(*choices)
        .properties(
            description="Change of utility, held-out extraction and diversity of the corpus over "
            "rounds of self-training, one line a student."
        )
    )


def recipe_map(rows: pd.DataFrame) -> ChartType:
    """Gain over learning rate, steps and kind of update; pale where it is not told from zero."""
    if rows.empty:
        return charts.nothing("nbutils run lab")
    keys = ["results", "student", "update", "learning_rate", "steps", "effect"]
    columns = [*keys, "gain", "low", "high", "p_value", "fall", "before", "after"]
    rows = charts.in_points(charts.checked(rows[columns]))
    rows["forgotten"] = (100 * rows["fall"]).round().astype("Float64")
    choices, chosen = charts.selectors(rows, "student")
    choices.append(charts.shades())
    reach = float(rows["gain"].abs().max()) or 1.0
    tip = charts.tooltips(
        "update", "learning_rate", "steps", *charts.GAIN, "p_value", "before", "after"
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
        .scale(charts.diverging(reach, -reach))
        .legend(gradientLength=160, format="+.2~f", tickCount=3),
        fillOpacity=alt.condition(
            f"datum.effect == '{verdicts.NOT_TOLD}'", alt.value(0.35), alt.value(1)
        ),
    )
    number = base.mark_text(dy=-14, fontSize=13, fontWeight=600, style="number").encode(
        text=alt.Text("gain:Q", format="+.2f")
    )
    limits = charts.limits(base, 2, ".2f")
    memory = (
        base.transform_calculate(
            text="isValid(datum.forgotten) ? 'forgets ' + format(datum.forgotten, 'd') + ' %' : ''"
        )
        .mark_text(dy=16, fontSize=10, style="number")
        .encode(text="text:N")
    )
    layers = alt.layer(squares, number, limits, memory, data=rows).properties(
        width=charts.WIDTH, height=alt.Step(58)
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


def predictors(judged: pd.DataFrame) -> ChartType:
    """How well each proxy and diagnostic ranks the corpora of a student that was left out."""
    if judged.empty:
        return charts.nothing("nbutils run lab")
    rows = charts.checked(judged).copy()
    regrets = ["regret", "regret_low", "regret_high", "regret_at_random"]
    rows[regrets] *= 100
    choices, chosen = charts.selectors(rows, "method")
    tip = charts.tooltips("proxy", "kind", "rho", "low", "high", "p_value", *regrets)
    # One order for all results: the layers of a joint axis cannot sort by a field.
    order = list(rows.sort_values("rho", ascending=False).drop_duplicates("proxy")["proxy"])
    y = alt.Y("proxy:N", title=None, sort=order).axis(
        labelExpr=r"split(replace(replace(datum.label, '_', '\n'), /_/g, ' '), '\n')",
        labelLineHeight=12,
        labelOffset=-6,
    )
    plain = alt.Chart(rows).transform_filter(chosen).encode(y=y, tooltip=tip)
    base = plain.encode(
        color=alt.Color("kind:N", title=None).scale(domain=list(KINDS), range=list(KINDS.values()))
    )
    x = alt.X("rho:Q", title="rank correlation with gain").scale(domain=[-1, 1])
    dots = base.mark_point(filled=True, size=110, opacity=1).encode(x=x)
    spans = base.mark_rule(strokeWidth=2).encode(x="low:Q", x2="high:Q")
    lost = base.mark_bar(height={"band": 0.5}, cornerRadius=2).encode(
        x=alt.X("regret:Q", title="gain lost against the best corpus (points)").scale(
            domain=[0, 1.3 * rows["regret_high"].max() or 1.0], nice=False
        )
    )
    between = plain.mark_rule(strokeWidth=1.6, style="whisker").encode(
        x="regret_low:Q", x2="regret_high:Q"
    )
    number = plain.mark_text(align="left", dx=5, fontSize=11, style="number").encode(
        x="regret_high:Q", text=alt.Text("regret:Q", format=".2f")
    )
    chance = plain.mark_tick(thickness=2, style="whisker").encode(x="regret_at_random:Q")
    step = alt.Step(28)
    return (
        alt.vconcat(
            alt.layer(charts.dashed("x"), spans, dots).properties(
                width=charts.WIDTH, height=step, title="Ranking the corpora of a student left out"
            ),
            alt.layer(lost, between, chance, number).properties(
                width=charts.WIDTH, height=step, title="Choosing one corpus"
            ),
            spacing=24,
        )
        .add_params(*choices)
        .properties(
            description="Rank correlation with gain of every proxy and diagnostic for a student "
            "left out, and the gain lost by choosing a corpus by it."
        )
    )


def trajectories(gains: pd.DataFrame, falls: pd.DataFrame) -> pd.DataFrame:
    """The rows of every trajectory, for ``frontier``."""
    rows = verdicts.with_memory(gains, falls)
    return rows[rows["experiment"].eq("trajectories")].reset_index(drop=True)


def round_rows(gains: pd.DataFrame, falls: pd.DataFrame, corpora: pd.DataFrame) -> pd.DataFrame:
    """One row a student and round: gain, extraction and the corpus that the round read."""
    rows = verdicts.with_memory(gains, falls)
    later = rows[rows["experiment"].eq("rounds")]
    keys = ["results", "student"]
    again = later[keys].drop_duplicates()
    first = rows[
        rows["experiment"].eq("pairings")
        & rows["relation"].eq("self")
        & rows["temperature"].eq(TEMPERATURE)
        & rows["method"].eq("full")
    ].merge(again, on=keys)
    at_one = corpora[corpora["temperature"].eq(TEMPERATURE)]
    by = ["results", "source", "round"]
    columns = ["distinct_1", "distinct_2", "distinct_3", "benchmark_words", "passage_hits"]
    read = at_one.groupby(by, as_index=False)[[*columns, "mean_log_prob"]].mean()
    return pd.concat([first, later], ignore_index=True).merge(read, on=by)
