"""Failpoints: the durable steps of a grid, found by watching it, and made to fail on demand.

A step is an operation and the function of ``nbutils`` that asks for it: ``rename in
runs.execute``. Nothing in the package knows of this: the operations themselves are wrapped, in a
process that is thrown away, and the workers that it forks inherit that.
"""

import errno
import fcntl
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import pandas as pd
import torch
from filelock import BaseFileLock

from nbutils.protocol import models
from nbutils.runs.types import Run

OPERATIONS: tuple[tuple[str, Any, str], ...] = (
    ("lock", BaseFileLock, "acquire"),
    ("unlock", BaseFileLock, "release"),
    ("make folder", Path, "mkdir"),
    ("write", Path, "write_text"),
    ("write table", pd.DataFrame, "to_parquet"),
    ("write weights", models, "save"),
    ("write checkpoint", torch, "save"),
    ("fsync", os, "fsync"),
    ("rename", os, "replace"),
    ("delete folder", shutil, "rmtree"),
    ("delete file", Path, "unlink"),
)
MOMENTS = ("before", "after")
ACTIONS = ("raise", "full", "kill", "delay")
DELAY = 0.3  # seconds: longer than a small run takes
NEAR = 5  # frames between an operation and the function that asks for it; others are a library's
HELPERS = ("flush", "sync")  # whoever calls these is at the step


@dataclass(frozen=True)
class Fault:
    """What happens at the ``hit``-th time that any process comes to a step."""

    step: str
    moment: str
    action: str
    hit: int = 1


@dataclass(frozen=True)
class Seen:
    """A step that was come to, and the stage and name of the run that was computed, if any."""

    step: str
    run: str | None


def install(folder: Path, fault: Fault | None) -> None:
    """Wrap every operation; without a fault write down what is come to, in ``folder``."""
    for operation, owner, attribute in OPERATIONS:
        setattr(owner, attribute, _wrapped(operation, getattr(owner, attribute), folder, fault))


def seen(folder: Path) -> list[Seen]:
    """What ``install`` wrote down, in order."""
    return [Seen(**json.loads(line)) for line in (folder / "seen").read_text().splitlines()]


def fired(folder: Path) -> bool:
    """Whether the fault took place."""
    return (folder / "fired").exists()


def _wrapped(
    operation: str, real: Callable[..., Any], folder: Path, fault: Fault | None
) -> Callable[..., Any]:
    def wrapper(*arguments: Any, **options: Any) -> Any:
        caller, run = _caller(sys._getframe(1))
        if caller is None:
            return real(*arguments, **options)
        step = f"{operation} in {caller}"
        if fault is None:
            _append(folder / "seen", json.dumps({"step": step, "run": run}))
            return real(*arguments, **options)
        mine = step == fault.step
        if mine and fault.moment == "before":
            _come(folder, fault)
        answer = real(*arguments, **options)
        if mine and fault.moment == "after":
            _come(folder, fault)
        return answer

    return wrapper


def _caller(frame: FrameType | None) -> tuple[str | None, str | None]:
    """The nearest function of the package, and the run that it is busy with."""
    caller, distance = None, 0
    while frame is not None and (caller is not None or distance < NEAR):
        module = str(frame.f_globals.get("__name__"))
        function = frame.f_code.co_name
        if module.startswith("nbutils."):
            if caller is None and function not in HELPERS:
                caller = f"{module.removeprefix('nbutils.')}.{function}"
            run = frame.f_locals.get("run")
            if isinstance(run, Run):
                return caller, f"{run.stage} {run.name}"
        frame, distance = frame.f_back, distance + 1
    return caller, None


def _append(path: Path, line: str) -> int:
    """Add a line to a file that processes share; return how many bytes it has then.

    By the system's own calls: these are not wrapped.
    """
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        os.write(handle, f"{line}\n".encode())
        return os.fstat(handle).st_size
    finally:
        os.close(handle)


def _come(folder: Path, fault: Fault) -> None:
    if _append(folder / "hits", "") != fault.hit:
        return
    _append(folder / "fired", fault.action)
    if fault.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif fault.action == "delay":
        time.sleep(DELAY)
    else:
        number = errno.ENOSPC if fault.action == "full" else errno.EIO
        raise OSError(number, os.strerror(number))
