"""Runs and manifests, and what the engine is handed in to compute them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from nbutils.config.schema import Parameters
from nbutils.errors import UserError
from nbutils.files import canonical, sha256

SCHEMA = 2
BEFORE_VERSIONS = 0
"""The version of runs whose keys came from their code, before stages had versions."""

Progress = Callable[[float], None]
Labels = dict[str, str | float | int | None]


class RunError(UserError):
    """A run failed, or the store cannot be read or written."""


class StoreError(RunError):
    """Not the run is at fault but the store: once that is mended, the run is to be tried again."""


class UnwritableError(StoreError):
    """The store takes nothing more: no space is left on the disk, or no right to write there."""


class ClaimedError(RunError):
    """Another process computes this run now."""


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
    version: int = BEFORE_VERSIONS
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
        return sha256(canonical(self.outputs))


@dataclass(frozen=True)
class Computed:
    """What computing a run says of itself: the precision of its weights, the digest of its code."""

    dtype: str
    code_digest: str


Compute = Callable[[Run, dict[str, Path], Path, int, Progress], Computed]
"""Computes a run, from its inputs' folders by role, into a folder, on so many threads."""
