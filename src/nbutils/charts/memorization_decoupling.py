"""Memorization decoupling: change of utility against fall of extraction, and the controls."""

import altair as alt
import numpy as np
import pandas as pd
from altair.typing import ChartType

from nbutils.analysis import verdicts
from nbutils.charts import parts, theme
from nbutils.charts.tables import format_points, percent, with_limits

NEEDED = {
    "real text": "text that a model wrote",
    "shuffled self": "the order of its words",
    "noise": "the direction of the update",
    "rate zero": "training at all",
}
"""What each control takes away from self-training."""


def decoupling(pairings: pd.DataFrame) -> ChartType:
    """Change of utility against fall of extraction; a click shows that pairing before and after."""
    if pairings.empty:
        return parts.nothing()
    rows = parts.in_points(parts.checked(pairings))
    numbers = ["gain", "low", "high", "fall", "fall_low", "fall_high", "before", "after"]
    rows = rows[[*parts.KEYS, *numbers, "passages"]]
    rows = rows.assign(**{c: 100 * rows[c] for c in ("fall", "fall_low", "fall_high")})
    choices, chosen = parts.selectors(rows, "method", "temperature")
    pick = parts.pick_pairing(rows)
    fall = "extraction fell by (%)"
    tip = parts.tooltips(*parts.PAIRING, "fall", "before", "after", "passages")
    base = alt.Chart(rows).transform_filter(chosen).encode(tooltip=tip)
    x = parts.gain_axis("change of utility (percentage points)", padding=12)
    y = alt.Y("fall:Q", title=fall).scale(domainMax=100, nice=False, zero=False)
    target = (
        alt.Chart(alt.InlineData(values=[{}]), height=320)
        .mark_rect(opacity=0.18, color=parts.RELATIONS["lineage"], aria=False)
        .encode(
            x=alt.XDatum(-100 * verdicts.TOLERANCE),
            x2=alt.value("width"),
            y=alt.YDatum(100 * verdicts.FALL),
            y2=alt.value(0),
            tooltip=alt.value("kept and forgotten"),
        )
    )
    color = parts.relation_color(rows)
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
    plane = alt.layer(target, parts.dashed("x"), across, up, marks).properties(
        width=parts.WIDTH, height=320
    )
    return (
        alt.vconcat(plane, _before_after(pairings, chosen, pick), spacing=28)
        .add_params(*choices)
        .properties(
            description="Change of utility against the fall of extraction, one point a pairing, "
            "with the chosen pairing's accuracy and extraction before and after below."
        )
    )


def _before_after(pairings: pd.DataFrame, chosen: str, pick: alt.Parameter) -> ChartType:
    """The chosen pairing's accuracy and extraction, before training and after it."""
    accuracy, extraction = "accuracy on the suite", "held-out extraction"
    base = pairings["base_accuracy"]
    unknown = pd.Series(np.nan, index=pairings.index)
    # the interval of an accuracy is that of its change
    after = (pairings["accuracy"], base + pairings["low"], base + pairings["high"])

    def shares(name: str) -> tuple[pd.Series, pd.Series, pd.Series]:
        return pairings[name], pairings[f"{name}_low"], pairings[f"{name}_high"]

    pieces = [
        pairings[parts.KEYS].assign(measure=measure, moment=moment, value=value, low=low, high=high)
        for measure, moment, (value, low, high) in (
            (accuracy, "before", (base, unknown, unknown)),
            (accuracy, "after", after),
            (extraction, "before", shares("before_share")),
            (extraction, "after", shares("share")),
        )
    ]
    rows = parts.checked(pd.concat(pieces, ignore_index=True))
    base = alt.Chart(rows).transform_filter(chosen).transform_filter(pick)
    y = alt.Y("moment:N", title=None, sort=["before", "after"])
    tip = parts.tooltips("measure", "moment", "value", "low", "high")
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
        .properties(width=parts.WIDTH, height=alt.Step(26), title=alt.TitleParams(title))
        .resolve_scale(color="independent")
    )


def decoupling_table(judged: pd.DataFrame) -> pd.DataFrame:
    """Every judged pairing: its change of utility, its fall, and both verdicts."""
    falls = percent(judged["fall"], judged["fall_low"], judged["fall_high"])
    table = judged[["results", "student", "source", "relation", "verdict"]].copy()
    table["change of utility"] = with_limits(judged)
    table["fall"] = falls
    table[["kept", "forgotten", "method"]] = judged[["kept", "forgotten", "method"]]
    table[["before", "after"]] = judged[["before", "after"]]
    return table


def controls_table(implied: pd.DataFrame) -> pd.DataFrame:
    """Every control beside the student's self pairing."""
    columns = ["results", "student", "source"]
    own = implied[["value", "self_low", "self_high"]].to_numpy(dtype=float)
    own_falls = percent(implied["fall_self"], implied["fall_low_self"], implied["fall_high_self"])
    table = implied[columns].rename(columns={"source": "control"})
    table["self minus control"] = [format_points(*row) for row in own]
    table["utility"] = implied["utility"]
    table["control's fall"] = percent(implied["fall"], implied["fall_low"], implied["fall_high"])
    table["self's fall"] = own_falls
    table["it forgets"] = implied["forgets"]
    return table


def special(implied: pd.DataFrame) -> pd.DataFrame:
    """One sentence per result label and control: does forgetting need what it takes away?"""
    rows = []
    for (results, control), part in verdicts.groups_of(implied, ["results", "source"]):
        forgets = ", ".join(f"{kind} for {n}" for kind, n in part["forgets"].value_counts().items())
        utility = ", ".join(f"{kind} for {n}" for kind, n in part["utility"].value_counts().items())
        what = NEEDED[str(control)]
        answer = f"it is not settled whether forgetting needs {what}"
        if not part["forgot"].any():
            answer = "self-training itself is not seen to forget, so there is nothing to explain"
        elif part["enough"].all():
            answer = f"forgetting does not need {what}: this control does as much at no higher cost"
        elif part["forgets"].eq("less").all():
            answer = f"this forgetting needs {what}"
        reason = f"beside self-training it forgets: {forgets} of the students; utility: {utility}"
        rows.append((results, control, f"{reason}; {answer}"))
    return pd.DataFrame(rows, columns=["results", "control", "reason"])


def verdict(judged: pd.DataFrame) -> list[str]:
    """One sentence per result label and method: over all judged pairings, then over self alone."""
    alone = judged[judged["relation"].eq("self")]
    return [
        f"{row.results}, {row.method}, {name}: {row.verdict} ({row.reason} pairings)"
        for name, rows in (("self and lineage", judged), ("self alone", alone))
        for row in verdicts.overall(rows).itertuples()
    ]
