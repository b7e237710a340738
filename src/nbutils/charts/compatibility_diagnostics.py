"""Compatibility diagnostics: how well each predictor ranks, and what choosing by it costs."""

import altair as alt
import pandas as pd
from altair.typing import ChartType

from nbutils.analysis.verdicts import groups_of
from nbutils.charts import parts, theme
from nbutils.charts.tables import format_interval

KINDS = {"proxy": theme.GREY, "diagnostic": theme.VIOLET}
"""What may predict a gain, and its colour."""


def predictors(judged: pd.DataFrame) -> ChartType:
    """How well each proxy and diagnostic ranks the corpora of a student that was left out."""
    if judged.empty:
        return parts.nothing("nbutils run lab")
    rows = parts.checked(judged).copy()
    regrets = ["regret", "regret_low", "regret_high", "regret_at_random"]
    rows[regrets] *= 100
    choices, chosen = parts.selectors(rows, "method")
    tip = parts.tooltips("proxy", "kind", "rho", "low", "high", "p_value", *regrets)
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
            alt.layer(parts.dashed("x"), spans, dots).properties(
                width=parts.WIDTH, height=step, title="Ranking the corpora of a student left out"
            ),
            alt.layer(lost, between, chance, number).properties(
                width=parts.WIDTH, height=step, title="Choosing one corpus"
            ),
            spacing=24,
        )
        .add_params(*choices)
        .properties(
            description="Rank correlation with gain of every proxy and diagnostic for a student "
            "left out, and the gain lost by choosing a corpus by it."
        )
    )


def predictors_table(judged: pd.DataFrame) -> pd.DataFrame:
    """Every predictor for students left out, the best first."""
    rows = judged.sort_values(["results", "method", "rho"], ascending=[True, True, False])
    limits = rows[["rho", "low", "high"]].to_numpy(dtype=float)
    table = rows[["results", "method", "kind", "proxy", "students"]].copy()
    table["rho"] = [format_interval(*row) for row in limits]
    table["corrected p"] = rows["p_value"]
    table["regret"] = 100 * rows["regret"]
    table["regret at random"] = 100 * rows["regret_at_random"]
    table["useful"] = rows["useful"].map({True: "yes", False: "no"})
    return table


def best_predictors(judged: pd.DataFrame) -> pd.DataFrame:
    """One sentence for each result label and method: which diagnostics beat every proxy."""
    rows = []
    for keys, part in groups_of(judged, ["results", "method"]):
        useful = part[part["useful"]]
        named = {
            kind: ", ".join(useful.loc[useful["kind"].eq(kind), "proxy"]) or "none"
            for kind in ("diagnostic", "proxy")
        }
        top = part.loc[part["rho"].idxmax()]
        reason = (
            f"useful diagnostics: {named['diagnostic']}; useful proxies: {named['proxy']}; the "
            f"highest rho is that of {top['proxy']} ({top['rho']:+.2f}), tried on "
            f"{part['students'].iloc[0]} students"
        )
        rows.append((*keys, reason))
    return pd.DataFrame(rows, columns=["results", "method", "reason"])
