"""Costs: what runs will take, before anything is spent.

Where a run of the same stage and model is recorded, here or among the published ones, its seconds
a unit of work are taken; published ones at the pace of this machine (see ``calibration``).
Anything else is rough: what a small model takes here, in proportion to the weights.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from statistics import median
from typing import Any

from nbutils.config.schema import Mixture
from nbutils.config.tiers import Pretrained
from nbutils.protocol import model_sources, wheels
from nbutils.protocol.plan import Plan
from nbutils.runs.store import Store
from nbutils.runs.types import Manifest, Run

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
    from nbutils.protocol import models as protocol_models
    from nbutils.protocol import packing  # heavy, and a plan alone needs neither

    pretrained = isinstance(plan.tier.models[model], Pretrained)
    vocabulary = VOCABULARY if pretrained else plan.tier.vocab_size
    width = (WIDE * weights / 12) ** (1 / 3)  # a layer has 12 times the square of the width
    depth, heads, length = width / WIDE, width / WIDE, 2 * plan.tier.context
    logits = packing.LOGITS[protocol_models.device().type]
    tokens = min(packing.MICRO_BATCH_TOKENS, logits / vocabulary)
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
            kind, place, revision = model_sources.parts(p["origin"])
            if kind == "wheel":
                found[place] = wheels.missing(model_sources.WHEELS[place][0])
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
    return sum(
        f.size or 0 for f in files if any(fnmatch(f.rfilename, w) for w in model_sources.WANTED)
    )
