"""The grid of a tier: what is to run, what exists and why, and running it.

A run that several others need is one run, computed once.
"""

import hashlib
import os
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from tqdm import tqdm

from nbutils import failures
from nbutils.plans import Plan, with_inputs
from nbutils.runs import Manifest, Run, RunError, Store

# Workers report through the grid alone; libraries read these when they are imported.
QUIET = {
    "TQDM_DISABLE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "PYTHONWARNINGS": "ignore::FutureWarning,ignore::UserWarning",
    "TOKENIZERS_PARALLELISM": "false",
}
TOLD = 5  # failures that an error lists
PRIOR = 60.0  # seconds at the known pace that are held against the first short runs
WORKER_MIB = 1600  # what one worker was measured to need at most at the tiny tier, with room


# --- Plan ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Planned:
    """A run and its state: ``done``, ``ready`` (inputs finished) or ``waiting``; and why."""

    run: Run
    state: str
    key: str | None
    why: str


def plan(runs: list[Run], store: Store) -> list[Planned]:
    """What exists and what would run, with the reason for each run that is missing."""
    earlier = {(m.stage, m.name): m for m in store.all()}
    return [_planned(run, store, earlier.get((run.stage, run.name))) for run in runs]


def as_data(planned: list[Planned]) -> list[dict[str, Any]]:
    """Planned runs as another scheduler reads them.

    ``id`` names a run among them whatever its state, and ``needs`` lists the ids of its inputs;
    ``processes`` is the number of accelerators that it shares its work among.
    """
    return [
        {
            "id": _identifier(p.run),
            "stage": p.run.stage,
            "name": p.run.name,
            "state": p.state,
            "key": p.key,
            "why": p.why,
            "processes": getattr(p.run.params, "processes", 1),
            "needs": sorted({_identifier(source) for source in p.run.inputs.values()}),
        }
        for p in planned
    ]


def _identifier(run: Run) -> str:
    """Names a run of a tier in file names: its key is not known before its inputs are finished."""
    return hashlib.sha256(f"{run.stage}\n{run.name}".encode()).hexdigest()[:16]


def _planned(run: Run, store: Store, earlier: Manifest | None) -> Planned:
    key = store.key(run)
    if key is None:
        missing = sorted(r for r, source in run.inputs.items() if store.finished(source) is None)
        return Planned(run, "waiting", None, "needs " + ", ".join(missing))
    if store.manifest(run.stage, key) is not None:
        return Planned(run, "done", key, "exists")
    if earlier is None:
        return Planned(run, "ready", key, "never run")
    return Planned(run, "ready", key, "changed: " + ", ".join(changes(run, store, earlier)))


def changes(run: Run, store: Store, earlier: Manifest) -> list[str]:
    """What differs between a run that is to be and an earlier one of the same name."""
    now = run.params.model_dump(mode="json")
    fields = now.keys() | earlier.parameters.keys()
    found = sorted(f for f in fields if now.get(f) != earlier.parameters.get(f))
    for role in sorted(run.inputs.keys() | earlier.inputs.keys()):
        done = store.finished(run.inputs[role]) if role in run.inputs else None
        was = earlier.inputs.get(role)
        if done is None or was is None or (done.key, done.digest) != (was.key, was.digest):
            found.append(f"input {role}")
    if store.code(run.stage) != earlier.code_digest:
        found.append("code")
    return found


# --- Run ----------------------------------------------------------------------------------------

Seconds = dict[tuple[str, str], float]
Report = Callable[[Run, float, int, int, float | None], None]


