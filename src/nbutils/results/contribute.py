"""Contributions: one pairing from somebody's store, added to the published results of its tier.

A contribution is not trusted: its runs must be exactly those that this checkout's plan needs. No
check can find invented answers; only computing the pairing again can.
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
"""Largest share of answers of one state that may differ between machines, because of near ties."""
OWNERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "states": ("state", ("measure_utility",)),
    "extraction": ("state", ("measure_utility",)),
    "curves": ("run", ("self_train",)),
    "proxies": ("run", ("measure_proxies", "diagnose")),
    "corpora": ("run", ("sample_corpus",)),
    "models": ("run", MODEL_STAGES),
}
"""The column of each table that names a run, and the stages whose runs have rows there."""
BUDGET = {"sample_corpus": ("tokens", "max_tokens"), "self_train": ("recipe",)}
"""Parameters that all pairings of a tier share and that are not among their labels."""


class ContributionError(UserError):
    """A run cannot be contributed, or a contribution cannot be accepted."""


class ArchivedRuns(Store):
    """The manifests of an archive, with the interface of a store but no folder."""

    def __init__(self, manifests: list[Manifest], versions: Mapping[str, int]) -> None:
        """``versions`` maps each stage to the version that its runs must have."""
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
    """An archive, its fine-tune, and the parameters of the notebook that computes the pairing."""

    archive: Archive
    trained: Manifest
    form: notebook_parameters.ReportNotebook

    @property
    def file(self) -> str:
        """The archive's name."""
        return f"{self.form.tier}-{self.trained.key}.zip"


# --- From a store to an archive --------------------------------------------------------------


def contribute(reference: str, project: Project) -> Path:
    """Pack one finished pairing into ``runs/contributions/<tier>-<key>.zip``.

    ``reference`` is the key of a fine-tune, the beginning of the key, or the name.

    Raises:
        ContributionError: There is no such fine-tune, or several, or it is not one that its tier
            needs; others cannot fetch its models; or a measurement is missing.
    """
    store = project.store
    trained = _find(reference, store)
    form = _form(trained, store, project)
    plan, selected = pairing.from_parameters(form, project.plan(form.tier))
    given = form.model_dump(exclude_unset=True).items()
    command = "nbutils notebook pairing " + " ".join(f"-p {name} {value}" for name, value in given)
    planned = plan.self_train(selected)
    if store.key(planned) != trained.key:
        raise ContributionError(
            f"run {trained.key} is not the one that tier {form.tier!r} needs now, it differs in: "
            f"{', '.join(dag.changes(planned, store, trained))}. Compute the pairing with the "
            f"tier's own budget and the present version: `{command}`"
        )
    if not plan.has_passages(selected.student):
        raise ContributionError(
            f"tier {form.tier!r} has no passages for {selected.student}, but the tables need its "
            "extraction: choose a tier with `passages`"
        )
    missing = [run for run in plan.pairing(selected) if store.finished(run) is None]
    if missing:
        names = ", ".join(f"{run.stage} of {run.name}" for run in missing)
        raise ContributionError(f"missing: {names}. `{command}` computes them")
    runs = _runs(plan, selected, store)
    manifests = [m for m in map(store.finished, runs) if m is not None]
    place = project.root / PACKED / f"{form.tier}-{trained.key}.zip"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(pack(of_tier(plan.tier, runs, store), manifests))
    return place


def _find(reference: str, store: Store) -> Manifest:
    """The finished fine-tune with this key, beginning of a key, or name."""
    matching = [
        m
        for m in store.all()
        if m.stage == "self_train"
        and (m.key.startswith(reference) or reference in (m.name, m.name.partition(": ")[2]))
    ]
    if not matching:
        raise ContributionError(
            f"there is no finished self_train run {reference!r}: give its key, the beginning of "
            "its key, or its name; `nbutils plan TIER` lists them"
        )
    if len(matching) > 1:
        several = "; ".join(f"{m.key} is {m.name}" for m in matching[:9])
        raise ContributionError(
            f"{reference!r} matches {len(matching)} runs, give the key of one: {several}"
        )
    return matching[0]


