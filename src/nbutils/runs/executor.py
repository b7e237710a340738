"""Execution of runs: missing ones are computed in parallel workers, each once."""

import os
import time
from collections.abc import Callable
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
from nbutils.runs.dag import with_inputs
from nbutils.runs.eta import Seconds, durations, failed_before, peak_memory, remaining
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

# Only the parent process reports progress. Libraries read these variables when they are imported.
QUIET = {
    "TQDM_DISABLE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "PYTHONWARNINGS": "ignore::FutureWarning,ignore::UserWarning",
    "TOKENIZERS_PARALLELISM": "false",
    # glibc keeps the memory of tensors for the next ones; else each comes anew, page by page
    "MALLOC_MMAP_THRESHOLD_": "1073741824",  # bytes: it serves smaller ones from its own heap
    "MALLOC_TRIM_THRESHOLD_": "2147483647",  # bytes of freed memory that go back to the system
}
LISTED_FAILURES = 5  # failures that an error message lists
POLL_SECONDS = 1.0  # interval at which a runner checks what other runners have finished
KILLED = "its process was killed from outside, perhaps because it used too much memory"
WORKER_MIB = 1600  # least memory per worker: the most that one needs at the tiny tier, and a margin


Report = Callable[[Run, float, int, int, float | None], None]


def jobs(threads: int, memory: float) -> int:
    """Number of parallel workers: as many as cores and free memory allow, at least one.

    ``memory`` is the known need of one run, MiB. With an accelerator there is one worker.
    """
    import joblib  # slow to import, and needed only if something is computed

    if environment.accelerated():
        return 1
    fitting = environment.free_memory_mib() // max(WORKER_MIB, memory)
    return max(1, min(joblib.cpu_count() // threads, int(fitting)))


def _attempt(
    store: Store, run: Run, compute: Compute, threads: int, progress: Progress, wait: bool = True
) -> None:
    """Execute a run; the message of a failure names damaged inputs and the last checkpoint."""
    from nbutils.runs.checkpoint import CheckpointError  # slow to import

    inputs = [m for m in map(store.finished, run.inputs.values()) if m is not None]
    with garbage.damage_reported(store, inputs):
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
    """Compute one run in a worker; return its seconds, or None if another process computes it.

    A failure is recorded unless the store caused it: then the run itself has not failed.
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
    """A pool of one process, so that a killed process affects no other run."""
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_end_with_parent)


def _end_with_parent() -> None:
    """End a worker when its parent is killed, so that it frees its lock and its memory."""

    def watch() -> None:
        parent = parent_process()
        assert parent is not None
        connection.wait([parent.sentinel])
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def compute_one(run: Run, store: Store, compute: Compute, threads: int) -> Path:
    """Compute one run in this process, after its inputs; return its folder.

    Finished runs are reused, so this is quick after ``nbutils run``.

    Raises:
        RunError: The run, or one of its inputs, failed.
    """
    for needed in with_inputs(run):
        if store.finished(needed) is None:
            with tqdm(total=100, desc=f"{needed.stage} {needed.name}", unit="%") as bar:
                _attempt(
                    store, needed, compute, threads, lambda s: bar.update(int(100 * s) - bar.n)
                )
    return store.path(run)


def execute(
    runs: list[Run],
    store: Store,
    compute: Compute,
    threads: int,
    recorded: list[Manifest],
    report: Report,
    retry_failed: bool = False,
    meanwhile: Callable[[], None] = lambda: None,
) -> int:
    """Compute every missing run in parallel workers; return how many were computed here.

    A failed run stops only the runs that need it. Several runners may share one store: each
    computes runs that no other living runner has locked, and waits for the others at the end.

    Args:
        runs: Runs, inputs before the runs that read them.
        store: Where finished runs are.
        compute: Computes one run.
        threads: Threads per run.
        recorded: Manifests of the same runs from earlier, here or elsewhere, for memory and time.
        report: Called after each run with the run, its seconds, the number of runs done, the number
            of all runs, and the estimated seconds left (None while some stage has no duration).
        retry_failed: Whether to retry runs with a recorded failure.
        meanwhile: Called about every second while the workers compute. While it works, a worker
            that has finished gets no other run.

    Raises:
        RunError: Some run failed, now or earlier; the others are finished.
    """
    waiting = [run for run in runs if store.finished(run) is None]
    if not waiting:
        return 0
    earlier = {id(run): failures.find(store, run) for run in waiting}
    failed = [] if retry_failed else failed_before(waiting, store)
    waiting = [run for run in waiting if all(run is not other for other, _ in failed)]
    running = dict[Future[float | None], tuple[Run, ProcessPoolExecutor]]()
    workers, known = jobs(threads, peak_memory(recorded)), durations(recorded)
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
                if failure is not None and failure != earlier[id(run)]:  # it failed elsewhere
                    failed.append((run, failure.message))
                    waiting.remove(run)
                    continue
                worker = idle.pop()
                try:
                    future = worker.submit(_work, store, run, compute, threads)
                except BrokenProcessPool:  # the idle worker was killed
                    idle.append(stack.enter_context(_worker()))
                    continue
                running[future] = run, worker
                waiting.remove(run)
            meanwhile()
            if not running:
                time.sleep(POLL_SECONDS)
            for future in wait(running, POLL_SECONDS, FIRST_COMPLETED).done:
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
        raise RunError(_failure_message(failed, len(waiting), len(measured)))
    return len(measured)


def _failure_message(failed: list[tuple[Run, str]], waiting: int, computed: int) -> str:
    """One line for each of the first failures, then a summary of all runs."""
    lines = [
        f"{run.stage} of {run.name} failed: {message}" for run, message in failed[:LISTED_FAILURES]
    ]
    if len(failed) > LISTED_FAILURES:
        lines.append(f"and {len(failed) - LISTED_FAILURES} more, which `nbutils status` lists")
    lines.append(
        f"{len(failed)} failed, {waiting} wait for them, {computed} were computed and are kept; "
        "run again, with --retry-failed unless the disk or a kill was the cause"
    )
    return "\n".join(lines)
