"""The store: identity of runs, atomic writing, manifests.

A run is one execution of one stage. Its key is a hash of its validated parameters, of the keys
and content hashes of its inputs, and of the version of its stage, so the same key always means the
same result. A run is written beside its place and renamed in: a killed process leaves
a whole run or nothing that anyone reads.
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

from nbutils.config.schema import identifying
from nbutils.errors import UserError
from nbutils.files import canonical, flush, of_file, sha256, sync
from nbutils.runs import environment
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


# What the system says of a place that takes no more: of no space, no right, no sound disk.
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


# --- Identity -------------------------------------------------------------------------------


def _refuse_newer(path: Path, content: bytes) -> None:
    """Raise ``RunError`` where a manifest says that a later version of this package wrote it."""
    try:
        version = json.loads(content)["schema_version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return
    if isinstance(version, int) and version > SCHEMA:
        raise RunError(
            f"{path} is of schema version {version} and this package reads {SCHEMA}: update it, or "
            "use another store"
        )


def identity(
    stage: str, parameters: dict[str, Any], inputs: Mapping[str, Mapping[str, str]], version: int
) -> str:
    """The key of a run: a hash of all that decides its result.

    ``parameters`` are those of the stage's schema as JSON has them, of which those count that
    identify; ``inputs`` maps a role to the ``key`` and ``digest`` of a finished run; ``version`` is
    that of the stage.
    """
    counted = identifying(parameters)
    values = {"stage": stage, "parameters": counted, "inputs": inputs, "version": version}
    return sha256(canonical(values))[:16]


class Store:
    """The folder of finished runs: ``<root>/<stage>/<key>/`` with a manifest in each."""

    def __init__(self, root: Path, versions: Mapping[str, int]) -> None:
        """Open the store of a project, given the project's root; creates nothing.

        ``versions`` maps a stage to the version of its results that runs are looked for by.
        """
        self.root = root / "runs" / "store"
        self.versions = versions
        self._manifests: dict[tuple[str, str], Manifest] = {}
        self._keys: dict[int, tuple[Run, str]] = {}  # by id: the run beside it keeps that its own

    def folder(self, stage: str, key: str) -> Path:
        """Where a run is, or would be."""
        return self.root / stage / key

    def manifest(self, stage: str, key: str) -> Manifest | None:
        """The manifest of a finished run, or None where there is no such run.

        Raises:
            RunError: The manifest cannot be read.
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
                found = Manifest.model_validate_json(content)
            except ValidationError as error:
                _refuse_newer(path, content)
                raise RunError(f"{path} is damaged ({error.error_count()} errors): delete "
                               f"{path.parent} and run again") from None  # fmt: skip
            if (found.stage, found.key) != (stage, key):  # or it would lead out of its folder
                raise RunError(f"{path} is of another run, {found.stage!r} {found.key!r}: delete "
                               f"{path.parent} and run again")  # fmt: skip
            self._manifests[stage, key] = found
        return self._manifests[stage, key]

    def __getstate__(self) -> dict[str, Any]:
        """For a worker process: what this one remembers of runs stays here."""
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
        """Every finished run, oldest first."""
        found = [self.manifest(p.parent.parent.name, p.parent.name)
                 for p in self.root.glob(f"*/*/{MANIFEST}")
                 if p.parent.parent.name not in ("partial", "failed")]  # fmt: skip
        return sorted((m for m in found if m is not None), key=lambda m: m.created)

    def claim(self, key: str) -> FileLock:
        """The lock of whoever writes under a key; the system frees it when that process ends."""
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
        except OSError:  # the store is read-only: nobody computes in it from here
            return False

    def execute(
        self, run: Run, compute: Compute, threads: int, progress: Progress, wait: bool = True
    ) -> Manifest:
        """Compute a run unless it is finished; its inputs must be.

        A lock keeps two processes from computing the same run: the second waits, then finds it
        finished. Whatever a stage raises leaves nothing behind but an unread scratch folder.

        Raises:
            StoreError: An input is missing, or a file elsewhere, as of a library's cache, could
                not be used.
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
                shutil.rmtree(place, ignore_errors=True)  # no manifest: nobody reads what is there
                os.replace(scratch, place)
                for folder in (place.parent, self.root):
                    flush(folder)
                # a training's last checkpoint, which outlives a kill, is of no more use
                shutil.rmtree(scratch.with_name(f"{key}.checkpoint"), ignore_errors=True)
        except UserError:
            raise
        except Timeout:
            raise ClaimedError(f"run {run.name!r} is computed by another process") from None
        except Exception as error:  # weights and tokenizers are written by Rust: no OSError
            if isinstance(error, OSError) and _elsewhere(error, self.root):
                raise StoreError(
                    f"run {run.name!r} could not be computed: {error.filename}: {error.strerror}; "
                    "where this is a cache, HF_HOME, XDG_CACHE_HOME or HOME may name another place"
                ) from error
            full = os.strerror(errno.ENOSPC) in str(error)
            if full or (isinstance(error, OSError) and error.errno in UNWRITABLE):
                cause = getattr(error, "strerror", None) or error
                raise UnwritableError(
                    f"run {run.name!r} could not be written under {self.root}: {cause}; "
                    "finished runs are kept: mend this and run again"
                ) from error
            if isinstance(error, OSError):
                raise RunError(f"run {run.name!r} could not be computed: {error}") from error
            raise
        finished = self.manifest(run.stage, key)
        assert finished is not None
        return finished


def _elsewhere(error: OSError, root: Path) -> bool:
    """Whether it was of a place outside of the store that the system said no."""
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
    """Compute a run into ``out`` and write the manifest last."""
    inputs = {role: store.path(source) for role, source in run.inputs.items()}
    started, memory = time.monotonic(), environment.PeakMemory()
    computed = compute(run, inputs, out, threads, progress)
    seconds = time.monotonic() - started
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
        peak_memory_mib=round(memory.mib(), 1),
        outputs=outputs,
    )
    (out / MANIFEST).write_text(manifest.model_dump_json(indent=1), "utf-8")
    sync(out)
