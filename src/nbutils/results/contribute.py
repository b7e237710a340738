"""Contributions: one pairing on its way from somebody's store to the published results.

What arrives is data of a stranger, and must be what this checkout's own plan asks for, run by
run. Whether somebody made the answers up, no check can tell: computing the pairing again can.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from nbutils.analysis.gains import ITEM, NORM, SUITE, summarize, untouched_of
from nbutils.config import notebook_parameters, validation
from nbutils.config.design import LABELS, Pairing
from nbutils.errors import UserError
from nbutils.protocol import pairing
from nbutils.protocol.plan import Plan
from nbutils.results import archive as results_archive
from nbutils.results import collect
from nbutils.results import tables as results_tables
from nbutils.results.archive import Archive, pack
from nbutils.results.project import Project
from nbutils.results.rows import MODEL_STAGES, of_tier
from nbutils.results.tables import CONTRIBUTED, MANIFESTS, read_manifests
from nbutils.runs import dag
from nbutils.runs.source_code import module_digest
from nbutils.runs.store import Store
from nbutils.runs.types import Manifest, Run

PACKED = Path("runs/contributions")
ARCHIVES = "contributions"  # the archives behind a published tier's contributed rows
TOLERANCE = 0.01
"""Share of its answers that one state may give otherwise on another machine: near ties."""
OWNERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "states": ("state", ("measure_utility",)),
    "extraction": ("state", ("measure_utility",)),
    "curves": ("run", ("self_train",)),
    "proxies": ("run", ("measure_proxies", "diagnose")),
    "corpora": ("run", ("sample_corpus",)),
    "models": ("run", MODEL_STAGES),
}
"""The column of a table that names a run, and the stages whose runs have rows there."""
BUDGET = {"sample_corpus": ("tokens", "max_tokens"), "self_train": ("recipe",)}
"""What all pairings of a tier have in common and no label tells."""


class ContributionError(UserError):
    """A run cannot be contributed, or a contribution cannot be accepted."""


class Packed(Store):
    """The manifests of an archive, to be asked as a store is. There is no folder behind them."""

    def __init__(self, manifests: list[Manifest], versions: Mapping[str, int]) -> None:
        """``versions`` maps a stage to the version that its runs must have."""
        super().__init__(Path(), versions)
        self._manifests = {(m.stage, m.key): m for m in manifests}

    def manifest(self, stage: str, key: str) -> Manifest | None:
        """The manifest of a run, or None where the archive has none."""
        return self._manifests.get((stage, key))

    def all(self) -> list[Manifest]:
        """Every manifest."""
        return list(self._manifests.values())


@dataclass(frozen=True)
class Contribution:
    """An archive, the fine-tune that it is about, and the pairing as a person asks for it."""

    archive: Archive
    trained: Manifest
    form: notebook_parameters.ReportNotebook

    @property
    def file(self) -> str:
        """The archive's name."""
        return f"{self.form.tier}-{self.trained.key}.zip"


# --- From a store to a file -----------------------------------------------------------------


def contribute(reference: str, project: Project) -> Path:
    """Pack one finished pairing into ``runs/contributions/<tier>-<key>.zip``.

    ``reference`` is a fine-tune's key, the beginning of its key, or its name.

    Raises:
        ContributionError: There is no such fine-tune or several, it is not what its tier asks
            for, others cannot fetch its models, or a measurement is missing.
    """
    store = project.store
    trained = _find(reference, store)
    form = _form(trained, store, project)
    plan, cell = pairing.from_parameters(form, project.plan(form.tier))
    given = form.model_dump(exclude_unset=True).items()
    command = "nbutils notebook pairing " + " ".join(f"-p {name} {value}" for name, value in given)
    asked = plan.self_train(cell)
    if store.key(asked) != trained.key:
        raise ContributionError(
            f"run {trained.key} is not what tier {form.tier!r} asks for now, it differs in: "
            f"{', '.join(dag.changes(asked, store, trained))}. Compute the pairing with the "
            f"tier's own budget and the present version: `{command}`"
        )
    if not plan.has_passages(cell.student):
        raise ContributionError(
            f"tier {form.tier!r} has no passages for {cell.student}, whose extraction the tables "
            "need: take a tier with `passages`"
        )
    missing = [run for run in plan.pairing(cell) if store.finished(run) is None]
    if missing:
        names = ", ".join(f"{run.stage} of {run.name}" for run in missing)
        raise ContributionError(f"missing: {names}. `{command}` computes it")
    runs = _runs(plan, cell, store)
    manifests = [m for m in map(store.finished, runs) if m is not None]
    place = project.root / PACKED / f"{form.tier}-{trained.key}.zip"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(pack(of_tier(plan.tier, runs, store), manifests))
    return place


