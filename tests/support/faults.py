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
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from random import Random

import psutil
import pytest

from nbutils.protocol import plan, schedule
from nbutils.protocol.stages import STAGES
from nbutils.results import collect
from nbutils.results.layout import LOCAL
from nbutils.results.project import Project
from nbutils.runs import checkpoint, dag, executor, garbage
from nbutils.runs.types import Run
from support import harness, toy
from support.failpoints import Fault, Seen
from support.harness import Count, Grid, Outputs, end, start
from support.project import NBUTILS, new_project

TIER = "smoke"
SHARES = 4  # of the sweep, each with a copy of the finished grid: so many may go side by side
KILLS = 60
NEEDED = 50  # of them; a runner that ended by itself was not killed
AS_COMMAND = 12  # every so-manieth is the command itself, with imports and spawned workers
CELLS = 1000
HEAVY = ("lm_eval", "peft", "scipy.stats", "sklearn.feature_extraction.text")
Tables = dict[str, str]


@dataclass(frozen=True)
class Undisturbed:
    """A grid that nothing happened to: where it is, what it came to, what it holds and took."""

    folder: Path
    seen: list[Seen]
    outputs: Outputs
    tables: Tables
    seconds: float
    size: int


def opened(root: Path) -> Grid:
    """The smoke grid of a project."""
    planned = plan.load_plan(TIER, root)
    runs = schedule.of_tier(planned)
    return Grid(root, runs, lambda: collect.collect(TIER, runs, Project(root)))


def written(of: Grid) -> Path:
    """The folder of a grid's tables."""
    return of.root / LOCAL / TIER


def named(run: Run) -> str:
    """A run as ``Seen`` has it."""
    return f"{run.stage} {run.name}"


def undisturbed(folder: Path) -> Undisturbed:
    """Compute the grid, and one run of it again: a store that is in use comes to more steps."""
    whole = opened(new_project(folder / "whole"))
    began = time.monotonic()
    seen = harness.discover(whole, folder / "seen")
    seconds = time.monotonic() - began
    outputs, tables = whole.outputs(), harness.tables(written(whole))
    size = sum(map(whole.store.size, whole.store.all()))
    shortest = min(whole.store.all(), key=lambda m: m.wall_seconds)
    whole.delete([run for run in whole.runs if named(run) == f"{shortest.stage} {shortest.name}"])
    seen += harness.discover(whole, folder / "again")
    print(
        f"undisturbed: {len(outputs)} runs, {size / 2**20:.0f} MiB, {len(tables)} tables in "
        f"{seconds:.0f} s, {len({each.step for each in seen})} durable steps",
        flush=True,
    )
    return Undisturbed(folder, seen, outputs, tables, seconds, size)


# --- What is done to it ---------------------------------------------------------------------


def sweep(of: Undisturbed, share: int) -> tuple[Count, Tables]:
    """Every step, moment and action: on the cheapest run that comes to it, or on the tables."""
    place = of.folder / f"share {share}"
    mine = opened(shutil.copytree(of.folder / "whole", place / "project"))
    seconds = {f"{m.stage} {m.name}": m.wall_seconds for m in mine.store.all()}
    by_name = {named(run): run for run in mine.runs}
    cheapest: dict[str, str] = {}
    for each in of.seen:
        if each.run is not None:
            now = cheapest.get(each.step, each.run)
            cheapest[each.step] = min(now, each.run, key=lambda name: seconds[name])
    ends = [each.step for each in of.seen if each.step not in cheapest]

    def without_run(fault: Fault) -> None:
        mine.delete([by_name[cheapest[fault.step]]])

    def without_tables(fault: Fault) -> None:
        shutil.rmtree(written(mine), ignore_errors=True)

    only_runs = Grid(mine.root, mine.runs, lambda: None)
    count = Count()
    for name, swept, steps, prepare in (
        ("runs", only_runs, list(cheapest), without_run),
        ("tables", mine, ends, without_tables),
    ):
        (place / name).mkdir()
        among = list(harness.faults(steps, every=True))[share::SHARES]
        count += harness.sweep(swept, among, prepare, of.outputs, place / name)
    harness.rerun(mine, "all faults", of.outputs, count, place / "log")
    return count, harness.tables(written(mine))


