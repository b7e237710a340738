"""The grid: which runs a tier has, what they cost, why one is missing, and running them."""

import dataclasses
import os
from collections import Counter
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from nbutils import grid, params, runs, tiers
from nbutils.cells import CONTROL_NAMES, Cell, Plans
from nbutils.grid import Planned, Seconds
from nbutils.params import ParameterError, Parameters
from nbutils.runs import STAGES, Run, RunError, Store
from tiny import silent


@pytest.fixture
def plans(project: Path) -> Plans:
    return Plans("smoke", tiers.load_tier("smoke", project), encoder=True)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Every stage writes one small file; counts the calls by stage."""
    found = Counter[str]()

    def fake(name: str) -> Any:
        def stage(p: Parameters, inputs: object, out: Path, progress: Any) -> None:
            found[name] += 1
            (out / "file").write_text(p.model_dump_json())
            progress(1.0)

        return stage

    for stage in STAGES.values():
        module = import_module(f"nbutils.{stage.module}")
        monkeypatch.setattr(module, stage.function, fake(stage.name))
    return found


def changed(plans: Plans, **changes: object) -> Plans:
    """The plans of a tier with other values at its top level."""
    return dataclasses.replace(plans, tier=plans.tier.model_copy(update=changes))


def sized(plans: Plans, models: int, students: int, seeds: int, further: int) -> Plans:
    """A tier of so many models, students, seeds and further temperatures."""
    member = plans.tier.models["neox-small"]
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
    return changed(plans, models=dict.fromkeys(names, member), grid=shape)


def test_pairings_of_smoke(plans: Plans) -> None:
    found = list(plans.pairings())
    for student in ("neox-small", "llama-small"):
        mine = {(c.source, c.temperature, c.method) for c in found if c.student == student}
        assert mine == {*((m, 1.0, "full") for m in plans.tier.models), (student, 1.0, "lora")}
    assert str(found[1]) == "neox-small ← llama-small T=1 full s0"


def test_every_cell_is_one_of_an_experiment_and_comes_once(plans: Plans) -> None:
    found = list(plans.cells())
    assert len(found) == len(set(found)) == len({str(c) for c in found})
    counts = Counter(plans.trained(c).labels["experiment"] for c in found)
    assert counts == {"pairings": 2 * 5 + 2, "controls": 2 * 4, "rounds": 2, "recipes": 4}


def test_controls_take_the_place_of_what_they_question(plans: Plans) -> None:
    own = Cell("neox-small", "neox-small", 1.0)
    real, shuffled, noise, frozen = (
        plans.trained(dataclasses.replace(own, control=c)) for c in CONTROL_NAMES
    )
    assert real.inputs["corpus"].stage == "real_corpus"
    assert shuffled.inputs["corpus"].stage == "shuffle_corpus"
    assert shuffled.inputs["corpus"].inputs["corpus"] == plans.corpus("neox-small", 1.0, 0)
    assert real.params == shuffled.params == plans.self_train(own).params
    assert (noise.stage, noise.inputs["trained"]) == ("perturb_weights", plans.self_train(own))
    assert frozen.params.model_dump()["recipe"]["learning_rate"] == 0
    assert frozen.inputs == plans.self_train(own).inputs
    labels = [run.labels for run in (real, shuffled, noise, frozen)]
    assert [la["source"] for la in labels] == list(CONTROL_NAMES.values())
    assert {la["relation"] for la in labels} == {"control"}


def test_a_round_starts_where_the_one_before_ended(plans: Plans) -> None:
    own = Cell("neox-small", "neox-small", 1.0)
    second = plans.self_train(dataclasses.replace(own, round=2))
    first = plans.self_train(own)
    assert second.inputs["student"] == first
    assert second.inputs["corpus"].inputs["source"] == first


def test_recipes_are_multiples_of_the_tiers_own(plans: Plans) -> None:
    full, lora = (plans.self_train(c).params.model_dump() for c in list(plans.recipes())[:2])
    assert full["recipe"]["learning_rate"] == pytest.approx(3 * 0.001)
    assert full["recipe"]["steps"] == lora["recipe"]["steps"] == 2
    assert full["lora"] is None
    assert lora["lora"] == {"rank": 2, "alpha": 4.0, "learning_rate": pytest.approx(0.015)}


def test_a_larger_relative_judges(plans: Plans) -> None:
    assert plans.tier.judge("neox-small") == "neox-large"
    assert plans.tier.judge("neox-large") is None
    assert plans.tier.judge("qwen-small") is None


@pytest.mark.parametrize(
    ("models", "students", "seeds", "further"),
    [(1, 1, 1, 1), (3, 2, 1, 2), (6, 3, 1, 2), (6, 4, 3, 1), (2, 2, 2, 1)],
)
def test_the_grid_costs_s_corpora_and_s_times_t_fine_tunes(
    plans: Plans, models: int, students: int, seeds: int, further: int
) -> None:
    found = sized(plans, models, students, seeds, further).all()
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


def test_inputs_come_before_what_needs_them(plans: Plans) -> None:
    seen: set[tuple[str, str]] = set()
    for run in plans.all():
        assert all((i.stage, i.name) in seen for i in run.inputs.values())
        seen.add((run.stage, run.name))


def test_without_the_encoder_nothing_is_embedded(plans: Plans) -> None:
    found = dataclasses.replace(plans, encoder=False).all()
    assert not [run for run in found if run.stage == "embed_texts"]
    assert all("embedding" not in role for run in found for role in run.inputs)


def test_only_the_fine_tunes_of_lora_hold_an_adapter(plans: Plans) -> None:
    full = plans.self_train(Cell("neox-small", "neox-small", 1.0, "full", 0)).params
    lora = plans.self_train(Cell("neox-small", "neox-small", 1.0, "lora", 0)).params
    assert (full.model_dump()["lora"], lora.model_dump()["lora"]["rank"]) == (None, 4)


def test_labels_hold_the_computed_relation(plans: Plans) -> None:
    cell = Cell("qwen-small", "neox-small", 1.0, "full", 0)
    assert plans.utility("neox-small", cell).labels["relation"] == "cross-family"
    assert plans.utility("neox-small").labels == {
        "experiment": "pairings", "student": "neox-small", "source": None,
        "relation": "untouched"}  # fmt: skip


def test_an_unknown_model_names_the_models(plans: Plans) -> None:
    with pytest.raises(ParameterError, match=r"'neo-small' \(tier smoke\).*'neox-small'\?"):
        plans.corpus("neo-small", 1.0, 0)


# --- Plan -----------------------------------------------------------------------------------


def planned(run: Run, project: Path) -> Planned:
    return grid.plan([run], Store(project))[0]


def test_states_of_a_fresh_tier(plans: Plans, project: Path) -> None:
    found = grid.plan(plans.all(), Store(project))
    assert {p.state for p in found} == {"ready", "waiting"}
    for p in found:
        if p.run.stage in ("prepare_model", "prepare_suite"):
            assert (p.state, p.why) == ("ready", "never run")
        else:
            assert (p.state, p.key) == ("waiting", None)
    train = next(p for p in found if p.run.stage == "self_train")
    assert train.why == "needs corpus, student"
    assert not (project / "runs").exists()


def test_a_finished_run_exists_and_makes_others_ready(
    plans: Plans, project: Path, calls: Counter[str]
) -> None:
    done = Store(project).execute(plans.model("neox-small"), 1, silent)
    model = planned(plans.model("neox-small"), project)
    assert (model.state, model.key, model.why) == ("done", done.key, "exists")
    corpus = planned(plans.corpus("neox-small", 1.0, 0), project)
    assert (corpus.state, corpus.why) == ("ready", "never run")
    assert planned(plans.corpus("llama-small", 1.0, 0), project).why == "needs source"


def test_a_changed_parameter_is_named(plans: Plans, project: Path, calls: Counter[str]) -> None:
    Store(project).execute(plans.model("neox-small"), 1, silent)
    other = changed(plans, context=64, vocab_size=900)
    found = planned(other.model("neox-small"), project)
    assert (found.state, found.why) == ("ready", "changed: context, vocab_size")
    assert planned(plans.model("neox-small"), project).state == "done"


def test_a_changed_input_is_named(plans: Plans, project: Path, calls: Counter[str]) -> None:
    store = Store(project)
    for run in (plans.model("neox-small"), plans.corpus("neox-small", 1.0, 0)):
        store.execute(run, 1, silent)
    other = changed(plans, max_chars=200)
    corpus = other.corpus("neox-small", 1.0, 0)
    assert planned(corpus, project).state == "waiting"
    store.execute(other.model("neox-small"), 1, silent)
    assert planned(corpus, project).why == "changed: input source"


def test_changed_code_is_named(
    plans: Plans, project: Path, calls: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Store(project).execute(plans.suite(), 1, silent)
    for module in (grid, runs):
        monkeypatch.setattr(module, "code_digest", lambda stage: "other")
    found = planned(plans.suite(), project)
    assert (found.state, found.why) == ("ready", "changed: code")


def test_compute_runs_what_is_needed_once(plans: Plans, project: Path, calls: Counter[str]) -> None:
    run = plans.self_train(Cell("qwen-small", "neox-small", 1.0, "full", 0))
    assert grid.compute(run, plans, project) == Store(project).path(run)
    assert calls == {"prepare_model": 2, "sample_corpus": 1, "self_train": 1}
    grid.compute(run, plans, project)
    grid.compute(plans.self_train(Cell("qwen-small", "qwen-small", 1.0, "full", 0)), plans, project)
    assert calls == {"prepare_model": 2, "sample_corpus": 1, "self_train": 2}


# --- Estimate and run -----------------------------------------------------------------------


def named(stage: str, name: str) -> Run:
    return Run(stage, name, params.MeasureExtraction())


def test_expected_is_what_it_took_else_the_median_of_the_stage() -> None:
    known: Seconds = {("a", "x"): 3.0, ("a", "y"): 5.0, ("a", "z"): 100.0, ("b", "x"): 7.0}
    assert grid.expected(named("a", "x"), known) == 3
    assert grid.expected(named("a", "new"), known) == 5
    assert grid.expected(named("c", "x"), known) is None


def test_remaining_by_hand() -> None:
    """This machine needed 4 s for what took 2: the known 3 and the stage's median double."""
    known: Seconds = {("a", "x"): 2.0, ("a", "y"): 3.0, ("b", "x"): 7.0}
    measured: Seconds = {("a", "x"): 4.0}
    todo = [named("a", "y"), named("b", "x"), named("a", "new")]
    assert grid.remaining(todo, known, measured, 1) == pytest.approx(6 + 14 + 5)
    assert grid.remaining(todo, known, measured, 2) == pytest.approx(12.5)
    assert grid.remaining(todo, known, {}, 1) == pytest.approx(3 + 7 + 2.5)
    assert grid.remaining([named("c", "x"), *todo], known, measured, 1) is None
    assert grid.remaining([], known, measured, 1) == 0


