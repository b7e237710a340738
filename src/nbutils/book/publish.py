"""Publishing: from your run, or from a contribution, to the committed results; checking them."""

import shutil
from pathlib import Path

import pandas as pd

from nbutils import files as own_files
from nbutils.config.notebook_parameters import NOTEBOOKS, REPORT, STAGES
from nbutils.config.tiers import Tier
from nbutils.errors import UserError, unknown
from nbutils.files import replacing, restore, sha256
from nbutils.notebooks import execute
from nbutils.results import collect, contribute
from nbutils.results.contribute import Contribution
from nbutils.results.project import Project
from nbutils.results.tables import (
    COLUMNS,
    LOCAL,
    PUBLISHED,
    SUMS,
    read,
    read_manifests,
    without_manifest,
)
from nbutils.runs.types import RunError

PAGES = "pages"


class PublishError(UserError):
    """A tier is not complete, or its tables do not belong to its runs."""


def pages_of(tier: Tier) -> list[str]:
    """The pages that a tier is published with: of the stages that it has.

    A tier of pretrained models has no pre-training to show: it gives the report of one pairing.
    """
    if tier.benchmarks:
        return ["fetch_model", "prepare_benchmarks", REPORT]
    elsewhere = {"fetch_model", "prepare_benchmarks", REPORT}
    elsewhere |= set() if tier.grid.diagnostics else {"diagnose"}
    elsewhere |= set() if tier.grid.trajectory else {"trace"}
    return [page for page in STAGES if page not in elsewhere]


def stage_pages(name: str, project: Project, output: Path) -> None:
    """Execute the stage notebooks of a finished tier for its first student; they reuse its runs."""
    tier = project.plan(name).tier
    student = tier.grid.students[0]
    for page in pages_of(tier):
        fields = NOTEBOOKS[page].model_fields
        models = {role: student for role in ("model", "source", "student") if role in fields}
        execute.execute(page, {"tier": name} | models, output / f"{page}.ipynb", project.root)


def publish(tier: str, project: Project) -> Path:
    """Copy tables, manifests and executed stage pages to ``book/results/<tier>/``.

    Contributions to the tier that stands there are added again.

    Raises:
        PublishError: A run is missing, the tables were made from other runs, or a contribution
            does not fit them.
    """
    store, root, runs = project.store, project.root, project.plan(tier).all()
    try:
        wanted = [store.finished(run) for run in runs]
    except RunError as error:
        raise PublishError(str(error)) from error
    missing = sum(m is None for m in wanted)
    source = root / LOCAL / tier
    if missing:
        raise PublishError(
            f"tier {tier!r} is not complete, {missing} of {len(runs)} runs are missing: "
            f"run `nbutils run {tier}`"
        )
    if read_manifests(source) != wanted or not collect.current(source):
        raise PublishError(
            f"the tables in {source} were made from other runs, or by other code: run "
            f"`nbutils run {tier}`"
        )
    place = root / PUBLISHED / tier
    with store.claim(f"published-{tier}"), replacing(place) as scratch:
        shutil.copytree(source, scratch, dirs_exist_ok=True)
        for archive in sorted((place / contribute.ARCHIVES).glob("*.zip")):
            _add_again(archive, scratch, project)
        stage_pages(tier, project, scratch / PAGES)
        (scratch / SUMS).write_text(sums(scratch), "utf-8")
    return place


def _add_again(archive: Path, folder: Path, project: Project) -> None:
    try:
        given = contribute.read(archive, project)
        tables = contribute.merged(given, folder, project)
    except UserError as error:
        raise PublishError(
            f"{archive} no longer fits: {error}\nDelete it and publish again, or ask for a new one"
        ) from error
    if tables is not None:
        contribute.write(given, tables, folder)


def accept(path: Path, project: Project) -> tuple[Contribution, bool]:
    """Add a contribution to the published tables of its tier, and return it.

    False where it is there already, and nothing changes. A tier that is not published yet gets
    a folder that holds the contribution alone.

    Raises:
        PublishError: The file is wrong, does not fit the tier, or the tier does not verify.
    """
    try:
        given = contribute.read(path, project)
        tier = given.form.tier
        with project.store.claim(f"published-{tier}"):
            return given, _added(given, project.root / PUBLISHED / tier, project)
    except UserError as error:
        raise PublishError(f"{path} is not accepted: {error}") from error


def _added(given: Contribution, place: Path, project: Project) -> bool:
    restore(place)
    if place.exists():
        verify(place.name, project.root)  # or new digests would cover what is wrong
    tables = contribute.merged(given, place, project)
    if tables is None:
        return False
    with replacing(place) as scratch:
        if place.exists():
            shutil.copytree(place, scratch, dirs_exist_ok=True)
        contribute.write(given, tables, scratch)
        (scratch / SUMS).write_text(sums(scratch), "utf-8")
    return True


def sums(folder: Path) -> str:
    """A line for every file of a folder: its SHA-256 and its path in the folder."""
    files = (p for p in folder.rglob("*") if p.is_file() and p != folder / SUMS)
    return own_files.sums({p.relative_to(folder).as_posix(): p.read_bytes() for p in files})


def verify(tier: str, root: Path) -> int:
    """Check a published tier and return the number of its files.

    The digests of all files are compared with those written when it was published, every row
    must have its run's manifest, and the summary tables must follow from the rows of items and
    passages.

    Raises:
        PublishError: The tier is not published, or something differs; the message names it.
    """
    from nbutils.analysis.gains import summarize

    folder = root / PUBLISHED / tier
    if not (folder / SUMS).is_file():
        known = sorted(p.parent.name for p in (root / PUBLISHED).glob(f"*/{SUMS}"))
        raise PublishError(unknown("published tier", tier, known))
    written, now = (folder / SUMS).read_text("utf-8"), sums(folder)
    listed, found = _listed(written), _listed(now)
    differing = sorted(f for f in listed.keys() | found.keys() if listed.get(f) != found.get(f))
    if written != now:
        differing = differing or [SUMS]
        raise PublishError(
            f"{folder} is not as it was published, {len(differing)} of {len(listed)} files "
            f"differ: {', '.join(differing)}. {_remedy(folder, differing, listed)}"
        )
    strangers = without_manifest(folder)
    if strangers:
        raise PublishError(f"{folder}: no manifest of run {', '.join(sorted(strangers))}")
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
    """What brings published files back: git would keep the ends of lines that it changed itself."""
    places = [folder / file for file in differing]
    with_lf = [p.read_bytes().replace(b"\r\n", b"\n") if p.is_file() else b"" for p in places]
    if [listed.get(file) for file in differing] != [sha256(data) for data in with_lf]:
        return "Restore them from git or publish the tier again"
    return (
        "Only the ends of lines differ: git changed them when it wrote the files. In the project's "
        "folder, `git rm --cached -r -q . && git reset --hard` writes every file again as it was "
        "published. It discards what is not committed: `git diff --ignore-cr-at-eol > mine.patch` "
        "keeps that, and `git apply --ignore-whitespace mine.patch` brings it back"
    )


def _listed(sums: str) -> dict[str, str]:
    """File to digest."""
    return {file: digest for digest, _, file in (x.partition("  ") for x in sums.splitlines())}
