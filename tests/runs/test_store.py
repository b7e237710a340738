"""The store: atomicity and provenance, with a stage that does next to nothing."""

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

import pytest

from nbutils.config.schema import Parameters
from nbutils.protocol import prepare_suite, stages
from nbutils.protocol.compute import compute
from nbutils.protocol.text import TextError
from nbutils.runs import types
from nbutils.runs.store import MANIFEST
from nbutils.runs.types import Run, RunError
from support.project import open_store
from support.small_runs import Fake, corpus_run, suite_run
from support.tiny import silent

# Computes the run of `suite_run` with a stage that logs its start and waits for the file `go`.
WORKER = """
import sys, time
from pathlib import Path
from nbutils.config.schema import PrepareSuite, SuiteSize
from nbutils.protocol import prepare_suite, stages
from nbutils.protocol.compute import compute
from nbutils.runs.store import Store
from nbutils.runs.types import Run
import torch

root = Path(sys.argv[1])

def prepare(p, inputs, out, progress):
    (out / "half.txt").write_text("half")
    with (root / "calls").open("a") as log:
        log.write("x")
    while not (root / "go").exists():
        time.sleep(0.01)
    (out / "whole.txt").write_text("whole")

prepare_suite.run = prepare
size = SuiteSize(cloze=1, agreement=1, preposition=1)
run = Run("prepare_suite", "a suite", PrepareSuite(size=size, max_chars=240))
(root / sys.argv[2]).touch()
print(Store(root, stages.versions()).execute(run, compute, 1, lambda share: None).key)
"""


def test_a_finished_run_has_its_manifest_and_the_hashes_of_its_files(
    tmp_path: Path, fake: Fake
) -> None:
    store = open_store(tmp_path)
    source = store.execute(suite_run(), compute, 1, silent)
    labelled = Run("sample_corpus", "named", corpus_run().params, {"source": suite_run()},
                   {"source": "m", "temperature": 1.0})  # fmt: skip
    done = store.execute(labelled, compute, 1, silent)
    folder = store.path(labelled)
    assert folder == tmp_path / "runs" / "store" / "sample_corpus" / done.key
    assert json.loads((folder / MANIFEST).read_text("utf-8")) == done.model_dump(mode="json")
    assert done.outputs == {"deep/file.txt": hashlib.sha256(b"content").hexdigest()}
    assert done.inputs["source"].key == source.key
    assert done.inputs["source"].digest == source.digest
    assert done.parameters == labelled.params.model_dump(mode="json")
    assert (done.stage, done.name, done.seed, done.threads) == ("sample_corpus", "named", 0, 1)
    assert done.labels == {"source": "m", "temperature": 1.0}
    assert done.version == stages.versions()["sample_corpus"]
    assert done.code_digest == stages.code_digest("sample_corpus")
    assert {"python", "torch", "transformers", "nbutils"} <= done.versions.keys()
    assert done.peak_memory_mib > 10
    assert sorted(m.stage for m in open_store(tmp_path).all()) == ["prepare_suite", "sample_corpus"]


def test_one_key_is_computed_once(tmp_path: Path, fake: Fake) -> None:
    first = open_store(tmp_path).execute(suite_run(), compute, 1, silent)
    assert open_store(tmp_path).execute(suite_run(), compute, 1, silent) == first
    assert fake.calls == 1
    open_store(tmp_path).execute(suite_run(99), compute, 1, silent)
    assert fake.calls == 2


def test_an_exception_in_a_stage_leaves_nothing_to_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(p: Parameters, inputs: dict[str, Path], out: Path, progress: object) -> None:
        (out / "half.txt").write_text("half")
        raise TextError("no text")

    with monkeypatch.context() as patch:
        patch.setattr(prepare_suite, "run", broken)
        with pytest.raises(TextError, match="no text"):
            open_store(tmp_path).execute(suite_run(), compute, 1, silent)
    store = open_store(tmp_path)
    assert store.finished(suite_run()) is None
    assert store.all() == []
    monkeypatch.setattr(prepare_suite, "run", Fake())
    assert set(store.execute(suite_run(), compute, 1, silent).outputs) == {"deep/file.txt"}


def worker(root: Path, name: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WORKER, str(root), name]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} never came"
        time.sleep(0.01)


@pytest.mark.slow
def test_a_second_process_waits_and_computes_nothing(tmp_path: Path) -> None:
    processes = [worker(tmp_path, "one"), worker(tmp_path, "two")]
    for name in ("one", "two", "calls"):
        wait_for(tmp_path / name)
    time.sleep(0.3)
    (tmp_path / "go").touch()
    keys = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert keys[0] == keys[1] != ""
    assert (tmp_path / "calls").read_text() == "x"


def test_a_killed_process_leaves_no_run_and_a_rerun_completes(tmp_path: Path, fake: Fake) -> None:
    process = worker(tmp_path, "one")
    wait_for(tmp_path / "calls")
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    store = open_store(tmp_path)
    assert list(store.root.rglob("half.txt"))
    assert store.finished(suite_run()) is None
    assert store.all() == []
    done = store.execute(suite_run(), compute, 1, silent)
    assert set(done.outputs) == {"deep/file.txt"}
    assert not list(store.root.rglob("half.txt"))


def test_a_full_disk_is_one_message_and_keeps_earlier_runs(
    tmp_path: Path, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_store(tmp_path).execute(suite_run(), compute, 1, silent)

    def full(source: object, target: object) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(RunError, match="No space left on device; finished runs are kept"):
            open_store(tmp_path).execute(suite_run(99), compute, 1, silent)
    store = open_store(tmp_path)
    assert store.finished(suite_run(99)) is None
    assert store.finished(suite_run()) is not None
    assert store.execute(suite_run(99), compute, 1, silent).outputs


def test_an_error_without_a_number_is_still_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(p: Parameters, inputs: dict[str, Path], out: Path, progress: object) -> None:
        raise OSError("Parquet magic bytes not found")

    monkeypatch.setattr(prepare_suite, "run", broken)
    with pytest.raises(RunError, match="Parquet magic bytes not found"):
        open_store(tmp_path).execute(suite_run(), compute, 1, silent)


def test_a_cache_that_cannot_be_written_is_no_fault_of_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cached(p: Parameters, inputs: dict[str, Path], out: Path, progress: object) -> None:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), "/home/a/.cache")

    monkeypatch.setattr(prepare_suite, "run", cached)
    with pytest.raises(types.StoreError, match=r"/home/a/\.cache: Permission denied; .*HF_HOME"):
        open_store(tmp_path).execute(suite_run(), compute, 1, silent)


@pytest.mark.parametrize("content", [b"{", b'{"key": "x"}', b"\xff\xfe"])
def test_a_damaged_manifest_says_what_to_delete(tmp_path: Path, fake: Fake, content: bytes) -> None:
    open_store(tmp_path).execute(suite_run(), compute, 1, silent)
    folder = open_store(tmp_path).path(suite_run())
    (folder / MANIFEST).write_bytes(content)
    with pytest.raises(RunError, match=f"is damaged .*: delete {folder} and run again"):
        open_store(tmp_path).finished(suite_run())


def test_size_counts_the_bytes_of_the_files(tmp_path: Path, fake: Fake) -> None:
    store = open_store(tmp_path)
    done = store.execute(suite_run(), compute, 1, silent)
    manifest = (store.path(suite_run()) / MANIFEST).stat().st_size
    assert store.size(done) == len("content") + manifest
