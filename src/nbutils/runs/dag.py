"""Runs and what they need: in order, with their state and why."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nbutils import files
from nbutils.config.schema import identifying
from nbutils.runs.store import Store
from nbutils.runs.types import Manifest, Run


def with_inputs(run: Run) -> Iterator[Run]:
    """A run after everything that it needs."""
    for source in run.inputs.values():
        yield from with_inputs(source)
    yield run


def each_once(wanted: list[Run]) -> list[Run]:
    """The runs that are wanted, and what they need before them, each once."""
    found: dict[tuple[str, str], Run] = {}
    for run in wanted:
        for needed in with_inputs(run):
            found.setdefault((needed.stage, needed.name), needed)
    return list(found.values())


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
    """What differs between a run that is to be and an earlier one of the same name."""
    now, then = map(identifying, (run.params.model_dump(mode="json"), earlier.parameters))
    found = sorted(f for f in now.keys() | then.keys() if now.get(f) != then.get(f))
    for role in sorted(run.inputs.keys() | earlier.inputs.keys()):
        done = store.finished(run.inputs[role]) if role in run.inputs else None
        was = earlier.inputs.get(role)
        if done is None or was is None or (done.key, done.digest) != (was.key, was.digest):
            found.append(f"input {role}")
    if store.versions[run.stage] != earlier.version:
        found.append(f"version of {run.stage}")
    return found
