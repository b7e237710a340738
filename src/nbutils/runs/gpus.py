"""GPUs of one machine: which process holds which, where runs are computed in parallel.

A scheduler of a cluster assigns accelerators; on a single machine nobody does. Here each
accelerator has a lock, which the system frees when its holder ends, however it ends.
"""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import takewhile

import platformdirs
from filelock import FileLock, Timeout

from nbutils.runs.types import RunError

VISIBLE = "CUDA_VISIBLE_DEVICES"
POLL_SECONDS = 0.5  # interval at which a process checks for a free accelerator


def visible() -> list[str]:
    """The accelerators that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them.

    As in CUDA, the first invalid name, such as -1, ends the list.
    """
    given = os.environ.get(VISIBLE)
    if given is not None:
        names = (name.strip() for name in given.split(","))
        return list(takewhile(lambda name: name and not name.startswith("-"), names))
    import torch  # slow to import

    return [str(index) for index in range(torch.cuda.device_count())]


@contextmanager
def held(count: int) -> Iterator[list[str]]:
    """Hold ``count`` accelerators of this machine; this process and its children see no others.

    Waits until that many are free. On a machine without accelerators nothing is held.

    Raises:
        RunError: The machine has accelerators, but fewer than ``count``.
    """
    devices = visible()
    if count == 0 or not devices:
        yield []
        return
    if count > len(devices):
        raise RunError(
            f"{count} accelerators are asked for, and {len(devices)} are here "
            f"({', '.join(devices)}): ask for at most {len(devices)}"
        )
    before = os.environ.get(VISIBLE)
    with ExitStack() as stack:
        devices = _locked(devices, count, stack)
        os.environ[VISIBLE] = ",".join(devices)
        try:
            yield devices
        finally:
            if before is None:
                del os.environ[VISIBLE]
            else:
                os.environ[VISIBLE] = before


def _locked(devices: list[str], count: int, stack: ExitStack) -> list[str]:
    """Lock ``count`` devices, one caller at a time, so that no two callers block each other."""
    folder = platformdirs.user_runtime_path("nbutils", ensure_exists=True)
    locked = dict[str, FileLock]()
    with FileLock(folder / "accelerators.lock"):
        while True:
            for device in devices:
                lock = FileLock(folder / f"accelerator-{device}.lock")
                if device not in locked and len(locked) < count:
                    try:
                        stack.enter_context(lock.acquire(blocking=False))
                    except Timeout:
                        continue
                    locked[device] = lock
            if len(locked) == count:
                return list(locked)
            time.sleep(POLL_SECONDS)
