"""Faults at every durable step, and kills at random: nothing is lost, nothing differs."""

from pathlib import Path
from random import Random

import pytest

from nbutils.results.layout import LOCAL
from support import harness, toy
from support.failpoints import ACTIONS
from support.harness import Count, end, start

DURABLE = {
    "lock in runs.store.execute",
    "unlock in runs.store.execute",
    "lock in runs.store.claimed",
    "make folder in runs.store.execute",
    "write in runs.store._compute",
    "write table in protocol.compute.compute",
    "fsync in runs.store._compute",
    "rename in runs.store.execute",
    "fsync in runs.store.execute",
    "write checkpoint in runs.checkpoint.save",
    "rename in runs.checkpoint.save",
    "delete folder in runs.store.execute",
    "fsync in files.replacing",
    "rename in files.replacing",
}


@pytest.mark.slow
def test_a_fault_at_every_step_loses_nothing_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The short sweep: before and after every step one kind of fault; `make faults` does all."""
    grid = toy.new(tmp_path / "project", monkeypatch)
    assert end(start(grid.compute, tmp_path / "log")) == 0
    grid.delete(grid.runs)
    steps = [seen.step for seen in harness.discover(grid, tmp_path / "seen")]
    assert set(steps) >= DURABLE
    expected = grid.outputs()
    tables = harness.tables(grid.root / LOCAL / "toy")
    assert len(expected) == len(grid.runs)
    among = list(harness.faults(steps, every=False))
    assert {fault.action for fault in among} == set(ACTIONS)
    count = harness.sweep(grid, among, lambda _: grid.delete(grid.runs), expected, tmp_path)
    print(count)
    assert count.lines == []
    assert count.faults == 2 * len(set(steps))
    assert harness.tables(grid.root / LOCAL / "toy") == tables


@pytest.mark.slow
def test_kills_at_random_moments_lose_nothing_and_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = toy.new(tmp_path / "whole", monkeypatch, copies=4)
    assert end(start(whole.compute, tmp_path / "log")) == 0
    grid = toy.new(tmp_path / "project", monkeypatch, copies=4)
    log = tmp_path / "log"
    count = harness.random_kills(grid, lambda _: start(grid.compute, log), 12, 0.1, Random(0))
    harness.rerun(grid, "kills", whole.outputs(), count, log)
    assert count.lines == []
    assert count.kills > 0
    assert harness.tables(grid.root / LOCAL / "toy") == harness.tables(whole.root / LOCAL / "toy")


def test_what_is_wrong_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The judge itself: a run that goes, one that is changed, and a rerun that fails."""
    grid = toy.new(tmp_path / "project", monkeypatch)
    assert end(start(grid.compute, tmp_path / "log")) == 0
    expected, count = grid.outputs(), Count()
    with harness.watched(grid, "harm", count):
        (grid.store.path(grid.runs[-1]) / "deep" / toy.TABLE).write_bytes(b"")
        grid.delete(grid.runs[:1])
    assert [len(count.wrong[kind]) for kind in ("lost", "damaged")] == [1, 1]
    grid.delete(grid.runs[1:2])
    count = Count()
    harness.rerun(grid, "harm", {key: {} for key in expected}, count, tmp_path / "log")
    assert len(count.wrong["incomplete"]) == 1  # the table of the changed run cannot be read
    assert len(count.wrong["differing"]) == len(expected)
