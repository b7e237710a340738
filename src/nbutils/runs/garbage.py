"""Unneeded runs, leftover folders and damaged files of a store."""

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
    """Finished runs whose keys are not among the wanted ones."""
    return [m for m in store.all() if m.key not in wanted]


def leftovers(store: Store, wanted: set[str]) -> list[Path]:
    """Scratch folders and checkpoints that are not in use and that no wanted run resumes from."""
    unused = []
    missing = wanted - {m.key for m in store.all()}
    for path in sorted((store.root / "partial").glob("*/")):
        key = path.name.partition(".")[0]
        if key in missing and path.name != key:
            continue  # the checkpoint of an interrupted run
        try:
            with store.claim(key).acquire(blocking=False):
                unused.append(path)
        except Timeout:
            continue  # its run is being computed
    return unused


def clear(store: Store, folder: Path) -> None:
    """Delete a leftover folder, unless its run is being computed by now."""
    key = folder.name.partition(".")[0]
    with suppress(Timeout), store.claim(key).acquire(blocking=False):
        shutil.rmtree(folder)


def delete(store: Store, manifest: Manifest) -> None:
    """Delete a finished run. It is renamed first, so that no part of it is ever read as whole."""
    scratch = store.root / "partial" / manifest.key
    with store.claim(manifest.key):
        shutil.rmtree(scratch, ignore_errors=True)
        os.replace(store.folder(manifest.stage, manifest.key), scratch)
        shutil.rmtree(scratch)


def damage(store: Store, manifests: Iterable[Manifest]) -> Iterator[str]:
    """One message per finished run whose files differ from those that its manifest lists."""
    for manifest in manifests:
        folder = store.folder(manifest.stage, manifest.key)
        files = {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}
        files.pop(MANIFEST, None)
        differing = sorted(files.keys() ^ manifest.outputs.keys())
        for name in sorted(files.keys() & manifest.outputs.keys()):
            if of_file(files[name]) != manifest.outputs[name]:
                differing.append(name)
        if differing:
            yield (
                f"{manifest.stage} of {manifest.name}: {', '.join(differing)} in {folder} are not "
                "as they were written: delete the folder and run again"
            )


@contextmanager
def damage_reported(store: Store, manifests: Iterable[Manifest]) -> Iterator[None]:
    """Check finished runs for damage if the block that reads them fails.

    Raises:
        StoreError: Some run is damaged; the message names it. Else the block's own error is raised.
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
