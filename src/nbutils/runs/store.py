"""The store: identity of runs, atomic writing, manifests.

A run is one execution of one stage. Its key is a hash of its validated parameters, of the keys
and content hashes of its inputs, and of the version of its stage, so the same key always means the
same result. A run is written to a scratch folder and then renamed: a killed process leaves either
a complete run, or a scratch folder that nobody reads.
"""

import errno
import json
import os
import shutil
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import ValidationError

from nbutils.errors import UserError
from nbutils.files import flush, of_file, sync
from nbutils.runs import environment
from nbutils.runs.identity import identity
from nbutils.runs.types import (
    SCHEMA,
    ClaimedError,
    Compute,
    Input,
    Manifest,
    Progress,
    Run,
    RunError,
    StoreError,
    UnwritableError,
)

MANIFEST = "manifest.json"


# Errors of the system when a disk is full, read-only or defective, or forbids writing.
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


def _refuse_newer(path: Path, content: bytes) -> None:
    """Raise ``RunError`` if a later version of this package wrote the manifest."""
    try:
        version = json.loads(content)["schema_version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return
    if isinstance(version, int) and version > SCHEMA:
        raise RunError(
            f"{path} is of schema version {version} and this package reads {SCHEMA}: update the "
            "package, or use another store"
        )


class Store:
    """The folder of finished runs: ``<root>/<stage>/<key>/``, with a manifest in each."""

    def __init__(self, root: Path, versions: Mapping[str, int]) -> None:
        """Open the store of a project, given the project's root; creates nothing.

        ``versions`` maps each stage to its current version, which is part of the keys of its runs.
        """
        self.root = root / "runs" / "store"
        self.versions = versions
        self._manifests: dict[tuple[str, str], Manifest] = {}
        self._keys: dict[int, tuple[Run, str]] = {}  # by id; the reference keeps the id unique

    def folder(self, stage: str, key: str) -> Path:
        """The folder of a run, which exists if the run is finished."""
        return self.root / stage / key

    def manifest(self, stage: str, key: str) -> Manifest | None:
        """The manifest of a finished run, or None where there is no such run.

        Raises:
            RunError: The manifest cannot be read, is damaged, or is of another run.
        """
        if (stage, key) not in self._manifests:
            path = self.folder(stage, key) / MANIFEST
            try:
                content = path.read_bytes()
            except FileNotFoundError:
                return None
            except OSError as error:
                raise RunError(f"{path} cannot be read: {error.strerror}") from error
            try:
                manifest = Manifest.model_validate_json(content)
            except ValidationError as error:
                _refuse_newer(path, content)
                raise RunError(f"{path} is damaged ({error.error_count()} errors): delete "
                               f"{path.parent} and run again") from None  # fmt: skip
            if (manifest.stage, manifest.key) != (stage, key):  # they would name another folder
                raise RunError(f"{path} is of another run, {manifest.stage!r} {manifest.key!r}: "
                               f"delete {path.parent} and run again")  # fmt: skip
            self._manifests[stage, key] = manifest
        return self._manifests[stage, key]

    def __getstate__(self) -> dict[str, Any]:
        """The state for a worker process, without the caches."""
        return vars(self) | {"_manifests": {}, "_keys": {}}

    def key(self, run: Run) -> str | None:
        """The key of a run, or None while one of its inputs is not finished."""
        if id(run) in self._keys:
            return self._keys[id(run)][1]
        inputs = {}
        for role, source in run.inputs.items():
            done = self.finished(source)
            if done is None:
                return None
            inputs[role] = {"key": done.key, "digest": done.digest}
        parameters = run.params.model_dump(mode="json")
        key = identity(run.stage, parameters, inputs, self.versions[run.stage])
        self._keys[id(run)] = run, key
        return key

    def finished(self, run: Run) -> Manifest | None:
        """The manifest of a run if it is finished, else None."""
        key = self.key(run)
        return None if key is None else self.manifest(run.stage, key)

    def path(self, run: Run) -> Path:
        """The folder of a finished run.

        Raises:
            RunError: The run is not finished.
        """
        done = self.finished(run)
        if done is None:
            raise RunError(f"run {run.name!r} is not finished: run its tier first")
        return self.folder(run.stage, done.key)

    def size(self, done: Manifest) -> int:
        """Bytes of a finished run on the disk."""
        files = self.folder(done.stage, done.key).rglob("*")
        return sum(f.stat().st_size for f in files if f.is_file())

    def all(self) -> list[Manifest]:
        """Manifests of all finished runs, oldest first."""
        manifests = [self.manifest(p.parent.parent.name, p.parent.name)
                     for p in self.root.glob(f"*/*/{MANIFEST}")
                     if p.parent.parent.name not in ("partial", "failed")]  # fmt: skip
        return sorted((m for m in manifests if m is not None), key=lambda m: m.created)

    def claim(self, key: str) -> FileLock:
        """The lock for writing under a key; the system frees it when its holder ends."""
        return FileLock(self.root / "partial" / f"{key}.lock")

    def claimed(self, run: Run) -> bool:
        """Whether a living process computes a run now."""
        key = self.key(run)
        if key is None or not Path(self.claim(key).lock_file).exists():
            return False
        try:
            with self.claim(key).acquire(blocking=False):
                return False
        except Timeout:
            return True
        except OSError:  # the store is read-only, so no process of this machine computes in it
            return False

    def execute(
        self, run: Run, compute: Compute, threads: int, progress: Progress, wait: bool = True
    ) -> Manifest:
        """Compute a run unless it is finished; its inputs must be finished.

        A lock prevents two processes from computing the same run: the second waits until the first
        has finished it. A failure leaves only a scratch folder, which nobody reads.

        Raises:
            StoreError: An input is not finished, or a file outside the store, such as one in a
                library's cache, could not be used.
            UnwritableError: The disk is full or cannot be written.
            ClaimedError: Another process computes the run, and ``wait`` is false.
            RunError: A file could not be read.
        """
        key = self.key(run)
        if key is None:
            missing = [r for r, source in run.inputs.items() if self.finished(source) is None]
            raise StoreError(
                f"run {run.name!r} needs inputs that are not finished: {', '.join(missing)}"
            )
        place = self.folder(run.stage, key)
        scratch = self.root / "partial" / key
        try:
            scratch.parent.mkdir(parents=True, exist_ok=True)
            with self.claim(key).acquire(blocking=wait):
                done = self.manifest(run.stage, key)
                if done is not None:
                    return done
                shutil.rmtree(scratch, ignore_errors=True)
                scratch.mkdir()
                _compute(self, run, compute, key, scratch, threads, progress)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.rmtree(place, ignore_errors=True)  # without a manifest, it is no run
                os.replace(scratch, place)
                for folder in (place.parent, self.root):
                    flush(folder)
                # the last checkpoint of a training is no longer needed
                shutil.rmtree(scratch.with_name(f"{key}.checkpoint"), ignore_errors=True)
        except UserError:
            raise
        except Timeout:
            raise ClaimedError(f"run {run.name!r} is computed by another process") from None
        except Exception as error:  # Rust code writes weights and tokenizers, without OSError
            if isinstance(error, OSError) and _elsewhere(error, self.root):
                raise StoreError(
                    f"run {run.name!r} could not be computed: {error.filename}: {error.strerror}; "
                    "if this is a cache, set HF_HOME, XDG_CACHE_HOME or HOME to another folder"
                ) from error
            full = os.strerror(errno.ENOSPC) in str(error)
            if full or (isinstance(error, OSError) and error.errno in UNWRITABLE):
                cause = getattr(error, "strerror", None) or error
                raise UnwritableError(
                    f"run {run.name!r} could not be written under {self.root}: {cause}; "
                    "finished runs are kept: make space or allow writing there, and run again"
                ) from error
            if isinstance(error, OSError):
                raise RunError(f"run {run.name!r} could not be computed: {error}") from error
            raise
        finished = self.manifest(run.stage, key)
        assert finished is not None
        return finished


def _elsewhere(error: OSError, root: Path) -> bool:
    """Whether an error of the system is about a file outside the store."""
    place = error.filename
    return isinstance(place, str) and root.absolute() not in Path(place).absolute().parents


def _compute(
    store: Store,
    run: Run,
    compute: Compute,
    key: str,
    out: Path,
    threads: int,
    progress: Progress,
) -> None:
    """Compute a run into the folder ``out``, and write its manifest last."""
    inputs = {role: store.path(source) for role, source in run.inputs.items()}
    started, cpu, memory = time.monotonic(), environment.cpu_seconds(), environment.PeakMemory()
    computed = compute(run, inputs, out, threads, progress)
    seconds, cpu_seconds = time.monotonic() - started, environment.cpu_seconds() - cpu
    files = sorted(p for p in out.rglob("*") if p.is_file())
    outputs = {str(p.relative_to(out)): of_file(p) for p in files}
    done = {role: store.finished(source) for role, source in run.inputs.items()}
    manifest = Manifest(
        schema_version=SCHEMA,
        key=key,
        stage=run.stage,
        name=run.name,
        labels=run.labels,
        parameters=run.params.model_dump(mode="json"),
        inputs={r: Input(key=m.key, digest=m.digest) for r, m in done.items() if m is not None},
        version=store.versions[run.stage],
        code_digest=computed.code_digest,
        git=environment.git_state(),
        versions=environment.versions(),
        device=environment.device(),
        dtype=computed.dtype,
        threads=threads,
        seed=getattr(run.params, "seed", None),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        wall_seconds=round(seconds, 3),
        cpu_seconds=round(cpu_seconds, 3),
        accelerators=getattr(run.params, "processes", 1) if environment.accelerated() else 0,
        peak_memory_mib=round(memory.mib(), 1),
        outputs=outputs,
    )
    (out / MANIFEST).write_text(manifest.model_dump_json(indent=1), "utf-8")
    sync(out)
