"""Contributions: one pairing on its way from somebody's store to the published results.

What arrives is data of a stranger, and must be what this checkout's own plan asks for, run by run.
No check can tell whether the answers were made up; only computing the pairing again can.
"""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pandas as pd

from nbutils.analysis.gains import ITEM, SUITE, summarize
from nbutils.config.design import Pairing
from nbutils.config.notebook_parameters import ReportNotebook
from nbutils.config.schema import LOCAL, Precision, identifying
from nbutils.errors import UserError
from nbutils.protocol import schedule
from nbutils.protocol.pairing import from_parameters
from nbutils.protocol.plan import Plan
from nbutils.results import archive, layout, tables
from nbutils.results.archive import Contents
from nbutils.results.measurements import InMemory
from nbutils.results.project import Project
from nbutils.results.rows import of_tier
from nbutils.runs import dag
from nbutils.runs.store import Store
from nbutils.runs.types import Manifest, Run

PACKED = Path("runs/contributions")
TOLERANCE = 0.01  # share of a state's answers that near ties may change on another machine


class ContributionError(UserError):
    """A pairing cannot be contributed, or a contribution cannot be accepted."""


def contribute(asked: ReportNotebook, project: Project) -> Path:
    """Pack one finished pairing into ``runs/contributions/<tier>-<key>.json.gz``.

    Raises:
        ContributionError: It has its own budget, a model that others cannot fetch, no passages, or
            a run that is missing.
        ParameterError: There is no such tier or model.
    """
    plan, pairing = planned(asked, project)
    store = project.store
    missing = [run for run in schedule.of_pairing(plan, pairing) if store.finished(run) is None]
    if missing:
        names = ", ".join(f"{run.stage} of {run.name}" for run in missing)
        values = asked.model_dump(exclude_unset=True).items()
        command = " ".join(["nbutils notebook pairing", *(f"-p {k} {v}" for k, v in values)])
        raise ContributionError(f"missing: {names}. `{command}` computes it")
    contents = archive.contents(asked, _runs(plan, pairing, store), store)
    place = project.root / PACKED / contents.file
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(contents.data())
    return place


def planned(asked: ReportNotebook, project: Project) -> tuple[Plan, Pairing]:
    """The plan and the pairing that somebody contributes; raises as ``contribute`` does."""
    local = asked.source.startswith(LOCAL) or asked.student.startswith(LOCAL)
    if asked.tokens or asked.steps or asked.tasks or local:
        raise ContributionError(
            "a contribution has its tier's budget and tasks, and models that others fetch: leave "
            "out tokens, steps and tasks, and take models of the tier or hub:OWNER/NAME@REVISION"
        )
    plan, pairing = from_parameters(asked, project.plan(asked.tier))
    if not plan.has_passages(pairing.student):
        raise ContributionError(
            f"tier {asked.tier!r} has no passages for {pairing.student}, whose extraction the "
            "tables need: take a tier with `passages`"
        )
    return plan, pairing


def _runs(plan: Plan, pairing: Pairing, store: Store) -> list[Run]:
    """The runs that the pairing's rows need, and others of it that were computed."""
    beside = [run for run in schedule.beside(plan, pairing) if store.finished(run) is not None]
    return dag.each_once([*schedule.of_pairing(plan, pairing), *beside])


def merged(given: Contents, folder: Path, project: Project) -> dict[str, pd.DataFrame] | None:
    """The tables of a tier's folder with a contribution in them; None if it is there already.

    A folder that does not exist is a tier without rows.

    Raises:
        ContributionError: The contribution is not what the tier asks for, is not complete, or
            cannot be compared with what the folder holds.
        ParameterError: This checkout does not have its tier or a model.
    """
    published = layout.read_manifests(folder)
    versions = {**project.store.versions, **{m.stage: m.version for m in published}}
    store = InMemory(given.manifests, given.measured, versions)
    plan, pairing = planned(given.pairing, project)
    plan = replace(plan, encoder=any(m.stage == "embed_texts" for m in store.all()))
    plan = plan.computed_in(_precision(given.manifests))
    runs = _runs(plan, pairing, store)
    missing = [p for p in dag.plan(runs, store) if p.state != "done"]
    if missing:
        names = "; ".join(f"{p.run.stage} of {p.run.name} ({p.why})" for p in missing)
        raise ContributionError(f"it lacks runs that tier {plan.name!r} needs: {names}")
    needed = {(r.stage, store.key_of(r)): (r.name, r.labels) for r in runs}
    other = [m.key for m in store.all() if needed.get((m.stage, m.key)) != (m.name, m.labels)]
    if other:
        raise ContributionError(f"runs that this pairing does not need, or not so named: {other}")
    _check_answers(runs, store)
    new = of_tier(plan.tier, runs, store)
    if not published:
        return new | summarize(new)
    old = tables.read(folder)
    if set(new["states"]["state"]) <= set(old["states"]["state"]):
        return None
    _check_runs(plan, runs, store, published)
    _check_shared_answers(new, old)
    columns = [c for c in new["utility"] if c not in old["utility"]]
    frames = {"utility": pd.concat([old["utility"], new["utility"][columns]], axis=1)}
    for name in new.keys() - frames.keys():
        owner = "state" if name in ("states", "extraction") else "run"
        rows = new[name][~new[name][owner].isin(old[name][owner])]
        frames[name] = pd.concat([old[name], rows], ignore_index=True)
    return frames | summarize(frames)


