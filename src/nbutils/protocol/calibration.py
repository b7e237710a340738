"""Calibration: how fast this machine is, measured once and kept.

Whatever is slow to import waits in ``stopwatch`` until something is measured.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import platformdirs

from nbutils.protocol.costs import Rates
from nbutils.runs import environment
from nbutils.runs.types import Manifest


def pace(manifest: Manifest, workers: int) -> float:
    """Seconds that a worker on this machine needs for one second of a recorded pre-training.

    ``manifest`` is the record of that pre-training; ``workers`` compute in parallel here. The
    measurement is kept for this machine.
    """

    def measure() -> list[float]:
        from nbutils.protocol import stopwatch

        return [stopwatch.pace(manifest, workers)]

    (seconds,) = _kept(f"{manifest.key} {workers}", measure)
    return seconds


def rates(threads: int, workers: int) -> Rates:
    """Seconds per token and weight, measured by training and sampling with a small random model.

    The measurement is kept for this machine.
    """

    def measure() -> list[float]:
        from nbutils.protocol import stopwatch

        return stopwatch.rates(threads, workers)

    return Rates(*_kept(f"rates {threads} {workers}", measure))


def place() -> Path:
    """The file of what was measured on this user's machines."""
    return platformdirs.user_cache_path("nbutils") / "calibration.json"


def _kept(what: str, measure: Callable[[], list[float]]) -> list[float]:
    """A measurement on this device with these libraries, from the cache if it was made before."""
    key = f"{environment.device()} torch {environment.versions()['torch']} {what}"
    try:
        known = json.loads(place().read_text("utf-8"))
    except (OSError, ValueError):  # none yet, or a write was cut short
        known = {}
    if key not in known:
        known[key] = measure()
        with suppress(OSError):  # a cache that cannot be written costs seconds, no more
            place().parent.mkdir(parents=True, exist_ok=True)
            place().write_text(json.dumps(known, indent=1), "utf-8")
    return [float(value) for value in known[key]]
