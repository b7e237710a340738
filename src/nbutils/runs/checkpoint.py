"""Checkpoints inside a run: a killed training goes on where it was, to the same bits.

A checkpoint lies beside the run's unread scratch folder and goes when the run is finished. It is
written beside its place and renamed in, so a kill leaves the old one or the new one.
"""

import time
from pathlib import Path
from typing import Any

import torch

from nbutils.errors import UserError, first_line
from nbutils.files import flush

SECONDS = 60.0
"""A training of less than this leaves no checkpoint; a longer one loses at most this much."""
QUICK = 3.0
"""A save of more seconds is made as much less often: it takes a twentieth of the time at most."""
FILE = "checkpoint.pt"


class CheckpointError(UserError):
    """A checkpoint cannot be read or written."""


class Checkpoint:
    """The last state of one training, saved every ``SECONDS`` seconds, or less often if slow."""

    def __init__(self, out: Path) -> None:
        """Use the folder beside ``out``, the scratch folder of a run; creates nothing."""
        self.folder = out.with_name(f"{out.name}.checkpoint")
        self._saved = time.monotonic()
        self._took = 0.0  # seconds of the last save: of large models, many

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
        """Whether the last save is long enough ago."""
        wait = SECONDS * max(1.0, self._took / QUICK)
        return time.monotonic() - self._saved >= wait

    def save(self, state: dict[str, Any]) -> None:
        """Put a state in the place of the one before.

        Raises:
            CheckpointError: The file cannot be written.
        """
        started = time.monotonic()
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / f"{FILE}.partial"
        try:
            torch.save(state, partial)
        except RuntimeError as error:  # torch's own writer does not say that the disk is full
            raise CheckpointError(
                f"the checkpoint {partial} cannot be written ({first_line(error)}): make space on "
                "the disk and run again, which goes on from the last checkpoint"
            ) from error
        flush(partial)
        partial.replace(self.folder / FILE)
        flush(self.folder)
        self._saved = time.monotonic()
        self._took = self._saved - started