def _find(reference: str, store: Store) -> Manifest:
    found = [
        m
        for m in store.all()
        if m.stage == "self_train"
        and (m.key.startswith(reference) or reference in (m.name, m.name.partition(": ")[2]))
    ]
    if not found:
        raise ContributionError(
            f"there is no finished self_train run {reference!r}: give its key, the beginning of "
            "its key, or its name; `nbutils plan TIER` lists them"
        )
    if len(found) > 1:
        several = "; ".join(f"{m.key} is {m.name}" for m in found[:9])
        raise ContributionError(
            f"{reference!r} may be {len(found)} runs, give the key of one: {several}"
        )
    return found[0]


def _form(trained: Manifest, store: Store, project: Project) -> notebook_parameters.ReportNotebook:
    """The pairing that a fine-tune is, as a person would ask for it.

    Raises:
        ContributionError: It is another experiment, or has a model that others cannot fetch.
        ParameterError: There is no such tier, or a label is no parameter.
    """
    labels, tier = trained.labels, trained.name.partition(": ")[0]
    if labels.get("experiment") != "pairings":
        raise ContributionError(
            f"run {trained.key} ({trained.name}) belongs to {labels.get('experiment')}; only "
            "pairings can be contributed"
        )
    known = project.plan(tier).tier.models
    corpus = _input(trained, "corpus", store)
    values: dict[str, Any] = {"tier": tier}
    for role, reader in (("source", corpus), ("student", trained)):
        label = labels.get(role)
        origin = str(_input(reader, role, store).parameters.get("origin"))
        if label not in known and not origin.startswith(("hub:", "wheel:")):
            raise ContributionError(
                f"the {role} {label!r} is no model of tier {tier!r} and comes from {origin}, which "
                "others cannot fetch: take a model of the tier, or hub:OWNER/NAME@REVISION"
            )
        values[role] = label if label in known else origin
    values |= {name: labels.get(name) for name in ("temperature", "method", "seed")}
    return validation.check(notebook_parameters.ReportNotebook, values, where=f"run {trained.key}")


def _input(of: Manifest, role: str, store: Store) -> Manifest:
    link = of.inputs.get(role)
    for manifest in store.all():
        if link and (manifest.key, manifest.digest) == (link.key, link.digest):
            return manifest
    raise ContributionError(f"there is no manifest of the {role} of {of.stage} {of.key}")


def _runs(plan: Plan, cell: Pairing, store: Store) -> list[Run]:
    """The runs behind a pairing's rows: what it takes, and what else was measured of it."""
    beside = [run for run in plan.beside(cell) if store.finished(run) is not None]
    return dag.each_once([*plan.pairing(cell), *beside])


# --- From a file to a tier's tables ---------------------------------------------------------


def read(path: Path, project: Project) -> Contribution:
    """Read and check an archive, and find out which pairing it is.

    Raises:
        ArchiveError: The file is wrong in itself.
        ContributionError: It is not of one pairing.
        ParameterError: It is of a tier or a model that this checkout has not.
    """
    archive = results_archive.read(path)
    trained = [m for m in archive.manifests if m.stage == "self_train"]
    if len(trained) != 1:
        raise ContributionError(f"it holds {len(trained)} fine-tunes; a contribution is of one")
    form = _form(trained[0], Packed(archive.manifests, project.store.versions), project)
    return Contribution(archive, trained[0], form)


