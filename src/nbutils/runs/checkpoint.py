"""Checkpoints inside a run: a killed training resumes from the last one, with the same result.

A checkpoint lies beside the run's scratch folder and is deleted when the run is finished. It is
written to a temporary file and renamed, so a kill leaves the old checkpoint or the new one.
"""

import time
from pathlib import Path
from typing import Any

import torch

from nbutils.errors import UserError, first_line
from nbutils.files import flush

SECONDS = 60.0
"""Seconds between checkpoints: a killed training loses at most this much."""
QUICK = 3.0
"""Slower saves, in seconds, are made less often, so that they take at most 5 % of the time."""
FILE = "checkpoint.pt"


class CheckpointError(UserError):
    """A checkpoint cannot be read or written."""


class Checkpoint:
    """The last state of one training, saved every ``SECONDS`` seconds, less often if slow."""

    def __init__(self, out: Path) -> None:
        """Use the folder beside ``out``, the scratch folder of a run; creates nothing."""
        self.folder = out.with_name(f"{out.name}.checkpoint")
        self._saved = time.monotonic()
        self._save_seconds = 0.0

    def load(self) -> dict[str, Any] | None:
        """The last saved state, or None.

        Raises:
            CheckpointError: The file is damaged.
        """
        path = self.folder / FILE
        if not path.is_file():
            return None
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch, zipfile and pickle share no base class
            raise CheckpointError(
                f"the checkpoint {path} is damaged ({type(error).__name__}): delete {self.folder} "
                "and run again, which starts this run from its beginning"
            ) from error
        return state

    def due(self) -> bool:
        """Whether it is time for the next save."""
        wait = SECONDS * max(1.0, self._save_seconds / QUICK)
        return time.monotonic() - self._saved >= wait

    def save(self, state: dict[str, Any]) -> None:
        """Replace the saved state.

        Raises:
            CheckpointError: The file cannot be written.
        """
        started = time.monotonic()
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / f"{FILE}.partial"
        try:
            torch.save(state, partial)
        except RuntimeError as error:  # torch's writer does not name a full disk as the cause
            raise CheckpointError(
                f"the checkpoint {partial} cannot be written ({first_line(error)}): make space on "
                "the disk and run again, which resumes from the last checkpoint"
            ) from error
        flush(partial)
        partial.replace(self.folder / FILE)
        flush(self.folder)
        self._saved = time.monotonic()
        self._save_seconds = self._saved - started
