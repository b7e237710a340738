"""Parts: what the charts of all pages share.

A page's chart is a pure function from tidy tables to a live Altair chart: one theme, one colour for
each relation, gains always in percentage points. It shows one result label (a tier, published or
your own run) at a time and lets the reader choose. The spec carries the colours of a light page;
those of text and axes follow the theme of the page around it.
"""

from collections.abc import Iterable
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from altair.typing import ChartType

from nbutils.charts import theme
from nbutils.escaping import everywhere

RELATIONS = {
    "self": theme.BLUE,
    "lineage": theme.GREEN,
    "cross-family": theme.ORANGE,
    "control": theme.GREY,
}
MIME = "application/vnd.vegalite.v5+json"
"""The type that JupyterLab and VS Code draw from their own copy of Vega, without a network."""
MAX_ROWS = 5_000
NUMBERS = {
    "gain": ("gain (points)", "+.2f"),
    "low": ("lower limit", ".2f"),
    "high": ("upper limit", ".2f"),
    "base_accuracy": ("accuracy before", ".3f"),
    "accuracy": ("accuracy after", ".3f"),
    "value": ("value", ".4f"),
    "seeds": ("seeds", "d"),
    "rho": ("rho", "+.2f"),
    "p_value": ("p-value", ".3f"),
    "points": ("pairings", "d"),
    "fall": ("extraction fell by (%)", ".1f"),
    "before": ("extracted before", "d"),
    "after": ("extracted after (mean over seeds)", ".1f"),
    "detectable": ("detectable gain (points)", ".2f"),
    "learning_rate": ("learning rate, multiple", ".2~f"),
    "steps": ("steps", "d"),
    "round": ("round", "d"),
    "benchmark_words": ("benchmark vocabulary held", ".3f"),
    "fidelity": ("log-likelihood under a larger relative", ".3f"),
    "multiple": ("multiple of the detectable gain", ".2f"),
    "power": ("found", ".0%"),
    "regret": ("gain lost (points)", ".2f"),
    "regret_low": ("gain lost for the best student", ".2f"),
    "regret_high": ("gain lost for the worst student", ".2f"),
    "regret_at_random": ("gain lost by a random choice (points)", ".2f"),
    "passages": ("held-out passages", "d"),
    "temperature": ("temperature", ".2f"),
    "distinct_2": ("distinct bigrams", ".3f"),
    "mean_log_prob": ("mean log-probability", ".3f"),
    "share": ("extraction after", ".3f"),
    "left": ("still extracted (%)", ".1f"),
    "left_low": ("at least (%)", ".1f"),
    "left_high": ("at most (%)", ".1f"),
    "passage_hits": ("documents that hold a passage", ".0f"),
    "step": ("step", "d"),
    "loss": ("loss", ".3f"),
    "rate": ("rate", ",.0f"),
    "ratio": ("ratio to the best peer", ".2f"),
    "read": ("tokens read for each that counts, or item", ".2f"),
    "of_ceiling": ("of the ceiling", ".0%"),
}
"""Titles and formats of the columns that tooltips show."""
KEYS = ["results", "method", "temperature", "student", "source", "relation"]
"""The columns that name a pairing in a chart's rows."""
GAIN = ("gain", "low", "high")
PAIRING = ("source", "student", "relation", *GAIN)
"""What a pairing's tooltip begins with."""
POINTS = (*GAIN, "detectable")
"""Columns that are shown in percentage points."""
SELECTORS = {
    "results": ("Results", None),
    "method": ("Method", "full"),
    "temperature": ("Temperature", 1.0),
    "proxy": ("Proxy", None),
    "student": ("Student", None),
}
"""The columns that drop-downs choose from: their labels and what is chosen at first."""
WIDTH = 600
DRAWN_BY = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
"""The version of Vega-Lite that specifications are written for."""
SIZE = alt.value(70)
"""The size of a point on a line."""
ASIDE = 0.012  # of the axis: a few pixels, on a phone too


def enable() -> None:
    """Use the book's theme, and a renderer that stores the spec alone: no script, no network."""

    @alt.theme.register("nbutils", enable=True)
    def look() -> alt.theme.ThemeConfig:
        return alt.theme.ThemeConfig(config=theme.config())

    alt.renderers.register("nbutils", _spec_only)
    alt.renderers.enable("nbutils")


def _spec_only(spec: dict[str, Any], **_: Any) -> dict[str, Any]:
    shown = everywhere(spec)
    return {MIME: shown, "text/plain": shown.get("description", "An interactive chart.")}


def choice(name: str, label: str, values: Iterable[Any], default: Any = None) -> alt.Parameter:
    """A drop-down over ``values``; the default is the first unless it is among them."""
    options = list(dict.fromkeys(values))
    first = default if default in options else options[0]
    bind = alt.binding_select(options=options, name=label)
    return alt.param(name=name, value=first, bind=bind)


def selectors(rows: pd.DataFrame, *columns: str) -> tuple[list[alt.Parameter], str]:
    """Drop-downs over result labels and further columns, and the filter they make."""
    choices = []
    for column in ("results", *columns):
        label, default = SELECTORS[column]
        # Results and students come in an order of their own.
        ordered = column in ("results", "student")
        values = rows[column] if ordered else sorted(rows[column].unique())
        choices.append(choice(f"{column}_choice", label, values, default))
    return choices, " && ".join(f"datum.{c} == {c}_choice" for c in ("results", *columns))


def relation_scale() -> alt.Scale:
    """Relations to their colours."""
    return alt.Scale(domain=list(RELATIONS), range=list(RELATIONS.values()))