def _precision(manifests: list[Manifest]) -> Precision:
    """The precision in which a contribution was computed, which its machine may have chosen.

    Raises:
        ContributionError: Its runs have several.
    """
    found = {m.parameters["precision"] for m in manifests if "precision" in m.parameters}
    if len(found) != 1 or not found <= set(get_args(Precision)):
        names = ", ".join(sorted(map(str, found))) or "none"
        raise ContributionError(
            f"its runs must name one precision, of {', '.join(get_args(Precision))}: they name "
            f"{names}"
        )
    return found.pop()


def _check_answers(runs: list[Run], store: InMemory) -> None:
    """Raise unless all states answered the same items and passages, each once."""
    items = ("measure_utility", list(ITEM), ["task", "item"])
    for stage, asked, unique in (items, ("measure_extraction", ["passage", "split"], ["passage"])):
        first, *rest = (store.frame(run, stage) for run in runs if run.stage == stage)
        alike = [first[asked].equals(f[asked]) and first.isna().equals(f.isna()) for f in rest]
        if not all(alike) or first.duplicated(unique).any() or first.isin([SUITE]).any(axis=None):
            raise ContributionError("its states did not answer the same items, each once")


def _check_runs(plan: Plan, runs: list[Run], store: InMemory, published: list[Manifest]) -> None:
    """Raise unless the tier was published as its plan is now, from the same inputs."""
    inputs = {given.key for m in store.all() for given in m.inputs.values()}
    by_name = {(m.stage, m.name): m for m in published}
    for run in dag.each_once([*schedule.of_tier(plan), *runs]):
        ours, theirs = by_name.get((run.stage, run.name)), store.finished(run)
        if ours is None:
            continue
        now, then = map(identifying, (run.params.model_dump(mode="json"), ours.parameters))
        if now != then:
            names = ", ".join(
                sorted(k for k in now.keys() | then.keys() if now.get(k) != then.get(k))
            )
            raise ContributionError(
                f"tier {plan.name!r} was published with another {names} of {run.stage}: run and "
                "publish it with its present file first"
            )
        if theirs and theirs.key in inputs and theirs.digest != ours.digest:
            raise ContributionError(
                f"{run.stage} of {ours.name} (run {ours.key}) has other content in the published "
                "tier: its machine has another arithmetic. Of a corpus, contribute another seed"
            )


def _check_shared_answers(new: dict[str, pd.DataFrame], old: dict[str, pd.DataFrame]) -> None:
    """Raise unless items and passages are the tier's, and the untouched student answers alike."""
    columns = [c for c in new["utility"] if c in old["utility"]]  # of items, and of that student
    states = columns[len(ITEM) :]
    theirs, ours = (frames["utility"][columns] for frames in (new, old))
    passages = [f["extraction"][f["extraction"]["state"].isin(states)] for f in (new, old)]
    asked = [
        (f[list(ITEM)].to_numpy().tolist(), f.isna().to_numpy().tolist(), p["passage"].tolist())
        for f, p in zip((theirs, ours), passages, strict=True)
    ]
    if asked[0] != asked[1]:
        raise ContributionError("its items or passages are not those of the published tier")
    exact = [p["exact"].to_numpy() for p in passages]
    differing = int(theirs[states].ne(ours[states]).sum().sum() + (exact[0] != exact[1]).sum())
    answers = int(ours[states].notna().sum().sum()) + len(exact[0])
    if differing > TOLERANCE * answers:
        raise ContributionError(
            f"the untouched student answers {differing} of {answers} items and passages otherwise "
            "than in the published tier, more than rounding explains: look for what differs "
            "between the machines"
        )