def merged(given: Contribution, folder: Path, project: Project) -> dict[str, pd.DataFrame] | None:
    """The tables of a tier's folder with a contribution in them; None if it is there already.

    A folder that does not exist is a tier without rows.

    Raises:
        ContributionError: The contribution is not what the tier asks for, is not complete, or
            cannot be compared with what the folder holds.
    """
    manifests, rows = given.archive.manifests, given.archive.tables
    theirs = read_manifests(folder)
    plan, cell = pairing.from_parameters(given.form, project.plan(given.form.tier))
    plan = replace(plan, encoder=any(m.stage == "embed_texts" for m in manifests))
    versions = {**project.store.versions, **{m.stage: m.version for m in theirs}}
    store = Packed(manifests, versions)
    runs = _checked_runs(plan, cell, store)
    _check_rows(rows, runs, store)
    if not theirs:
        return rows | summarize(rows)
    standing = results_tables.read(folder)
    if set(rows["states"]["state"]) <= set(standing["states"]["state"]):
        return None
    _check_comparable(runs, store, theirs)
    _check_answers(rows, standing)
    states = [c for c in rows["utility"] if c not in standing["utility"]]
    frames = {"utility": pd.concat([standing["utility"], rows["utility"][states]], axis=1)}
    for name, (column, _) in OWNERS.items():
        new = rows[name][~rows[name][column].isin(standing[name][column])]
        frames[name] = pd.concat([standing[name], new], ignore_index=True)
    return frames | summarize(frames)


def _checked_runs(plan: Plan, cell: Pairing, store: Packed) -> list[Run]:
    """The runs that a plan asks for, each with its manifest, and no manifest beside them."""
    other = [m for m in store.all() if m.version != store.versions[m.stage]]
    if other:
        stages = ", ".join(sorted({m.stage for m in other}))
        raise ContributionError(
            f"of another version of {stages} than tier {plan.name!r} (made at commit "
            f"{other[0].git.get('commit')}): bring both to one commit, compute and contribute again"
        )
    runs = _runs(plan, cell, store)
    missing = [p for p in dag.plan(runs, store) if p.state == "ready"]
    if missing:
        told = "; ".join(f"{p.run.stage} of {p.run.name} ({p.why})" for p in missing)
        raise ContributionError(f"it lacks what tier {plan.name!r} asks for: {told}")
    strangers = {m.key for m in store.all()} - {store.key(run) for run in runs}
    if strangers:
        names = ", ".join(sorted(strangers))
        raise ContributionError(f"it holds runs that this pairing does not take: {names}")
    return runs


def _check_rows(rows: dict[str, pd.DataFrame], runs: list[Run], store: Store) -> None:
    """Raise unless every run that should have rows has some, under its own labels."""
    for name, (column, stages) in OWNERS.items():
        owners = {store.key(run): run for run in runs if run.stage in stages}
        wrong = owners.keys() ^ set(rows[name][column])
        if wrong:
            raise ContributionError(
                f"table {name}: no rows of a run of this pairing, or rows of no such run: "
                f"{', '.join(sorted(map(str, wrong)))}"
            )
        for key, part in rows[name].groupby(column):
            labels = owners[str(key)].labels
            if name == "states":  # an untouched student has few labels, and no others
                labels = dict.fromkeys(LABELS) | labels
            for label in labels.keys() & set(part):
                value = labels[label]
                same = part[label].isna() if value is None else part[label].eq(value)
                if not same.fillna(False).all():
                    raise ContributionError(f"table {name}: {label} of run {key} must be {value!r}")
    extraction = {run.name: store.key(run) for run in runs if run.stage == "measure_extraction"}
    expected = {store.key(r): extraction[r.name] for r in runs if r.stage == "measure_utility"}
    states, utility, passages = rows["states"], rows["utility"], rows["extraction"]
    asked = {
        tuple(zip(part["passage"], part["split"], strict=True))
        for _, part in passages.groupby("state")
    }
    plain = {*ITEM, *expected}
    normed = _by_norm(utility, states["state"])
    if (
        dict(zip(states["state"], states["extraction_run"], strict=True)) != expected
        or states["state"].duplicated().any()
        or set(utility.columns) not in (plain, plain | {f"{key}{NORM}" for key in expected})
        or len(normed) > 1
        or not all(map(any, normed))
        or utility.duplicated(["task", "item"]).any()
        or utility["task"].eq(SUITE).any()
        or len(asked) != 1
        or passages.duplicated(["state", "passage"]).any()
    ):
        raise ContributionError("its states did not answer the same items and passages, each once")


