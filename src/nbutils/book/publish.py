"""Publishing: local results and contributions become committed results; checks of those."""

import json
import shutil
from pathlib import Path

import pandas as pd

from nbutils import files as own_files
from nbutils.config.notebook_parameters import NOTEBOOKS, REPORT, STAGES
from nbutils.config.tiers import Tier
from nbutils.errors import UserError, unknown
from nbutils.files import replacing, restore, sha256
from nbutils.notebooks import execute
from nbutils.protocol import schedule
from nbutils.results import archive, collect, contribute
from nbutils.results.archive import Contents
from nbutils.results.layout import CONTRIBUTED, LOCAL, MANIFESTS, PUBLISHED, SUMS, read_manifests
from nbutils.results.project import Project
from nbutils.results.tables import COLUMNS, read, without_manifest
from nbutils.runs.types import RunError

PAGES = "pages"
ARCHIVES = "contributions"  # the archives behind a published tier's contributed rows


class PublishError(UserError):
    """A tier cannot be published or verified, or a contribution cannot be accepted."""


def pages_of(tier: Tier) -> list[str]:
    """The stage pages that a tier is published with: those of its stages.

    A tier of pretrained models has no page about pre-training, but the report of one pairing.
    """
    if tier.benchmarks:
        return ["fetch_model", "prepare_benchmarks", REPORT]
    excluded = {"fetch_model", "prepare_benchmarks", REPORT}
    excluded |= set() if tier.grid.diagnostics else {"diagnose"}
    excluded |= set() if tier.grid.trajectory else {"trace"}
    return [page for page in STAGES if page not in excluded]


def stage_pages(name: str, project: Project, output: Path) -> None:
    """Execute the stage notebooks of a finished tier, for its first student, from its runs."""
    tier = project.plan(name).tier
    student = tier.grid.students[0]
    for page in pages_of(tier):
        fields = NOTEBOOKS[page].model_fields
        models = {role: student for role in ("model", "source", "student") if role in fields}
        execute.execute(page, {"tier": name} | models, output / f"{page}.ipynb", project.root)


def publish(tier: str, project: Project) -> Path:
    """Copy tables, manifests and executed stage pages to ``book/results/<tier>/``.

    Contributions to the published tier are added again.

    Raises:
        PublishError: A run is missing, the tables were made from other runs, or a contribution
            does not fit them.
    """
    store, root, runs = project.store, project.root, schedule.of_tier(project.plan(tier))
    try:
        manifests = [store.finished(run) for run in runs]
    except RunError as error:
        raise PublishError(str(error)) from error
    missing = sum(m is None for m in manifests)
    source = root / LOCAL / tier
    if missing:
        raise PublishError(
            f"tier {tier!r} is not complete, {missing} of {len(runs)} runs are missing: "
            f"run `nbutils run {tier}`"
        )
    if read_manifests(source) != manifests or not collect.current(source):
        raise PublishError(
            f"the tables in {source} were made from other runs, or by other code: run "
            f"`nbutils run {tier}`"
        )
    place = root / PUBLISHED / tier
    with store.claim(f"published-{tier}"), replacing(place) as scratch:
        shutil.copytree(source, scratch, dirs_exist_ok=True)
        for earlier in sorted((place / ARCHIVES).glob("*")):
            _add_again(earlier, scratch, project)
        stage_pages(tier, project, scratch / PAGES)
        (scratch / SUMS).write_text(sums(scratch), "utf-8")
    return place


def _add_again(path: Path, folder: Path, project: Project) -> None:
    """Add an earlier contribution to newly published tables."""
    try:
        given = archive.read(path)
        tables = contribute.merged(given, folder, project)
    except UserError as error:
        raise PublishError(
            f"{path} no longer fits: {error}\nDelete it and publish again, or ask for a new one"
        ) from error
    if tables is not None:
        _write(given, tables, folder)


def accept(path: Path, project: Project) -> tuple[Contents, bool]:
    """Add a contribution to the published tables of its tier.

    A tier that is not published yet gets a folder with this contribution only.

    Returns:
        The contents, and whether they are new; if not, nothing changes.

    Raises:
        PublishError: The file is not a valid contribution, does not fit the tier, or the published
            tier fails verification.
    """
    try:
        given = archive.read(path)
        tier = project.plan(given.pairing.tier).name  # its name is a folder of ours
        with project.store.claim(f"published-{tier}"):
            return given, _added(given, project.root / PUBLISHED / tier, project)
    except UserError as error:
        raise PublishError(f"{path} is not accepted: {error}") from error


