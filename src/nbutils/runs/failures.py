"""Failures: the error of each failed run, recorded until the run is retried.

A failure belongs to the key of a run. With other parameters, other inputs or another version of the
stage it is another run, which has not failed.
"""

import os
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from nbutils.files import flush
from nbutils.runs.store import Store
from nbutils.runs.types import Run, RunError, StoreError


class Failure(BaseModel):
    """One failed run: its stage, key, name and parameters, and the error with its traceback."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    stage: str
    key: str
    name: str
    parameters: dict[str, Any]
    message: str
    traceback: str
    created: str


def path(store: Store, key: str) -> Path:
    """The file for the failure of a run."""
    return store.root / "failed" / f"{key}.json"


def record(store: Store, run: Run, error: Exception) -> None:
    """Record the error of a failed run.

    Raises:
        StoreError: The record cannot be written; the message includes the error of the run.
    """
    key = store.key(run)
    assert key is not None  # a run with missing inputs is never started
    failure = Failure(
        stage=run.stage,
        key=key,
        name=run.name,
        parameters=run.params.model_dump(mode="json"),
        message=str(error) or type(error).__name__,
        traceback="".join(traceback.format_exception(error)),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    file = path(store, key)
    partial = file.with_suffix(f".{os.getpid()}")  # two runners may record the same failure
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(failure.model_dump_json(indent=1), "utf-8")
        flush(partial)
        os.replace(partial, file)
    except OSError as second:
        raise StoreError(
            f"{failure.message}; this failure could not be recorded: {second}"
        ) from error


def forget(store: Store, run: Run) -> None:
    """Delete the recorded failure of a run, if there is one."""
    key = store.key(run)
    if key is not None:
        path(store, key).unlink(missing_ok=True)


def find(store: Store, run: Run) -> Failure | None:
    """The recorded failure of a run with its present parameters, inputs and version, or None.

    Raises:
        RunError: The record is damaged.
    """
    key = store.key(run)
    return None if key is None else read(store, key)


def read(store: Store, key: str) -> Failure | None:
    """The recorded failure of a key, or None.

    Raises:
        RunError: The record is damaged.
    """
    file = path(store, key)
    if not file.is_file():
        return None
    try:
        failure = Failure.model_validate_json(file.read_bytes())
    except ValidationError:
        failure = None
    if failure is None or failure.key != key:
        raise RunError(f"{file} is damaged: delete it and run again")
    return failure


def last_checkpoint(store: Store, run: Run) -> str:
    """The end of the message of a failed training: its last checkpoint; empty without one.

    Raises:
        CheckpointError: The checkpoint is damaged.
    """
    from nbutils.runs.checkpoint import FILE, Checkpoint  # slow to import

    checkpoint = Checkpoint(store.root / "partial" / f"{store.key(run)}")
    state = checkpoint.load()
    if state is None:
        return ""
    step = len(state["losses"])
    return f"; the last good checkpoint is that of step {step}: {checkpoint.folder / FILE}"
