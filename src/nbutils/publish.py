"""Publishing: copy the tables of a complete tier into the book, where they are committed."""

import os
import shutil
from pathlib import Path

from nbutils import notebooks, results
from nbutils.params import NOTEBOOKS, UserError
from nbutils.runs import Run, RunError, Store

PAGES = "pages"


class PublishError(UserError):
    """A tier is not complete, or its tables do not belong to its runs."""


def stage_pages(tier: str, root: Path, output: Path) -> None:
    """Execute the stage notebooks of a finished tier; they reuse its runs."""
    for name, schema in NOTEBOOKS.items():
        if "tier" in schema.model_fields:
            notebooks.execute(name, {"tier": tier}, output / f"{name}.ipynb", root)


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
    if results.read_manifests(source) != wanted:
        raise PublishError(
            f"the tables in {source} were made from other runs: run `nbutils run {tier}`"
        )
    place = root / results.PUBLISHED / tier
    scratch = place.with_name(f".{tier}.partial")
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(source, scratch)
    stage_pages(tier, root, scratch / PAGES)
    shutil.rmtree(place, ignore_errors=True)
    os.replace(scratch, place)
    return place
