"""Failures: what a run said when it failed, kept until it is tried again.

A failure belongs to a run's key: with other parameters, inputs or code it is another run, which
has not failed yet.
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
    """One failed run: which it was, its parameters, the error and where it came from."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    stage: str
    key: str
    name: str
    parameters: dict[str, Any]
    message: str
    traceback: str
    created: str


def path(store: Store, key: str) -> Path:
    """Where the failure of a run is kept."""
    return store.root / "failed" / f"{key}.json"


def record(store: Store, run: Run, error: Exception) -> None:
    """Keep what a run said when it failed.

    Raises:
        StoreError: That cannot be written; the message holds what the run said.
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
    partial = file.with_suffix(f".{os.getpid()}")  # two runners may note the same
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(failure.model_dump_json(indent=1), "utf-8")
        flush(partial)
        os.replace(partial, file)
    except OSError as second:
        raise StoreError(f"{failure.message}; this could not be kept: {second}") from error


def forget(store: Store, run: Run) -> None:
    """Drop what is kept of a run, which is tried again or was computed."""
    key = store.key(run)
    if key is not None:
        path(store, key).unlink(missing_ok=True)


def find(store: Store, run: Run) -> Failure | None:
    """The failure of a run as it is now, or None."""
    key = store.key(run)
    return None if key is None else read(store, key)


def read(store: Store, key: str) -> Failure | None:
    """What is kept of a run that failed, or None.

    Raises:
        RunError: The file is damaged.
    """
    file = path(store, key)
    if not file.is_file():
        return None
    try:
        found = Failure.model_validate_json(file.read_bytes())
    except ValidationError:
        found = None
    if found is None or found.key != key:
        raise RunError(f"{file} is damaged: delete it and run again")
    return found


def last_checkpoint(store: Store, run: Run) -> str:
    """What to add to the message of a training that stopped: where its last good state is."""
    from nbutils.runs.checkpoint import FILE, Checkpoint  # heavy, and needed where something failed

    kept = Checkpoint(store.root / "partial" / f"{store.key(run)}")
    state = kept.load()
    if state is None:
        return ""
    step = len(state["losses"])
    return f"; the last good checkpoint is that of step {step}: {kept.folder / FILE}"
