"""Executing runs: each once, side by side, and what a failure leaves."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from nbutils.config.design import Pairing
from nbutils.config.schema import MeasureExtraction
from nbutils.protocol import schedule
from nbutils.protocol.compute import compute
from nbutils.protocol.plan import Plan
from nbutils.runs import environment, executor, failures
from nbutils.runs.types import Run, RunError
from support.project import open_store
from support.tiny import silent


def test_compute_runs_what_is_needed_once(plan: Plan, project: Path, calls: Counter[str]) -> None:
    run = plan.self_train(Pairing("qwen-small", "neox-small", 1.0, "full", 0))
    store = open_store(project)
    assert executor.compute_one(run, store, compute, 1) == open_store(project).path(run)
    assert calls == {"prepare_model": 2, "sample_corpus": 1, "self_train": 1}
    executor.compute_one(run, store, compute, 1)
    other = plan.self_train(Pairing("qwen-small", "qwen-small", 1.0, "full", 0))
    executor.compute_one(other, store, compute, 1)
    assert calls == {"prepare_model": 2, "sample_corpus": 1, "self_train": 2}


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


@pytest.mark.slow
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


@pytest.mark.slow
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
    failed = [
        (Run("a", str(i), MeasureExtraction()), "no disk")
        for i in range(executor.LISTED_FAILURES + 2)
    ]
    lines = executor._failure_message(failed, 3, 4).splitlines()
    assert len(lines) == executor.LISTED_FAILURES + 2
    assert lines[-2] == "and 2 more, which `nbutils status` lists"
    assert lines[-1].startswith("7 failed, 3 wait for them, 4 were computed and are kept")


def test_nothing_is_run_where_everything_exists(
    plan: Plan, project: Path, calls: Counter[str]
) -> None:
    for run in schedule.of_tier(plan):
        open_store(project).execute(run, compute, 1, silent)
    assert sum(calls.values()) == len(schedule.of_tier(plan))
    reports: list[Any] = []
    assert (
        executor.execute(
            schedule.of_tier(plan),
            open_store(project),
            compute,
            1,
            [],
            lambda *args: reports.append(args),
        )
        == 0
    )
    assert reports == []


@pytest.mark.slow
def test_the_parent_does_other_things_while_workers_compute(
    plan: Plan, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It begins with them before anything is finished."""
    monkeypatch.setattr(executor, "jobs", lambda *_: 1)
    finished: list[bool] = []

    def meanwhile() -> None:
        finished.append(open_store(project).finished(plan.suite()) is not None)

    runs_, store = [plan.suite()], open_store(project)
    done = executor.execute(runs_, store, compute, 1, [], lambda *_: None, meanwhile=meanwhile)
    assert done == 1
    assert not finished[0]
    assert open_store(project).finished(plan.suite()) is not None
