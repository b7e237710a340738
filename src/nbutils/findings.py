"""The charts of the four findings: pure functions from tidy tables to live Altair charts.

Each shows one result label at a time, chosen in the chart, and gains in percentage points.
"""

import json
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from altair.typing import ChartType

from nbutils import charts, theme, verdicts
from nbutils.cells import CONTROL_NAMES

_CELL = ["results", "method", "temperature", "student", "source", "relation"]


def _sources(rows: pd.DataFrame) -> list[str]:
    """The models in the order of their names, then the controls."""
    names = sorted(rows["source"].dropna().unique())
    return sorted(names, key=lambda name: name in CONTROL_NAMES.values())


def _reach(name: str, rows: pd.DataFrame, columns: list[str]) -> alt.Parameter:
    """The largest size of ``columns`` in the chosen results: what a symmetric scale must show."""
    sizes = rows.set_index("results")[columns].abs().max(axis=1).groupby(level=0).max()
    reaches = {label: round(float(size), 3) or 1.0 for label, size in sizes.items()}
    return alt.param(name=name, expr=f"({json.dumps(reaches)})[results_choice]")


def _gain_axis(title: str, **scale: Any) -> alt.X:
    """Points: linear around zero and logarithmic beyond one, as controls lie twenty points away."""
    sizes = (0.5, 1, 2, 5, 10, 20, 50)
    x = alt.X("gain:Q", title=title).scale(type="symlog", constant=1, nice=False, **scale)
    return x.axis(
        values=[*(-size for size in reversed(sizes)), 0, *sizes],
        labelBound=True,
        labelExpr="datum.value ? format(datum.value, '+~g') : '0'",
    )


def _pick(rows: pd.DataFrame) -> alt.Parameter:
    """A selection of one pairing by a click; it starts at the first self pairing."""
    first = rows.sort_values("relation", key=lambda r: r.ne("self"), kind="stable").iloc[0]
    return alt.selection_point(
        name="pick",
        fields=["student", "source"],
        value=[{"student": first["student"], "source": first["source"]}],
        empty=False,
        toggle=False,
        clear=False,
    )


# ---------------------------------------------------------------- relational utility


def relational_matrix(gains: pd.DataFrame) -> ChartType:
    """Source by student heat map of the suite's gain; a click shows that pairing's tasks."""
    rows = charts.in_points(gains[gains["experiment"].isin(["pairings", "controls"])])
    if rows.empty:
        return charts.nothing()
    rows = rows[[*_CELL, "task", "gain", "low", "high", "detectable", "base_accuracy", "accuracy",
                 "seeds"]].copy()  # fmt: skip
    rows["label"] = rows["task"].replace("suite", "whole_suite").str.replace("_", " ")
    main = charts.checked(rows[rows["task"].eq("suite")])
    choices, chosen = charts.selectors(main, "method", "temperature")
    # a control that loses twenty points would leave all pairings the colour of nothing
    pairings = main[main["relation"].ne("control")]
    choices.append(_reach("gain_reach", pairings, ["gain"]))
    choices.append(_reach("task_reach", rows, ["low", "high"]))
    choices.append(charts.shades())
    pick = _pick(main)
    cells = (
        alt.Chart(main)
        .transform_filter(chosen)
        .encode(
            x=alt.X("student:N", title="student")
            .scale(paddingInner=0.06)
            .axis(
                # two short lines: six students stand side by side on a phone
                orient="top",
                labelAngle=0,
                labelExpr=r"split(replace(datum.label, /-([^-]*)$/, '\n$1'), '\n')",
                labelLineHeight=12,
                labelPadding=18,
            ),
            y=alt.Y("source:N", title=None, sort=_sources(main)).scale(paddingInner=0.1),
            tooltip=charts.tooltips(*charts.PAIRING, "detectable", "accuracy", "seeds"),
        )
    )
    covers_zero = "datum.low <= 0 && datum.high >= 0"
    squares = (
        cells.mark_rect(cornerRadius=4, strokeWidth=2.5, cursor="pointer")
        .encode(
            fill=alt.Fill("gain:Q", title="gain (points)")
            .scale(charts.diverging(alt.ExprRef("gain_reach"), alt.ExprRef("-gain_reach")))
            .legend(gradientLength=160, format="+.2~f", tickCount=3),
            fillOpacity=alt.condition(covers_zero, alt.value(0.35), alt.value(1)),
            stroke=alt.Stroke("relation:N")
            .scale(charts.relation_scale())
            .legend(title="relation", symbolFillColor="transparent"),
            strokeWidth=alt.condition(pick, alt.value(5), alt.value(2)),
        )
        .add_params(pick)
    )
    wide = "bandwidth('matrix_x') >= 64"  # on a phone six students leave room for one number
    number = cells.mark_text(
        dy=-6, fontSize=alt.ExprRef(f"{wide} ? 14 : 11"), fontWeight=600, style="number"
    ).encode(text=alt.Text("gain:Q", format="+.1f"))
    limits = charts.limits(cells, 11, ".1f", shown=wide)
    matrix = alt.layer(squares, number, limits).properties(
        name="matrix", width=charts.WIDTH, height=alt.Step(46)
    )
    return (
        alt.vconcat(matrix, _task_gains(charts.checked(rows), chosen, pick), spacing=28)
        .resolve_scale(color="independent", stroke="independent")
        .add_params(*choices)
        .properties(
            description="Heat map of the suite's gain for every source and student, with the "
            "chosen pairing's gain on each task below."
        )
    )


