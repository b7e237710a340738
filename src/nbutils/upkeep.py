"""Upkeep of the store: what no tier needs any more, and what is not as it was written."""

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from nbutils import plans
from nbutils.runs import MANIFEST, Manifest, Store


def planned(root: Path) -> set[str]:
    """Keys that tier files ask for, as they are now and with the code as it is now."""
    store = Store(root)
    tiers = (root / "notebooks" / "tiers").glob("*.yml")
    keys = (store.key(run) for path in tiers for run in plans.of(path.stem, root).all())
    return {key for key in keys if key is not None}


def unneeded(root: Path) -> list[Manifest]:
    """Finished runs that no tier file asks for."""
    keys = planned(root)
    return [m for m in Store(root).all() if m.key not in keys]


def leftovers(root: Path) -> list[Path]:
    """Scratch folders and checkpoints that no run will go on from, and that are in no use."""
    keys, found = planned(root), []
    for path in sorted((Store(root).root / "partial").glob("*/")):
        key = path.name.partition(".")[0]
        if key in keys and path.name != key:
            continue  # the checkpoint of a run that was interrupted
        try:
            with FileLock(path.with_name(f"{key}.lock")).acquire(blocking=False):
                found.append(path)
        except Timeout:
            continue  # its run is being computed
    return found


def delete(store: Store, manifest: Manifest) -> None:
    """Remove a finished run; its manifest goes first, so that no half of it is ever read."""
    folder = store.folder(manifest.stage, manifest.key)
    (folder / MANIFEST).unlink()
    shutil.rmtree(folder)


def damage(store: Store) -> Iterator[str]:
    """One line for every finished run whose files are not those that its manifest lists."""
    for manifest in store.all():
        folder = store.folder(manifest.stage, manifest.key)
        files = {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}
        del files[MANIFEST]
        wrong = sorted(files.keys() ^ manifest.outputs.keys())
        for name in sorted(files.keys() & manifest.outputs.keys()):
            with files[name].open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if digest != manifest.outputs[name]:
                wrong.append(name)
        if wrong:
            yield (
                f"{manifest.stage} of {manifest.name}: {', '.join(wrong)} in {folder} are not as "
                "they were written: delete the folder and run again"
            )
