"""Relational utility: the matrix of gains, where students start, and gains by domain."""

import json

import altair as alt
import pandas as pd
from altair.typing import ChartType

from nbutils.analysis import verdicts
from nbutils.analysis.gains import SUITE
from nbutils.charts import losses, parts
from nbutils.charts.tables import by_metric, task_names
from nbutils.config.design import CONTROL_NAMES, TEMPERATURE


def relational_matrix(gains: pd.DataFrame) -> ChartType:
    """Source by student heat map of the suite's gain; a click shows that pairing's tasks."""
    rows = parts.in_points(gains[gains["experiment"].isin(["pairings", "controls"])])
    if rows.empty:
        return parts.nothing()
    rows = rows[[*parts.KEYS, "task", "gain", "low", "high", "detectable", "base_accuracy",
                 "accuracy", "seeds"]].copy()  # fmt: skip
    rows["label"] = rows["task"].replace("suite", "whole_suite").str.replace("_", " ")
    main = parts.checked(rows[rows["task"].eq("suite")])
    choices, chosen = parts.selectors(main, "method", "temperature")
    # a control that loses twenty points would leave all pairings the colour of nothing
    pairings = main[main["relation"].ne("control")]
    choices.append(_reach("gain_reach", pairings, ["gain"]))
    choices.append(_reach("task_reach", rows, ["low", "high"]))
    choices.append(parts.shades())
    pick = parts.pick_pairing(main)
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
            tooltip=parts.tooltips(*parts.PAIRING, "detectable", "accuracy", "seeds"),
        )
    )
    covers_zero = "datum.low <= 0 && datum.high >= 0"
    squares = (
        cells.mark_rect(cornerRadius=4, strokeWidth=2.5, cursor="pointer")
        .encode(
            fill=alt.Fill("gain:Q", title="gain (points)")
            .scale(parts.diverging(alt.ExprRef("gain_reach"), alt.ExprRef("-gain_reach")))
            .legend(gradientLength=160, format="+.2~f", tickCount=3),
            fillOpacity=alt.condition(covers_zero, alt.value(0.35), alt.value(1)),
            stroke=alt.Stroke("relation:N")
            .scale(parts.relation_scale())
            .legend(title="relation", symbolFillColor="transparent"),
            strokeWidth=alt.condition(pick, alt.value(5), alt.value(2)),
        )
        .add_params(pick)
    )
    wide = "bandwidth('matrix_x') >= 64"  # on a phone six students leave room for one number
    number = cells.mark_text(
        dy=-6, fontSize=alt.ExprRef(f"{wide} ? 14 : 11"), fontWeight=600, style="number"
    ).encode(text=alt.Text("gain:Q", format="+.1f"))
    limits = parts.limits(cells, 11, ".1f", shown=wide)
    matrix = alt.layer(squares, number, limits).properties(
        name="matrix", width=parts.WIDTH, height=alt.Step(46)
    )
    return (
        alt.vconcat(matrix, _task_gains(parts.checked(rows), chosen, pick), spacing=28)
        .resolve_scale(color="independent", stroke="independent")
        .add_params(*choices)
        .properties(
            description="Heat map of the suite's gain for every source and student, with the "
            "chosen pairing's gain on each task below."
        )
    )


def _reach(name: str, rows: pd.DataFrame, columns: list[str]) -> alt.Parameter:
    """The largest size of ``columns`` in the chosen results: what a symmetric scale must show."""
    sizes = rows.set_index("results")[columns].abs().max(axis=1).groupby(level=0).max()
    reaches = {label: round(float(size), 3) or 1.0 for label, size in sizes.items()}
    return alt.param(name=name, expr=f"({json.dumps(reaches)})[results_choice]")


def _sources(rows: pd.DataFrame) -> list[str]:
    """The models in the order of their names, then the controls."""
    names = sorted(rows["source"].dropna().unique())
    return sorted(names, key=lambda name: name in CONTROL_NAMES.values())