def _task_gains(rows: pd.DataFrame, chosen: str, pick: alt.Parameter) -> ChartType:
    """The chosen pairing's gain on every task, the suite first."""
    order = ["whole suite", *sorted(set(rows["label"]) - {"whole suite"})]
    base = alt.Chart(rows).transform_filter(chosen).transform_filter(pick)
    # Two short lines instead of one long one leave the marks room on a phone.
    y = alt.Y("label:N", title=None, sort=order).axis(
        labelExpr="split(datum.label, ' ')", labelLineHeight=12, labelOffset=-6
    )
    tip = charts.tooltips("task", "relation", *charts.GAIN, "base_accuracy", "accuracy")
    reach = {"domainMin": alt.ExprRef("-task_reach"), "domainMax": alt.ExprRef("task_reach")}
    x = _gain_axis("gain (percentage points)", **reach)
    bars = base.mark_bar(height={"band": 0.62}, cornerRadius=2, opacity=0.75).encode(
        x=x, y=y, color=charts.relation_color(rows).legend(None), tooltip=tip
    )
    whiskers = base.mark_rule(strokeWidth=1.6, style="whisker").encode(
        x="low:Q", x2="high:Q", y=y, tooltip=tip
    )
    title = alt.TitleParams(
        alt.ExprRef(
            "isValid(pick.source) ? pick.source[0] + ' → ' + pick.student[0] + ', "
            "task by task' : 'Click a cell above'"
        )
    )
    return alt.layer(charts.dashed("x"), bars, whiskers).properties(
        width=charts.WIDTH, height=alt.Step(31), title=title
    )


# ---------------------------------------------------------------- proxies