def shades() -> alt.Parameter:
    """The parameter that a page sets when its theme is dark; charts with ``diverging`` need it."""
    return alt.param(name="dark", value=False)


def diverging(reach: float | alt.ExprRef, least: float | alt.ExprRef) -> alt.Scale:
    """Gains to colours, from ``least`` over zero to ``reach`` at most, by the page's theme."""
    pairs = zip(theme.DIVERGING[True], theme.DIVERGING[False], strict=True)
    colors = [alt.ExprRef(f"dark ? '{dark}' : '{light}'") for dark, light in pairs]
    domain = {"domainMin": least, "domainMid": 0, "domainMax": reach}
    return alt.Scale(range=colors, clamp=True, interpolate="lab", **domain)


def relation_color(rows: pd.DataFrame) -> alt.Color:
    """The colour of a relation, the same everywhere; the legend names those among the rows."""
    named = [relation for relation in RELATIONS if relation in set(rows["relation"])]
    color = alt.Color("relation:N", title="relation", scale=relation_scale())
    return color.legend(values=named)


def in_points(table: pd.DataFrame) -> pd.DataFrame:
    """Gains, their limits and the detectable gain in percentage points."""
    return table.assign(**{c: 100 * table[c].astype(float) for c in POINTS if c in table})


def checked(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows themselves. Raises ``ValueError`` when a chart cannot hold so many."""
    if len(rows) > MAX_ROWS:
        raise ValueError(f"a chart takes at most {MAX_ROWS} rows, not {len(rows)}: aggregate first")
    return rows


def nothing(command: str = "nbutils run tiny") -> ChartType:
    """What stands in a chart's place while there are no results, and the command for them."""
    text = f"No results yet: {command} computes them."
    data = alt.InlineData(values=[{"text": text}])
    return (
        alt.Chart(data, width=WIDTH, height=60, description=text)
        .mark_text(fontSize=14, style="number")
        .encode(text="text:N")
    )


def dashed(axis: str, at: float = 0) -> ChartType:
    """A dashed line across the ``x`` or the ``y`` axis, at zero or elsewhere."""
    # A field and not a datum, which would take the grid from the axis.
    mark = alt.Chart(alt.InlineData(values=[{"at": at}]))
    return mark.mark_rule(style="muted", strokeDash=[4, 3]).encode(**{axis: "at:Q"})


def aside(rows: pd.DataFrame, column: str, by: str) -> pd.Series:
    """A column, moved a little for each value of ``by``: intervals do not hide one another."""
    names = rows.groupby("results")[by]
    place = names.transform(lambda found: pd.factorize(found, sort=True)[0])
    middle = (names.transform("nunique") - 1) / 2
    return rows[column] + ASIDE * float(np.ptp(rows[column])) * (place - middle)


def line_panel(
    base: alt.Chart, x: alt.X, y: alt.Y, title: str, low: str = "", size: Any = SIZE
) -> alt.LayerChart:
    """Lines with points of some size, and intervals where ``low`` names their lower limits."""
    lines = base.mark_line(strokeWidth=1.8, opacity=0.7).encode(x=x, y=y)
    dots = base.mark_point(filled=True, opacity=1).encode(x=x, y=y, size=size)
    layers = [lines, dots]
    if low:
        high = low.replace("low", "high")
        spans = base.mark_rule(strokeWidth=1.4).encode(x=x, y=f"{low}:Q", y2=f"{high}:Q")
        layers.insert(0, spans)
    return alt.layer(*layers).properties(width=WIDTH, height=170, title=title)


def limits(cells: alt.Chart, below: int, form: str, shown: str = "true") -> alt.Chart:
    """The interval of a gain as text in its square, ``below`` pixels under the middle."""
    return (
        cells.transform_calculate(
            limits=f"format(datum.low, '+{form}') + ' … ' + format(datum.high, '+{form}')"
        )
        .mark_text(dy=below, fontSize=alt.ExprRef(f"{shown} ? 10 : 0"), style="number")
        .encode(text="limits:N")
    )


def outcomes(base: alt.Chart, x: alt.X, size: Any = SIZE) -> list[ChartType]:
    """What training brought over ``x``: the change of utility, and what can still be extracted."""
    gain = alt.Y("gain:Q", title="gain (points)")
    share = alt.Y("share:Q", title="extraction").axis(format="%")
    return [
        dashed("y") + line_panel(base, x, gain, "Change of utility", "low", size),
        line_panel(base, x, share, "Held-out extraction", "share_low", size),
    ]


def tooltips(*fields: str) -> list[alt.Tooltip]:
    """Tooltips for columns, with the titles and number formats of ``NUMBERS``."""
    tips = []
    for field in fields:
        title, form = NUMBERS.get(field, (field, ""))
        tip = alt.Tooltip(f"{field}:{'Q' if form else 'N'}", title=title)
        tips.append(tip.format(form) if form else tip)
    return tips


def gain_axis(title: str, **scale: Any) -> alt.X:
    """Points: linear around zero and logarithmic beyond one, as controls lie twenty points away."""
    sizes = (0.5, 1, 2, 5, 10, 20, 50)
    x = alt.X("gain:Q", title=title).scale(type="symlog", constant=1, nice=False, **scale)
    return x.axis(
        values=[*(-size for size in reversed(sizes)), 0, *sizes],
        labelBound=True,
        labelExpr="datum.value ? format(datum.value, '+~g') : '0'",
    )


def pick_pairing(rows: pd.DataFrame) -> alt.Parameter:
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
