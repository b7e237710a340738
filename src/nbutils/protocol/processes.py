"""Several processes for one stage: each with its own accelerator, or its share of the CPU.

This module starts and watches them; inside a stage, ``accelerate.PartialState`` knows them.
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
        ProcessError: There are fewer accelerators than processes, or a process failed; the
            message is the first error that a process reported, if any did.
    """
    count = p.model_dump()["processes"]
    devices = torch.cuda.device_count()
    if 0 < devices < count:
        raise ProcessError(
            f"the tier asks for {count} processes and this machine has {devices} accelerators: "
            "lower `processes` in the tier"
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
    torch.cuda.empty_cache()  # releases memory on the device for the other processes
    command = [sys.executable, *start, "-m", __name__, json.dumps(job)]
    reported = ""
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as launcher,
    ):
        assert launcher.stdout is not None
        for line in launcher.stdout:
            message = _message(line)
            reported = reported or message.get("error", "")
            if "share" in message:
                progress(float(message["share"]))
        if launcher.wait() == 0:
            return
        errors.seek(0)
        lines = [line for line in errors.read().splitlines() if "Error" in line]
    first = lines[0] if lines else "it was killed, or printed no error"
    raise ProcessError(reported or f"one of {count} processes failed: {first}")


def _message(line: str) -> dict[str, str]:
    """A message of a process: ``share`` of the work done, from the first one, or its ``error``."""
    try:
        message = json.loads(line)
    except json.JSONDecodeError:
        return {}
    return message if isinstance(message, dict) else {}


def end_with_launcher() -> None:
    """End this process when its launcher is killed, which closes the standard input.

    Otherwise it would keep writing to a folder that the next process uses for the same run.
    """

    def watch() -> None:
        os.read(0, 1)  # returns when the input is closed; a file object would lock at the exit
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def main() -> None:
    """Compute a stage in one of the processes; the only argument describes it as JSON."""
    end_with_launcher()
    job = json.loads(sys.argv[1])
    torch.set_num_threads(job["threads"])
    is_first = PartialState(cpu=not torch.cuda.is_available()).is_main_process

    def send(key: str, value: object) -> None:
        # in one write, so that lines of several processes do not mix
        sys.stdout.write(json.dumps({key: value}) + "\n")
        sys.stdout.flush()

    def progress(share: float) -> None:
        if is_first:
            send("share", share)

    function = stage_function(job["stage"])
    inputs = {role: Path(path) for role, path in job["inputs"].items()}
    try:
        p = validation.check(getattr(schema, job["schema"]), job["params"])
        function(p, inputs, Path(job["out"]), progress)
    except Exception as error:  # of any kind: the launcher reports it
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        send("error", kind + str(error))
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()
