"""Environment: versions, commit, device, and memory of what computes here."""

import importlib.metadata
import platform
import resource
import subprocess
import sys
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import psutil

CONTROL_GROUP = Path("/sys/fs/cgroup")
LIBRARIES = ("torch", "transformers", "tokenizers", "peft", "lm-eval", "numpy", "pandas", "scipy")


@lru_cache
def versions() -> dict[str, str]:
    """Versions of Python, of this package and of the libraries that compute."""
    names = ("nbutils", *LIBRARIES)
    return {"python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in names
    }


@lru_cache
def git_state() -> dict[str, str | bool | None]:
    """Commit of the checkout and whether it was changed; nulls outside a checkout."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}


@lru_cache
def processor() -> str:
    """Name of the processor, for people."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def device() -> str:
    """Name of the accelerator, or else of the processor."""
    import torch  # heavy, and loaded by whoever computes

    return torch.cuda.get_device_name() if torch.cuda.is_available() else processor()


class PeakMemory:
    """Highest memory since this was made: of the accelerator, or else resident in a process.

    Linux alone lets a process set its peak back; elsewhere, and where ``exact`` is false, it is the
    highest since the process began.
    """

    def __init__(self) -> None:
        """Begin to watch; what is still in memory counts."""
        import torch

        self._children = _highest(resource.RUSAGE_CHILDREN)
        self.exact = torch.cuda.is_available()
        if self.exact:
            torch.cuda.reset_peak_memory_stats()
        with suppress(OSError):  # no such file, or a sandbox that does not let us
            Path("/proc/self/clear_refs").write_text("5", "ascii")
            self.exact = True

    def mib(self) -> float:
        """MiB; of processes that were waited for meanwhile the largest, if it set a record."""
        import torch

        if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
            return torch.cuda.max_memory_allocated() / 2**20
        children = _highest(resource.RUSAGE_CHILDREN)
        return max(_resident(), children if children > self._children else 0.0)


def _resident() -> float:
    """The peak of this process, MiB, since it was set back."""
    status = Path("/proc/self/status")
    lines = status.read_text("utf-8").splitlines() if status.is_file() else []
    peaks = (int(line.split()[1]) / 2**10 for line in lines if line.startswith("VmHWM:"))
    return next(peaks, _highest(resource.RUSAGE_SELF))


def _highest(who: int) -> float:
    peak = resource.getrusage(who).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def free_memory_mib() -> int:
    """Memory that is free, MiB: on the machine, and in what its container may have.

    Files that the system keeps in memory, and gives up when asked, count as free in both.
    """
    free = psutil.virtual_memory().available
    most, used = _limit("memory.max"), _limit("memory.current")
    if most.isdecimal() and used.isdecimal():
        kept = dict(line.split() for line in _limit("memory.stat").splitlines())
        free = min(free, int(most) - int(used) + int(kept.get("inactive_file", 0)))
    return max(0, free // 2**20)


def _limit(name: str) -> str:
    """What a container's control group (version 2) says; nothing outside one."""
    path = CONTROL_GROUP / name
    return path.read_text("ascii").strip() if path.is_file() else ""
