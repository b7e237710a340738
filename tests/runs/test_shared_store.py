"""What a store may meet: a full or read-only disk, a clock that jumps, runs gone or damaged."""

import os
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from nbutils.config.schema import Parameters
from nbutils.protocol import compute as actual
from nbutils.protocol import stages
from nbutils.protocol.packing import TrainingError
from nbutils.runs import dag, failures, garbage, store
from nbutils.runs.checkpoint import FILE, Checkpoint
from nbutils.runs.types import Progress, Run
from support import harness, toy
from support.harness import Grid, end, start

Compute = Callable[[], tuple[int, str]]


@pytest.fixture
def grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Grid:
    return toy.new(tmp_path / "project", monkeypatch)


@pytest.fixture
def compute(grid: Grid, tmp_path: Path) -> Compute:
    """Computes the grid in a process of its own; its exit status and what it said."""

    def call() -> tuple[int, str]:
        log = tmp_path / "log"
        log.unlink(missing_ok=True)
        return end(start(grid.compute, log)), log.read_text()

    return call


@pytest.fixture
def disk(grid: Grid) -> Iterator[Path]:
    """The store of the grid on a disk of two MiB."""
    place = grid.root / "runs"
    try:
        with harness.small_disk(place, "2m"):
            yield place
    except PermissionError as error:
        pytest.skip(f"no small disk can be mounted here: {error}")


def failed(grid: Grid) -> list[Run]:
    return [run for run in grid.runs if failures.find(grid.store, run) is not None]


