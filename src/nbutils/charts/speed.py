"""Speed: our way beside what one would otherwise run at its best, as `make bench` measured it.

A contest is one task (of sampling, training or scoring) with so many rows side by side. Its ways do
the same work with the same model. Rates are per second of CPU time, of all threads together; with
an accelerator, per second of wall time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import altair as alt
import pandas as pd
from altair.typing import ChartType

from nbutils.charts import parts, theme

MEASURED = "bench.json"
ON_ACCELERATOR = "gpu.json"
UNITS = {"sampling": "tokens", "training": "tokens", "scoring": "items"}
CONTEST = ["stage", "task", "batch"]
CLAIMED = {
    "sampling": (
        7.1,
        "generate",
        "the largest batch made the headline, which is the peer's worst one; documents of random "
        "weights differ more in length than real ones, so more of a batch was read in vain; "
        "continuous batching was not tried",
    ),
    "training": (
        2.4,
        "Trainer",
        "the peer padded documents of all lengths to the longest one, which one setting turns off; "
        "it also takes packed rows, as our way does",
    ),
    "scoring": (
        6.0,
        "lm-eval, batch 1",
        "the peer read its requests one by one, or searched for a batch size while the clock ran, "
        "for a few items; no fixed batch was tried",
    ),
}
"""What this page once claimed: the ratio, the peer it was a ratio to, and why that was wrong."""


def rows(found: dict[str, Any] | None) -> pd.DataFrame:
    """One row per contest and way; empty without a measurement.

    Columns: ``stage``, ``task``, ``batch`` (rows side by side), ``own`` (whether the book does it
    so), ``way``, ``ours``, ``precision``, ``rate`` with its range ``low`` to ``high`` over
    ``turns`` (tokens or items per second of CPU time), ``wall_rate``, ``read`` (tokens that the
    model read for each that counts, or for each item), ``ceiling`` (floating-point operations per
    second of the model's own matrix products), ``of_ceiling`` (the share of it that those of this
    way reached), ``memory_mib``, and ``ratio`` (to the best peer of the contest).
    """
    if not found:
        return pd.DataFrame()
    table = pd.DataFrame(found["rows"])
    best = table["rate"].where(~table["ours"]).groupby([table[c] for c in CONTEST]).transform("max")
    return table.assign(ratio=table["rate"] / best)


@dataclass(frozen=True)
class Headline:
    """Our way of a task as the book does it, beside the best peer at whatever batch.

    ``ratio`` is that of the rates; its limits take the slowest turn of the one and the fastest of
    the other. ``wall`` is the ratio by the clock; for ``read`` and ``peer_read`` see ``rows``.
    """

    stage: str
    task: str
    batch: int
    way: str
    peer: str
    peer_batch: int
    ratio: float
    low: float
    high: float
    wall: float
    read: float
    peer_read: float


def headlines(measured: pd.DataFrame) -> list[Headline]:
    """One per task; the first of a stage is the stage's own."""
    found = []
    for stage, task in measured[["stage", "task"]].drop_duplicates().to_numpy():
        part = measured[measured["stage"].eq(stage) & measured["task"].eq(task)]
        part = part.sort_values("rate", ascending=False)
        ours = part[part["ours"] & part["own"]].to_dict("records")[0]
        peer = part[~part["ours"]].to_dict("records")[0]
        found.append(
            Headline(
                *(stage, task, ours["batch"], ours["way"], peer["way"], peer["batch"]),
                ratio=ours["rate"] / peer["rate"],
                low=ours["low"] / peer["high"],
                high=ours["high"] / peer["low"],
                wall=ours["wall_rate"] / peer["wall_rate"],
                read=ours["read"],
                peer_read=peer["read"],
            )
        )
    return found


def of_stages(measured: pd.DataFrame) -> dict[str, Headline]:
    """The headline of each stage."""
    found: dict[str, Headline] = {}
    for headline in headlines(measured):
        found.setdefault(headline.stage, headline)
    return found


def answer(measured: pd.DataFrame) -> str:
    """One sentence: how fast each stage is beside the best that was found for its peers."""
    if measured.empty:
        return "Nothing was measured yet: make bench does it."
    found = of_stages(measured)
    said = [f"{stage} is {_verdict(headline)}" for stage, headline in found.items()]
    return "Beside the best setting found for each peer, " + ", ".join(said) + "."