@pytest.mark.parametrize(
    ("cores", "mib", "threads", "expected"),
    [(8, 10**6, 1, 8), (8, 10**6, 3, 2), (2, 10**6, 4, 1), (8, 100, 1, 1), (0, 10**6, 1, 1)],
)
def test_jobs_are_what_cores_and_memory_carry(
    cores: int, mib: int, threads: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    memory = SimpleNamespace(available=mib * 2**20)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    assert grid.jobs(threads) == expected


def test_jobs_leave_memory_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    memory = SimpleNamespace(available=3 * grid.WORKER_MIB * 2**20)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    assert grid.jobs(1) == 3


def test_a_failed_run_is_named_and_what_was_finished_stays(
    plans: Plans, project: Path, calls: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model's folder holds no model, so sampling fails in its worker."""
    monkeypatch.setattr(grid, "jobs", lambda threads: 1)
    model, corpus = plans.model("neox-small"), plans.corpus("neox-small", 1.0, 0)
    Store(project).execute(model, 1, silent)
    reports: list[str] = []
    with pytest.raises(RunError) as caught:
        grid.execute([model, corpus], project, 1, {}, lambda run, *_: reports.append(run.name))
    message = str(caught.value)
    assert message.startswith("sample_corpus of smoke: neox-small T=1 s0 failed: the model in ")
    assert "cannot be loaded" in message
    assert message.endswith("0 runs finished before it stopped, and are kept")
    assert reports == []
    store = Store(project)
    assert store.finished(model) is not None
    assert store.finished(corpus) is None


def test_nothing_is_run_where_everything_exists(
    plans: Plans, project: Path, calls: Counter[str]
) -> None:
    for run in plans.all():
        Store(project).execute(run, 1, silent)
    assert sum(calls.values()) == len(plans.all())
    reports: list[Any] = []
    assert grid.execute(plans.all(), project, 1, {}, lambda *args: reports.append(args)) == 0
    assert reports == []
