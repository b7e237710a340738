"""Runs: identity, atomic store, manifests.

A run is one execution of one stage. Its key is a hash of its validated parameters, of the keys
and content hashes of its inputs, and of the code that computes the stage, so the same key always
means the same result. A run is written beside its place and renamed in: a killed process leaves
a whole run or nothing that anyone reads.
"""

import ast
import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, ValidationError

from nbutils import provenance
from nbutils.params import Parameters, UserError

SCHEMA = 1
MANIFEST = "manifest.json"
# Bookkeeping: what these modules decide enters a key by value, so their code does not.
NOT_COMPUTING = ("failures", "forms", "params", "provenance", "runs")

Progress = Callable[[float], None]
Labels = dict[str, str | float | int | None]


class RunError(UserError):
    """A run failed, or the store cannot be read or written."""


@dataclass(frozen=True)
class Stage:
    """A stage and the function that computes it: ``function`` of ``nbutils.<module>``."""

    name: str
    module: str
    function: str


STAGES = {
    stage.name: stage
    for stage in (
        Stage("prepare_model", "lineages", "prepare"),
        Stage("fetch_model", "registry", "fetch"),
        Stage("prepare_suite", "suite", "prepare"),
        Stage("prepare_benchmarks", "benchmarks", "prepare"),
        Stage("sample_corpus", "sampling", "sample"),
        Stage("real_corpus", "controls", "real"),
        Stage("shuffle_corpus", "controls", "shuffle"),
        Stage("self_train", "finetune", "train"),
        Stage("perturb_weights", "controls", "perturb"),
        Stage("trace", "trajectory", "trace"),
        Stage("measure_utility", "utility", "measure"),
        Stage("measure_extraction", "extraction", "measure"),
        Stage("embed_texts", "proxies", "embed"),
        Stage("measure_proxies", "proxies", "measure"),
        Stage("measure_fidelity", "proxies", "fidelity"),
        Stage("diagnose", "diagnostics", "measure"),
    )
}


@dataclass(frozen=True)
class Run:
    """What a run is to be: a stage, its parameters and its inputs; ``name`` is for people."""

    stage: str
    name: str
    params: Parameters
    inputs: dict[str, "Run"] = field(default_factory=dict)
    labels: Labels = field(default_factory=dict)


class Input(BaseModel):
    """A finished run that another one reads: its key, and the hash of all its files."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    key: str
    digest: str


class Manifest(BaseModel):
    """Where a finished run comes from. Times are UTC, durations seconds, memory MiB."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    schema_version: int
    key: str
    stage: str
    name: str
    labels: Labels
    parameters: dict[str, Any]
    inputs: dict[str, Input]
    code_digest: str
    git: dict[str, str | bool | None]
    versions: dict[str, str]
    device: str
    dtype: str
    threads: int
    seed: int | None
    created: str
    wall_seconds: float
    peak_memory_mib: float
    outputs: dict[str, str]

    @property
    def digest(self) -> str:
        """One hash over the names and hashes of all output files."""
        return _sha256(_canonical(self.outputs))


def project_root() -> Path:
    """The project's folder: the nearest one above that holds tiers, else the package's own.

    Raises:
        RunError: Neither holds ``notebooks/tiers``.
    """
    here = Path.cwd().resolve()
    for folder in (here, *here.parents, Path(__file__).resolve().parents[2]):
        if (folder / "notebooks" / "tiers").is_dir():
            return folder
    raise RunError(f"no folder notebooks/tiers in {here} or above: go to the project's folder")


# --- Identity -------------------------------------------------------------------------------


def _sha256(data: str | bytes) -> str:
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


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


def code_digest(stage: str) -> str:
    """Hash of the code that computes a stage."""
    return module_digest(STAGES[stage].module)


def identity(
    stage: str, parameters: dict[str, Any], inputs: Mapping[str, Mapping[str, str]], code: str
) -> str:
    """The key of a run: a hash of all that decides its result.

    ``parameters`` are those of the stage's schema as JSON has them, ``inputs`` maps a role to the
    ``key`` and ``digest`` of a finished run, ``code`` is the digest of the stage's code.
    """
    values = {"stage": stage, "parameters": parameters, "inputs": inputs, "code": code}
    return _sha256(_canonical(values))[:16]


