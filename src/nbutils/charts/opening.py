"""Opening: one picture, and one verdict per claim, of the results that can see most."""

from collections import Counter

import altair as alt
import pandas as pd
from altair.typing import ChartType
from IPython.display import HTML

from nbutils.analysis import claims
from nbutils.analysis.claims import METHOD
from nbutils.analysis.gains import SUITE
from nbutils.analysis.verdicts import EVERYONE
from nbutils.charts import parts, theme
from nbutils.charts.tables import format_interval, format_points, percent
from nbutils.config.design import TEMPERATURE
from nbutils.escaping import for_page

RELATED = {"self", "lineage", "cross-family"}
PAGES = {
    **dict.fromkeys(("ordering", "stranger"), "relational_utility"),
    "proxies": "proxies_fail",
    "decoupling": "memorization_decoupling",
    "temperature": "temperature",
}
"""The page that examines each claim."""
NUMBERS = ["gain", "low", "high", "left", "left_low", "left_high"]
START = {"start": 0, "whole": 100}
"""Where every line begins: utility has not changed, and all is extracted that was before."""
PAIRINGS, EVERY = "pairings", "controls too"  # a control can lie so far off that all else is a dot


def picture(pairings: pd.DataFrame, first: str = "") -> ChartType:
    """From the untouched student, one line per pairing to where training left it.

    ``pairings`` are those of ``verdicts.decoupling_pairings``; the chart starts with the results
    ``first``.
    """
    rows = pairings[pairings["method"].eq(METHOD) & pairings["temperature"].eq(TEMPERATURE)]
    if rows.empty:
        return parts.nothing()
    left = {"left": "fall", "left_low": "fall_high", "left_high": "fall_low"}
    rows = rows.assign(**{new: 100 * (1 - rows[old]) for new, old in left.items()})
    rows = rows.sort_values("results", key=lambda names: names.ne(first), kind="stable")
    rows = rows[["results", "student", "source", "relation", *NUMBERS]].assign(**START)
    rows = parts.in_points(parts.checked(rows))
    middle = rows.groupby(["results", "relation"], sort=False)[["gain", "left"]].median()
    choices, chosen = parts.selectors(rows)
    single = parts.choice("relation_choice", "Show", [PAIRINGS, EVERY, *parts.RELATIONS])
    seen = (
        f"relation_choice == '{EVERY}' || datum.relation == relation_choice"
        f" || (relation_choice == '{PAIRINGS}' && datum.relation != 'control')"
    )
    base = (
        alt.Chart(rows)
        .transform_filter(chosen)
        .transform_filter(seen)
        .encode(
            color=parts.relation_color(rows).legend(None),
            tooltip=parts.tooltips(*parts.PAIRING, "left", "left_low", "left_high"),
        )
    )
    x = alt.X("gain:Q", title="change of utility (percentage points)").scale(padding=20)
    y = alt.Y("left:Q", title="still extracted, of what was before (%)").scale(domain=[0, 100])
    paths = base.mark_rule(strokeWidth=1.6, strokeOpacity=0.45, aria=False).encode(
        x="start:Q", y="whole:Q", x2="gain:Q", y2="left:Q"
    )
    across = base.mark_rule(strokeWidth=1, strokeOpacity=0.7, aria=False).encode(
        x="low:Q", x2="high:Q", y=y
    )
    up = base.mark_rule(strokeWidth=1, strokeOpacity=0.7, aria=False).encode(
        x=x, y="left_low:Q", y2="left_high:Q"
    )
    ends = base.mark_point(filled=True, size=90).encode(x=x, y=y)
    labels = (
        alt.Chart(middle.reset_index())
        .transform_filter(chosen)
        .transform_filter(seen)
        .encode(x=x, y=y, text="relation:N")
    )
    written: dict = {"dy": -15, "fontSize": 14, "fontWeight": 700, "aria": False}
    halo = labels.mark_text(stroke=theme.INK["page"], strokeWidth=5, strokeJoin="round", **written)
    names = labels.mark_text(**written).encode(color=parts.relation_color(rows).legend(None))
    start = (
        alt.Chart(alt.InlineData(values=[START | {"text": "before training"}]))
        .mark_text(dy=-9, fontSize=12, style="number", aria=False)
        .encode(x="start:Q", y="whole:Q", text="text:N")
    )
    return (
        alt.layer(parts.dashed("x"), paths, across, up, ends, halo, names, start)
        .properties(width=parts.WIDTH, height=190)
        .add_params(*choices, single)
        .properties(
            description="Change of utility against what can still be extracted: one line a "
            "pairing or control, from the untouched student to where training left it, coloured "
            "by relation, with intervals."
        )
    )


