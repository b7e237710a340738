"""Runs, manifests, their errors, and the type of the function that computes a run."""

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
"""The version of runs from before stages had versions; their keys depend on their code."""

Progress = Callable[[float], None]
Labels = dict[str, str | float | int | None]


class RunError(UserError):
    """A run failed, or the store cannot be read or written."""


class StoreError(RunError):
    """The store, not the run, caused a failure: the run is retried once the store is repaired."""


class UnwritableError(StoreError):
    """The store cannot be written: the disk is full, or writing is not allowed."""


class ClaimedError(RunError):
    """Another process computes this run now."""


@dataclass(frozen=True)
class Run:
    """A run to compute: stage, parameters, inputs by role, labels, and a name for messages."""

    stage: str
    name: str
    params: Parameters
    inputs: dict[str, "Run"] = field(default_factory=dict)
    labels: Labels = field(default_factory=dict)


class Input(BaseModel):
    """A finished run that another run reads: its key, and the digest of its output files."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    key: str
    digest: str


class Manifest(BaseModel):
    """Provenance of a finished run. Times are UTC, durations seconds, memory MiB."""

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
    cpu_seconds: float | None = None  # of all threads; None before it was recorded
    accelerators: int = 0  # that computed; 0 where processors did
    peak_memory_mib: float
    outputs: dict[str, str]

    @property
    def seconds(self) -> float:
        """Seconds that the run takes on an idle machine.

        They are its CPU time per thread, which other work on the machine hardly changes; its wall
        time where accelerators computed, or where no CPU time was recorded.
        """
        if self.accelerators or self.cpu_seconds is None:
            return self.wall_seconds
        return self.cpu_seconds / self.threads

    @property
    def digest(self) -> str:
        """One hash of the names and hashes of all output files."""
        return sha256(canonical(self.outputs))


@dataclass(frozen=True)
class Computed:
    """What is known once a run is computed: precision of its weights, and digest of its code."""

    dtype: str
    code_digest: str


Compute = Callable[[Run, dict[str, Path], Path, int, Progress], Computed]
"""Computes a run: its input folders by role, the output folder, threads, and a progress report."""