@lru_cache
def module_digest(name: str) -> str:
    """Hash of the code of a module and of every ``nbutils`` module that it imports.

    Comments, docstrings and layout do not count: the parsed code is hashed.
    """
    package = Path(__file__).parent
    waiting, seen = [name], dict[str, str]()
    while waiting:
        module = waiting.pop()
        if module in seen or module in NOT_COMPUTING:
            continue
        tree = ast.parse((package / f"{module}.py").read_text("utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == "nbutils":
                waiting += [a.name for a in node.names if (package / f"{a.name}.py").is_file()]
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("nbutils."):
                waiting.append(str(node.module).removeprefix("nbutils."))
            body = getattr(node, "body", None)
            if isinstance(body, list) and body and _is_docstring(node, body[0]):
                body[:] = body[1:] or [ast.Pass()]
        seen[module] = ast.unparse(tree)
    return _sha256(_canonical(seen))


def _is_docstring(owner: ast.AST, first: ast.stmt) -> bool:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return (
        isinstance(owner, documented)
        and isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    )


class Store:
    """The folder of finished runs: ``<root>/<stage>/<key>/`` with a manifest in each."""

    def __init__(self, root: Path) -> None:
        """Open the store of a project, given the project's root; creates nothing."""
        self.root = root / "runs" / "store"
        self._manifests: dict[tuple[str, str], Manifest] = {}

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

    def code(self, stage: str) -> str:
        """Digest of the code by which runs of a stage are made: the code as it is now."""
        return code_digest(stage)

    def key(self, run: Run) -> str | None:
        """The key of a run, or None while one of its inputs is not finished."""
        inputs = {}
        for role, source in run.inputs.items():
            done = self.finished(source)
            if done is None:
                return None
            inputs[role] = {"key": done.key, "digest": done.digest}
        parameters = run.params.model_dump(mode="json")
        return identity(run.stage, parameters, inputs, self.code(run.stage))

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

    def execute(self, run: Run, threads: int, progress: Progress) -> Manifest:
        """Compute a run unless it is finished; its inputs must be.

        A lock keeps two processes from computing the same run: the second waits, then finds it
        finished. Whatever a stage raises leaves nothing behind but an unread scratch folder.

        Raises:
            RunError: An input is missing, or the disk cannot be written.
        """
        key = self.key(run)
        if key is None:
            raise RunError(f"run {run.name!r} needs inputs that are not finished")
        place = self.folder(run.stage, key)
        scratch = self.root / "partial" / key
        try:
            scratch.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self.root / "partial" / f"{key}.lock"):
                done = self.manifest(run.stage, key)
                if done is not None:
                    return done
                shutil.rmtree(scratch, ignore_errors=True)
                scratch.mkdir()
                _compute(self, run, key, scratch, threads, progress)
                place.parent.mkdir(parents=True, exist_ok=True)
                os.replace(scratch, place)
                _sync(place.parent)
                # a training's last checkpoint, which outlives a kill, is of no more use
                shutil.rmtree(scratch.with_name(f"{key}.checkpoint"), ignore_errors=True)
        except UserError:
            raise
        except Exception as error:  # weights and tokenizers are written by Rust: no OSError
            full = os.strerror(errno.ENOSPC) in str(error)
            if not (full or isinstance(error, OSError)):
                raise
            cause = getattr(error, "strerror", None) or error
            raise RunError(
                f"run {run.name!r} could not be written under {self.root}: {cause}; "
                "finished runs are kept: mend this and run again"
            ) from error
        finished = self.manifest(run.stage, key)
        assert finished is not None
        return finished


def _compute(store: Store, run: Run, key: str, out: Path, threads: int, progress: Progress) -> None:
    """Run the stage's function into ``out`` and write the manifest last."""
    import torch  # heavy: planning and the command line's help must not pay for it

    from nbutils import models, processes

    torch.set_num_threads(threads)
    stage = STAGES[run.stage]
    function = getattr(import_module(f"nbutils.{stage.module}"), stage.function)
    inputs = {role: store.path(source) for role, source in run.inputs.items()}
    started = time.monotonic()
    if getattr(run.params, "processes", 1) > 1:
        processes.launch(run.stage, run.params, inputs, out, progress)
    else:
        function(run.params, inputs, out, progress)
    seconds = time.monotonic() - started
    files = sorted(p for p in out.rglob("*") if p.is_file())
    outputs = {str(p.relative_to(out)): _sha256(p.read_bytes()) for p in files}
    done = {role: store.finished(source) for role, source in run.inputs.items()}
    manifest = Manifest(
        schema_version=SCHEMA,
        key=key,
        stage=run.stage,
        name=run.name,
        labels=run.labels,
        parameters=run.params.model_dump(mode="json"),
        inputs={r: Input(key=m.key, digest=m.digest) for r, m in done.items() if m is not None},
        code_digest=code_digest(run.stage),
        git=provenance.git_state(),
        versions=provenance.versions(),
        device=provenance.device(),
        dtype=models.computed_in([out, *inputs.values()]),
        threads=threads,
        seed=getattr(run.params, "seed", None),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        wall_seconds=round(seconds, 3),
        peak_memory_mib=round(provenance.peak_memory_mib(), 1),
        outputs=outputs,
    )
    (out / MANIFEST).write_text(manifest.model_dump_json(indent=1), "utf-8")
    for path in (*files, out / MANIFEST):
        _sync(path)
    _sync(out)


def _sync(path: Path) -> None:
    """Flush a file or folder to the disk, so that a rename never precedes what it names."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
