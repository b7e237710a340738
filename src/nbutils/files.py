"""Files: digests, flushing to the disk, and replacing a folder atomically."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def sha256(data: str | bytes) -> str:
    """Hexadecimal SHA-256 of bytes, or of a text as UTF-8."""
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


def of_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file, which is read in parts."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical(value: Any) -> str:
    """A value as JSON that does not depend on the order of keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def sync(folder: Path) -> None:
    """Flush a folder and its content to the disk, so that a later rename never names less."""
    for path in (*folder.rglob("*"), folder):
        flush(path)


def flush(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sums(files: Mapping[str, bytes]) -> str:
    """One line per file: its SHA-256 and its name, in the format of ``sha256sum``."""
    return "".join(f"{sha256(files[f])}  {f}\n" for f in sorted(files))


@contextmanager
def replacing(place: Path) -> Iterator[Path]:
    """A scratch folder to write into, which replaces ``place`` when the block ends.

    The old folder is renamed before the new one is; if a kill comes between, the next call
    restores it. An error in the block leaves ``place`` unchanged.
    """
    restore(place)
    scratch, old = place.with_name(f".{place.name}.partial"), _old(place)
    for leftover in (scratch, old):
        shutil.rmtree(leftover, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        yield scratch
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    sync(scratch)
    if place.exists():
        os.replace(place, old)
    os.replace(scratch, place)
    shutil.rmtree(old, ignore_errors=True)


def restore(place: Path) -> None:
    """Restore the old folder after a killed ``replacing``."""
    if _old(place).exists() and not place.exists():
        os.replace(_old(place), place)


def _old(place: Path) -> Path:
    return place.with_name(f".{place.name}.old")
