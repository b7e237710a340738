"""Accelerators: who holds which."""

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbutils.runs import gpus
from nbutils.runs.gpus import VISIBLE, held
from nbutils.runs.types import RunError

HOLDER = """
import sys, time
from nbutils.runs.gpus import held
print("asks", flush=True)
with held(int(sys.argv[1])) as own:
    print(",".join(own), flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def _two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with two accelerators that nobody else uses."""
    monkeypatch.setenv(VISIBLE, "4,7")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(gpus, "POLL_SECONDS", 0.01)


@pytest.fixture
def holders() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that hold accelerators; ended with the test."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


def hold(count: int) -> subprocess.Popen[str]:
    """Start a process that holds so many; it prints which."""
    command = [sys.executable, "-c", HOLDER, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def said(holder: subprocess.Popen[str]) -> str:
    """The next line of a process."""
    assert holder.stdout is not None
    return holder.stdout.readline().strip()


def test_each_holder_has_its_own_and_sees_no_other() -> None:
    with held(1) as first:
        assert (first, os.environ[VISIBLE]) == (["4"], "4")
        os.environ[VISIBLE] = "4,7"  # another process would see both
        with held(1) as second:
            assert (second, os.environ[VISIBLE]) == (["7"], "7")
    with held(2) as both:
        assert (both, os.environ[VISIBLE]) == (["4", "7"], "4,7")


def test_what_was_visible_is_so_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyError), held(1):
        raise KeyError
    assert os.environ[VISIBLE] == "4,7"
    monkeypatch.delenv(VISIBLE)
    monkeypatch.setattr(gpus, "visible", lambda: ["0"])
    with held(1):
        assert os.environ[VISIBLE] == "0"
    assert VISIBLE not in os.environ


def test_a_killed_holder_holds_nothing(holders: list[subprocess.Popen[str]]) -> None:
    """A second process waits for what the first holds, and gets it when that is killed."""
    holders.append(hold(2))
    assert [said(holders[0]), said(holders[0])] == ["asks", "4,7"]
    holders.append(hold(1))
    assert said(holders[1]) == "asks"
    waiting = holders[1].stdout
    assert waiting is not None
    assert select.select([waiting], [], [], 1) == ([], [], [])
    holders[0].kill()
    assert said(holders[1]) == "4"


def test_more_than_there_are_is_an_error() -> None:
    with pytest.raises(RunError, match=r"3 .* asked for, and 2 are here \(4, 7\): ask for at"):
        held(3).__enter__()


@pytest.mark.parametrize(("count", "devices"), [(0, "4,7"), (2, "")])
def test_none_asked_for_or_none_here_holds_none(
    count: int, devices: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VISIBLE, devices)
    with held(count) as own:
        assert own == []
        assert os.environ[VISIBLE] == devices
