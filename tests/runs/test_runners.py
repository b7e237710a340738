"""Several runners on one store: each run once, claims of the living and of the dead."""

import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from nbutils.runs import executor, garbage
from support import harness, toy
from support.harness import Grid, end, start, until


@pytest.fixture
def grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Grid:
    return toy.new(tmp_path / "project", monkeypatch)


def test_four_runners_compute_each_run_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Started together; what each says that it computed adds up to the plan."""
    grid = toy.new(tmp_path / "project", monkeypatch, copies=5)
    logs = [tmp_path / f"log {n}" for n in range(4)]
    runners = [start(grid.compute, log) for log in logs]
    assert [end(pid) for pid in runners] == [0, 0, 0, 0], [log.read_text() for log in logs]
    assert set(Counter(toy.computed(grid)).values()) == {1}
    assert len(grid.finished()) == len(grid.runs) == len(toy.computed(grid))
    assert sum(int(log.read_text()) for log in logs) == len(grid.runs)
    assert list(garbage.damage(grid.store, grid.store.all())) == []


def test_a_slow_runs_claim_is_left_alone_while_others_are_computed(
    grid: Grid, tmp_path: Path
) -> None:
    """Of two runners the second computes all that does not need what the first one holds."""
    suite, _, corpus, shuffled = grid.runs
    held = toy.hold(grid, suite)
    first = start(grid.compute, tmp_path / "first")
    until(lambda: grid.store.claimed(suite))
    second = start(grid.compute, tmp_path / "second")
    until(lambda: grid.store.finished(corpus) is not None)
    assert grid.store.claimed(suite)
    assert grid.store.finished(suite) is None
    held.unlink()
    assert (end(first), end(second)) == (0, 0)
    assert set(Counter(toy.computed(grid)).values()) == {1}
    assert grid.store.finished(shuffled) is not None
    assert not any(grid.store.claimed(run) for run in grid.runs)


def test_a_dead_runners_claim_is_taken_over(grid: Grid, tmp_path: Path) -> None:
    """A second runner that waits for the first takes over, however the first one dies."""
    suite = grid.runs[0]
    held = toy.hold(grid, suite)
    first = start(grid.compute, tmp_path / "first")
    until(lambda: grid.store.claimed(suite))
    second = start(grid.compute, tmp_path / "second")
    harness.kill(first)
    until(lambda: toy.computed(grid).count(suite_key(grid)) == 2)
    held.unlink()
    assert end(second) == 0
    assert len(grid.finished()) == len(grid.runs)


def suite_key(grid: Grid) -> str:
    key = grid.store.key(grid.runs[0])
    assert key is not None
    return key


def test_workers_end_with_their_runner(grid: Grid, tmp_path: Path) -> None:
    """Else they would hold claims and memory for ever, with nobody to tell them to stop."""
    toy.hold(grid, grid.runs[0])
    pid = start(grid.compute, tmp_path / "log")
    until(lambda: grid.store.claimed(grid.runs[0]))
    os.kill(pid, signal.SIGKILL)
    assert end(pid) == -signal.SIGKILL  # which waits for the workers
    assert not grid.store.claimed(grid.runs[0])


def test_a_killed_worker_takes_no_other_run_with_it(grid: Grid, tmp_path: Path) -> None:
    """The run beside it is finished, what does not need it is computed, and the rest waits."""
    suite, real = grid.runs[:2]
    both = [toy.hold(grid, suite), toy.hold(grid, real)]
    pid = start(grid.compute, tmp_path / "log")
    until(lambda: len(toy.computed(grid)) == 2)
    # whichever of the two runs this worker has
    os.kill(min(harness.workers(pid)), signal.SIGKILL)
    for held in both:
        held.unlink()
    assert end(pid) == 1
    said = (tmp_path / "log").read_text()
    assert executor.KILLED in said
    assert "1 failed" in said
    found = {run.name for run in grid.runs if grid.store.finished(run) is not None}
    assert found in ({"real 0", "corpus 0"}, {"suite 0"})
    assert end(start(grid.compute, tmp_path / "log")) == 0
    assert len(grid.finished()) == len(grid.runs)
