"""GPUs of a machine: which process holds which, where runs go side by side.

A scheduler counts accelerators; on a single machine nobody says which one is whose. Here each has a
lock, which is free again when its holder ends, however it ends.
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
POLL = 0.5  # seconds between looks for one that is free


def visible() -> list[str]:
    """The accelerators that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them.

    As for CUDA, the first name that is none, such as -1, ends the list.
    """
    given = os.environ.get(VISIBLE)
    if given is not None:
        names = (name.strip() for name in given.split(","))
        return list(takewhile(lambda name: name and not name.startswith("-"), names))
    import torch  # heavy, and needed only here

    return [str(index) for index in range(torch.cuda.device_count())]


@contextmanager
def held(count: int) -> Iterator[list[str]]:
    """Hold ``count`` accelerators of this machine; this process and those it starts see no others.

    Waits until so many are free. A machine without any has none to hold, and computes on its CPU.

    Raises:
        RunError: The machine has some, but fewer.
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
        own = _taken(devices, count, stack)
        os.environ[VISIBLE] = ",".join(own)
        try:
            yield own
        finally:
            if before is None:
                del os.environ[VISIBLE]
            else:
                os.environ[VISIBLE] = before


def _taken(devices: list[str], count: int, stack: ExitStack) -> list[str]:
    """Lock so many; one caller at a time collects, so that no two wait for each other."""
    folder = platformdirs.user_runtime_path("nbutils", ensure_exists=True)
    own = dict[str, FileLock]()
    with FileLock(folder / "accelerators.lock"):
        while True:
            for device in devices:
                lock = FileLock(folder / f"accelerator-{device}.lock")
                if device not in own and len(own) < count:
                    try:
                        stack.enter_context(lock.acquire(blocking=False))
                    except Timeout:
                        continue
                    own[device] = lock
            if len(own) == count:
                return list(own)
            time.sleep(POLL)