def cards(found: pd.DataFrame, results: str) -> HTML:
    """The answer for the page: the sentence, then one line per claim that leads to its page."""
    items = [
        f'<li><span class="nbutils-badge {row.verdict}">{row.verdict}</span>'
        f'<a href="{row.page}.html">{for_page(row.said)}</a>'
        f'<span class="nbutils-number">{for_page(row.number)} '
        f"<span>({for_page(row.reason)})</span></span></li>"
        for row in found.itertuples()
    ]
    sentence = for_page(summary(found, results))
    return HTML(
        f'<p class="nbutils-answer">{sentence}</p><ul class="nbutils-answers">{"".join(items)}</ul>'
    )


def summary(found: pd.DataFrame, results: str) -> str:
    """How many claims came out how, in one sentence."""
    counts = Counter(found["verdict"])
    kinds = [kind for kind in ("supported", "contradicted", "undecided") if counts[kind]]
    counted = ", ".join(f"{counts[kind]} {kind}" for kind in kinds)
    if not counted:
        return "No results yet: nbutils run tiny computes them."
    return f"Of {len(found)} claims, judged on {results}: {counted}."


def answers(tables: dict[str, pd.DataFrame], results: str) -> pd.DataFrame:
    """One row per claim that some results can judge: verdict, deciding number, counts.

    ``tables`` holds ``claims.TABLES``. The number is the one that speaks most against the claim,
    whichever way the verdict goes.
    """
    texts = {"proxies": _correlation, "decoupling": _fall}
    rows = []
    for claim, parts_ in claims.parts(tables, results).items():
        verdict, reason = claims.combined(parts_)
        number = texts.get(claim, _contrast)(claims.deciding(claim, parts_))
        rows.append((claim, claims.SAID[claim], PAGES[claim], verdict, number, reason))
    return pd.DataFrame(rows, columns=["claim", "said", "page", "verdict", "number", "reason"])


def _contrast(row: pd.Series) -> str:
    number = format_points(row["value"], row["low"], row["high"])
    who = "" if row["student"] == EVERYONE else f" for {row['student']}"
    return f"{row['first']} minus {row['second']}{who}: {number} points"


def _correlation(row: pd.Series) -> str:
    number = format_interval(row["rho"], row["low"], row["high"])
    return f"{row['proxy'].replace('_', ' ')}: rank correlation {number}"


def _fall(row: pd.Series) -> str:
    fall = percent([row["fall"]], [row["fall_low"]], [row["fall_high"]])[0]
    gain = format_points(row["gain"], row["low"], row["high"])
    return (
        f"{row['student']} ← {row['source']}: extraction fell by {fall}, utility changed by {gain}"
    )


def strongest(gains: pd.DataFrame) -> str:
    """The results that can tell the smallest gain from none; empty where there are no results.

    Asked are published results that hold all three relations, or your run's where none do.
    """
    suite = gains[gains["task"].eq(SUITE) & gains["experiment"].eq("pairings")]
    whole = suite.groupby("results").filter(lambda rows: set(rows["relation"]) >= RELATED)
    published = whole[whole["origin"].eq("published")]
    rows = whole if published.empty else published
    smallest = rows.groupby("results")["detectable"].median()
    return "" if smallest.empty else str(smallest.idxmin())