# --- The disk -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (0, "No space left on device; finished runs are kept: make space or allow writing there"),
        (toy.STEPS, "): make space on the disk and run again, which resumes from the last check"),
    ],
)
def test_a_full_disk_is_told_and_loses_nothing(
    steps: int,
    message: str,
    grid: Grid,
    disk: Path,
    compute: Compute,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With and without a checkpoint to write first; a rerun completes without being told to."""
    monkeypatch.setattr(toy, "STEPS", steps)
    before = grid.store.execute(grid.runs[0], actual.compute, 1, lambda share: None)
    filler = disk / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(disk).free))
    status, said = compute()
    assert status == 1
    assert message in said
    assert grid.store.finished(grid.runs[0]) == before
    assert list(garbage.damage(grid.store, grid.store.all())) == []
    filler.unlink()
    assert failed(grid) == []
    assert compute()[0] == 0
    assert len(grid.finished()) == len(grid.runs)


def test_a_full_disk_stops_the_grid_before_it_computes_in_vain(
    grid: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of eight runs that could be started only those that were, with two workers."""
    many = toy.new(tmp_path / "many", monkeypatch, copies=4)

    def full(path: Path) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(store, "sync", full)
    assert end(start(many.compute, tmp_path / "log")) == 1
    assert 1 <= len(toy.computed(many)) <= 3
    assert "No space left on device" in (tmp_path / "log").read_text()


def test_a_read_only_store_is_read_and_what_is_missing_is_told(
    grid: Grid, disk: Path, compute: Compute
) -> None:
    assert compute()[0] == 0
    grid.delete(grid.runs[-1:])
    harness.remount(disk, "ro")
    assert [p.state for p in dag.plan(grid.runs, grid.store)] == ["done", "done", "done", "ready"]
    assert not any(grid.store.claimed(run) for run in grid.runs)
    assert list(garbage.damage(grid.store, grid.store.all())) == []
    status, said = compute()
    assert status == 1
    assert "shuffle_corpus of shuffled 0 failed: run 'shuffled 0' could not be written" in said
    assert "Read-only file system; finished runs are kept" in said
    harness.remount(disk, "rw")
    assert len(grid.finished()) == len(grid.runs) - 1
    assert compute()[0] == 0


# --- The clock ------------------------------------------------------------------------------


def test_a_clock_that_jumps_changes_nothing_but_dates(
    grid: Grid, compute: Compute, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the runs in 1970, the other half in 2100 and before the first, to the same bits."""
    assert compute()[0] == 0
    expected = grid.outputs()
    for year, deleted in ((2100, grid.runs), (1970, grid.runs[2:])):
        clock = SimpleNamespace(now=lambda zone, year=year: datetime(year, 1, 1, tzinfo=UTC))
        monkeypatch.setattr(store, "datetime", clock)
        grid.delete(deleted)
        assert compute()[0] == 0
    made = {m.name: m.created[:4] for m in grid.store.all()}
    assert made == {"corpus 0": "1970", "shuffled 0": "1970", "suite 0": "2100", "real 0": "2100"}
    assert grid.outputs() == expected
    assert {p.state for p in dag.plan(grid.runs, grid.store)} == {"done"}
    assert compute() == (0, "0\n")


# --- Other runs -----------------------------------------------------------------------------


def test_a_missing_input_is_computed_anew_and_nothing_else(grid: Grid, compute: Compute) -> None:
    assert compute()[0] == 0
    before = grid.finished()
    grid.delete(grid.runs[1:2])
    assert compute() == (0, "1\n")
    after = grid.finished()
    assert before.keys() == after.keys()
    assert sum(before[key] != after[key] for key in before) == 1


def test_an_input_that_goes_while_the_grid_runs_is_named_and_no_failure_of_the_run(
    grid: Grid, compute: Compute, tmp_path: Path
) -> None:
    suite, real, corpus, _ = grid.runs
    for run in (real, corpus):
        grid.store.execute(run, actual.compute, 1, lambda share: None)
    held = toy.hold(grid, suite)
    pid = start(grid.compute, tmp_path / "log")
    harness.until(lambda: grid.store.claimed(suite))
    grid.delete([corpus])
    held.unlink()
    assert end(pid) == 1
    said = (tmp_path / "log").read_text()
    assert "run 'shuffled 0' needs inputs that are not finished: corpus" in said
    assert failed(grid) == []
    assert compute() == (0, "2\n")


def test_a_damaged_table_of_an_input_is_named(grid: Grid, compute: Compute) -> None:
    """The run that reads it has not failed: with the damaged one deleted, both are computed."""
    suite, real = grid.runs[:2]
    for run in (suite, real):
        grid.store.execute(run, actual.compute, 1, lambda share: None)
    folder = grid.store.path(real)
    path = folder / "deep" / toy.TABLE
    path.write_bytes(path.read_bytes()[:100])
    status, said = compute()
    assert status == 1
    assert f"real_corpus of real 0: deep/{toy.TABLE} in {folder} are not as they were" in said
    assert "delete the folder and run again" in said
    assert failed(grid) == []
    assert grid.store.finished(suite) is not None
    grid.delete([real])
    assert compute()[0] == 0


def test_an_error_that_is_not_of_the_files_is_raised_as_it_is(grid: Grid) -> None:
    done = grid.store.execute(grid.runs[0], actual.compute, 1, lambda share: None)
    with pytest.raises(KeyError), garbage.damage_reported(grid.store, [done]):
        raise KeyError("mine")


def test_half_a_deleted_run_is_in_nobodys_way(grid: Grid, compute: Compute) -> None:
    """A person deleted the manifest and was interrupted: the run is computed to its place."""
    assert compute()[0] == 0
    expected = grid.outputs()
    (grid.store.path(grid.runs[0]) / store.MANIFEST).unlink()
    assert compute() == (0, "1\n")
    assert grid.outputs() == expected


def test_a_checkpoint_that_cannot_be_written_is_no_failure_of_the_run(
    grid: Grid, compute: Compute, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch does not say that the disk is full; with space the run goes on without being told."""

    def full(*_: object) -> None:
        raise RuntimeError("unexpected pos 576 vs 534")

    with monkeypatch.context() as patch:
        patch.setattr("torch.save", full)
        status, said = compute()
    assert status == 1
    assert "cannot be written (unexpected pos 576 vs 534): make space on the disk" in said
    assert failed(grid) == []
    assert compute()[0] == 0


# --- A loss that is not finite --------------------------------------------------------------


@pytest.mark.parametrize("saved", [True, False])
def test_a_loss_that_is_not_finite_names_the_step_and_the_last_good_checkpoint(
    saved: bool, grid: Grid, compute: Compute, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(p: Parameters, inputs: dict[str, Path], out: Path, progress: Progress) -> None:
        if saved:
            Checkpoint(out).save({"losses": [2.0, 1.0]})
        raise TrainingError("the loss is not finite at step 3 of 9: lower it")

    functions = {"real_corpus": diverge}
    monkeypatch.setattr(stages, "stage_function", lambda name: functions.get(name, toy.compute))
    real = grid.runs[1]
    key = grid.store.key(real)
    path = grid.store.root / "partial" / f"{key}.checkpoint" / FILE
    message = "the loss is not finite at step 3 of 9: lower it"
    if saved:
        message += f"; the last good checkpoint is that of step 2: {path}"
    status, said = compute()
    assert status == 1
    assert f"real_corpus of real 0 failed: {message}" in said
    assert grid.store.finished(grid.runs[0]) is not None
    failure = failures.find(grid.store, real)
    assert failure is not None
    assert failure.message == message
    assert path.exists() == saved
    assert toy.computed(grid) == [grid.store.key(grid.runs[0])]