def kills(of: Undisturbed) -> tuple[Count, Tables]:
    """Kill runners of a fresh grid at random moments, all along its way."""
    mine, log = opened(new_project(of.folder / "killed")), of.folder / "killed.log"
    commands = []  # kept, since one that is forgotten is waited for, and then has no status left

    def begin(number: int) -> int:
        if number % AS_COMMAND:
            return start(mine.compute, log)
        with log.open("ab") as file:
            command = [*NBUTILS, "run", TIER]
            runner = subprocess.Popen(
                command, cwd=mine.root, stdout=file, stderr=file, start_new_session=True
            )
        commands.append(runner)
        process = psutil.Process(runner.pid)

        def busy() -> bool:
            ended = process.status() == psutil.STATUS_ZOMBIE
            return ended or any(mine.store.claimed(run) for run in mine.runs)

        harness.until(busy, harness.PATIENCE)
        return runner.pid

    count = harness.random_kills(mine, begin, KILLS, of.seconds / KILLS / 2, Random(0))
    if count.kills < NEEDED:
        count.wrong["missed"].append(f"{count.kills} kills where {NEEDED} were meant")
    share = len(mine.finished()) / len(mine.runs)
    if share < 1 / 2:
        count.wrong["missed"].append(f"after all kills only {share:.0%} of the runs were finished")
    print(f"after {count.kills} kills {share:.0%} of the runs were finished", flush=True)
    harness.rerun(mine, "kills", of.outputs, count, log)
    return count, harness.tables(written(mine))


def four(of: Undisturbed) -> tuple[Count, Tables]:
    """Four commands on one fresh store, a few seconds apart."""
    mine, count = opened(new_project(of.folder / "four")), Count()
    runners = []
    for _ in range(4):
        command, pipe = [*NBUTILS, "run", TIER], subprocess.PIPE
        runners.append(
            subprocess.Popen(
                command, cwd=mine.root, stdout=pipe, stderr=subprocess.STDOUT, text=True
            )
        )
        time.sleep(3)
    said = [runner.communicate()[0] for runner in runners]
    shares = [int(n) for text in said for n in re.findall(r"(\d+) runs computed", text)]
    print(f"four runners computed {shares} of {len(mine.runs)} runs", flush=True)
    if sum(shares) != len(mine.runs) or len(mine.finished()) != len(mine.runs):
        count.wrong["lost"].append(f"the runners computed {shares} of {len(mine.runs)}: {said}")
    store = mine.store
    count.wrong["damaged"] += garbage.damage(store, store.all())
    harness.rerun(mine, "four runners", of.outputs, count, of.folder / "four.log")
    return count, harness.tables(written(mine))


def too_small(of: Undisturbed) -> tuple[Count, Tables]:
    """The grid on a disk with half of the bytes that it takes, which is enlarged afterwards."""
    mine, log, count = opened(new_project(of.folder / "small")), of.folder / "small.log", Count()
    place = mine.root / "runs"
    try:
        with harness.small_disk(place, f"{of.size // 2}"):
            with harness.watched(mine, "a full disk", count):
                status = end(start(mine.compute, log))
            count.faults += 1
            if status != 1 or "No space left on device" not in log.read_text():
                count.wrong["missed"].append(f"the disk did not fill up: {status}, see {log}")
            print(f"the disk was full after {len(mine.finished())} runs", flush=True)
            harness.remount(place, f"size={4 * of.size}")
            harness.rerun(mine, "a full disk", of.outputs, count, log)
            return count, harness.tables(written(mine))
    except PermissionError as error:
        print(f"skipped: no small disk can be mounted here: {error}")
        return count, of.tables


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
    states = {p.state for p in dag.plan(of.runs, of.store)}
    print(
        f"{CELLS} runs of next to nothing, two side by side: {each:.1f} ms each, of which the "
        f"runner's own {own:.1f} ms; a plan of them, all {states}: {time.monotonic() - began:.2f} s"
    )


def main() -> None:
    """Print what was done and what came of it; exit with 1 where something is wrong."""
    modules = {stage.module for stage in STAGES.values()} | {"summaries", "tables"}
    for module in (*(f"nbutils.protocol.{name}" for name in sorted(modules)), *HEAVY):
        import_module(module)  # once, before anything is forked
    os.environ.update(executor.QUIET)
    checkpoint.SECONDS = 0.0  # after every step, so that there is one to be killed in
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    print(f"in {folder}", flush=True)
    overhead(folder)
    of = undisturbed(folder)
    parts = [partial(sweep, share=share) for share in range(SHARES)]
    parts += [partial(part) for part in (kills, four, too_small)]
    wrong: list[str] = []
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("fork")) as pool:
        futures = {pool.submit(part, of): part for part in parts}
        for future in as_completed(futures):
            part, (count, found) = futures[future], future.result()
            name = f"{part.func.__name__} {part.keywords.get('share', '')}".strip()
            print(f"{name}: {count}", flush=True)
            wrong += count.lines
            if found != of.tables:
                wrong.append(f"{name}: the tables differ")
    print("\n".join(wrong) or "0 lost, 0 damaged, 0 differing: every table is the undisturbed one")
    if not wrong:
        shutil.rmtree(folder)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
