"""The cost card: what runs will take, before anything is spent, in rows and sentences."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from nbutils.protocol.costs import Cost, Rates, Record, Who, downloads, estimate, records, who
from nbutils.protocol.plan import Plan
from nbutils.runs.eta import duration
from nbutils.runs.store import Store
from nbutils.runs.types import Manifest, Run


@dataclass(frozen=True)
class Card:
    """What runs cost together, a row a stage; seconds are None where a model is unknown.

    Columns of ``stages``: ``stage``, ``runs``, ``work``, ``seconds`` of one worker, ``memory_mib``
    of one run, ``rough``.
    """

    stages: pd.DataFrame
    workers: int
    seconds: float | None
    memory_mib: float | None
    downloads: dict[str, int | None]


def card(
    todo: Sequence[Run], plan: Plan, store: Store, published: Sequence[Manifest], workers: int
) -> Card:
    """The cost card of runs, measuring this machine for some seconds where it must.

    ``published`` are manifests of runs that were computed elsewhere.
    """
    known = _known({who(run) for run in todo}, store, published, workers)
    rates = Rates(0.0, 0.0)
    if any(who(run) not in known for run in todo):
        from nbutils.protocol import calibration  # heavy

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
    wanted: set[Who], store: Store, published: Sequence[Manifest], workers: int
) -> dict[Who, Record]:
    """Records of one's own runs, and of published ones at the pace of this machine."""
    known = records(store.all())
    needed = [m for m in published if who(m) in wanted - known.keys()]
    paces: dict[str, float] = {}
    for manifest in published:
        used = any(m.device == manifest.device for m in needed)
        if used and manifest.stage == "prepare_model" and manifest.device not in paces:
            from nbutils.protocol import calibration  # heavy

            paces[manifest.device] = calibration.pace(manifest, workers)
    for device in {m.device for m in needed}:
        alike = [m for m in needed if m.device == device]
        known = records(alike, paces.get(device, 1.0)) | known
    return known


def rows(of: Card) -> pd.DataFrame:
    """A cost card for people: a row a stage."""
    s = of.stages
    time = ["unknown" if pd.isna(x) else duration(x) for x in s["seconds"]]
    return pd.DataFrame(
        {
            "stage": s["stage"],
            "runs": s["runs"],
            "work": [f"{amount:,.0f}" for amount in s["work"]],
            "time": ["about " * rough + t for rough, t in zip(s["rough"], time, strict=True)],
            "memory": ["unknown" if pd.isna(m) else f"{m:,.0f} MiB" for m in s["memory_mib"]],
        }
    )


def sentences(of: Card) -> list[str]:
    """What a cost card says of all runs together."""
    if of.stages.empty:
        return ["Nothing is to be computed: every run exists."]
    time = "an unknown time" if of.seconds is None else f"about {duration(of.seconds)}"
    memory = "unknown" if of.memory_mib is None else f"up to {of.memory_mib / 1024:.1f} GiB"
    side = f"{of.workers} runs side by side" if of.workers > 1 else "one run after another"
    found = [f"{time} on this machine, {side}; memory: {memory}"]
    sizes = [
        f"{name} ({'size unknown' if size is None else f'{size / 1e6:,.1f} MB'})"
        for name, size in of.downloads.items()
    ]
    found.append(f"to be downloaded: {', '.join(sizes) or 'nothing'}")
    if of.stages["rough"].any():
        found.append(
            "rough where it says about: no such run is recorded, so a small model's speed here was "
            "scaled to the number of weights"
        )
    return [sentence[0].upper() + sentence[1:] + "." for sentence in found]
