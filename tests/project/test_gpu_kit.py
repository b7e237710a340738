"""The GPU kit, rehearsed on the CPU at a hundredth of its shapes."""

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest

from benchmarks import gpu, shapes, ways
from nbutils.runs import environment

TESTS = Path(__file__).parents[1]
PARTS = ("machine", "correctness", "qwen2.5-0.5b", "steps")


def kit(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "benchmarks.gpu", *arguments]
    return subprocess.run(
        command, cwd=TESTS, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_every_way_is_measured_and_none_fails(tmp_path: Path) -> None:
    done = kit("--small", "--out", str(tmp_path), *PARTS)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / gpu.KIT).read_text())
    assert tuple(found) == PARTS, done.stderr
    (tests,) = found["correctness"]
    assert tests["tests"] == tests["skipped"] > 0  # they need an accelerator
    rows = [row for row in found["qwen2.5-0.5b"] if "stage" in row]
    assert [row for row in rows if "error" in row] == []
    assert Counter(row["stage"] for row in rows) == {"sampling": 4, "training": 2, "scoring": 3}
    assert all(row["rate"] > 0 for row in rows)
    profiled = (tmp_path / gpu.PROFILE).read_text()
    assert all(row["step"] in profiled for row in found["steps"])


@pytest.mark.slow
def test_a_part_that_takes_too_long_is_cut_and_the_next_one_begins(tmp_path: Path) -> None:
    done = kit("--small", "--seconds", "0", "--out", str(tmp_path), "machine", "steps")
    assert done.stdout.splitlines()[:2] == [
        f"{p}: cut, its time is up" for p in ("machine", "steps")
    ]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "there is no accelerator here; --small rehearses on a CPU"),
        (["sampling"], "no part is named sampling: choose from ['machine', 'correctness'"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    given: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr("sys.argv", ["gpu", "--out", str(tmp_path), *given])
    monkeypatch.setattr(environment, "accelerated", lambda: False)
    with pytest.raises(SystemExit):
        gpu.main()
    assert said in capsys.readouterr().err


def test_documents_end_as_often_as_they_are_to() -> None:
    """With probability 1/12 at every token, so after 10.5 tokens, as 24 is the most."""
    size = replace(shapes.SMALL, rows=256)
    for name in shapes.MODELS:
        lengths = ways.sample(shapes.model(name, size), size)
        assert fmean(lengths) == pytest.approx(10.5, rel=0.15)
