"""The grid: which runs a tier has, what they cost, why one is missing, and running them."""

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from nbutils.config import design, schema, tiers
from nbutils.config.design import CONTROL_NAMES, Pairing
from nbutils.config.schema import Parameters
from nbutils.errors import ParameterError
from nbutils.protocol import stages
from nbutils.protocol.compute import compute
from nbutils.protocol.plan import Plan
from nbutils.runs import dag, environment, eta, executor, failures
from nbutils.runs.dag import Planned
from nbutils.runs.eta import Seconds
from nbutils.runs.types import Run, RunError
from support.project import open_store
from support.tiny import silent


@pytest.fixture
def plan(project: Path) -> Plan:
    return Plan("smoke", tiers.load_tier("smoke", project), encoder=True)


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

    monkeypatch.setattr(stages, "stage_function", fake)
    return found


def changed(plan: Plan, **changes: object) -> Plan:
    """The plan of a tier with other values at its top level."""
    return dataclasses.replace(plan, tier=plan.tier.model_copy(update=changes))


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
        assert mine == {*((m, 1.0, "full") for m in plan.tier.models), (student, 1.0, "lora")}
    assert str(found[1]) == "neox-small ← llama-small T=1 full s0"


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
    found = sized(plan, models, students, seeds, further).all()
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
    for run in plan.all():
        assert all((i.stage, i.name) in seen for i in run.inputs.values())
        seen.add((run.stage, run.name))


def test_without_the_encoder_nothing_is_embedded(plan: Plan) -> None:
    found = dataclasses.replace(plan, encoder=False).all()
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


# --- Plan -----------------------------------------------------------------------------------


def planned(run: Run, project: Path) -> Planned:
    return dag.plan([run], open_store(project))[0]


def test_states_of_a_fresh_tier(plan: Plan, project: Path) -> None:
    found = dag.plan(plan.all(), open_store(project))
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
    plan: Plan, project: Path, calls: Counter[str]
) -> None:
    done = open_store(project).execute(plan.model("neox-small"), compute, 1, silent)
    model = planned(plan.model("neox-small"), project)
    assert (model.state, model.key, model.why) == ("done", done.key, "exists")
    corpus = planned(plan.corpus("neox-small", 1.0, 0), project)
    assert (corpus.state, corpus.why) == ("ready", "never run")
    assert planned(plan.corpus("llama-small", 1.0, 0), project).why == "needs source"


def test_a_changed_parameter_is_named(plan: Plan, project: Path, calls: Counter[str]) -> None:
    open_store(project).execute(plan.model("neox-small"), compute, 1, silent)
    other = changed(plan, context=64, vocab_size=900)
    found = planned(other.model("neox-small"), project)
    assert (found.state, found.why) == ("ready", "changed: context, vocab_size")
    assert planned(plan.model("neox-small"), project).state == "done"


def test_a_changed_input_is_named(plan: Plan, project: Path, calls: Counter[str]) -> None:
    store = open_store(project)
    for run in (plan.model("neox-small"), plan.corpus("neox-small", 1.0, 0)):
        store.execute(run, compute, 1, silent)
    other = changed(plan, max_chars=200)
    corpus = other.corpus("neox-small", 1.0, 0)
    assert planned(corpus, project).state == "waiting"
    store.execute(other.model("neox-small"), compute, 1, silent)
    assert planned(corpus, project).why == "changed: input source"


