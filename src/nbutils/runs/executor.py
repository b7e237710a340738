"""Executing runs: those that are missing, side by side, each once."""

import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from itertools import islice
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from threading import Thread

from tqdm import tqdm

from nbutils.errors import UserError
from nbutils.runs import environment, failures, garbage
from nbutils.runs.dag import each_once, with_inputs
from nbutils.runs.eta import Seconds, failed_before, largest, remaining, taken
from nbutils.runs.store import Store
from nbutils.runs.types import (
    ClaimedError,
    Compute,
    Manifest,
    Progress,
    Run,
    RunError,
    StoreError,
    UnwritableError,
)

# Workers report through the grid alone; libraries read these when they are imported.
QUIET = {
    "TQDM_DISABLE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "PYTHONWARNINGS": "ignore::FutureWarning,ignore::UserWarning",
    "TOKENIZERS_PARALLELISM": "false",
}
LISTED_FAILURES = 5  # failures that an error lists
LOOK = 1.0  # seconds after which a runner looks again at what others have finished
KILLED = "its process was killed from outside, perhaps for its memory"
WORKER_MIB = 1600  # what one worker needs at most at the tiny tier, with room: no run gets less


Report = Callable[[Run, float, int, int, float | None], None]


def jobs(threads: int, memory: float) -> int:
    """How many runs go side by side: as many as cores and free memory carry, at least one.

    ``memory`` is what a run is known to need, MiB. An accelerator takes one run at a time.
    """
    import joblib  # heavy, and needed only where something is to run
    import torch

    if torch.cuda.is_available():
        return 1
    room = environment.free_memory_mib() // max(WORKER_MIB, memory)
    return max(1, min(joblib.cpu_count() // threads, int(room)))


def _attempt(
    store: Store, run: Run, compute: Compute, threads: int, progress: Progress, wait: bool = True
) -> None:
    """Execute a run; a failure names damaged inputs, or the checkpoint that a training left."""
    from nbutils.runs.checkpoint import CheckpointError  # heavy, and needed to compute only

    inputs = [m for m in map(store.finished, run.inputs.values()) if m is not None]
    with garbage.blamed(store, inputs):
        try:
            store.execute(run, compute, threads, progress, wait)
        except (ClaimedError, StoreError):
            raise
        except CheckpointError as error:
            raise StoreError(str(error)) from error
        except UserError as error:
            checkpoint = failures.last_checkpoint(store, run)
            if checkpoint:
                raise RunError(f"{error}{checkpoint}") from error
            raise


def _work(store: Store, run: Run, compute: Compute, threads: int) -> float | None:
    """Compute one run in a worker process; return its seconds, None if another process has it.

    A failure is noted, unless it is the store's: then the run itself has not failed.
    """
    started = time.monotonic()
    if store.finished(run) is not None:
        return None
    try:
        _attempt(store, run, compute, threads, lambda share: None, wait=False)
    except ClaimedError:
        return None
    except StoreError:
        raise
    except Exception as error:
        failures.record(store, run, error)
        raise
    failures.forget(store, run)
    return time.monotonic() - started


def _worker() -> ProcessPoolExecutor:
    """One process, so that when it is killed it takes no other run with it."""
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_end_with_parent)


def _end_with_parent() -> None:
    """Have a worker end when its runner is killed: else it would hold its claim, and memory."""

    def watch() -> None:
        parent = parent_process()
        assert parent is not None
        connection.wait([parent.sentinel])
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def compute_one(run: Run, store: Store, compute: Compute, threads: int) -> Path:
    """Compute one run in this process, and first whatever it needs; return its folder.

    What exists is reused, which makes this quick after ``nbutils run``.
    """
    for needed in with_inputs(run):
        if store.finished(needed) is None:
            with tqdm(total=100, desc=f"{needed.stage} {needed.name}", unit="%") as bar:
                _attempt(
                    store, needed, compute, threads, lambda s: bar.update(int(100 * s) - bar.n)
                )
    return store.path(run)


def compute_all(wanted: Iterable[Run], store: Store, compute: Compute, threads: int) -> None:
    """Compute several runs, and first whatever they need, with a printed line each.

    For notebooks that need many at once; what failed before is tried again.
    """

    def report(done: Run, seconds: float, count: int, total: int, left: float | None) -> None:
        print(f"{count}/{total} {done.stage} · {done.name} ({seconds:.0f} s)")

    runs = each_once(list(wanted))
    execute(runs, store, compute, threads, store.all(), report, retry_failed=True)


def execute(
    runs: list[Run],
    store: Store,
    compute: Compute,
    threads: int,
    recorded: list[Manifest],
    report: Report,
    retry_failed: bool = False,
) -> int:
    """Compute every run that is missing, side by side; return how many were computed here.

    ``recorded`` are manifests of the same runs as they were computed before, here or elsewhere:
    they say how much memory and time the runs take. ``report`` is called after each run with the
    run, its seconds, the number of runs done and in all, and the estimated seconds left (None as
    long as nothing is known). A run that fails leaves the others running, but for those that need
    it; it is tried again only with ``retry_failed``.
    Several runners may go on one store: each takes what no living one has claimed, and waits
    for what is left with the others.

    Raises:
        RunError: Some run failed, now or earlier; the others are finished and kept.
    """
    waiting = [run for run in runs if store.finished(run) is None]
    if not waiting:
        return 0
    before = {id(run): failures.find(store, run) for run in waiting}
    failed = [] if retry_failed else failed_before(waiting, store)
    waiting = [run for run in waiting if all(run is not other for other, _ in failed)]
    running = dict[Future[float | None], tuple[Run, ProcessPoolExecutor]]()
    workers, known = jobs(threads, largest(recorded)), taken(recorded)
    measured, writable = Seconds(), True
    os.environ.update(QUIET)
    with ExitStack() as stack:
        idle = [stack.enter_context(_worker()) for _ in range(workers)]
        while True:
            waiting = [run for run in waiting if store.finished(run) is None]
            ready = [run for run in waiting if store.key(run) is not None] if writable else []
            if not (ready or running):
                break
            for run in islice((r for r in ready if not store.claimed(r)), len(idle)):
                failure = failures.find(store, run)
                if failure is not None and failure != before[id(run)]:  # another runner tried
                    failed.append((run, failure.message))
                    waiting.remove(run)
                    continue
                worker = idle.pop()
                try:
                    future = worker.submit(_work, store, run, compute, threads)
                except BrokenProcessPool:  # killed while it had nothing to do
                    idle.append(stack.enter_context(_worker()))
                    continue
                running[future] = run, worker
                waiting.remove(run)
            if not running:
                time.sleep(LOOK)
            for future in wait(running, LOOK, FIRST_COMPLETED).done:
                run, worker = running.pop(future)
                error = future.exception()
                if isinstance(error, BrokenProcessPool):
                    worker = stack.enter_context(_worker())
                idle.append(worker)
                if error is not None:
                    killed = isinstance(error, BrokenProcessPool)
                    failed.append((run, KILLED if killed else str(error) or type(error).__name__))
                    writable = writable and not isinstance(error, UnwritableError)
                    continue
                seconds = future.result()
                if seconds is None:
                    waiting.insert(0, run)
                    continue
                measured[run.stage, run.name] = seconds
                todo = [*waiting, *(run for run, _ in running.values())]
                left = remaining(todo, known, measured, workers)
                report(run, seconds, len(runs) - len(todo) - len(failed), len(runs), left)
    if failed:
        raise RunError(_told(failed, len(waiting), len(measured)))
    return len(measured)


def _told(failed: list[tuple[Run, str]], waiting: int, computed: int) -> str:
    """What the end of a grid says of its failures: a line each, of the first few."""
    lines = [
        f"{run.stage} of {run.name} failed: {message}" for run, message in failed[:LISTED_FAILURES]
    ]
    if len(failed) > LISTED_FAILURES:
        lines.append(f"and {len(failed) - LISTED_FAILURES} more, which `nbutils status` lists")
    lines.append(
        f"{len(failed)} failed, {waiting} wait for them, {computed} were computed and are kept; "
        "run again, with --retry-failed if it was neither the disk nor a kill"
    )
    return "\n".join(lines)
