"""Provenance: versions, commit, device and memory of what computes here."""

import importlib.metadata
import platform
import resource
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

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


def peak_memory_mib() -> float:
    """Highest memory so far, MiB: of the accelerator, or else resident in a process.

    The processes that this one waited for count, the largest of them.
    """
    import torch

    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 2**20
    whom = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    peak = max(resource.getrusage(who).ru_maxrss for who in whom)
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