def _added(given: Contents, place: Path, project: Project) -> bool:
    """Add a contribution to a published folder; False if it is there already."""
    restore(place)
    if place.exists():
        verify(place.name, project.root)  # else new digests would hide an existing error
    tables = contribute.merged(given, place, project)
    if tables is None:
        return False
    with replacing(place) as scratch:
        if place.exists():
            shutil.copytree(place, scratch, dirs_exist_ok=True)
        _write(given, tables, scratch)
        (scratch / SUMS).write_text(sums(scratch), "utf-8")
    return True


def _write(given: Contents, tables: dict[str, pd.DataFrame], folder: Path) -> None:
    """Write merged tables into a tier's folder, and beside them what was contributed."""
    collect.write(tables, folder)
    published = {(m.stage, m.key) for m in read_manifests(folder)}
    new = [m for m in given.manifests if (m.stage, m.key) not in published]
    with (folder / MANIFESTS).open("a", encoding="utf-8") as file:
        file.writelines(m.model_dump_json() + "\n" for m in new)
    with (folder / CONTRIBUTED).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"archive": given.file, "runs": [m.key for m in new]}) + "\n")
    collect.stamp(folder)
    (folder / ARCHIVES).mkdir(exist_ok=True)
    (folder / ARCHIVES / given.file).write_bytes(given.data())


def sums(folder: Path) -> str:
    """One line per file of a folder: its SHA-256 and its path in the folder."""
    files = (p for p in folder.rglob("*") if p.is_file() and p != folder / SUMS)
    return own_files.sums({p.relative_to(folder).as_posix(): p.read_bytes() for p in files})


def verify(tier: str, root: Path) -> int:
    """Check a published tier and return the number of its files.

    All files must have the digests that were written when the tier was published, all rows must
    have the manifests of their runs, and the summary tables must equal those computed from the
    rows of items and passages.

    Raises:
        PublishError: The tier is not published, or a check fails; the message says where.
    """
    from nbutils.analysis.gains import summarize

    folder = root / PUBLISHED / tier
    if not (folder / SUMS).is_file():
        known = sorted(p.parent.name for p in (root / PUBLISHED).glob(f"*/{SUMS}"))
        raise PublishError(unknown("published tier", tier, known))
    written, now = (folder / SUMS).read_text("utf-8"), sums(folder)
    listed, present = _listed(written), _listed(now)
    files = listed.keys() | present.keys()
    differing = sorted(f for f in files if listed.get(f) != present.get(f))
    if written != now:
        differing = differing or [SUMS]
        raise PublishError(
            f"{folder} is not as it was published, {len(differing)} of {len(listed)} files "
            f"differ: {', '.join(differing)}. {_remedy(folder, differing, listed)}"
        )
    unknown_runs = without_manifest(folder)
    if unknown_runs:
        raise PublishError(f"{folder}: no manifest of run {', '.join(sorted(unknown_runs))}")
    tables = read(folder)
    for name, frame in summarize(tables).items():
        columns = list(COLUMNS[name])
        try:
            pd.testing.assert_frame_equal(
                frame[columns], tables[name], check_dtype=False, rtol=1e-6, atol=1e-9
            )
        except AssertionError as error:
            raise PublishError(
                f"{folder / name}.parquet does not follow from the rows of items and passages: "
                + " ".join(str(error).split())
            ) from None
    return len(listed)


def _remedy(folder: Path, differing: list[str], listed: dict[str, str]) -> str:
    """How to repair published files; plain git commands keep line ends that git changed."""
    places = [folder / file for file in differing]
    with_lf = [p.read_bytes().replace(b"\r\n", b"\n") if p.is_file() else b"" for p in places]
    if [listed.get(file) for file in differing] != [sha256(data) for data in with_lf]:
        return "Restore them from git or publish the tier again"
    return (
        "Only the ends of lines differ: git changed them when it wrote the files. In the project's "
        "folder, `git rm --cached -r -q . && git reset --hard` writes every file again as it was "
        "published. It discards uncommitted changes: `git diff --ignore-cr-at-eol > mine.patch` "
        "saves them, and `git apply --ignore-whitespace mine.patch` restores them"
    )


def _listed(sums: str) -> dict[str, str]:
    """Maps each listed file to its digest."""
    return {file: digest for digest, _, file in (x.partition("  ") for x in sums.splitlines())}
