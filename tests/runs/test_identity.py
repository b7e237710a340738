"""The key of a run: what changes it, and what does not."""

from dataclasses import replace
from pathlib import Path

import pytest

from nbutils.config.schema import PrepareSuite
from nbutils.protocol import stages
from nbutils.protocol.compute import compute
from nbutils.runs.types import Run, RunError
from support.project import open_store
from support.small_runs import SIZE, Fake, corpus_run, suite_run
from support.tiny import silent


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0.9},
        {"tokens": 11},
        {"max_tokens": 6},
        {"batch_size": 2},
        {"seed": 1},
    ],
)
def test_key_changes_with_every_parameter(
    tmp_path: Path, fake: Fake, change: dict[str, float]
) -> None:
    store = open_store(tmp_path)
    store.execute(suite_run(), compute, 1, silent)
    key = store.key(corpus_run())
    assert key is not None
    assert store.key(corpus_run()) == key
    assert store.key(corpus_run(changes=change)) != key


def test_key_changes_with_a_nested_parameter(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    larger = PrepareSuite(size=SIZE.model_copy(update={"seed": 1}), max_chars=240)
    assert store.key(suite_run()) != store.key(Run("prepare_suite", "a suite", larger))


def test_key_does_not_depend_on_what_people_call_a_run(tmp_path: Path) -> None:
    run = suite_run()
    named = Run(run.stage, "another name", run.params, labels={"model": "x"})
    assert open_store(tmp_path).key(named) == open_store(tmp_path).key(run)


def test_key_changes_with_an_inputs_key_and_with_its_role(tmp_path: Path, fake: Fake) -> None:
    store = open_store(tmp_path)
    first, second = (
        store.execute(suite_run(), compute, 1, silent),
        store.execute(suite_run(99), compute, 1, silent),
    )
    assert first.digest == second.digest
    assert store.key(corpus_run()) != store.key(corpus_run(source=suite_run(99)))
    assert store.key(corpus_run()) != store.key(corpus_run(role="other"))


def test_key_changes_with_an_inputs_content(tmp_path: Path, fake: Fake) -> None:
    a, b = open_store(tmp_path / "a"), open_store(tmp_path / "b")
    a.execute(suite_run(), compute, 1, silent)
    fake.content = "something else"
    b.execute(suite_run(), compute, 1, silent)
    assert a.key(suite_run()) == b.key(suite_run())
    assert a.key(corpus_run()) != b.key(corpus_run())


def test_there_is_no_key_before_the_inputs_are_finished(tmp_path: Path, fake: Fake) -> None:
    store = open_store(tmp_path)
    assert store.key(corpus_run()) is None
    with pytest.raises(RunError, match="needs inputs that are not finished"):
        store.execute(corpus_run(), compute, 1, silent)
    with pytest.raises(RunError, match="'a corpus' is not finished"):
        store.path(corpus_run())
    assert fake.calls == 0


def test_key_changes_with_the_version_of_the_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = open_store(tmp_path).key(suite_run())
    raised = replace(stages.STAGES["prepare_suite"], version=99)
    monkeypatch.setitem(stages.STAGES, "prepare_suite", raised)
    assert open_store(tmp_path).key(suite_run()) != before