def _form(trained: Manifest, store: Store, project: Project) -> notebook_parameters.ReportNotebook:
    """The parameters of the notebook that computes the pairing of a fine-tune.

    Raises:
        ContributionError: The fine-tune belongs to another experiment, or others cannot fetch its
            source or its student.
        ParameterError: There is no such tier, or a label is not a valid parameter.
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
                f"the {role} {label!r} is not a model of tier {tier!r} and comes from {origin}, "
                "which others cannot fetch: use a model of the tier, or hub:OWNER/NAME@REVISION"
            )
        values[role] = label if label in known else origin
    values |= {name: labels.get(name) for name in ("temperature", "method", "seed")}
    return validation.check(notebook_parameters.ReportNotebook, values, where=f"run {trained.key}")


def _input(of: Manifest, role: str, store: Store) -> Manifest:
    """The manifest of one input of a run."""
    link = of.inputs.get(role)
    for manifest in store.all():
        if link and (manifest.key, manifest.digest) == (link.key, link.digest):
            return manifest
    raise ContributionError(f"there is no manifest of the {role} of {of.stage} {of.key}")


def _runs(plan: Plan, selected: Pairing, store: Store) -> list[Run]:
    """All runs of a pairing: those that it needs, and optional measurements that are finished."""
    optional = [run for run in plan.beside(selected) if store.finished(run) is not None]
    return dag.each_once([*plan.pairing(selected), *optional])


# --- From an archive to a tier's tables -------------------------------------------------------


def read(path: Path, project: Project) -> Contribution:
    """Read and check an archive, and determine its pairing.

    Raises:
        ArchiveError: The file is not a valid archive.
        ContributionError: The archive does not hold exactly one pairing.
        ParameterError: This checkout does not have the tier or a model of the pairing.
    """
    archive = results_archive.read(path)
    trained = [m for m in archive.manifests if m.stage == "self_train"]
    if len(trained) != 1:
        raise ContributionError(f"it holds {len(trained)} fine-tunes; a contribution holds one")
    form = _form(trained[0], ArchivedRuns(archive.manifests, project.store.versions), project)
    return Contribution(archive, trained[0], form)


def merged(given: Contribution, folder: Path, project: Project) -> dict[str, pd.DataFrame] | None:
    """The tables of a tier with a contribution added, or None if they hold it already.

    ``folder`` holds the published tables of the tier; it need not exist.

    Raises:
        ContributionError: The contribution is incomplete, differs from what the tier needs, or
            cannot be compared with the published runs.
    """
    manifests, rows = given.archive.manifests, given.archive.tables
    published_manifests = read_manifests(folder)
    plan, selected = pairing.from_parameters(given.form, project.plan(given.form.tier))
    plan = replace(plan, encoder=any(m.stage == "embed_texts" for m in manifests))
    versions = {**project.store.versions, **{m.stage: m.version for m in published_manifests}}
    store = ArchivedRuns(manifests, versions)
    runs = _checked_runs(plan, selected, store)
    _check_rows(rows, runs, store)
    if not published_manifests:
        return rows | summarize(rows)
    published = results_tables.read(folder)
    if set(rows["states"]["state"]) <= set(published["states"]["state"]):
        return None
    _check_comparable(runs, store, published_manifests)
    _check_answers(rows, published)
    states = [c for c in rows["utility"] if c not in published["utility"]]
    frames = {"utility": pd.concat([published["utility"], rows["utility"][states]], axis=1)}
    for name, (column, _) in OWNERS.items():
        new = rows[name][~rows[name][column].isin(published[name][column])]
        frames[name] = pd.concat([published[name], new], ignore_index=True)
    return frames | summarize(frames)


def _checked_runs(plan: Plan, selected: Pairing, store: ArchivedRuns) -> list[Run]:
    """The runs of a pairing by a plan, after checks that the archive has these and no others."""
    other = [m for m in store.all() if m.version != store.versions[m.stage]]
    if other:
        stages = ", ".join(sorted({m.stage for m in other}))
        raise ContributionError(
            f"of another version of {stages} than tier {plan.name!r} (made at commit "
            f"{other[0].git.get('commit')}): bring both to one commit, compute and contribute again"
        )
    runs = _runs(plan, selected, store)
    missing = [p for p in dag.plan(runs, store) if p.state == "ready"]
    if missing:
        names = "; ".join(f"{p.run.stage} of {p.run.name} ({p.why})" for p in missing)
        raise ContributionError(f"it lacks runs that tier {plan.name!r} needs: {names}")
    surplus = {m.key for m in store.all()} - {store.key(run) for run in runs}
    if surplus:
        names = ", ".join(sorted(surplus))
        raise ContributionError(f"it holds runs that this pairing does not need: {names}")
    return runs


def _check_rows(rows: dict[str, pd.DataFrame], runs: list[Run], store: Store) -> None:
    """Raise unless every run has its rows, with its labels, and all states the same items."""
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
            if name == "states":  # an untouched student has few labels; the others must be missing
                labels = dict.fromkeys(LABELS) | labels
            for label in labels.keys() & set(part):
                value = labels[label]
                equal = part[label].isna() if value is None else part[label].eq(value)
                if not equal.fillna(False).all():
                    raise ContributionError(f"table {name}: {label} of run {key} must be {value!r}")
    extraction = {run.name: store.key(run) for run in runs if run.stage == "measure_extraction"}
    expected = {store.key(r): extraction[r.name] for r in runs if r.stage == "measure_utility"}
    states, utility, passages = rows["states"], rows["utility"], rows["extraction"]
    passages_of_states = {
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
        or len(passages_of_states) != 1
        or passages.duplicated(["state", "passage"]).any()
    ):
        raise ContributionError("its states did not answer the same items and passages, each once")


def _by_norm(utility: pd.DataFrame, states: Iterable[str]) -> set[tuple[bool, ...]]:
    """The distinct sets of items with answers by ``acc_norm``, over the states that have any."""
    return {tuple(utility[s + NORM].notna()) for s in states if s + NORM in utility}


def _check_comparable(runs: list[Run], store: Store, published: list[Manifest]) -> None:
    """Raise unless runs with the same labels in the published tier are the same runs."""
    inputs = {given.key for m in store.all() for given in m.inputs.values()}
    by_labels = {(m.stage, json.dumps(m.labels, sort_keys=True)): m for m in published}
    for run in runs:
        ours = store.finished(run)
        known = by_labels.get((run.stage, json.dumps(run.labels, sort_keys=True)))
        assert ours is not None
        if known and ours.key != known.key:
            raise ContributionError(
                f"the published tier has {run.stage} of {known.name} from run {known.key}, which "
                f"differs in: {', '.join(dag.changes(run, store, known))}. A tier has one run per "
                "pairing and seed"
            )
        if known and ours.key in inputs and ours.digest != known.digest:
            raise ContributionError(
                f"{run.stage} of {known.name} (run {ours.key}) has other content in the published "
                "tier: it was computed on a machine with other arithmetic. If it is a corpus, "
                "contribute another seed"
            )
    pairings = [m for m in published if m.labels.get("experiment", "pairings") == "pairings"]
    for ours in store.all():
        for name in BUDGET.get(ours.stage, ()):
            values = [m.parameters.get(name) for m in pairings if m.stage == ours.stage]
            if any(value != ours.parameters[name] for value in values):
                raise ContributionError(
                    f"{name} of {ours.stage} is {ours.parameters[name]}, and {values[0]} in the "
                    "published tier: run and publish the tier with its present file first"
                )


def _check_answers(given: dict[str, pd.DataFrame], published: dict[str, pd.DataFrame]) -> None:
    """Raise unless items and passages are those of the tier, and shared states answer alike."""
    items = [rows["utility"][list(ITEM)] for rows in (given, published)]
    normed = set[tuple[bool, ...]]()
    for rows in (given, published):
        # other states of the tier may have answered only some of the items
        untouched = untouched_of(rows["states"]).values()
        normed |= _by_norm(rows["utility"], untouched)
    if items[0].to_numpy().tolist() != items[1].to_numpy().tolist() or len(normed) > 1:
        raise ContributionError("its items are not those of the published tier")
    for state in set(given["states"]["state"]) & set(published["states"]["state"]):
        # a tier that was published without acc_norm has nothing to compare it with
        shared = {state, state + NORM}.intersection(given["utility"], published["utility"])
        both = [
            (
                [a for column in sorted(shared) for a in rows["utility"][column].dropna()],
                rows["extraction"][rows["extraction"]["state"].eq(state)],
            )
            for rows in (given, published)
        ]
        (ours, extracted), (known, known_extracted) = both
        if extracted["passage"].tolist() != known_extracted["passage"].tolist():
            raise ContributionError("its passages are not those of the published tier")
        ours, known = ours + extracted["exact"].tolist(), known + known_extracted["exact"].tolist()
        differing = sum(a != b for a, b in zip(ours, known, strict=True))
        if differing > TOLERANCE * len(ours):
            raise ContributionError(
                f"the untouched student answers {differing} of {len(ours)} items and passages "
                "otherwise than in the published tier, more than rounding explains: look for what "
                "differs between the machines"
            )


def write(given: Contribution, frames: dict[str, pd.DataFrame], folder: Path) -> None:
    """Write merged tables into a tier's folder, with the new manifests and the archive."""
    collect.write(frames, folder)
    published = {(m.stage, m.key) for m in read_manifests(folder)}
    new = [m for m in given.archive.manifests if (m.stage, m.key) not in published]
    with (folder / MANIFESTS).open("a", encoding="utf-8") as file:
        file.writelines(m.model_dump_json() + "\n" for m in new)
    with (folder / CONTRIBUTED).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"archive": given.file, "runs": [m.key for m in new]}) + "\n")
    if not (folder / collect.CODE).exists():
        (folder / collect.CODE).write_text(module_digest("results.collect") + "\n", "utf-8")
    (folder / ARCHIVES).mkdir(exist_ok=True)
    (folder / ARCHIVES / given.file).write_bytes(given.archive.data)
