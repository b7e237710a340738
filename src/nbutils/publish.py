"""Publishing: copy the tables of a complete tier into the book, and check what is there."""

import hashlib
import shutil
from pathlib import Path

import pandas as pd

from nbutils import notebooks, results
from nbutils.forms import NOTEBOOKS, REPORT, STAGES
from nbutils.params import UserError, unknown
from nbutils.runs import Run, RunError, Store
from nbutils.tiers import load_tier

PAGES = "pages"
SUMS = "SHA256SUMS"  # digest of every file of a published tier, as sha256sum writes it


class PublishError(UserError):
    """A tier is not complete, or its tables do not belong to its runs."""


def stage_pages(name: str, root: Path, output: Path) -> None:
    """Execute the stage notebooks of a finished tier for its first student; they reuse its runs.

    A tier of pretrained models has no pre-training to show: it gives the report of one pairing.
    """
    tier = load_tier(name, root)
    student = tier.grid.students[0]
    pages = [REPORT] if tier.benchmarks else [page for page in STAGES if page != REPORT]
    for page in pages:
        fields = NOTEBOOKS[page].model_fields
        models = {role: student for role in ("model", "source", "student") if role in fields}
        notebooks.execute(page, {"tier": name} | models, output / f"{page}.ipynb", root)


def publish(tier: str, runs: list[Run], root: Path) -> Path:
    """Copy tables, manifests and executed stage pages to ``book/results/<tier>/``.

    Raises:
        PublishError: A run is missing, or the tables were made from other runs.
    """
    store = Store(root)
    try:
        wanted = [store.finished(run) for run in runs]
    except RunError as error:
        raise PublishError(str(error)) from error
    missing = sum(m is None for m in wanted)
    source = root / results.YOURS / tier
    if missing:
        raise PublishError(
            f"tier {tier!r} is not complete, {missing} of {len(runs)} runs are missing: "
            f"run `nbutils run {tier}`"
        )
    if results.read_manifests(source) != wanted or not results.current(source):
        raise PublishError(
            f"the tables in {source} were made from other runs, or by other code: run "
            f"`nbutils run {tier}`"
        )
    place = root / results.PUBLISHED / tier
    with results.replacing(place) as scratch:
        shutil.copytree(source, scratch, dirs_exist_ok=True)
        stage_pages(tier, root, scratch / PAGES)
        (scratch / SUMS).write_text(sums(scratch), "utf-8")
    return place


def sums(folder: Path) -> str:
    """A line for every file of a folder: its SHA-256 and its path in the folder."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / SUMS)
    return "".join(
        f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.relative_to(folder).as_posix()}\n"
        for p in files
    )


def verify(tier: str, root: Path) -> int:
    """Check a published tier and return the number of its files.

    The digests of all files are compared with those written when it was published, every row
    must have its run's manifest, and the summary tables must follow from the rows of items and
    passages.

    Raises:
        PublishError: The tier is not published, or something differs; the message names it.
    """
    from nbutils.summaries import summarize

    folder = root / results.PUBLISHED / tier
    if not (folder / SUMS).is_file():
        known = sorted(p.parent.name for p in (root / results.PUBLISHED).glob(f"*/{SUMS}"))
        raise PublishError(unknown("published tier", tier, known))
    written, now = (folder / SUMS).read_text("utf-8"), sums(folder)
    listed, found = _listed(written), _listed(now)
    differing = sorted(f for f in listed.keys() | found.keys() if listed.get(f) != found.get(f))
    if written != now:
        differing = differing or [SUMS]
        raise PublishError(
            f"{folder} is not as it was published, {len(differing)} of {len(listed)} files "
            f"differ: {', '.join(differing)}. Restore them from git or publish the tier again"
        )
    strangers = results.without_manifest(folder)
    if strangers:
        raise PublishError(f"{folder}: no manifest of run {', '.join(sorted(strangers))}")
    tables = results.read(folder)
    for name, frame in summarize(tables).items():
        columns = list(results.COLUMNS[name])
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


def _listed(sums: str) -> dict[str, str]:
    """File to digest."""
    return {file: digest for digest, _, file in (x.partition("  ") for x in sums.splitlines())}
