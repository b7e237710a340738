"""Speed: throughput beside what one would otherwise run, as `make bench` measured it."""

import math
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from altair.typing import ChartType
from scipy.stats import linregress

from nbutils.charts import parts, theme

MEASURED = "bench.json"
UNITS = {
    "sampling": "tokens per second",
    "training": "tokens per second",
    "scoring": "items per second",
}
OURS, PEERS = theme.BLUE, [theme.ORANGE, theme.GOLD]


def throughput(measured: pd.DataFrame) -> ChartType:
    """Rates over batch size (sampling) and over model size, with their range, one line per way."""
    if measured.empty:
        return parts.nothing("make bench")
    rows = parts.checked(measured.assign(weights=measured["parameters"] / 1e6))
    sampling = rows[rows["stage"].eq("sampling")]
    smallest = sampling["parameters"].min()
    batches = sampling[sampling["parameters"].eq(smallest)]
    same = sampling["batch"].eq(sampling.loc[sampling["parameters"].ne(smallest), "batch"].max())
    by_size = [
        ("Sampling over model size", sampling[same]),
        ("Full fine-tuning over model size", rows[rows["contest"].eq("full")]),
        ("Scoring over model size", rows[rows["stage"].eq("scoring")]),
    ]
    panels = [_panel(batches, "batch", "documents side by side", "Sampling over batch size")]
    panels += [_panel(part, "weights", "million weights", title) for title, part in by_size]
    return alt.vconcat(*panels, spacing=24).resolve_scale(color="independent").properties(
        description="Throughput of sampling, fine-tuning and scoring beside what a user would "
        "otherwise run, over batch size and model size, with the range over repeats."
    )  # fmt: skip


def _panel(part: pd.DataFrame, column: str, title: str, heading: str) -> ChartType:
    """Rates over one column, both logarithmic, with the names of the ways at their lines."""
    ways = list(part["way"].unique())
    peers = [way for way in ways if way != "ours"]
    scale = alt.Scale(domain=[*peers, "ours"], range=[*PEERS[: len(peers)], OURS])
    unit = UNITS[part["stage"].iloc[0]]
    columns = ["way", column, "rate", "low", "high", "ratio"]
    base = alt.Chart(part[columns]).encode(
        color=alt.Color("way:N", scale=scale, legend=None),
        tooltip=parts.tooltips("way", "rate", "low", "high", "ratio"),
    )
    x = alt.X(f"{column}:Q", title=title).scale(type="log", padding=16, nice=False)
    x = x.axis(values=sorted(part[column].unique()), format="d" if column == "batch" else ".2~r")
    y = alt.Y("rate:Q", title=unit).scale(type="log", nice=False, padding=26)
    ends = part[columns].loc[part.groupby("way")[column].idxmax()].sort_values("rate")
    lines = parts.line_panel(base, x, y, heading, "low")
    return lines + _named(ends.head(1), x, y, scale, 17) + _named(ends.tail(-1), x, y, scale, -13)


def _named(ends: pd.DataFrame, x: alt.X, y: alt.Y, scale: alt.Scale, dy: int) -> ChartType:
    """The names of lines at their ends, so many pixels below, over a halo."""
    written: dict = {"align": "right", "dy": dy, "fontSize": 12, "fontWeight": 600, "aria": False}
    text = alt.Chart(ends).encode(x=x, y=y, text="way:N")
    halo = text.mark_text(stroke=theme.INK["page"], strokeWidth=4, strokeJoin="round", **written)
    color = alt.Color("way:N", scale=scale, legend=None)
    return halo + text.mark_text(**written).encode(color=color)


def rows(found: dict[str, Any] | None) -> pd.DataFrame:
    """One row per contest and way: rates and their range, ratio to the first way, memory in MiB."""
    return pd.DataFrame(found["rows"] if found else [])


def machine(found: dict[str, Any] | None) -> pd.DataFrame:
    """What it was measured on."""
    if not found:
        return pd.DataFrame()
    versions = {name: found["versions"][name] for name in ("python", "torch", "transformers")}
    values = {
        "device": found["device"],
        "threads": found["threads"],
        "matrix product (GFLOP/s)": round(found["flops"] / 1e9),
        "memory (GB/s)": round(found["bandwidth"] / 1e9),
    }
    return pd.DataFrame([values | versions])


def description(found: dict[str, Any] | None) -> str:
    """Where and with what it was measured, in a sentence."""
    if not found:
        return "nothing was measured yet; make bench does it"
    versions = ", ".join(f"{name} {value}" for name, value in sorted(found["versions"].items()))
    code = f"commit {(found['git']['commit'] or 'unknown')[:10]}"
    if found["git"]["dirty"]:
        code += ", changed"
    return (
        f"measured by make bench on {found['created'][:10]} on {found['device']}, "
        f"{found['threads']} threads, {code}; {versions}"
    )


def speed_table(measured: pd.DataFrame) -> pd.DataFrame:
    """The rows for people: rate with its range, ratio, share of the ceiling, memory."""
    if measured.empty:
        return measured
    return pd.DataFrame(
        {
            "stage": measured["stage"],
            "contest": measured["contest"],
            "weights (million)": [f"{n / 1e6:.1f}" for n in measured["parameters"]],
            "way": measured["way"],
            "rate": [
                f"{r:,.0f} [{a:,.0f}, {b:,.0f}]"
                for r, a, b in measured[["rate", "low", "high"]].to_numpy(dtype=float)
            ],
            "ratio": [f"{x:.2f}" for x in measured["ratio"]],
            "of the ceiling": [f"{x:.0%}" for x in measured["of_ceiling"]],
            "peak memory (MiB)": [
                "unknown" if pd.isna(x) else f"{x:,.0f}" for x in measured["memory_mib"]
            ],
        }
    )


def exponents(found: dict[str, Any] | None) -> pd.DataFrame:
    """How our time grows: its slope over work, batch and weights, both logarithmic; 1 is linear.

    Over a batch it is the time of one batch, over weights that of one token or item.
    """
    if not found:
        return pd.DataFrame()
    ours = rows(found).query("way == 'ours'")
    smallest = ours["parameters"].min()
    slopes = []
    for stage, part in pd.DataFrame(found["scaling"]).groupby("stage", sort=False):
        timed = ours[ours["stage"].eq(stage) & ours["contest"].ne("LoRA")]
        slopes.append({"stage": stage, "over work": _slope(part["work"], part["seconds"])})
        if stage == "sampling":
            batches = timed[timed["parameters"].eq(smallest)]
            slopes[-1]["over batch"] = _slope(batches["batch"], batches["batch"] / batches["rate"])
            larger = timed["parameters"].ne(smallest)
            timed = timed[timed["batch"].eq(timed.loc[larger, "batch"].max())]
        slopes[-1]["over weights"] = _slope(timed["parameters"], 1 / timed["rate"])
    return pd.DataFrame(slopes)


def _slope(x: pd.Series, y: pd.Series) -> float:
    """The slope of a line through both logarithms; missing where there is a single point."""
    return float(linregress(np.log(x), np.log(y)).slope) if x.nunique() > 1 else math.nan
