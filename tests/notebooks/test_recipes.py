"""The recipes of the page Extend, followed word for word in a copy of the project."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from support.guide import blocks
from support.project import new_project
from support.tiny import REPOSITORY

pytestmark = pytest.mark.slow


def follow(heading: str, root: Path) -> str:
    """Do what the blocks under a heading say; return what the commands printed.

    The command line is that of the copy: its code is what a recipe may change.
    """
    shutil.copytree(REPOSITORY / "src" / "nbutils", root / "src" / "nbutils")
    command = root.parent / "bin" / "nbutils"
    command.parent.mkdir()
    program = "from nbutils.cli import entry; entry()"
    command.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{program}' \"$@\"\n", "utf-8")
    command.chmod(0o755)
    paths = {"PATH": f"{command.parent}:{os.environ['PATH']}", "PYTHONPATH": str(root / "src")}
    tools = {"diff": ["git", "apply", "--recount", "-"], "console": ["bash", "-euo", "pipefail"]}
    printed = ""
    for language, text in blocks(heading, "book/extend.md"):
        done = subprocess.run(
            tools[language],
            input=text,
            cwd=root,
            env=os.environ | paths,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        printed += done.stdout
    return printed


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return new_project(tmp_path / "project")


def test_a_model(root: Path) -> None:
    printed = follow("## A model", root)
    assert "llama-small ← llama-large" in printed  # made here: a lineage of a student
    assert "smollm2-135m ← qwen2-5-0-5b" in printed  # pretrained: a source for the student
    (facts,) = root.glob("runs/store/prepare_model/*/facts.json")
    assert (root / "runs/executed/prepare_model.ipynb").is_file()
    assert '"parameters"' in facts.read_text("utf-8")


def test_a_text(root: Path) -> None:
    follow("## A text", root)
    (suite,) = root.glob("runs/store/prepare_suite/*/")
    kinds = {path.stem for path in suite.glob("manuals_*.jsonl")}
    assert kinds == {"manuals_cloze", "manuals_agreement", "manuals_preposition"}
    for path in root.glob("runs/store/measure_utility/*/utility.parquet"):
        assert kinds <= set(pd.read_parquet(path)["task"])


def test_a_benchmark(root: Path) -> None:
    follow("## A benchmark", root)
    tables = [pd.read_parquet(p) for p in root.glob("runs/store/measure_utility/*/*.parquet")]
    assert len(tables) == 2  # before and after
    for table in tables:
        assert table["task"].value_counts().to_dict() == {"commonsense_qa": 20}