def _task_gains(rows: pd.DataFrame, chosen: str, pick: alt.Parameter) -> ChartType:
    """The chosen pairing's gain on every task, the suite first."""
    order = ["whole suite", *sorted(set(rows["label"]) - {"whole suite"})]
    base = alt.Chart(rows).transform_filter(chosen).transform_filter(pick)
    # Two short lines instead of one long one leave the marks room on a phone.
    y = alt.Y("label:N", title=None, sort=order).axis(
        labelExpr="split(datum.label, ' ')", labelLineHeight=12, labelOffset=-6
    )
    tip = parts.tooltips("task", "relation", *parts.GAIN, "base_accuracy", "accuracy")
    reach = {"domainMin": alt.ExprRef("-task_reach"), "domainMax": alt.ExprRef("task_reach")}
    x = parts.gain_axis("gain (percentage points)", **reach)
    bars = base.mark_bar(height={"band": 0.62}, cornerRadius=2, opacity=0.75).encode(
        x=x, y=y, color=parts.relation_color(rows).legend(None), tooltip=tip
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
    return alt.layer(parts.dashed("x"), bars, whiskers).properties(
        width=parts.WIDTH, height=alt.Step(31), title=title
    )


def loss_curves(curves: pd.DataFrame) -> ChartType:
    """The training loss on every corpus that was sampled at temperature 1."""
    return losses.loss_curves(curves[curves["temperature"].eq(TEMPERATURE)])


def starts(gains: pd.DataFrame) -> pd.DataFrame:
    """Untouched students: accuracy on the suite, and on tasks by both metrics that define both."""
    own = gains[gains["experiment"].eq("pairings") & gains["relation"].eq("self")]
    rows = by_metric(own)
    rows = rows[rows["task"].eq(SUITE) | rows["metric"].ne("")]
    columns = ["results", "student", "task", "items", "chance", "base_accuracy"]
    return rows.assign(task=task_names(rows))[columns].drop_duplicates()


def detectable(gains: pd.DataFrame) -> pd.DataFrame:
    """By relation: pairings at temperature 1, their seeds, and the largest detectable gain."""
    at_one = gains["experiment"].eq("pairings") & gains["temperature"].eq(TEMPERATURE)
    rows = gains[gains["task"].eq(SUITE) & at_one]
    groups = rows.groupby(["results", "method", "relation"], as_index=False, sort=False)
    table = groups.agg(
        pairings=("gain", "size"), seeds=("seeds", "max"), gain=("detectable", "max")
    )
    return table.assign(gain=100 * table["gain"]).rename(columns={"gain": "detectable"})


def by_domain(gains: pd.DataFrame, models: pd.DataFrame) -> pd.DataFrame:
    """Mean gain in points by relation or control: the suite, the own domain, the other domains."""
    kinds = gains["experiment"].isin(["pairings", "controls"])
    rows = gains[kinds & gains["temperature"].eq(TEMPERATURE)]
    # the same students behind every row: those that were given the text of others
    foreign = rows.loc[rows["relation"].eq("cross-family"), ["results", "student"]]
    rows = rows.merge(foreign.drop_duplicates(), on=["results", "student"])
    rows["relation"] = rows["relation"].where(rows["relation"].ne("control"), rows["source"])
    domain = models[["results", "model", "domain"]].rename(columns={"model": "student"})
    rows = rows.merge(domain, on=["results", "student"])
    own = rows["task"].str.split("_").str[0].eq(rows["domain"])
    rows = rows.assign(tasks=own.map({True: "own domain", False: "other domains"}))
    rows.loc[rows["task"].eq(SUITE), "tasks"] = SUITE
    keys = ["results", "method", "relation"]
    table = 100 * rows.pivot_table(index=keys, columns="tasks", values="gain", sort=False)
    return table.reset_index()


def seeds(gains: pd.DataFrame) -> list[str]:
    """One sentence per result label: over how many seeds its intervals speak."""
    pairings = gains[gains["experiment"].eq("pairings")]
    found = []
    for (results,), part in verdicts.groups_of(pairings, ["results"]):
        least, most = int(part["seeds"].min()), int(part["seeds"].max())
        number = f"{least} to {most}" if most > least else f"{most}"
        sentence = f"{number} seeds per pairing, so intervals speak of other items and other seeds"
        if most == 1:
            sentence = "1 seed a pairing, so intervals speak of other items alone"
            sentence += ": seeds may differ by more"
        elif least == 1:
            sentence += ", where there is one seed of other items alone"
        found.append(f"{results}: {sentence}")
    return found


def at_rate_zero(gains: pd.DataFrame) -> list[str]:
    """One sentence per student: its gain on the suite at a learning rate of zero."""
    rows = gains[gains["task"].eq(SUITE) & gains["source"].eq(CONTROL_NAMES["frozen"])]
    return [
        f"{results}, {student}: gain at learning rate zero is {100 * gain:g} points"
        for results, student, gain in zip(
            rows["results"], rows["student"], rows["gain"].astype(float), strict=True
        )
    ]


def verdict(ordering: pd.DataFrame, stranger: pd.DataFrame) -> list[str]:
    """One sentence per claim, result label and method, from the judged contrasts."""
    return [
        f"{row.results}, {row.method}: {name} {row.verdict} ({row.reason} contrasts)"
        for name, judged in (("ordering", ordering), ("stronger stranger", stranger))
        for row in verdicts.overall(judged).itertuples()
    ]
