"""The code of a stage: its digest, and that no key depends on it."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from nbutils.protocol import stages
from nbutils.runs import source_code
from nbutils.runs.types import Run
from support.project import open_store
from support.small_runs import suite_run


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package's sources, whose code is digested instead of the installed one."""
    folder = tmp_path / "package"
    shutil.copytree(source_code.PACKAGE, folder)
    monkeypatch.setattr(source_code, "PACKAGE", folder)
    source_code.module_digest.cache_clear()
    return folder


@pytest.mark.parametrize("stage", stages.STAGES)
def test_a_stage_is_computed_by_the_module_that_it_names(stage: str) -> None:
    """Otherwise its page prints, and its digest covers, code that does not run."""
    named = f"nbutils.protocol.{stages.STAGES[stage].module}"
    assert stages.stage_function(stage).__module__ == named


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
    remark = "    # a remark\n\n    rows, spent = [], (0)\n"
    assert changed(path, "    rows, spent = [], 0\n", remark) == set()
    assert changed(path, '"""Sample documents', '"""All that sample documents') == set()
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
    assert {"self_train", "trace"} <= changed(protocol / "lora.py", "all-linear", "all")
    assert "prepare_model" in changed(protocol / "prepare_model.py", "4_000_000", "4_000_001")
    found = changed(protocol / "packing.py", "OPEN_ROWS = 32", "OPEN_ROWS = 9")
    assert {"prepare_model", "self_train", "measure_proxies"} <= found
    assert "prepare_suite" not in found
    found = changed(protocol / "text.py", "SHINGLE_WORDS = 8", "SHINGLE_WORDS = 9")
    assert {"prepare_model", "prepare_suite", "embed_texts"} <= found
    assert "self_train" not in found