def proxy_scatter(points: pd.DataFrame, correlations: pd.DataFrame) -> ChartType:
    """Proxy value against gain, one proxy at a time, with each student's rank correlation."""
    if points.empty:
        return charts.nothing()
    rows = charts.in_points(charts.checked(points))
    choices, chosen = charts.selectors(rows, "method", "proxy")
    who = alt.selection_point(name="who", fields=["student"], bind="legend")
    faded = alt.condition(who, alt.value(1), alt.value(0.15))
    base = (
        alt.Chart(rows)
        .transform_filter(chosen)
        .encode(
            x=alt.X("value:Q", title="value of the proxy").scale(zero=False, padding=14),
            opacity=faded,
            tooltip=charts.tooltips("value", *charts.PAIRING),
        )
    )
    marks = (
        base.mark_point(size=110, filled=True)
        .encode(
            y=alt.Y("gain:Q", title="gain (percentage points)").scale(zero=False),
            color=charts.relation_color(rows),
            shape=alt.Shape("student:N", title="student").legend(columns=3),
        )
        .add_params(who)
    )
    whiskers = base.mark_rule(strokeWidth=1.2).encode(
        y="low:Q", y2="high:Q", color=charts.relation_color(rows)
    )
    scatter = alt.layer(charts.dashed("y"), whiskers, marks).properties(
        width=charts.WIDTH, height=320
    )
    rho = (
        alt.Chart(correlations)
        .transform_filter(chosen)
        .encode(
            y=alt.Y("student:N", title=None),
            opacity=faded,
            tooltip=charts.tooltips("student", "rho", "low", "high", "p_value", "points"),
        )
    )
    dots = rho.mark_point(filled=True, size=110, style="dot").encode(
        x=alt.X("rho:Q", title="Spearman's rank correlation with gain").scale(domain=[-1, 1])
    )
    spans = rho.mark_rule(strokeWidth=2, style="whisker").encode(x="low:Q", x2="high:Q")
    ladder = alt.layer(charts.dashed("x"), spans, dots).properties(
        width=charts.WIDTH,
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


# ---------------------------------------------------------------- memorization


def decoupling(cells: pd.DataFrame) -> ChartType:
    """Change of utility against fall of extraction; a click shows that pairing before and after."""
    if cells.empty:
        return charts.nothing()
    rows = charts.in_points(charts.checked(cells))
    numbers = ["gain", "low", "high", "fall", "fall_low", "fall_high", "before", "after"]
    rows = rows[[*_CELL, *numbers, "passages"]]
    rows = rows.assign(**{c: 100 * rows[c] for c in ("fall", "fall_low", "fall_high")})
    choices, chosen = charts.selectors(rows, "method", "temperature")
    pick = _pick(rows)
    fall = "extraction fell by (%)"
    tip = charts.tooltips(*charts.PAIRING, "fall", "before", "after", "passages")
    base = alt.Chart(rows).transform_filter(chosen).encode(tooltip=tip)
    x = _gain_axis("change of utility (percentage points)", padding=12)
    y = alt.Y("fall:Q", title=fall).scale(domainMax=100, nice=False, zero=False)
    target = (
        alt.Chart(alt.InlineData(values=[{}]), height=320)
        .mark_rect(opacity=0.18, color=charts.RELATIONS["lineage"], aria=False)
        .encode(
            x=alt.XDatum(-100 * verdicts.TOLERANCE),
            x2=alt.value("width"),
            y=alt.YDatum(100 * verdicts.FALL),
            y2=alt.value(0),
            tooltip=alt.value("kept and forgotten"),
        )
    )
    color = charts.relation_color(rows)
    across = base.mark_rule(strokeWidth=1.2).encode(x="low:Q", x2="high:Q", y=y, color=color)
    up = base.mark_rule(strokeWidth=1.2).encode(x=x, y="fall_low:Q", y2="fall_high:Q", color=color)
    marks = (
        base.mark_point(filled=True, cursor="pointer")
        .encode(
            x=x,
            y=y,
            color=color,
            shape=alt.Shape("student:N", title="student").legend(columns=3),
            size=alt.condition(pick, alt.value(260), alt.value(100)),
        )
        .add_params(pick)
    )
    plane = alt.layer(target, charts.dashed("x"), across, up, marks).properties(
        width=charts.WIDTH, height=320
    )
    return (
        alt.vconcat(plane, _before_after(cells, chosen, pick), spacing=28)
        .add_params(*choices)
        .properties(
            description="Change of utility against the fall of extraction, one point a pairing, "
            "with the chosen pairing's accuracy and extraction before and after below."
        )
    )


def _before_after(cells: pd.DataFrame, chosen: str, pick: alt.Parameter) -> ChartType:
    accuracy, extraction = "accuracy on the suite", "held-out extraction"
    base = cells["base_accuracy"]
    unknown = pd.Series(np.nan, index=cells.index)
    after = (cells["accuracy"], base + cells["low"], base + cells["high"])  # that of the change

    def shares(name: str) -> tuple[pd.Series, pd.Series, pd.Series]:
        return cells[name], cells[f"{name}_low"], cells[f"{name}_high"]

    parts = [
        cells[_CELL].assign(measure=measure, moment=moment, value=value, low=low, high=high)
        for measure, moment, (value, low, high) in (
            (accuracy, "before", (base, unknown, unknown)),
            (accuracy, "after", after),
            (extraction, "before", shares("before_share")),
            (extraction, "after", shares("share")),
        )
    ]
    rows = charts.checked(pd.concat(parts, ignore_index=True))
    base = alt.Chart(rows).transform_filter(chosen).transform_filter(pick)
    y = alt.Y("moment:N", title=None, sort=["before", "after"])
    tip = charts.tooltips("measure", "moment", "value", "low", "high")
    x = alt.X("value:Q", title="share").scale(domain=[0, 1.25])  # room for numbers beside bars
    x = x.axis(format="%", values=[0, 0.25, 0.5, 0.75, 1])
    offset = alt.YOffset("measure:N")
    bars = base.mark_bar(cornerRadius=2, opacity=0.85).encode(
        x=x,
        y=y,
        yOffset=offset,
        color=alt.Color("measure:N", title=None).scale(range=[theme.GREY, theme.VIOLET]),
        tooltip=tip,
    )
    middle = alt.YOffset("measure:N", bandPosition=0.5)
    spans = base.mark_rule(strokeWidth=1.6, style="whisker").encode(
        x="low:Q", x2="high:Q", y=y, yOffset=middle, tooltip=tip
    )
    numbers = (
        base.transform_calculate(end="isValid(datum.high) ? datum.high : datum.value")
        .mark_text(align="left", dx=5, fontSize=11, style="number")
        .encode(x="end:Q", y=y, yOffset=middle, text=alt.Text("value:Q", format=".1%"))
    )
    title = alt.ExprRef(
        "isValid(pick.source) ? pick.source[0] + ' → ' + pick.student[0] + ', before and after'"
        " : 'Click a point above'"
    )
    return (
        alt.layer(bars, spans, numbers)
        .properties(width=charts.WIDTH, height=alt.Step(26), title=alt.TitleParams(title))
        .resolve_scale(color="independent")
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
        return charts.nothing()
    numbers = ["gain", "low", "high", "share", "share_low", "share_high"]
    measures = [*COVERAGE.values(), *FIDELITY.values()]
    limits = [f"{measure}_{limit}" for measure in measures for limit in ("low", "high")]
    rows = rows[[*_CELL, *numbers, *measures, *limits]]
    rows = charts.in_points(charts.checked(rows))
    steps = sorted(rows["temperature"].unique())
    slider = alt.binding_range(min=steps[0], max=steps[-1], step=0.1, name="Temperature")
    rows["aside"] = charts.aside(rows, "temperature", "student")
    choices, chosen = charts.selectors(rows, "method")
    choices += [
        charts.choice("coverage_choice", "Coverage by", COVERAGE),
        charts.choice("judge_choice", "Fidelity judged by", FIDELITY),
        alt.param(name="near", value=1.0, bind=slider),
    ]
    tip = charts.tooltips("student", "temperature", *measures, *charts.GAIN, "share")
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
    plane = across + charts.line_panel(base, coverage, fidelity, title, "judged_low", size)
    plane = plane.properties(width=charts.WIDTH, height=260, title=title)
    return (
        alt.vconcat(plane, *charts.outcomes(base, over, size), spacing=24)
        .add_params(*choices)
        .properties(
            description="Coverage against fidelity of each self corpus, and the gain and the "
            "extraction after training on it, over sampling temperatures."
        )
    )
