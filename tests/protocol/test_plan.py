"""The grid: which runs a tier has, and what they cost."""

import dataclasses
from collections import Counter

import pytest

from nbutils.config import design, tiers
from nbutils.config.design import CONTROL_NAMES, Pairing
from nbutils.errors import ParameterError
from nbutils.protocol import schedule
from nbutils.protocol.plan import Plan
from support.small_runs import changed


def sized(plan: Plan, models: int, students: int, seeds: int, further: int) -> Plan:
    """A tier of so many models, students, seeds and further temperatures."""
    member = plan.tier.models["neox-small"]
    names = [f"m{i}" for i in range(models)]
    others = [0.5 + i / 8 for i in range(further)]
    shape = tiers.Grid.model_validate(
        {
            "students": names[:students],
            "temperatures": {"students": names[:students], "values": [1.0, *others]},
            "self_methods": ["lora"],
            "seeds": list(range(seeds)),
        }
    )
    return changed(plan, models=dict.fromkeys(names, member), grid=shape)


def test_pairings_of_smoke(plan: Plan) -> None:
    found = list(design.pairings(plan.tier))
    for student in ("neox-small", "llama-small"):
        mine = {(c.source, c.temperature, c.method) for c in found if c.student == student}
        assert mine == {(m, 1.0, "full") for m in plan.tier.models}
    assert str(found[1]) == "neox-small ← llama-small T=1 full s0"
    methods = [(c.source, c.student, c.method) for c in design.other_methods(plan.tier)]
    assert methods == [(m, m, "lora") for m in ("neox-small", "llama-small")]


def test_every_cell_is_one_of_an_experiment_and_comes_once(plan: Plan) -> None:
    found = list(design.every(plan.tier))
    assert len(found) == len(set(found)) == len({str(c) for c in found})
    counts = Counter(plan.trained(c).labels["experiment"] for c in found)
    assert counts == {"pairings": 2 * 5 + 2, "controls": 2 * 4, "rounds": 2, "recipes": 4}


def test_controls_take_the_place_of_what_they_question(plan: Plan) -> None:
    own = Pairing("neox-small", "neox-small", 1.0)
    real, shuffled, noise, frozen = (
        plan.trained(dataclasses.replace(own, control=c)) for c in CONTROL_NAMES
    )
    assert real.inputs["corpus"].stage == "real_corpus"
    assert shuffled.inputs["corpus"].stage == "shuffle_corpus"
    assert shuffled.inputs["corpus"].inputs["corpus"] == plan.corpus("neox-small", 1.0, 0)
    assert real.params == shuffled.params == plan.self_train(own).params
    assert (noise.stage, noise.inputs["trained"]) == ("perturb_weights", plan.self_train(own))
    assert frozen.params.model_dump()["recipe"]["learning_rate"] == 0
    assert frozen.inputs == plan.self_train(own).inputs
    labels = [run.labels for run in (real, shuffled, noise, frozen)]
    assert [la["source"] for la in labels] == list(CONTROL_NAMES.values())
    assert {la["relation"] for la in labels} == {"control"}


def test_a_round_starts_where_the_one_before_ended(plan: Plan) -> None:
    own = Pairing("neox-small", "neox-small", 1.0)
    second = plan.self_train(dataclasses.replace(own, round=2))
    first = plan.self_train(own)
    assert second.inputs["student"] == first
    assert second.inputs["corpus"].inputs["source"] == first


def test_muon_has_a_rate_too(plan: Plan) -> None:
    """Rate zero trains nothing, and a multiple is one of both rates."""
    recipe = plan.tier.self_train.model_copy(update={"muon": 0.02})
    tier = plan.tier.model_copy(update={"self_train": recipe})
    muon = Plan(plan.name, tier, encoder=False)
    frozen = muon.self_train(Pairing("neox-small", "neox-small", 1.0, control="frozen"))
    assert frozen.params.model_dump()["recipe"]["muon"] is None
    (cell, *_) = design.recipes(tier)
    assert muon.self_train(cell).params.model_dump()["recipe"]["muon"] == pytest.approx(0.06)


