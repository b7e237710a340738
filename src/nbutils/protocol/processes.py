"""Several processes for one stage: each with its own accelerator, or its share of the CPU.

``accelerate`` sees them inside (``PartialState``); here they are started and watched.
"""

import gc
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from threading import Thread

import torch
from accelerate import PartialState

from nbutils.config import schema, validation
from nbutils.config.schema import Parameters
from nbutils.errors import UserError
from nbutils.protocol.stages import stage_function
from nbutils.runs.types import Progress


class ProcessError(UserError):
    """One of several processes failed."""


def launch(
    stage: str, p: Parameters, inputs: dict[str, Path], out: Path, progress: Progress
) -> None:
    """Compute a stage in ``p.processes`` processes, and wait for them.

    Raises:
        ProcessError: There are fewer accelerators than processes, or one of them failed; the
            message is that of the first, where it gave one.
    """
    count = p.model_dump()["processes"]
    devices = torch.cuda.device_count()
    if 0 < devices < count:
        raise ProcessError(
            f"{count} processes were asked for and this machine has {devices} accelerators: lower "
            "`processes` in the tier"
        )
    job = {
        "stage": stage,
        "schema": type(p).__name__,
        "params": p.model_dump(mode="json"),
        "inputs": {role: str(path) for role, path in inputs.items()},
        "out": str(out),
        "threads": max(1, torch.get_num_threads() // count),
    }
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    gc.collect()
    torch.cuda.empty_cache()  # what this process holds on a device, the others cannot have
    command = [sys.executable, *start, "-m", __name__, json.dumps(job)]
    said = ""
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as team,
    ):
        assert team.stdout is not None
        for line in team.stdout:
            told = _message(line)
            said = said or told.get("error", "")
            if "share" in told:
                progress(float(told["share"]))
        if team.wait() == 0:
            return
        errors.seek(0)
        lines = [line for line in errors.read().splitlines() if "Error" in line]
    last = lines[0] if lines else "it was killed, or said nothing"
    raise ProcessError(said or f"one of {count} processes failed: {last}")


def _message(line: str) -> dict[str, str]:
    """What a process says: the first one its ``share`` of the work done, any one its ``error``."""
    try:
        told = json.loads(line)
    except json.JSONDecodeError:
        return {}
    return told if isinstance(told, dict) else {}


def end_with_launcher() -> None:
    """End this process when the one that launched it is killed: its standard input ends then.

    Whoever takes the run over writes to the same folder.
    """

    def watch() -> None:
        os.read(0, 1)  # nothing is ever written there; a file object would be locked at the exit
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def main() -> None:
    """One of the processes: compute the stage that the only argument describes, as JSON."""
    end_with_launcher()
    job = json.loads(sys.argv[1])
    torch.set_num_threads(job["threads"])
    first = PartialState(cpu=not torch.cuda.is_available()).is_main_process

    def say(what: str, value: object) -> None:
        # in one write, so that lines of several processes do not mix
        sys.stdout.write(json.dumps({what: value}) + "\n")
        sys.stdout.flush()

    function = stage_function(job["stage"])
    inputs = {role: Path(path) for role, path in job["inputs"].items()}
    try:
        p = validation.check(getattr(schema, job["schema"]), job["params"])
        function(p, inputs, Path(job["out"]), lambda share: say("share", share) if first else None)
    except Exception as error:  # of whatever kind: the one who waits must be told
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        say("error", kind + str(error))
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()
