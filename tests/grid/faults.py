"""The smoke grid under faults: `make faults`. Some twenty minutes on two cores.

A fault before and after every durable step; kills at random moments; four runners; a disk that is
too small. Whatever is done to the store, no finished run is lost or computed again, none is
damaged, and a rerun completes to the same bits as an undisturbed run.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from random import Random

import psutil
import pytest

from grid import harness, toy
from grid.failpoints import Fault, Seen
from grid.harness import Count, Grid, Outputs, end, start
from nbutils import checkpoints, grid, plans, results, upkeep
from nbutils.runs import STAGES, Run
from project import NBUTILS, new_project

TIER = "smoke"
KILLS = 60
NEEDED = 50  # of them; a runner that ended by itself was not killed
AS_COMMAND = 12  # every so-manieth is the command itself, with imports and spawned workers
CELLS = 1000
HEAVY = ("lm_eval", "peft", "scipy.stats", "sklearn.feature_extraction.text")
Tables = dict[str, str]


def smoke(root: Path) -> Grid:
    """A project of its own, and the grid of its smoke tier."""
    new_project(root)
    planned = plans.of(TIER, root)
    runs = planned.all()
    return Grid(root, runs, lambda: results.collect(planned.tier, TIER, runs, root))


def written(of: Grid) -> Path:
    """The folder of a grid's tables."""
    return of.root / results.YOURS / TIER


def named(run: Run) -> str:
    """A run as ``Seen`` has it."""
    return f"{run.stage} {run.name}"


def sweep(whole: Grid, seen: list[Seen], expected: Outputs, folder: Path) -> list[Count]:
    """Every step, moment and action: on the cheapest run that comes to it, or on the tables."""
    seconds = {f"{m.stage} {m.name}": m.wall_seconds for m in whole.store.all()}
    by_name = {named(run): run for run in whole.runs}
    cheapest: dict[str, str] = {}
    for each in seen:
        if each.run is not None:
            now = cheapest.get(each.step, each.run)
            cheapest[each.step] = min(now, each.run, key=lambda name: seconds[name])
    ends = [each.step for each in seen if each.step not in cheapest]

    def without_run(fault: Fault) -> None:
        whole.delete([by_name[cheapest[fault.step]]])

    def without_tables(fault: Fault) -> None:
        shutil.rmtree(written(whole), ignore_errors=True)

    only_runs = Grid(whole.root, whole.runs, lambda: None)
    counts = []
    for name, of, steps, prepare in (
        ("runs", only_runs, list(cheapest), without_run),
        ("tables", whole, ends, without_tables),
    ):
        place = folder / f"faults in {name}"
        place.mkdir()
        among = harness.faults(steps, every=True)
        counts.append(harness.sweep(of, among, prepare, expected, place))
        print(f"{len(set(steps))} steps of {name}: {counts[-1]}", flush=True)
    return counts


def kills(expected: Outputs, seconds: float, folder: Path) -> tuple[Count, Tables]:
    """Kill runners of a fresh grid, which takes some seconds, all along its way."""
    of, log = smoke(folder / "killed"), folder / "killed.log"

    def begin(number: int) -> int:
        if number % AS_COMMAND:
            return start(of.compute, log)
        with log.open("ab") as file:
            command = [*NBUTILS, "run", TIER]
            runner = subprocess.Popen(
                command, cwd=of.root, stdout=file, stderr=file, start_new_session=True
            )
        process = psutil.Process(runner.pid)

        def busy() -> bool:
            ended = process.status() == psutil.STATUS_ZOMBIE
            return ended or any(of.store.claimed(run) for run in of.runs)

        harness.until(busy, 600)
        return runner.pid

    count = harness.random_kills(of, begin, KILLS, seconds / KILLS, Random(0))
    if count.kills < NEEDED:
        count.wrong["missed"].append(f"{count.kills} kills where {NEEDED} were meant")
    share = len(of.finished()) / len(of.runs)
    print(f"after {count.kills} kills {share:.0%} of the runs were finished", flush=True)
    harness.rerun(of, "kills", expected, count, log)
    return count, harness.tables(written(of))


