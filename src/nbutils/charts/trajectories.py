"""Trajectories: utility against extraction along fine-tuning, and where to stop."""

import altair as alt
import pandas as pd
from altair.typing import ChartType

from nbutils.analysis import verdicts
from nbutils.analysis.verdicts import FALL, TOLERANCE, combine, side
from nbutils.charts import parts
from nbutils.charts.tables import percent, with_limits


def frontier(rows: pd.DataFrame, stops: pd.DataFrame) -> ChartType:
    """Utility against extraction along fine-tuning, one line per relation; rings mark the stops.

    ``rows`` are those of ``experiments.trajectories``, ``stops`` the choices of
    ``experiments.stopping_rule``.
    """
    if rows.empty:
        return parts.nothing("nbutils run lab")
    keys = ["results", "student", "source", "relation", "step"]
    numbers = ["gain", "low", "high", "share", "share_low", "share_high"]
    rows = parts.in_points(parts.checked(rows[[*keys, *numbers]]))
    chosen_steps = stops[["results", "student", "source", "step"]].assign(stop=True)
    rows = rows.merge(chosen_steps, how="left", on=["results", "student", "source", "step"])
    rows["stop"] = rows["stop"].eq(True).fillna(False).astype(bool)
    rows["aside"] = parts.aside(rows, "step", "relation")
    choices, chosen = parts.selectors(rows, "student")
    tip = parts.tooltips("source", "relation", "step", *parts.GAIN, "share")
    base = alt.Chart(rows).transform_filter(chosen).encode(
        color=parts.relation_color(rows), detail="source:N", tooltip=tip
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
    plane = alt.layer(parts.dashed("x"), spans, heights, path, dots, rings)
    plane = plane.properties(
        width=parts.WIDTH, height=320, title="Utility against extraction, step by step"
    )
    over = alt.X("aside:Q", title="fine-tuning step")
    return (
        alt.vconcat(plane, *parts.outcomes(base, over), spacing=24)
        .add_params(*choices)
        .properties(
            description="Change of utility against held-out extraction along fine-tuning, one "
            "line per relation, with the step that the stopping rule chooses marked by a ring."
        )
    )


def rule() -> pd.DataFrame:
    """What the verdict asks of the step at which a trajectory stops."""
    return verdicts.rules("decoupling")[["part", "supported when"]]


def stops_table(chosen: pd.DataFrame) -> pd.DataFrame:
    """Where every trajectory stops by its dev passages, and what that brings on held-out ones."""
    limits = chosen[["low", "high", "fall_low", "fall_high"]].to_numpy(dtype=float)
    kinds = [
        combine((side(low, high, -TOLERANCE), side(fall_low, fall_high, FALL)))
        for low, high, fall_low, fall_high in limits
    ]
    table = chosen[["results", "student", "source", "relation"]].copy()
    table["verdict"] = kinds
    table["stop at"] = chosen["step"]
    table["dev all gone"] = chosen["all_gone"].map({True: "yes", False: "no"})
    table["held-out fall"] = percent(chosen["fall"], chosen["fall_low"], chosen["fall_high"])
    table["change of utility"] = with_limits(chosen)
    table["dev before"] = chosen["dev_before"]
    return table