def test_recipes_are_multiples_of_the_tiers_own(plan: Plan) -> None:
    full, lora = (
        plan.self_train(c).params.model_dump() for c in list(design.recipes(plan.tier))[:2]
    )
    assert full["recipe"]["learning_rate"] == pytest.approx(3 * 0.001)
    assert full["recipe"]["steps"] == lora["recipe"]["steps"] == 2
    assert full["lora"] is None
    assert lora["lora"] == {"rank": 2, "alpha": 4.0, "learning_rate": pytest.approx(0.015)}


def test_a_larger_relative_judges(plan: Plan) -> None:
    assert plan.tier.judge("neox-small") == "neox-large"
    assert plan.tier.judge("neox-large") is None
    assert plan.tier.judge("qwen-small") is None


@pytest.mark.parametrize(
    ("models", "students", "seeds", "further"),
    [(1, 1, 1, 1), (3, 2, 1, 2), (6, 3, 1, 2), (6, 4, 3, 1), (2, 2, 2, 1)],
)
def test_the_grid_costs_s_corpora_and_s_times_t_fine_tunes(
    plan: Plan, models: int, students: int, seeds: int, further: int
) -> None:
    found = schedule.of_tier(sized(plan, models, students, seeds, further))
    trained = seeds * (models * students + students * (further + 1))
    corpora = seeds * (models + students * further)
    assert Counter(run.stage for run in found) == {
        "prepare_suite": 1,
        "prepare_model": models,
        "sample_corpus": corpora,
        "self_train": trained,
        "measure_utility": models + trained,
        "measure_extraction": models + trained,
        "embed_texts": corpora + 1,
        "measure_proxies": seeds * (models * students + students * further),
    }
    names = [(run.stage, run.name) for run in found]
    assert len(set(names)) == len(names)


def test_inputs_come_before_what_needs_them(plan: Plan) -> None:
    seen: set[tuple[str, str]] = set()
    for run in schedule.of_tier(plan):
        assert all((i.stage, i.name) in seen for i in run.inputs.values())
        seen.add((run.stage, run.name))


def test_self_against_cross_needs_two_models_and_two_fine_tunes(plan: Plan) -> None:
    """Runs start in the order of the plan, so this is what is computed before the first verdict."""
    runs = schedule.of_tier(plan)
    cross = plan.utility("neox-small", Pairing("llama-small", "neox-small", 1.0))
    before = runs[: runs.index(cross) + 1]
    assert Counter(run.stage for run in before) == {
        "prepare_suite": 1,
        "prepare_model": 2,
        "sample_corpus": 2,
        "self_train": 2,
        "measure_utility": 3,
        "measure_extraction": 2,
    }


def test_pairings_are_measured_before_all_else_is_computed(plan: Plan) -> None:
    runs = schedule.of_tier(plan)
    measured = [plan.utility(pairing.student, pairing) for pairing in design.pairings(plan.tier)]
    last = max(map(runs.index, measured))
    assert {run.stage for run in runs[:last]} == {
        *("prepare_suite", "prepare_model", "sample_corpus", "self_train"),
        *("measure_utility", "measure_extraction"),
    }
    later = {run.stage for run in runs[last + 1 :]}
    assert later >= {"measure_proxies", "trace", "diagnose"}


def test_without_the_encoder_nothing_is_embedded(plan: Plan) -> None:
    found = schedule.of_tier(dataclasses.replace(plan, encoder=False))
    assert not [run for run in found if run.stage == "embed_texts"]
    assert all("embedding" not in role for run in found for role in run.inputs)


def test_only_the_fine_tunes_of_lora_hold_an_adapter(plan: Plan) -> None:
    full = plan.self_train(Pairing("neox-small", "neox-small", 1.0, "full", 0)).params
    lora = plan.self_train(Pairing("neox-small", "neox-small", 1.0, "lora", 0)).params
    assert (full.model_dump()["lora"], lora.model_dump()["lora"]["rank"]) == (None, 4)


def test_labels_hold_the_computed_relation(plan: Plan) -> None:
    cell = Pairing("qwen-small", "neox-small", 1.0, "full", 0)
    assert plan.utility("neox-small", cell).labels["relation"] == "cross-family"
    assert plan.utility("neox-small").labels == {
        "experiment": "untouched", "student": "neox-small", "source": None,
        "relation": "untouched"}  # fmt: skip


def test_an_unknown_model_names_the_models(plan: Plan) -> None:
    with pytest.raises(ParameterError, match=r"'neo-small' \(tier smoke\).*'neox-small'\?"):
        plan.corpus("neo-small", 1.0, 0)
