"""Runs: identity, atomicity and provenance, with a stage that does next to nothing."""

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest

from nbutils.config import tiers
from nbutils.config.schema import Parameters, PrepareSuite, SampleCorpus, SuiteSize
from nbutils.errors import ParameterError
from nbutils.protocol import prepare_suite, sample_corpus, stages
from nbutils.protocol.compute import compute
from nbutils.protocol.text import TextError
from nbutils.runs import source_code, types
from nbutils.runs.store import MANIFEST
from nbutils.runs.types import Run, RunError
from support.project import open_store
from support.tiny import silent

SIZE = SuiteSize(cloze=1, agreement=1, preposition=1)
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


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    stage = Fake()
    monkeypatch.setattr(prepare_suite, "run", stage)
    monkeypatch.setattr(sample_corpus, "run", stage)
    return stage


# --- Identity -------------------------------------------------------------------------------


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


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package's sources, whose code is digested instead of the installed one."""
    folder = tmp_path / "package"
    shutil.copytree(source_code.PACKAGE, folder)
    monkeypatch.setattr(source_code, "PACKAGE", folder)
    source_code.module_digest.cache_clear()
    return folder


@pytest.mark.parametrize("stage", stages.STAGES)
def test_a_renamed_or_moved_function_changes_no_key(
    stage: str, tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever happens to the code of a stage: its version alone is part of the key."""
    made = stages.STAGES[stage]
    run = Run(stage, "a run", suite_run().params)
    before, code = open_store(tmp_path).key(run), stages.code_digest(stage)
    source = (package / "protocol" / f"{made.module}.py").read_text("utf-8")
    function = stages.stage_function(stage).__name__
    renamed = source.replace(f"def {function}(", "def under_another_name(")
    assert renamed != source
    (package / "protocol" / "elsewhere.py").write_text(renamed, "utf-8")
    moved = replace(made, module="elsewhere")
    monkeypatch.setitem(stages.STAGES, stage, moved)
    source_code.module_digest.cache_clear()
    assert stages.code_digest(stage) != code
    assert open_store(tmp_path).key(run) == before


def every_digest() -> dict[str, str]:
    source_code.module_digest.cache_clear()
    return {stage: stages.code_digest(stage) for stage in stages.STAGES}


def changed(path: Path, old: str, new: str) -> set[str]:
    """Stages whose digest changes with an edit."""
    before, source = every_digest(), path.read_text("utf-8")
    assert old in source
    path.write_text(source.replace(old, new, 1), "utf-8")
    after = every_digest()
    return {stage for stage in before if before[stage] != after[stage]}


NEWER_SYNTAX = '''
"""Code that versions of Python spell, or parse, in ways of their own."""
from elsewhere import UserError

@total
class Some(UserError, metaclass=Kind):
    """A class."""
    size: int = 3

def said(name, /, *parts, sep="\\n", **rest):
    return f"{name!r:>9} {rest['a']} {sep.join('-' for _ in parts)}" + u"x"

match said(1):
    case {"a": [*_, 2.5e-3]} | None if (n := 1j):
        ...
'''


def test_the_digest_of_code_is_that_of_every_version_of_python() -> None:
    """The tests run in the oldest and in the newest version that is supported."""
    assert source_code.code_digest(NEWER_SYNTAX)[:16] == "8a26858baabda3dd"


def test_comments_docstrings_and_layout_are_no_code(package: Path) -> None:
    path = package / "protocol" / "sample_corpus.py"
    assert changed(path, "    spent = 0\n", "    # a remark\n\n    spent = (0)\n") == set()
    assert changed(path, '"""Documents until', '"""All documents until') == set()
    assert changed(path, '"""Sample a corpus', '"""Write a corpus') == set()


def test_a_docstring_where_there_was_none_is_no_code(package: Path) -> None:
    new = 'def _hash(text: str) -> int:\n    """A hash."""\n'
    path = package / "protocol" / "text.py"
    assert changed(path, "def _hash(text: str) -> int:\n", new) == set()


def test_a_string_that_is_no_docstring_is_code(package: Path) -> None:
    path = package / "protocol" / "sample_corpus.py"
    assert "sample_corpus" in changed(path, '"n_tokens": len', '"tokens": len')


def test_a_change_reaches_every_stage_that_imports_the_module(package: Path) -> None:
    protocol = package / "protocol"
    assert {"self_train", "trace"} <= changed(protocol / "self_train.py", "all-linear", "all")
    assert "prepare_model" in changed(protocol / "prepare_model.py", "4_000_000", "4_000_001")
    found = changed(protocol / "packing.py", "OPEN_ROWS = 32", "OPEN_ROWS = 9")
    assert {"prepare_model", "self_train", "measure_proxies"} <= found
    assert "prepare_suite" not in found
    found = changed(protocol / "text.py", "SHINGLE_WORDS = 8", "SHINGLE_WORDS = 9")
    assert {"prepare_model", "prepare_suite", "embed_texts"} <= found
    assert "self_train" not in found


# --- Store ----------------------------------------------------------------------------------


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


def test_project_root_is_the_nearest_folder_with_tiers(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = project / "a" / "b"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    assert tiers.project_root() == project.resolve()


def test_no_project_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tiers, "__file__", str(tmp_path / "a" / "b" / "c" / "d.py"))
    with pytest.raises(ParameterError, match="no folder notebooks/tiers"):
        tiers.project_root()
