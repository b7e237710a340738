"""Runs and their inputs, in the order of execution, with the state of each and the reason."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nbutils import files
from nbutils.config.schema import identifying
from nbutils.runs.store import Store
from nbutils.runs.types import Manifest, Run


def with_inputs(run: Run) -> Iterator[Run]:
    """All inputs of a run, direct and indirect, and then the run itself."""
    for source in run.inputs.values():
        yield from with_inputs(source)
    yield run


def each_once(wanted: list[Run]) -> list[Run]:
    """The wanted runs and all their inputs, each once, inputs before the runs that read them."""
    ordered: dict[tuple[str, str], Run] = {}
    for run in wanted:
        for needed in with_inputs(run):
            ordered.setdefault((needed.stage, needed.name), needed)
    return list(ordered.values())


@dataclass(frozen=True)
class Planned:
    """A run, its state (``done``; ``ready``, with inputs done; ``waiting``), and the reason."""

    run: Run
    state: str
    key: str | None
    why: str


def plan(runs: list[Run], store: Store) -> list[Planned]:
    """The state of each run in the store, with the reason for each one that is missing."""
    earlier = {(m.stage, m.name): m for m in store.all()}
    return [_planned(run, store, earlier.get((run.stage, run.name))) for run in runs]


def as_data(planned: list[Planned]) -> list[dict[str, Any]]:
    """Planned runs as JSON for another scheduler, one object per run.

    ``id`` identifies a run in any state, ``needs`` lists the ids of its inputs, and ``processes``
    is the number of accelerators that the run uses.
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
    """A file name for a run; its key is unknown until its inputs are finished."""
    return files.sha256(f"{run.stage}\n{run.name}")[:16]


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
    """What differs between a run and an earlier one of the same name: parameters, inputs, version.

    All inputs of the run must be finished.
    """
    now, then = map(identifying, (run.params.model_dump(mode="json"), earlier.parameters))
    differing = sorted(f for f in now.keys() | then.keys() if now.get(f) != then.get(f))
    for role in sorted(run.inputs.keys() | earlier.inputs.keys()):
        new = store.finished(run.inputs[role]) if role in run.inputs else None
        old = earlier.inputs.get(role)
        if new is None or old is None or (new.key, new.digest) != (old.key, old.digest):
            differing.append(f"input {role}")
    if store.versions[run.stage] != earlier.version:
        differing.append(f"version of {run.stage}")
    return differing
