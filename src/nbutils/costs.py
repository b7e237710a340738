"""Costs: what runs will take, before anything is spent.

Where a run of the same stage and model is recorded, here or among the published ones, its seconds
a unit of work are taken; published ones at the pace of this machine (see ``calibration``).
Anything else is rough: what a small model takes here, in proportion to the weights.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd

from nbutils import origins, reports, results, wheels
from nbutils.params import Mixture
from nbutils.plans import Plan
from nbutils.runs import Manifest, Run, Store
from nbutils.tiers import Pretrained

ITEM_TOKENS = 60  # tokens that are read for an item: some 30 (piqa) to 250 (hellaswag)
ITEMS = 5000  # of a task that has no limit
BASE_MIB = 700.0  # Python and its libraries, loaded
FIXED = 5.0  # seconds to load a model and libraries
VOCABULARY = 50_000  # of a pretrained model whose configuration was not read
WIDE = 64  # times as wide as deep, and as its heads are many: what a transformer usually is
KEPT = 136  # bytes that a token leaves for the backward pass, a layer and dimension, in float32:
SCORES = 20  # ... and a head and position before it (twice Korthikanti et al., 2022, section 4)
# How often a stage reads a token forward; a backward pass counts as two
PASSES = {"prepare_model": 3, "self_train": 3, "trace": 3, "diagnose": 6}
NOT_READING = ("fetch_model", "embed_texts", "real_corpus", "shuffle_corpus")
BY_DOCUMENT = ("measure_proxies", "measure_fidelity", "diagnose")
Who = tuple[str | float | int | None, ...]


@dataclass(frozen=True)
class Record:
    """What a finished run took for each unit of its work, seconds, and its peak memory, MiB."""

    seconds: float
    memory_mib: float


@dataclass(frozen=True)
class Rates:
    """Seconds for one token and one weight: read forward, and sampled."""

    reading: float
    sampling: float


@dataclass(frozen=True)
class Cost:
    """What one run takes: units of work, seconds and peak memory in MiB (None where unknown).

    ``rough`` where no run of this stage and model is recorded.
    """

    stage: str
    work: float
    seconds: float | None
    memory_mib: float | None
    rough: bool


# ---------------------------------------------------------------- what is known


def work(parameters: dict[str, Any]) -> float:
    """How much a run does, in the unit in which its time grows: tokens, documents or items."""
    recipe = parameters.get("recipe")
    if recipe:
        return float(recipe["steps"] * recipe["tokens_per_step"])
    amounts = (parameters.get(name) for name in ("tokens", "documents", "texts", "items"))
    return next((float(amount) for amount in amounts if amount), 1.0)


def who(of: Manifest | Run) -> Who:
    """What runs share whose rates are alike: tier, stage, computing model, method."""
    labels, p = of.labels, _parameters(of)
    model = labels.get("model") or labels.get("student") or labels.get("source")
    how = (p.get("method"), p.get("processes"), p.get("items") is None)
    return of.name.partition(":")[0], of.stage, model, *how


def _parameters(of: Manifest | Run) -> dict[str, Any]:
    return of.parameters if isinstance(of, Manifest) else of.params.model_dump(mode="json")


def records(manifests: Iterable[Manifest], pace: float = 1.0) -> dict[Who, Record]:
    """The median rate and the highest memory of runs alike."""
    found: dict[Who, list[Manifest]] = {}
    for manifest in manifests:
        found.setdefault(who(manifest), []).append(manifest)
    return {
        key: Record(
            pace * median(m.wall_seconds / work(m.parameters) for m in alike),
            max(m.peak_memory_mib for m in alike),
        )
        for key, alike in found.items()
    }


# ---------------------------------------------------------------- estimates


def estimate(run: Run, known: dict[Who, Record], plan: Plan, rates: Rates, store: Store) -> Cost:
    """The cost of one run, from records where there are some."""
    amount = work(_parameters(run))
    if who(run) in known:
        record = known[who(run)]
        return Cost(run.stage, amount, amount * record.seconds, record.memory_mib, rough=False)
    model = who(run)[2]
    weights = parameters(plan, str(model), store) if model in plan.tier.models else 0
    if weights is None:
        return Cost(run.stage, amount, None, None, rough=True)
    tokens = _tokens(run, amount, plan) * PASSES.get(run.stage, 1)
    rate = rates.sampling if run.stage == "sample_corpus" else rates.reading
    full = run.stage in PASSES and _parameters(run).get("method") != "lora"
    copies = 4 if full else 1  # AdamW keeps gradients and two moments beside the weights
    kept = activations(weights, plan, str(model)) if run.stage in PASSES else 0.0
    memory = BASE_MIB + (copies * 4 * weights + kept) / 2**20
    return Cost(run.stage, amount, FIXED + tokens * weights * rate, memory, rough=True)


def activations(weights: int, plan: Plan, model: str) -> float:
    """Bytes that a micro-batch of training keeps for its backward pass, roughly."""
    from nbutils import models, training  # heavy, and a plan alone needs neither

    pretrained = isinstance(plan.tier.models[model], Pretrained)
    vocabulary = VOCABULARY if pretrained else plan.tier.vocab_size
    width = (WIDE * weights / 12) ** (1 / 3)  # a layer has 12 times the square of the width
    depth, heads, length = width / WIDE, width / WIDE, 2 * plan.tier.context
    logits = training.LOGITS[models.device().type]
    tokens = min(training.MICRO_BATCH_TOKENS, logits / vocabulary)
    return tokens * (depth * (KEPT * width + SCORES * heads * length) + 16 * vocabulary)


def _tokens(run: Run, amount: float, plan: Plan) -> float:
    """Tokens that a run reads or writes, roughly."""
    tier = plan.tier
    if run.stage in NOT_READING:
        return 0
    if run.stage == "measure_utility":
        return ITEM_TOKENS * _items(plan, _parameters(run).get("items"))
    passages = tier.passages or tier.planting
    if run.stage == "measure_extraction" and passages:
        return (passages.held_out + passages.dev) * passages.suffix
    return amount * tier.context / 2 if run.stage in BY_DOCUMENT else amount


def _items(plan: Plan, limit: int | None) -> int:
    """Items of all tasks, each cut at the limit."""
    benchmarks, size = plan.tier.benchmarks, plan.tier.suite
    if benchmarks:
        counts = [benchmarks.items or ITEMS] * len(benchmarks.tasks)
    else:
        assert size is not None
        counts = len(Mixture.model_fields) * [size.cloze, size.agreement, size.preposition]
    return sum(min(count, limit or count) for count in counts)


def parameters(plan: Plan, model: str, store: Store) -> int | None:
    """Number of a model's weights; None where its entry does not say and it was never fetched."""
    member = plan.tier.models[model]
    if isinstance(member, Pretrained):
        fetched = plan.model(model)
        if member.parameters or store.finished(fetched) is None:
            return member.parameters
        facts = json.loads((store.path(fetched) / "facts.json").read_text("utf-8"))
        return int(facts["parameters"])
    return 12 * member.layers * member.hidden**2 + plan.tier.vocab_size * member.hidden


