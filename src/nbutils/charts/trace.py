"""The page *Trace a fine-tune*: utility and extraction over the steps of one fine-tune."""

import altair as alt
import pandas as pd
from altair.typing import ChartType

from nbutils.analysis.gains import SUITE, paired
from nbutils.analysis.inference import exact_interval
from nbutils.charts import parts
from nbutils.charts.tables import percent, with_limits


def by_step(utility: pd.DataFrame, extraction: pd.DataFrame) -> pd.DataFrame:
    """One row per measured step: accuracy on the suite, the gain since step 0, and extraction.

    The gain has its bootstrap interval, the share of extracted held-out passages its exact one.
    """
    untouched = utility[utility["step"].eq(0)].drop(columns="step")
    held_out = extraction[extraction["split"].eq("held_out")]
    rows = []
    for step, answers in utility.groupby("step"):
        suite = paired(untouched, answers.drop(columns="step")).set_index("task").loc[SUITE]
        exact = held_out.loc[held_out["step"].eq(step), "exact"]
        low, high = exact_interval(int(exact.sum()), len(exact))
        row = {"step": step, **suite[["accuracy", "gain", "low", "high"]]}
        row |= {"extracted": int(exact.sum()), "passages": len(exact), "share": exact.mean()}
        rows.append(row | {"share_low": low, "share_high": high})
    return pd.DataFrame(rows).infer_objects()


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of ``by_step`` for people."""
    shown = rows[["step", "accuracy"]].copy()
    shown["gain (points)"] = with_limits(rows)
    shown["extracted"] = rows["extracted"].astype(str) + " of " + rows["passages"].astype(str)
    shown["share"] = percent(rows["share"], rows["share_low"], rows["share_high"])
    return shown


def curves(rows: pd.DataFrame, relation: str) -> ChartType:
    """Change of utility and held-out extraction over the steps, in the colour of the relation."""
    title = "Change of utility and held-out extraction over the steps of one fine-tune."
    base = alt.Chart(parts.in_points(parts.checked(rows)), description=title).encode(
        color=alt.value(parts.RELATIONS[relation]),
        tooltip=parts.tooltips("step", "accuracy", *parts.GAIN, "share"),
    )
    panels = parts.outcomes(base, alt.X("step:Q", title="fine-tuning step"))
    return alt.vconcat(*panels, spacing=24).properties(description=title)