def test_a_changed_version_is_named(
    plan: Plan, project: Path, calls: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    open_store(project).execute(plan.suite(), compute, 1, silent)
    raised = dataclasses.replace(stages.STAGES["prepare_suite"], version=99)
    monkeypatch.setitem(stages.STAGES, "prepare_suite", raised)
    found = planned(plan.suite(), project)
    assert (found.state, found.why) == ("ready", "changed: version of prepare_suite")


def test_compute_runs_what_is_needed_once(plan: Plan, project: Path, calls: Counter[str]) -> None:
    run = plan.self_train(Pairing("qwen-small", "neox-small", 1.0, "full", 0))
    store = open_store(project)
    assert executor.compute_one(run, store, compute, 1) == open_store(project).path(run)
    assert calls == {"prepare_model": 2, "sample_corpus": 1, "self_train": 1}
    executor.compute_one(run, store, compute, 1)
    other = plan.self_train(Pairing("qwen-small", "qwen-small", 1.0, "full", 0))
    executor.compute_one(other, store, compute, 1)
    assert calls == {"prepare_model": 2, "sample_corpus": 1, "self_train": 2}


# --- Estimate and run -----------------------------------------------------------------------


def named(stage: str, name: str) -> Run:
    return Run(stage, name, schema.MeasureExtraction())


def test_expected_is_what_it_took_else_the_median_of_the_stage() -> None:
    known: Seconds = {("a", "x"): 3.0, ("a", "y"): 5.0, ("a", "z"): 100.0, ("b", "x"): 7.0}
    runs_ = [named("a", "x"), named("a", "new"), named("c", "x")]
    assert eta.expected(runs_, known) == [3, 5, None]


def test_remaining_by_hand() -> None:
    """180 s for what took 60, and a minute at the known pace beside them: everything doubles."""
    known: Seconds = {("a", "x"): 60.0, ("a", "y"): 90.0, ("b", "x"): 210.0}
    measured: Seconds = {("a", "x"): 180.0}
    todo = [named("a", "y"), named("b", "x"), named("a", "new")]
    assert eta.remaining(todo, known, measured, 1) == pytest.approx(180 + 420 + 180)
    assert eta.remaining(todo, known, measured, 2) == pytest.approx(390)
    assert eta.remaining(todo, known, {}, 1) == pytest.approx(90 + 210 + 75)
    assert eta.remaining([named("c", "x"), *todo], known, measured, 1) is None
    assert eta.remaining([], known, measured, 1) == 0


@pytest.mark.parametrize(
    ("cores", "mib", "threads", "expected"),
    [(8, 10**6, 1, 8), (8, 10**6, 3, 2), (2, 10**6, 4, 1), (8, 100, 1, 1)],
)
def test_jobs_are_what_cores_and_memory_carry(
    cores: int, mib: int, threads: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("joblib.cpu_count", lambda: cores)
    monkeypatch.setattr(environment, "free_memory_mib", lambda: mib)
    assert executor.jobs(threads, 0.0) == expected


def test_jobs_leave_memory_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("joblib.cpu_count", lambda: 8)
    monkeypatch.setattr(environment, "free_memory_mib", lambda: 3 * executor.WORKER_MIB)
    assert executor.jobs(1, 0.0) == 3
    assert executor.jobs(1, 1.5 * executor.WORKER_MIB) == 2
    assert executor.jobs(1, 9.0 * executor.WORKER_MIB) == 1


def test_a_failed_run_is_named_and_what_was_finished_stays(
    plan: Plan, project: Path, calls: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model's folder holds no model, so sampling fails in its worker."""
    monkeypatch.setattr(executor, "jobs", lambda *_: 1)
    model, corpus = plan.model("neox-small"), plan.corpus("neox-small", 1.0, 0)
    open_store(project).execute(model, compute, 1, silent)
    reports: list[str] = []
    with pytest.raises(RunError) as caught:
        executor.execute(
            [model, corpus],
            open_store(project),
            compute,
            1,
            [],
            lambda run, *_: reports.append(run.name),
        )
    message = str(caught.value)
    assert message.startswith("sample_corpus of smoke: neox-small T=1 s0 failed: the model in ")
    assert "cannot be loaded" in message
    assert "\n1 failed, 0 wait for them, 0 were computed and are kept; " in message
    assert reports == []
    store = open_store(project)
    assert store.finished(model) is not None
    assert store.finished(corpus) is None


def test_a_failure_leaves_the_others_running_and_is_not_tried_again_unless_told(
    plan: Plan, project: Path, calls: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One model's folder holds no model, so its corpus fails; the suite does not need it."""
    monkeypatch.setattr(executor, "jobs", lambda *_: 1)
    model, corpus = plan.model("neox-small"), plan.corpus("neox-small", 1.0, 0)
    shuffled = plan.read_corpus(Pairing("neox-small", "neox-small", 1.0, "full", 0, "shuffled"))
    store = open_store(project)
    store.execute(model, compute, 1, silent)
    runs_ = [model, corpus, shuffled, plan.suite()]
    written = []
    for retry in (False, False, True):
        with pytest.raises(RunError, match="1 failed, 1 wait for them"):
            executor.execute(runs_, open_store(project), compute, 1, [], lambda *_: None, retry)
        failure = failures.find(store, corpus)
        assert failure is not None
        assert failure.parameters == corpus.params.model_dump(mode="json")
        assert "ModelError" in failure.traceback
        written.append(failures.path(store, failure.key).stat().st_mtime_ns)
    assert written[0] == written[1] < written[2]
    assert store.finished(plan.suite()) is not None
    assert failures.find(store, model) is None
    failures.forget(store, corpus)
    assert failures.find(store, corpus) is None


def test_what_another_runner_saw_fail_is_not_tried_again(
    plan: Plan, project: Path, calls: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails there while this runner computes the model that it needs."""
    monkeypatch.setattr(executor, "jobs", lambda *_: 1)
    model, corpus, store = (
        plan.model("neox-small"),
        plan.corpus("neox-small", 1.0, 0),
        open_store(project),
    )

    def elsewhere(done: Run, *_: Any) -> None:
        if done is model:
            failures.record(store, corpus, RunError("it broke elsewhere"))

    with pytest.raises(RunError, match="it broke elsewhere"):
        executor.execute([model, corpus], open_store(project), compute, 1, [], elsewhere)
    assert store.finished(model) is not None
    failure = failures.find(store, corpus)
    assert failure is not None
    assert failure.message == "it broke elsewhere"


def test_a_grid_lists_few_failures_and_says_how_many_more() -> None:
    failed = [(named("a", str(i)), "no disk") for i in range(executor.LISTED_FAILURES + 2)]
    lines = executor._failure_message(failed, 3, 4).splitlines()
    assert len(lines) == executor.LISTED_FAILURES + 2
    assert lines[-2] == "and 2 more, which `nbutils status` lists"
    assert lines[-1].startswith("7 failed, 3 wait for them, 4 were computed and are kept")


def test_nothing_is_run_where_everything_exists(
    plan: Plan, project: Path, calls: Counter[str]
) -> None:
    for run in plan.all():
        open_store(project).execute(run, compute, 1, silent)
    assert sum(calls.values()) == len(plan.all())
    reports: list[Any] = []
    assert (
        executor.execute(
            plan.all(), open_store(project), compute, 1, [], lambda *args: reports.append(args)
        )
        == 0
    )
    assert reports == []