def downloads(todo: Iterable[Run]) -> dict[str, int | None]:
    """Package or repository to the bytes that would be fetched; None where the hub does not say."""
    found: dict[str, int | None] = {}
    for run in todo:
        p = _parameters(run)
        if run.stage == "fetch_model":
            kind, place, revision = origins.parts(p["origin"])
            if kind == "wheel":
                found[place] = wheels.missing(origins.WHEELS[place][0])
            elif kind == "hub":
                found[place] = _on_hub(place, revision)
        elif run.stage == "prepare_benchmarks" and p["benchmarks"]["data"] == "wheel":
            found[wheels.BENCHMARKS.package] = wheels.missing(wheels.BENCHMARKS)
        elif run.stage == "prepare_benchmarks":
            found |= dict.fromkeys(p["benchmarks"]["tasks"])
    return {name: size for name, size in found.items() if size != 0}


def _on_hub(name: str, revision: str) -> int | None:
    """Bytes of the files that loading needs; None without an answer."""
    import huggingface_hub

    try:
        api = huggingface_hub.HfApi()
        info = api.model_info(name, revision=revision, files_metadata=True, timeout=10)
    except Exception:  # offline, unknown or gated: fetching will say which
        return None
    files = info.siblings or []
    return sum(f.size or 0 for f in files if any(fnmatch(f.rfilename, w) for w in origins.WANTED))


# ---------------------------------------------------------------- the card


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


def card(todo: Sequence[Run], plan: Plan, root: Path, workers: int) -> Card:
    """The cost card of runs, measuring this machine for some seconds where it must."""
    known, store = _known({who(run) for run in todo}, root, workers), Store(root)
    rates = Rates(0.0, 0.0)
    if any(who(run) not in known for run in todo):
        from nbutils import calibration  # heavy

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


def _known(wanted: set[Who], root: Path, workers: int) -> dict[Who, Record]:
    """Records of one's own runs, and of published ones at the pace of this machine."""
    known = records(Store(root).all())
    folders = sorted((root / results.PUBLISHED).glob("*/"))
    published = [m for folder in folders for m in results.read_manifests(folder)]
    needed = [m for m in published if who(m) in wanted - known.keys()]
    paces: dict[str, float] = {}
    for manifest in published:
        used = any(m.device == manifest.device for m in needed)
        if used and manifest.stage == "prepare_model" and manifest.device not in paces:
            from nbutils import calibration  # heavy

            paces[manifest.device] = calibration.pace(manifest, workers)
    for device in {m.device for m in needed}:
        alike = [m for m in needed if m.device == device]
        known = records(alike, paces.get(device, 1.0)) | known
    return known


def duration(seconds: float) -> str:
    """Seconds for people."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def ways(runs: Iterable[Run], store: Store) -> list[str]:
    """Sentences on the models behind some runs that are read the plain way, or may be."""
    models = {run.name: run for run in runs if run.stage in ("prepare_model", "fetch_model")}
    found, unknown = [], []
    for run in models.values():
        name = str(run.labels["model"])
        if store.finished(run) is not None:
            found.append(reports.plain_ways(name, store.path(run)))
        elif run.stage == "fetch_model":
            unknown.append(name)
    if unknown:
        found.append(
            f"Not fetched yet: {', '.join(unknown)}. Which shortcuts are right is found out then; "
            "without one of them a model takes longer than told here."
        )
    return [sentence for sentence in found if sentence]


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
