"""Runners in processes of their own, what they leave of a store, and how it is judged."""

import hashlib
import multiprocessing
import os
import shutil
import signal
import subprocess
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random

import psutil

from nbutils.errors import UserError
from nbutils.protocol.compute import compute
from nbutils.runs import executor, garbage
from nbutils.runs.store import MANIFEST, Store
from nbutils.runs.types import Run
from support import failpoints
from support.failpoints import ACTIONS, MOMENTS, Fault
from support.project import open_store

PATIENCE = 3600.0  # seconds after which a runner hangs
WRONG = ("missed", "lost", "damaged", "incomplete", "differing")
Outputs = dict[str, dict[str, str]]
"""Key of a run to the digests of its files."""


@dataclass(frozen=True)
class Grid:
    """Runs in a store, and what writes their tables."""

    root: Path
    runs: list[Run]
    collect: Callable[[], object]

    @property
    def store(self) -> Store:
        """The store as it is now: nothing of it is remembered."""
        return open_store(self.root)

    def compute(self) -> int:
        """Compute what is missing, and the tables; return how many runs were computed."""
        count = executor.execute(self.runs, open_store(self.root), compute, 1, [], lambda *_: None)
        self.collect()
        return count

    def outputs(self) -> Outputs:
        """What every finished run holds."""
        return {m.key: m.outputs for m in self.store.all()}

    def delete(self, runs: Iterable[Run]) -> None:
        """Take runs out of the store, as if they had never been computed."""
        store = self.store
        for folder in [store.path(run) for run in runs if store.finished(run) is not None]:
            shutil.rmtree(folder)

    def finished(self) -> dict[str, tuple[int, int]]:
        """Key of every finished run to what tells its manifest from one that is written anew."""
        paths = [p for p in self.store.root.glob(f"*/*/{MANIFEST}") if "partial" not in p.parts]
        return {p.parent.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in paths}


# --- Processes ------------------------------------------------------------------------------


def start(
    call: Callable[[], object], log: Path, fault: Fault | None = None, watch: bool = False
) -> int:
    """Fork a runner, in a process group of its own; return its id.

    Its workers are forked, too: nothing is imported again, and a start takes no time.
    """
    pid = os.fork()
    if pid:
        os.setpgid(pid, pid)  # here as well: it may be killed before it gets to that
        return pid
    status = 70
    try:
        os.setpgid(0, 0)
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for stream in (1, 2):
            os.dup2(handle, stream)
        forking = multiprocessing.get_context("fork")
        executor.get_context = lambda _: forking  # type: ignore[attr-defined, assignment]
        if fault or watch:
            failpoints.install(log.parent, fault)
        answer = call()
        os.write(1, f"{answer}\n".encode())
        status = 0
    except UserError as error:
        os.write(2, f"error: {error}\n".encode())
        status = 1
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(status)


