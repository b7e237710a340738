"""Many runs: a plan of them takes no time."""

import time
from pathlib import Path

import pytest

from nbutils.protocol.compute import compute
from nbutils.runs import dag, executor
from nbutils.runs.store import MANIFEST, Store
from nbutils.runs.types import Input, Manifest, Run
from support import toy
from support.project import open_store
from support.tiny import silent

RUNS = 1000
SECONDS = 2.0


def finish(store: Store, run: Run, like: Manifest) -> None:
    """Put a manifest in a run's place, without computing anything."""
    key = store.key(run)
    assert key is not None
    done = {role: store.finished(source) for role, source in run.inputs.items()}
    inputs = {r: Input(key=m.key, digest=m.digest) for r, m in done.items() if m is not None}
    values = {"key": key, "stage": run.stage, "name": run.name, "inputs": inputs}
    folder = store.folder(run.stage, key)
    folder.mkdir(parents=True)
    manifest = like.model_copy(update=values)
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=1), "utf-8")


def test_a_plan_of_a_thousand_finished_runs_takes_two_seconds_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the processor: how busy the machine is does not count."""
    made = toy.new(tmp_path, monkeypatch, copies=RUNS // 4)
    like = made.store.execute(made.runs[0], compute, 1, silent)
    store = made.store
    for run in made.runs[1:]:
        finish(store, run, like)
    started = time.process_time()
    planned = dag.plan(made.runs, open_store(tmp_path))
    assert time.process_time() - started < SECONDS
    assert [p.state for p in planned] == ["done"] * RUNS
    assert executor.execute(made.runs, open_store(tmp_path), compute, 1, [], lambda *_: None) == 0