def jobs(threads: int) -> int:
    """How many runs go side by side: as many as cores and free memory carry, at least one.

    An accelerator takes one run at a time.
    """
    import torch  # heavy, and needed only where something is to run

    if torch.cuda.is_available():
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = psutil.virtual_memory().available // 2**20 // WORKER_MIB
    return max(1, min((cores or 1) // threads, memory))


def expected(run: Run, seconds: Seconds) -> float | None:
    """How long a run took before, else the median of its stage, else None."""
    peers = [s for (stage, _), s in seconds.items() if stage == run.stage]
    return seconds.get((run.stage, run.name), median(peers) if peers else None)


def remaining(todo: list[Run], known: Seconds, measured: Seconds, workers: int) -> float | None:
    """Seconds left, or None while there is a stage that was never run.

    Known times may come from another machine: they are scaled by how the runs measured here
    compare with them, more so the longer has been measured.
    """
    both = measured.keys() & known.keys()
    pace = (sum(measured[k] for k in both) + PRIOR) / (sum(known[k] for k in both) + PRIOR)
    seconds = {k: s * pace for k, s in known.items()} | measured
    times = [expected(run, seconds) for run in todo]
    if None in times:
        return None
    return sum(t for t in times if t is not None) / workers


def _work(root: Path, run: Run, threads: int) -> float:
    """Compute one run in a worker process; return its seconds. A failure is noted."""
    started = time.monotonic()
    store = Store(root)
    try:
        store.execute(run, threads, progress=lambda share: None)
    except Exception as error:
        failures.note(store, run, error)
        raise
    failures.forget(store, run)
    return time.monotonic() - started


def compute(run: Run, plan: Plan, root: Path) -> Path:
    """Compute one run in this process, and first whatever it needs; return its folder.

    What exists is reused, which makes this quick after ``nbutils run``.
    """
    store = Store(root)
    for needed in with_inputs(run):
        if store.finished(needed) is None:
            with tqdm(total=100, desc=f"{needed.stage} {needed.name}", unit="%") as bar:
                store.execute(
                    needed, plan.tier.threads, lambda share: bar.update(int(100 * share) - bar.n)
                )
    return store.path(run)


def execute(
    runs: list[Run],
    root: Path,
    threads: int,
    known: Seconds,
    report: Report,
    retry_failed: bool = False,
) -> int:
    """Compute every run that is missing, side by side; return how many were computed.

    ``report`` is called after each run with the run, its seconds, the number of runs done and
    in all, and the estimated seconds left (None as long as nothing is known). A run that fails
    leaves the others running, but for those that need it; it is not tried again unless told.

    Raises:
        RunError: Some run failed, now or earlier; the others are finished and kept.
    """
    store = Store(root)
    todo = [run for run in runs if store.finished(run) is None]
    if not todo:
        return 0
    failed = [] if retry_failed else _failed_before(todo, store)
    workers = jobs(threads)
    waiting = [run for run in todo if all(run is not other for other, _ in failed)]
    running, measured = dict[Future[float], Run](), Seconds()
    os.environ.update(QUIET)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        while True:
            ready = (run for run in list(waiting) if store.key(run) is not None)
            for run in islice(ready, workers - len(running)):
                waiting.remove(run)
                running[pool.submit(_work, root, run, threads)] = run
            if not running:
                break
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                run = running.pop(future)
                error = future.exception()
                if isinstance(error, BrokenProcessPool):
                    raise RunError(
                        f"a process was killed from outside, perhaps for its memory, while it "
                        f"computed {run.stage} of {run.name} or a run beside it; "
                        f"{len(measured)} runs were computed and are kept: run again"
                    ) from error
                if error is not None:
                    failed.append((run, str(error) or type(error).__name__))
                    continue
                measured[run.stage, run.name] = future.result()
                left = remaining([*waiting, *running.values()], known, measured, workers)
                done = len(runs) - len(todo) + len(measured)
                report(run, future.result(), done, len(runs), left)
    if failed:
        raise RunError(_told(failed, len(waiting), len(measured)))
    return len(measured)


def _failed_before(todo: list[Run], store: Store) -> list[tuple[Run, str]]:
    found = ((run, failures.of(store, run)) for run in todo)
    return [(run, failure.message) for run, failure in found if failure]


def _told(failed: list[tuple[Run, str]], waiting: int, computed: int) -> str:
    """What the end of a grid says of its failures: a line each, of the first few."""
    lines = [f"{run.stage} of {run.name} failed: {message}" for run, message in failed[:TOLD]]
    if len(failed) > TOLD:
        lines.append(f"and {len(failed) - TOLD} more, which `nbutils status` lists")
    lines.append(
        f"{len(failed)} failed, {waiting} wait for them, {computed} were computed and are kept; "
        "with --retry-failed those that failed are tried again"
    )
    return "\n".join(lines)
