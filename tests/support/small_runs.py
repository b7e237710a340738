"""Runs that take no time: stages that count their calls, and plans with other values."""

import dataclasses
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nbutils.config.schema import Parameters, PrepareSuite, SampleCorpus, SuiteSize
from nbutils.protocol import prepare_suite, sample_corpus, stages
from nbutils.protocol.plan import Plan
from nbutils.runs.types import Run

SIZE = SuiteSize(cloze=1, agreement=1, preposition=1)


def suite_run(max_chars: int = 240) -> Run:
    return Run("prepare_suite", "a suite", PrepareSuite(size=SIZE, max_chars=max_chars))


def corpus_run(
    role: str = "source", source: Run | None = None, changes: dict[str, float] | None = None
) -> Run:
    values = {"temperature": 1.0, "tokens": 10, "max_tokens": 5, "batch_size": 1, "seed": 0}
    stage = SampleCorpus.model_validate(values | (changes or {}))
    return Run("sample_corpus", "a corpus", stage, {role: source or suite_run()})


class Fake:
    """A stage that counts its calls and writes what it is told to."""

    def __init__(self, content: str = "content") -> None:
        self.calls = 0
        self.content = content

    def __call__(
        self,
        p: Parameters,
        inputs: dict[str, Path],
        out: Path,
        progress: Callable[[float], None],
    ) -> None:
        self.calls += 1
        (out / "deep").mkdir()
        (out / "deep" / "file.txt").write_text(self.content)


def changed(plan: Plan, **changes: object) -> Plan:
    """The plan of a tier with other values at its top level."""
    return dataclasses.replace(plan, tier=plan.tier.model_copy(update=changes))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    stage = Fake()
    monkeypatch.setattr(prepare_suite, "run", stage)
    monkeypatch.setattr(sample_corpus, "run", stage)
    return stage


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
