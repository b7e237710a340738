"""A session: what a notebook asks it for, in a project whose stages make numbers up."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from nbutils.analysis.gains import SUITE
from nbutils.config.notebook_parameters import NOTEBOOKS
from nbutils.errors import ParameterError
from nbutils.notebooks.session import Session
from nbutils.results.project import Project
from nbutils.runs import dag, executor
from nbutils.runs.types import RunError
from support import contributed

MODELS = {"source": "llama-small", "student": "neox-small"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, stages: None) -> Path:
    return contributed.project(tmp_path_factory.mktemp("session"))


def opened(name: str, root: Path, **values: Any) -> Session:
    form = NOTEBOOKS[name].model_validate({"tier": contributed.TIER} | values)
    return Session(name, form, Project(root))


def test_a_table_of_every_source_says_whose_it_is(root: Path) -> None:
    s = opened("diagnose", root, **MODELS)
    found = s.over_sources(s.plan.diagnose, "diagnostics")
    relations = {"llama-small": "cross-family", "neox-small": "self"}
    assert dict(zip(found["source"], found["relation"], strict=True)) == relations
    assert {"diagnostic", "value"} <= set(found)


def test_gains_are_those_of_the_pairing(root: Path) -> None:
    s = opened("measure_utility", root, **MODELS)
    assert s.gains(s.pairing)["task"].tolist() == [*sorted(contributed.TASKS), SUITE]


def test_runs_that_exist_cost_nothing(root: Path) -> None:
    s = opened("pairing", root, **MODELS)
    runs = s.report_runs()
    for run in runs:
        s.compute(run)
    assert "Nothing is to be computed" in str(s.cost(runs).data)


def test_what_a_run_wrote_as_json_is_read(root: Path) -> None:
    s = opened("prepare_model", root, model="neox-small")
    assert s.record(s.plan.model("neox-small"), "facts")["training_tokens"] == 9


def test_a_run_of_another_stage_is_refused(root: Path) -> None:
    s = opened("prepare_benchmarks", root)
    with pytest.raises(
        ParameterError, match="run of prepare_suite: open the notebook prepare_suite"
    ):
        s.own(s.plan.suite())
    suite = opened("prepare_suite", root)
    assert suite.own(suite.plan.suite()).stage == "prepare_suite"


def test_runs_that_are_computed_together_fit_by_what_published_ones_took(
    ours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine that has computed none yet, their memory says how many fit side by side."""
    shutil.rmtree(ours / "runs")
    s = opened("self_train", ours, **MODELS)
    published = s.project.published[contributed.TIER]
    asked: list[float] = []

    def jobs(threads: int, memory: float) -> int:
        asked.append(memory)
        raise RunError("enough")

    monkeypatch.setattr(executor, "jobs", jobs)
    run = s.plan.self_train(s.pairing)
    with pytest.raises(RunError, match="enough"):
        s.compute_all([run])
    needed = {(r.stage, r.name) for r in dag.each_once([run])}
    assert {stage for stage, _ in needed} == {"prepare_model", "sample_corpus", "self_train"}
    took = [m.peak_memory_mib for m in published if (m.stage, m.name) in needed]
    assert len(took) == len(needed)
    assert asked == [max(took)]
