"""Environment: versions of libraries, commit of the checkout, device and memory."""

import importlib.metadata
import os
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
    """Versions of Python, of this package and of the libraries that results depend on."""
    names = ("nbutils", *LIBRARIES)
    return {"python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in names
    }


@lru_cache
def git_state() -> dict[str, str | bool | None]:
    """Commit of the checkout, and whether files differ from it; both None outside a checkout."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}


@lru_cache
def fast_bfloat16() -> bool:
    """Whether this machine multiplies matrices faster in bfloat16 than in float32.

    Of processors, those with AMX do; elsewhere bfloat16 is slower, or hardly faster.
    """
    if not importlib.metadata.version("torch").endswith("+cpu"):
        import torch  # slow to import, and a build for processors knows of no accelerator

        if torch.cuda.is_available():
            return torch.cuda.is_bf16_supported(including_emulation=False)
    info = Path("/proc/cpuinfo")
    return info.is_file() and " amx_bf16" in info.read_text("utf-8")


@lru_cache
def processor() -> str:
    """Name of the processor, for messages and manifests."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def accelerated() -> bool:
    """Whether there is an accelerator, which then computes."""
    if versions()["torch"].endswith("+cpu"):
        return False  # this build of torch has none
    import torch  # slow to import, and not needed by most commands

    return torch.cuda.is_available()


def cpu_seconds() -> float:
    """CPU time of this process and of its ended children, all threads together."""
    return sum(os.times()[:4])


def device() -> str:
    """Name of the accelerator, or else of the processor."""
    if not accelerated():
        return processor()
    import torch

    return torch.cuda.get_device_name()


class PeakMemory:
    """Peak memory since this object was made: of the accelerator, else resident in a process.

    Only Linux lets a process reset its peak. Where ``exact`` is false, the peak is that since the
    process began.
    """

    def __init__(self) -> None:
        """Start the measurement; memory that is already in use counts."""
        import torch

        self._children = _highest(resource.RUSAGE_CHILDREN)
        self.exact = torch.cuda.is_available()
        if self.exact:
            torch.cuda.reset_peak_memory_stats()
        with suppress(OSError):  # there is no such file, or a sandbox forbids writing to it
            Path("/proc/self/clear_refs").write_text("5", "ascii")
            self.exact = True

    def mib(self) -> float:
        """The peak, MiB; the largest child process counts if it ended since and set a new peak."""
        import torch

        if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
            return torch.cuda.max_memory_allocated() / 2**20
        children = _highest(resource.RUSAGE_CHILDREN)
        return max(_resident(), children if children > self._children else 0.0)


def _resident() -> float:
    """The peak of this process, MiB, since it was last reset."""
    status = Path("/proc/self/status")
    lines = status.read_text("utf-8").splitlines() if status.is_file() else []
    peaks = (int(line.split()[1]) / 2**10 for line in lines if line.startswith("VmHWM:"))
    return next(peaks, _highest(resource.RUSAGE_SELF))


def _highest(who: int) -> float:
    """The peak since the process began, MiB; ``who`` is a constant of ``resource``."""
    peak = resource.getrusage(who).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def free_memory_mib() -> int:
    """Free memory, MiB: that of the machine, or less if a container limits it.

    The system's file cache counts as free in both, since the system releases it on demand.
    """
    free = psutil.virtual_memory().available
    limit, used = _control_group("memory.max"), _control_group("memory.current")
    if limit.isdecimal() and used.isdecimal():
        statistics = dict(line.split() for line in _control_group("memory.stat").splitlines())
        free = min(free, int(limit) - int(used) + int(statistics.get("inactive_file", 0)))
    return max(0, free // 2**20)


def _control_group(name: str) -> str:
    """A file of the container's control group (version 2); empty where there is none."""
    path = CONTROL_GROUP / name
    return path.read_text("ascii").strip() if path.is_file() else ""