def _verdict(found: Headline) -> str:
    """A ratio in words; no way is the faster where the ratio's limits hold one."""
    if found.low <= 1 <= found.high:
        return f"as fast ({found.low:.2f} to {found.high:.2f} times)"
    word = "faster" if found.ratio > 1 else "slower"
    return f"{word}, {found.ratio:.2f} times ({found.low:.2f} to {found.high:.2f})"


def sentences(measured: pd.DataFrame) -> Iterator[str]:
    """A sentence per task: the ratio, to what, and what each way has its model read."""
    for row in headlines(measured) if len(measured) else ():
        unit = "item" if row.stage == "scoring" else "token that counts"
        at = f" at {row.peer_batch:,} rows" if row.peer_batch != row.batch else ""
        yield (
            f"{title(row.stage, row.task, row.batch)}: {row.ratio:.2f} times {row.peer}{at} "
            f"({row.low:.2f} to {row.high:.2f}; by the clock {row.wall:.2f}). For each {unit} "
            f"our way reads {row.read:.2f} tokens, this peer {row.peer_read:.2f}."
        )


def corrected(measured: pd.DataFrame) -> pd.DataFrame:
    """What was claimed, what that ratio is today, and what it is to the best peer."""
    found = []
    for row in of_stages(measured).values() if len(measured) else ():
        claim, peer, why = CLAIMED[row.stage]
        contest = measured[CONTEST].eq([row.stage, row.task, row.batch]).all(axis=1)
        rates = dict(measured.loc[contest, ["way", "rate"]].to_numpy())
        found.append(
            {
                "stage": row.stage,
                "claimed": f"{claim:.1f} ×",
                "against": peer,
                "the same today": f"{rates[row.way] / rates[peer]:.1f} ×",
                "against the best peer": f"{row.ratio:.2f} × {row.peer}",
                "why the claim was wrong": why,
            }
        )
    return pd.DataFrame(found)


def title(stage: str, task: str, batch: int) -> str:
    """What a contest is called."""
    if stage == "sampling":
        return f"Sampling, {batch:,} documents side by side"
    return "Scoring the suite" if stage == "scoring" else f"Training, {task}"


def throughput(measured: pd.DataFrame) -> ChartType:
    """Rates of all ways with their ranges, one panel per contest; the fastest way comes first."""
    if measured.empty:
        return parts.nothing("make bench")
    contests = parts.checked(measured).groupby(CONTEST, sort=False)
    panels = [_panel(part) for _, part in contests]
    return alt.vconcat(*panels, spacing=24).properties(
        description="Throughput of sampling, fine-tuning and scoring, our way beside what a user "
        "would otherwise run at its best settings, with the range over repeats."
    )


def _panel(part: pd.DataFrame) -> ChartType:
    """One contest: a dot per way over its rate, and above it the ratio to the best peer."""
    columns = ["way", "ours", "rate", "low", "high", "ratio", "read", "of_ceiling"]
    ordered = part.sort_values("rate", ascending=False)[columns]
    shown = ordered.assign(times=[f"{ratio:.2f} ×" for ratio in ordered["ratio"]])
    color = alt.condition("datum.ours", alt.value(theme.BLUE), alt.value(theme.ORANGE))
    x = alt.X("rate:Q", title=f"{UNITS[part['stage'].iloc[0]]} per second of CPU time")
    base = alt.Chart(shown).encode(
        y=alt.Y("way:N", title=None, sort=list(shown["way"])),
        color=color,
        tooltip=parts.tooltips(*columns[:1], *columns[2:]),
    )
    layers = [
        base.mark_rule(strokeWidth=1.6).encode(x=alt.X("low:Q"), x2="high:Q"),
        base.mark_point(filled=True, opacity=1, size=90).encode(x=x),
        base.mark_text(dy=-11, fontSize=11).encode(x=x, text="times:N"),
    ]
    stage, task, batch = part[CONTEST].iloc[0]
    layered = alt.layer(*layers)
    return layered.properties(
        width=parts.WIDTH, height=alt.Step(30), title=title(stage, task, batch)
    )