def _by_norm(utility: pd.DataFrame, states: Iterable[str]) -> set[tuple[bool, ...]]:
    """Which items have an answer by ``acc_norm``, as the states that have any say it."""
    return {tuple(utility[s + NORM].notna()) for s in states if s + NORM in utility}


def _check_comparable(runs: list[Run], store: Store, theirs: list[Manifest]) -> None:
    """Raise unless what the tier has under the same labels is the same run."""
    inputs = {given.key for m in store.all() for given in m.inputs.values()}
    by_labels = {(m.stage, json.dumps(m.labels, sort_keys=True)): m for m in theirs}
    for run in runs:
        mine = store.finished(run)
        known = by_labels.get((run.stage, json.dumps(run.labels, sort_keys=True)))
        assert mine is not None
        if known and mine.key != known.key:
            raise ContributionError(
                f"the published tier has {run.stage} of {known.name} from run {known.key}, which "
                f"differs in: {', '.join(dag.changes(run, store, known))}. There is one run of a "
                "cell and seed"
            )
        if known and mine.key in inputs and mine.digest != known.digest:
            raise ContributionError(
                f"{run.stage} of {known.name} (run {mine.key}) has other content in the published "
                "tier: it was computed on a machine with other arithmetic. If it is a corpus, "
                "contribute another seed"
            )
    for mine in store.all():
        pairings = [m for m in theirs if m.labels.get("experiment", "pairings") == "pairings"]
        for name in BUDGET.get(mine.stage, ()):
            values = [m.parameters.get(name) for m in pairings if m.stage == mine.stage]
            if any(value != mine.parameters[name] for value in values):
                raise ContributionError(
                    f"{name} of {mine.stage} is {mine.parameters[name]}, and {values[0]} in the "
                    "published tier: run and publish the tier with its present file first"
                )


def _check_answers(given: dict[str, pd.DataFrame], standing: dict[str, pd.DataFrame]) -> None:
    """Raise unless items and passages are the tier's, and states that both have answer alike."""
    items = [rows["utility"][list(ITEM)] for rows in (given, standing)]
    normed = set[tuple[bool, ...]]()
    for rows in (given, standing):
        # the tier's other states may have answered a part of the items
        untouched = untouched_of(rows["states"]).values()
        normed |= _by_norm(rows["utility"], untouched)
    if items[0].to_numpy().tolist() != items[1].to_numpy().tolist() or len(normed) > 1:
        raise ContributionError("its items are not those of the published tier")
    for state in set(given["states"]["state"]) & set(standing["states"]["state"]):
        # a tier that was published without acc_norm has nothing to compare it with
        shared = {state, state + NORM}.intersection(given["utility"], standing["utility"])
        both = [
            (
                [a for column in sorted(shared) for a in rows["utility"][column].dropna()],
                rows["extraction"][rows["extraction"]["state"].eq(state)],
            )
            for rows in (given, standing)
        ]
        (mine, extracted), (known, known_extracted) = both
        if extracted["passage"].tolist() != known_extracted["passage"].tolist():
            raise ContributionError("its passages are not those of the published tier")
        mine, known = mine + extracted["exact"].tolist(), known + known_extracted["exact"].tolist()
        differing = sum(a != b for a, b in zip(mine, known, strict=True))
        if differing > TOLERANCE * len(mine):
            raise ContributionError(
                f"the untouched student answers {differing} of {len(mine)} items and passages "
                "otherwise than in the published tier, more than rounding explains: look for what "
                "differs between the machines"
            )


def write(given: Contribution, frames: dict[str, pd.DataFrame], folder: Path) -> None:
    """Write merged tables into a tier's folder, and beside them what was contributed."""
    collect.write(frames, folder)
    theirs = {(m.stage, m.key) for m in read_manifests(folder)}
    new = [m for m in given.archive.manifests if (m.stage, m.key) not in theirs]
    with (folder / MANIFESTS).open("a", encoding="utf-8") as file:
        file.writelines(m.model_dump_json() + "\n" for m in new)
    with (folder / CONTRIBUTED).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"archive": given.file, "runs": [m.key for m in new]}) + "\n")
    if not (folder / collect.CODE).exists():
        (folder / collect.CODE).write_text(module_digest("results.collect") + "\n", "utf-8")
    (folder / ARCHIVES).mkdir(exist_ok=True)
    (folder / ARCHIVES / given.file).write_bytes(given.archive.data)
