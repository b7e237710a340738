"""Progress of a tier: which runs are finished, what they took, and how long the rest will take."""

from dataclasses import dataclass
from statistics import median

from nbutils.runs import failures
from nbutils.runs.store import Store
from nbutils.runs.types import Manifest, Run


def duration(seconds: float) -> str:
    """A duration in words, such as ``45 s``, ``12 min`` or ``3.5 h``."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"


PRIOR = 60.0  # seconds at the recorded pace, so that the first short runs do not decide the pace
Seconds = dict[tuple[str, str], float]
"""Maps stage and name of a run to its duration, seconds."""


def durations(manifests: list[Manifest]) -> Seconds:
    """The duration of each run, by its last manifest in the list."""
    return {(m.stage, m.name): m.seconds for m in manifests}


def peak_memory(manifests: list[Manifest]) -> float:
    """The highest peak memory of a run, MiB; 0 without a manifest."""
    return max((m.peak_memory_mib for m in manifests), default=0.0)


@dataclass(frozen=True)
class StageProgress:
    """Progress of one stage of a tier: numbers of runs, seconds spent and left, bytes on the disk.

    ``left`` assumes one run after another; it is None where no run of the stage was ever timed.
    """

    stage: str
    done: int
    running: int
    failed: int
    missing: int
    spent: float
    left: float | None
    size: int


def progress_of_stages(runs: list[Run], store: Store, known: Seconds) -> list[StageProgress]:
    """Progress of every stage. A run that failed and is being retried counts as running.

    ``known`` has durations of these runs from earlier, here or on another machine.
    """
    stages: dict[str, list[Run]] = {}
    for run in runs:
        stages.setdefault(run.stage, []).append(run)
    return [_progress(stage, members, store, known) for stage, members in stages.items()]


def _progress(stage: str, members: list[Run], store: Store, known: Seconds) -> StageProgress:
    done = [m for m in map(store.finished, members) if m is not None]
    todo = [run for run in members if store.finished(run) is None]
    running = [run for run in todo if store.claimed(run)]
    rest = [run for run in todo if all(run is not other for other in running)]
    failed = len(failed_before(rest, store))
    return StageProgress(
        stage=stage,
        done=len(done),
        running=len(running),
        failed=failed,
        missing=len(rest) - failed,
        spent=sum(m.seconds for m in done),
        left=remaining(todo, known, Seconds(), 1),
        size=sum(map(store.size, done)),
    )


def expected(runs: list[Run], seconds: Seconds) -> list[float | None]:
    """The duration of each run, seconds: its own, else the median of its stage, else None."""
    by_stage: dict[str, list[float]] = {}
    for (stage, _), duration_ in seconds.items():
        by_stage.setdefault(stage, []).append(duration_)
    medians = {stage: median(times) for stage, times in by_stage.items()}
    return [seconds.get((run.stage, run.name), medians.get(run.stage)) for run in runs]


def remaining(todo: list[Run], known: Seconds, measured: Seconds, workers: int) -> float | None:
    """Seconds left, or None while some stage has no duration.

    Durations in ``known`` may come from another machine. They are scaled by the pace of the runs
    ``measured`` here; the more seconds were measured, the closer to their pace.
    """
    both = measured.keys() & known.keys()
    pace = (sum(measured[k] for k in both) + PRIOR) / (sum(known[k] for k in both) + PRIOR)
    seconds = {k: s * pace for k, s in known.items()} | measured
    times = expected(todo, seconds)
    if None in times:
        return None
    return sum(t for t in times if t is not None) / workers


def failed_before(todo: list[Run], store: Store) -> list[tuple[Run, str]]:
    """The runs with a recorded failure, each with its message."""
    recorded = ((run, failures.find(store, run)) for run in todo)
    return [(run, failure.message) for run, failure in recorded if failure]
