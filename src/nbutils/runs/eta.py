"""Progress: how far a tier is, what its runs took before, and how long the rest will take."""

from dataclasses import dataclass
from statistics import median

from nbutils.runs import failures
from nbutils.runs.store import Store
from nbutils.runs.types import Manifest, Run


def duration(seconds: float) -> str:
    """Seconds for people."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"


PRIOR = 60.0  # seconds at the known pace that are held against the first short runs
Seconds = dict[tuple[str, str], float]
"""Stage and name of a run to what it took."""


def taken(manifests: list[Manifest]) -> Seconds:
    """What each run took, the last time that it is among them."""
    return {(m.stage, m.name): m.wall_seconds for m in manifests}


def largest(manifests: list[Manifest]) -> float:
    """Memory of the largest run among them, MiB; 0 where there is none."""
    return max((m.peak_memory_mib for m in manifests), default=0.0)


@dataclass(frozen=True)
class Standing:
    """How far one stage of a tier is: numbers of runs, seconds spent and left, bytes.

    ``left`` is for one run after another; None where no run of the stage was ever timed.
    """

    stage: str
    done: int
    running: int
    failed: int
    missing: int
    spent: float
    left: float | None
    size: int


def progress_of_stages(runs: list[Run], store: Store, known: Seconds) -> list[Standing]:
    """How far every stage is; a run that failed before and is computed again is running."""
    stages: dict[str, list[Run]] = {}
    for run in runs:
        stages.setdefault(run.stage, []).append(run)
    return [_standing(stage, wanted, store, known) for stage, wanted in stages.items()]


def _standing(stage: str, wanted: list[Run], store: Store, known: Seconds) -> Standing:
    done = [m for m in map(store.finished, wanted) if m is not None]
    todo = [run for run in wanted if store.finished(run) is None]
    running = [run for run in todo if store.claimed(run)]
    rest = [run for run in todo if all(run is not other for other in running)]
    failed = len(failed_before(rest, store))
    return Standing(
        stage=stage,
        done=len(done),
        running=len(running),
        failed=failed,
        missing=len(rest) - failed,
        spent=sum(m.wall_seconds for m in done),
        left=remaining(todo, known, Seconds(), 1),
        size=sum(map(store.size, done)),
    )


def expected(runs: list[Run], seconds: Seconds) -> list[float | None]:
    """How long each run took before, else the median of its stage, else None."""
    peers: dict[str, list[float]] = {}
    for (stage, _), taken in seconds.items():
        peers.setdefault(stage, []).append(taken)
    medians = {stage: median(times) for stage, times in peers.items()}
    return [seconds.get((run.stage, run.name), medians.get(run.stage)) for run in runs]


def remaining(todo: list[Run], known: Seconds, measured: Seconds, workers: int) -> float | None:
    """Seconds left, or None while there is a stage that was never run.

    Known times may come from another machine: they are scaled by how the runs measured here
    compare with them, more so the longer has been measured.
    """
    both = measured.keys() & known.keys()
    pace = (sum(measured[k] for k in both) + PRIOR) / (sum(known[k] for k in both) + PRIOR)
    seconds = {k: s * pace for k, s in known.items()} | measured
    times = expected(todo, seconds)
    if None in times:
        return None
    return sum(t for t in times if t is not None) / workers


def failed_before(todo: list[Run], store: Store) -> list[tuple[Run, str]]:
    """The runs whose failure is kept, with its message."""
    found = ((run, failures.find(store, run)) for run in todo)
    return [(run, failure.message) for run, failure in found if failure]
