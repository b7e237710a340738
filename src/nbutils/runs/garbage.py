"""Garbage and damage: runs that nobody wants, and files that are not as they were written."""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import Timeout

from nbutils.files import of_file
from nbutils.runs.store import MANIFEST, Store
from nbutils.runs.types import ClaimedError, Manifest, StoreError


def unneeded(store: Store, wanted: set[str]) -> list[Manifest]:
    """Finished runs whose keys nobody wants."""
    return [m for m in store.all() if m.key not in wanted]


def leftovers(store: Store, wanted: set[str]) -> list[Path]:
    """Scratch folders and checkpoints that no wanted run goes on from, and that are in no use."""
    found = []
    awaited = wanted - {m.key for m in store.all()}
    for path in sorted((store.root / "partial").glob("*/")):
        key = path.name.partition(".")[0]
        if key in awaited and path.name != key:
            continue  # the checkpoint of a run that was interrupted
        try:
            with store.claim(key).acquire(blocking=False):
                found.append(path)
        except Timeout:
            continue  # its run is being computed
    return found


def clear(store: Store, folder: Path) -> None:
    """Remove what a kill left, unless its run is being computed by now."""
    key = folder.name.partition(".")[0]
    with suppress(Timeout), store.claim(key).acquire(blocking=False):
        shutil.rmtree(folder)


def delete(store: Store, manifest: Manifest) -> None:
    """Remove a finished run; it is renamed away first, so that no half of it is ever there."""
    scratch = store.root / "partial" / manifest.key
    with store.claim(manifest.key):
        shutil.rmtree(scratch, ignore_errors=True)
        os.replace(store.folder(manifest.stage, manifest.key), scratch)
        shutil.rmtree(scratch)


def damage(store: Store, manifests: Iterable[Manifest]) -> Iterator[str]:
    """One line for every finished run whose files are not those that its manifest lists."""
    for manifest in manifests:
        folder = store.folder(manifest.stage, manifest.key)
        files = {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}
        files.pop(MANIFEST, None)
        wrong = sorted(files.keys() ^ manifest.outputs.keys())
        for name in sorted(files.keys() & manifest.outputs.keys()):
            if of_file(files[name]) != manifest.outputs[name]:
                wrong.append(name)
        if wrong:
            yield (
                f"{manifest.stage} of {manifest.name}: {', '.join(wrong)} in {folder} are not as "
                "they were written: delete the folder and run again"
            )


@contextmanager
def blamed(store: Store, manifests: Iterable[Manifest]) -> Iterator[None]:
    """Where reading finished runs fails, name those that are damaged.

    Raises:
        StoreError: Some are; else what was raised goes on.
    """
    try:
        yield
    except (ClaimedError, StoreError):
        raise
    except Exception as error:
        damaged = list(damage(store, manifests))
        if not damaged:
            raise
        raise StoreError("\n".join(damaged)) from error
