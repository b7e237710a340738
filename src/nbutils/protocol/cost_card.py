"""The cost card: time, memory and downloads of runs, estimated before they start."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from nbutils.protocol import calibration
from nbutils.protocol.costs import (
    Cost,
    RateKey,
    Rates,
    Record,
    downloads,
    estimate,
    rate_key,
    records,
)
from nbutils.protocol.plan import Plan
from nbutils.runs.eta import duration
from nbutils.runs.store import Store
from nbutils.runs.types import Manifest, Run


@dataclass(frozen=True)
class Card:
    """What runs cost together; ``seconds`` is None where a model's size is unknown.

    ``stages`` has one row per stage: ``stage``, ``runs``, ``work``, ``seconds`` of one worker (CPU
    time per thread, or wall time of accelerators; see ``Manifest.seconds``),
    ``memory_mib`` of one run, ``rough``.
    """

    stages: pd.DataFrame
    workers: int
    seconds: float | None
    memory_mib: float | None
    downloads: dict[str, int | None]


def card(
    todo: Sequence[Run], plan: Plan, store: Store, published: Sequence[Manifest], workers: int
) -> Card:
    """The cost card of runs; where records are missing, this machine is measured once.

    ``published`` are manifests of runs that were computed elsewhere.
    """
    known = _known({rate_key(run) for run in todo}, store, published, workers)
    rates = Rates(0.0, 0.0)
    if any(rate_key(run) not in known for run in todo):
        rates = calibration.rates(plan.tier.threads, workers)
    costs = [estimate(run, known, plan, rates, store) for run in todo]
    frame = pd.DataFrame(costs, columns=list(Cost.__dataclass_fields__))
    groups = frame.groupby("stage", sort=False)
    stages = groups.agg(
        runs=("work", "size"),
        work=("work", "sum"),
        seconds=("seconds", lambda s: s.sum(skipna=False)),
        memory_mib=("memory_mib", lambda m: m.max(skipna=False)),
        rough=("rough", "any"),
    ).reset_index()
    total = stages["seconds"].sum(skipna=False)
    peak = stages["memory_mib"].max(skipna=False) if len(stages) else 0.0
    return Card(
        stages=stages,
        workers=workers,
        seconds=None if pd.isna(total) else float(total) / workers,
        memory_mib=None if pd.isna(peak) else workers * float(peak),
        downloads=downloads(todo),
    )


def _known(
    keys: set[RateKey], store: Store, published: Sequence[Manifest], workers: int
) -> dict[RateKey, Record]:
    """Records of the runs in the store, and of published ones, scaled to this machine's speed."""
    known = records(store.all())
    needed = [m for m in published if rate_key(m) in keys - known.keys()]
    paces: dict[str, float] = {}
    for manifest in published:
        used = any(m.device == manifest.device for m in needed)
        if used and manifest.stage == "prepare_model" and manifest.device not in paces:
            paces[manifest.device] = calibration.pace(manifest, workers)
    for device in {m.device for m in needed}:
        same_device = [m for m in needed if m.device == device]
        known = records(same_device, paces.get(device, 1.0)) | known
    return known


def rows(card: Card) -> pd.DataFrame:
    """A cost card as a table to print, one row per stage."""
    s = card.stages
    time = ["unknown" if pd.isna(x) else duration(x) for x in s["seconds"]]
    return pd.DataFrame(
        {
            "stage": s["stage"],
            "runs": s["runs"],
            "work": [f"{amount:,.0f}" for amount in s["work"]],
            "CPU time": ["about " * rough + t for rough, t in zip(s["rough"], time, strict=True)],
            "memory": ["unknown" if pd.isna(m) else f"{m:,.0f} MiB" for m in s["memory_mib"]],
        }
    )


def sentences(card: Card) -> list[str]:
    """Total time, memory and downloads of a cost card, in sentences."""
    if card.stages.empty:
        return ["Nothing is to be computed: every run exists."]
    time = "an unknown time" if card.seconds is None else f"about {duration(card.seconds)}"
    memory = "unknown" if card.memory_mib is None else f"up to {card.memory_mib / 1024:.1f} GiB"
    order = f"{card.workers} runs in parallel" if card.workers > 1 else "one run after another"
    lines = [f"{time} on this machine, {order}, if it is idle; memory: {memory}"]
    sizes = [
        f"{name} ({'size unknown' if size is None else f'{size / 1e6:,.1f} MB'})"
        for name, size in card.downloads.items()
    ]
    lines.append(f"to be downloaded: {', '.join(sizes) or 'nothing'}")
    if card.stages["rough"].any():
        lines.append(
            "times marked 'about' are rough: no such run is recorded, so the speed of a small "
            "model on this machine was scaled to the number of weights"
        )
    return [line[0].upper() + line[1:] + "." for line in lines]