def machine(found: dict[str, Any] | None) -> pd.DataFrame:
    """What it was measured on, with which model."""
    if not found:
        return pd.DataFrame()
    versions = {name: found["versions"][name] for name in ("python", "torch", "transformers")}
    values = {
        "device": found["device"],
        "threads": found["threads"],
        "model": f"{found['model']} of {found['tier']}",
        "weights (million)": round(found["weights"] / 1e6, 2),
    }
    return pd.DataFrame([values | versions])


def ceilings(measured: pd.DataFrame) -> pd.DataFrame:
    """The rate of the model's own matrix products at the shapes of each contest."""
    if measured.empty:
        return measured
    once = measured.drop_duplicates([*CONTEST, "precision"])
    return pd.DataFrame(
        {
            "contest": [title(*contest) for contest in once[CONTEST].to_numpy()],
            "rows": once["batch"],
            "precision": once["precision"],
            "matrix products (GFLOP/s)": [round(rate / 1e9) for rate in once["ceiling"]],
        }
    )


def description(found: dict[str, Any] | None) -> str:
    """Where and with what it was measured, in a sentence."""
    if not found:
        return "nothing was measured yet; make bench does it"
    versions = ", ".join(f"{name} {value}" for name, value in sorted(found["versions"].items()))
    code = f"commit {(found['git']['commit'] or 'unknown')[:10]}"
    if found["git"]["dirty"]:
        code += ", changed"
    threads = "one thread" if found["threads"] == 1 else f"{found['threads']} threads"
    return (
        f"measured by make bench on {found['created'][:10]} on {found['device']}, "
        f"{threads}, {code}; {versions}"
    )


def speed_table(measured: pd.DataFrame) -> pd.DataFrame:
    """The rows for people: rates with their range, ratio, what was read, share of the ceiling."""
    if measured.empty:
        return measured
    return pd.DataFrame(
        {
            "contest": [title(*contest) for contest in measured[CONTEST].to_numpy()],
            "way": measured["way"],
            "ratio": [f"{x:.2f}" for x in measured["ratio"]],
            "per CPU second": [
                f"{r:,.0f} [{a:,.0f}, {b:,.0f}]"
                for r, a, b in measured[["rate", "low", "high"]].to_numpy(dtype=float)
            ],
            "per second": [f"{x:,.0f}" for x in measured["wall_rate"]],
            "tokens read": [f"{x:.2f}" for x in measured["read"]],
            "of the ceiling": [f"{x:.0%}" for x in measured["of_ceiling"]],
            "peak memory (MiB)": [
                "unknown" if pd.isna(x) else f"{x:,.0f}" for x in measured["memory_mib"]
            ],
        }
    )


def on_accelerator(found: dict[str, Any] | None) -> pd.DataFrame:
    """One row per model, stage and way on an accelerator, as `make gpu` measured it.

    Rates are per second of wall time; ``to the best peer`` is that of the contest.
    """
    contests = {
        name: rows[0]["weights"]
        for name, rows in (found or {}).items()
        if isinstance(rows, list) and rows and "weights" in rows[0]
    }
    table = pd.DataFrame(
        [
            {
                "model": f"{name} ({weights / 1e6:,.0f} M)",
                "stage": row["stage"],
                "way": row["way"],
                "per second": row["rate"],
                "of": UNITS[row["stage"]],
                "memory (GiB)": round(row["memory_mib"] / 1024, 1),
            }
            for name, weights in contests.items()
            for row in (found or {})[name]
            if "rate" in row
        ]
    )
    if table.empty:
        return table
    peers = table["per second"].where(table["way"] != "ours")
    best = peers.groupby([table["model"], table["stage"]]).transform("max")
    table.insert(4, "to the best peer", (table["per second"] / best).map("{:.2f}".format))
    return table.assign(**{"per second": table["per second"].map("{:,.0f}".format)})


def tested_on(found: dict[str, Any] | None) -> str:
    """The accelerator of a measurement, and how its tests ended."""
    if not found:
        return "Nothing was measured on an accelerator yet."
    tests, device = found["tests"], found["machine"][0]["device"]
    cut = f"; cut before it ended: {', '.join(tests['cut'])}" if tests["cut"] else ""
    return (
        f"On one {device} ({found['created']}, commit {found['commit']}): of the tests of "
        f"`make gpu`, {tests['passed']} passed and {tests['failed']} failed{cut}."
    )