def four(expected: Outputs, folder: Path) -> tuple[Count, Tables]:
    """Four commands on one fresh store, a few seconds apart."""
    of, count = smoke(folder / "four"), Count()
    runners = []
    for _ in range(4):
        command = [*NBUTILS, "run", TIER]
        pipe = subprocess.PIPE
        runners.append(
            subprocess.Popen(command, cwd=of.root, stdout=pipe, stderr=subprocess.STDOUT, text=True)
        )
        time.sleep(3)
    said = [runner.communicate()[0] for runner in runners]
    shares = [int(n) for text in said for n in re.findall(r"(\d+) runs computed", text)]
    print(f"four runners computed {shares} of {len(of.runs)} runs", flush=True)
    if sum(shares) != len(of.runs) or len(of.finished()) != len(of.runs):
        count.wrong["lost"].append(f"the runners computed {shares} of {len(of.runs)}: {said}")
    store = of.store
    count.wrong["damaged"] += upkeep.damage(store, store.all())
    harness.rerun(of, "four runners", expected, count, folder / "four.log")
    return count, harness.tables(written(of))


def too_small(expected: Outputs, size: int, folder: Path) -> tuple[Count, Tables]:
    """The grid on a disk with half of the bytes that it takes, which is enlarged afterwards."""
    of, log = smoke(folder / "small"), folder / "small.log"
    count, found = Count(), Tables()
    place = of.root / "runs"
    try:
        with harness.small_disk(place, f"{size // 2}"):
            with harness.watched(of, "a full disk", count):
                status = end(start(of.compute, log))
            if status != 1 or "No space left on device; finished runs are kept" not in (
                log.read_text()
            ):
                count.wrong["missed"].append(f"the disk did not fill up: {status}, see {log}")
            print(f"the disk was full after {len(of.finished())} runs", flush=True)
            count.faults += 1
            harness.remount(place, f"size={4 * size}")
            harness.rerun(of, "a full disk", expected, count, log)
            found = harness.tables(written(of))
    except PermissionError as error:
        print(f"skipped: no small disk can be mounted here: {error}")
    return count, found


def overhead(folder: Path) -> None:
    """Print what scheduling costs, and a plan of many finished runs."""
    with pytest.MonkeyPatch.context() as patch:
        made = toy.new(folder / "many", patch, copies=CELLS // 4)
        of = Grid(made.root, made.runs, lambda: None)
        began = time.monotonic()
        assert end(start(lambda: (of.compute(), time.process_time())[1], folder / "many.log")) == 0
    each = 1000 * (time.monotonic() - began) / CELLS
    own = 1000 * float((folder / "many.log").read_text()) / CELLS
    began = time.monotonic()
    states = {p.state for p in grid.plan(of.runs, of.store)}
    print(
        f"{CELLS} runs of next to nothing, two side by side: {each:.1f} ms each, of which the "
        f"runner's own {own:.1f} ms; a plan of them, all {states}: {time.monotonic() - began:.2f} s"
    )


def main() -> None:
    """Print what was done and what came of it; exit with 1 where something is wrong."""
    modules = {stage.module for stage in STAGES.values()} | {"summaries", "tables"}
    for module in (*(f"nbutils.{name}" for name in sorted(modules)), *HEAVY):
        import_module(module)  # once, before anything is forked
    os.environ.update(grid.QUIET)
    checkpoints.SECONDS = 0.0  # after every step, so that there is one to be killed in
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    print(f"in {folder}", flush=True)
    whole = smoke(folder / "whole")
    began = time.monotonic()
    seen = harness.discover(whole, folder / "seen")
    seconds = time.monotonic() - began
    expected, made = whole.outputs(), harness.tables(written(whole))
    size = sum(map(whole.store.size, whole.store.all()))
    print(
        f"undisturbed: {len(expected)} runs, {size / 2**20:.0f} MiB, {len(made)} tables in "
        f"{seconds:.0f} s",
        flush=True,
    )
    shortest = min(whole.store.all(), key=lambda m: m.wall_seconds)
    whole.delete([run for run in whole.runs if named(run) == f"{shortest.stage} {shortest.name}"])
    seen += harness.discover(whole, folder / "again")  # what a store that is in use comes to
    wrong = [line for count in sweep(whole, seen, expected, folder) for line in count.lines]
    parts: dict[str, Callable[[], tuple[Count, Tables]]] = {
        "kills": lambda: kills(expected, seconds, folder),
        "four runners": lambda: four(expected, folder),
        "a full disk": lambda: too_small(expected, size, folder),
    }
    for name, part in parts.items():
        count, found = part()
        print(f"{name}: {count}", flush=True)
        wrong += count.lines
        if count.reruns and found != made:
            wrong.append(f"{name}: the tables differ")
    if harness.tables(written(whole)) != made:
        wrong.append("faults: the tables differ")
    overhead(folder)
    print("\n".join(wrong) or "0 lost, 0 damaged, 0 differing: every table is the undisturbed one")
    if not wrong:
        shutil.rmtree(folder)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
