"""The command line with stages that only write a small file each, and without torch.

For tests of what starts runs, in processes of their own: identity, store, locks and failures are
the real ones. ``FAILS`` in the environment names a stage that fails, ``SECONDS`` how long a run
takes, and ``CALLS`` a file that gets a line for every computation that begins.
"""

import os
import stat
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

from nbutils.config.schema import Parameters
from nbutils.protocol import stages
from nbutils.results import collect
from nbutils.results.stream import Stream
from nbutils.runs.types import RunError

CUDA = {"is_available": lambda: False, "device_count": lambda: 0}


def install() -> None:
    """Put the pretended stages where a run looks for the real ones; for a process of its own."""
    _module("torch", cuda=SimpleNamespace(**CUDA), set_num_threads=lambda threads: None)
    _module("nbutils.protocol.models", computed_in=lambda folders: "float32")
    _module("nbutils.protocol.processes")
    vars(stages)["stage_function"] = stage
    collect.collect = lambda *_: False
    mock.patch.object(Stream, "rebuild", return_value=False).start()


def _module(name: str, **content: Any) -> None:
    module = ModuleType(name)
    vars(module).update(content)
    sys.modules[name] = module


def stage(name: str) -> Any:
    """What takes the place of a stage's function."""

    def compute(p: Parameters, inputs: dict[str, Path], out: Path, progress: Any) -> None:
        with Path(os.environ["CALLS"]).open("a") as calls:
            calls.write(f"{name} {out.name}\n")
        time.sleep(float(os.environ.get("SECONDS", "0")))
        if os.environ.get("FAILS") == name:
            raise RunError("it was told to fail")
        (out / "file").write_text(f"{p.model_dump_json()} {sorted(inputs)}")

    return compute


def command(folder: Path) -> Path:
    """Write a command ``nbutils`` that pretends, and return where it is."""
    place = folder / "nbutils"
    lines = (
        f"#!{sys.executable}",
        "import sys",
        f"sys.path[:0] = {sys.path}",
        "from support import pretend",
        "from nbutils import cli",
        "pretend.install()  # also where a worker process reads this file again",
        "if __name__ == '__main__':",
        "    cli.entry()",
    )
    place.write_text("\n".join(lines) + "\n", "utf-8")
    place.chmod(place.stat().st_mode | stat.S_IXUSR)
    return place
