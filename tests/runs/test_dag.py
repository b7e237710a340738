"""The plan of runs: which exist, which are ready, and why one is missing."""

import dataclasses
from collections import Counter
from pathlib import Path

import pytest

from nbutils.protocol import schedule, stages
from nbutils.protocol.compute import compute
from nbutils.protocol.plan import Plan
from nbutils.runs import dag
from nbutils.runs.dag import Planned
from nbutils.runs.types import Run
from support.project import open_store
from support.small_runs import changed
from support.tiny import silent


def planned(run: Run, project: Path) -> Planned:
    return dag.plan([run], open_store(project))[0]


def test_states_of_a_fresh_tier(plan: Plan, project: Path) -> None:
    found = dag.plan(schedule.of_tier(plan), open_store(project))
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