def end(pid: int) -> int:
    """Wait for a runner and return its exit status, or minus the signal that killed it."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            until(lambda: not workers(pid))
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    kill(pid)
    raise AssertionError(f"a runner did not end within {PATIENCE:.0f} s")


def kill(pid: int) -> bool:
    """Kill -9 a runner and all its workers; return whether it was still running."""
    os.killpg(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    until(lambda: not workers(pid))
    return os.WIFSIGNALED(status)


def workers(group: int) -> list[int]:
    """Living processes of a group, but for the first."""
    found = []
    for process in psutil.process_iter(["pid", "status"]):
        pid, status = process.info["pid"], process.info["status"]
        try:
            if os.getpgid(pid) == group and pid != group and status != psutil.STATUS_ZOMBIE:
                found.append(pid)
        except ProcessLookupError:
            continue
    return found


def until(condition: Callable[[], bool], seconds: float = 120, pause: float = 0.01) -> None:
    """Wait for something that another process does, and look after every pause."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(pause)


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[None]:
    """A disk of some size (as ``mount`` has it) at a folder, while this lasts.

    Raises:
        PermissionError: This user may not mount; holds what the system said.
    """
    place.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise PermissionError(done.stderr.strip())
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def remount(place: Path, options: str) -> None:
    """Change a mounted disk: ``ro``, ``rw`` or ``size=...``."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(place)], check=True)


# --- Judging --------------------------------------------------------------------------------


@dataclass
class Count:
    """What was done to a store, and a line for everything that should not have come of it."""

    faults: int = 0
    kills: int = 0
    reruns: int = 0
    wrong: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in WRONG})

    def __str__(self) -> str:
        found = ", ".join(f"{len(lines)} {name}" for name, lines in self.wrong.items())
        return f"{self.faults} faults, {self.kills} kills, {self.reruns} reruns: {found}"

    def __iadd__(self, other: "Count") -> "Count":
        self.faults += other.faults
        self.kills += other.kills
        self.reruns += other.reruns
        for name, lines in other.wrong.items():
            self.wrong[name] += lines
        return self

    @property
    def lines(self) -> list[str]:
        """All that is wrong."""
        return [line for lines in self.wrong.values() for line in lines]


@contextmanager
def watched(of: Grid, what: str, count: Count) -> Iterator[None]:
    """Whatever happens in between: no finished run goes or is computed again, none is damaged."""
    before = of.finished()
    yield
    after, store = of.finished(), of.store
    lost = (key for key, was in before.items() if after.get(key) != was)
    count.wrong["lost"] += [f"{what}: {key} is gone or was computed again" for key in lost]
    count.wrong["damaged"] += [f"{what}: {line}" for line in garbage.damage(store, store.all())]


def rerun(of: Grid, what: str, expected: Outputs, count: Count, log: Path) -> None:
    """Complete a grid without a fault, in one try, to the same bits."""
    count.reruns += 1
    with watched(of, f"rerun after {what}", count):
        status = end(start(of.compute, log))
    if status != 0:
        count.wrong["incomplete"].append(f"{what}: the rerun ended with {status}: see {log}")
    found = of.outputs()
    differing = (key for key in expected if found.get(key) != expected[key])
    count.wrong["differing"] += [f"{what}: {key} differs" for key in differing]


def tables(folder: Path) -> dict[str, str]:
    """SHA-256 of every table in a folder; its manifests hold times, which differ."""
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.glob("*.parquet")}


# --- Sweep and kills ------------------------------------------------------------------------


def discover(of: Grid, folder: Path) -> list[failpoints.Seen]:
    """Compute a grid and return every durable step that it came to, in order."""
    folder.mkdir()
    status = end(start(of.compute, folder / "log", watch=True))
    assert status == 0, (folder / "log").read_text()
    return failpoints.seen(folder)


def faults(steps: Iterable[str], every: bool) -> Iterator[Fault]:
    """Faults before and after every step: each action, or one of them in turn."""
    places = [(step, moment) for step in dict.fromkeys(steps) for moment in MOMENTS]
    for i, (step, moment) in enumerate(places):
        ignoring = step.startswith("delete folder")  # is told to ignore errors
        actions = [a for a in ACTIONS if not (ignoring and a in ("raise", "full"))]
        for action in actions if every else [actions[i % len(actions)]]:
            yield Fault(step, moment, action)


def sweep(
    of: Grid,
    among: Iterable[Fault],
    prepare: Callable[[Fault], None],
    expected: Outputs,
    folder: Path,
) -> Count:
    """For each fault: take something away, compute it with the fault, judge, complete, judge.

    ``prepare`` takes away; ``expected`` is what the undisturbed grid holds.
    """
    count = Count()
    for number, fault in enumerate(among):
        place = folder / f"fault {number}"
        place.mkdir()
        prepare(fault)
        with watched(of, str(fault), count):
            end(start(of.compute, place / "log", fault))
        if failpoints.fired(place):
            count.faults += 1
            count.kills += fault.action == "kill"
        else:
            count.wrong["missed"].append(f"{fault} did not take place")
        rerun(of, str(fault), expected, count, place / "log")
    return count


def random_kills(
    of: Grid, begin: Callable[[int], int], times: int, seconds: float, random: Random
) -> Count:
    """Start a runner and kill -9 its process group at a random moment, so many times.

    Kills fall all along the way, however slow the machine: the n-th runner is left alone until n of
    ``times`` equal parts of the grid are finished, and then for a time that is exponential with a
    mean of ``seconds``. ``begin`` starts the n-th runner and returns its process; a runner that
    ended before its moment counts as no kill.
    """
    count = Count()

    def due(number: int, pid: int) -> bool:
        ended = psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        return ended or len(of.finished()) * times >= number * len(of.runs)

    for number in range(times):
        with watched(of, f"kill {number}", count):
            pid = begin(number)
            until(partial(due, number, pid), PATIENCE, pause=0.2)
            time.sleep(random.expovariate(1 / seconds))
            count.kills += kill(pid)
    return count
