"""The GPU kit: what an accelerator does with this project, in ten minutes and without a network.

    make gpu

Parts come in an order that leaves the most when they are cut; every row is written when it is
measured, into ``kit.json``. Beside it: ``junit.xml`` of the tests on the accelerator, and
``profile.txt``, where the time of one step of each stage goes. With ``--small`` a CPU rehearses
all of it at a hundredth of the shapes.
"""

import argparse
import json
import logging
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from xml.etree import ElementTree

import torch
from torch.profiler import ProfilerActivity, profile
from transformers.utils import logging as transformers_logging

from benchmarks import shapes, ways
from benchmarks.shapes import Size
from benchmarks.ways import Row, seconds
from nbutils.protocol import models, packing, tree_scorer
from nbutils.runs import environment
from support import tiny

KIT, JUNIT, PROFILE = "kit.json", "junit.xml", "profile.txt"
TESTS = Path(__file__).resolve().parents[1]
LONGEST = {"machine": 120, "correctness": 220}
"""Seconds after which a part is cut; others may take all that is left."""


# ---------------------------------------------------------------- parts


def machine(size: Size, out: Path) -> Iterator[Row]:
    """What is here, and what it can do: bytes copied and operations per second."""
    yield {
        "device": environment.device(),
        "processor": environment.processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "versions": environment.versions(),
        "cuda": torch.version.cuda,
        "small": size == shapes.SMALL,
    }
    place = models.device()
    block = torch.ones(size.copied * 2**18, device=place)
    copied = torch.empty_like(block)
    spent = min(seconds(lambda: copied.copy_(block)) for _ in range(5))
    yield {"what": "copy", "bandwidth": 2 * block.nbytes / spent}
    for name, dtype, tf32 in (
        ("bfloat16", torch.bfloat16, False),
        ("float32", torch.float32, False),
        ("float32, products in TF32", torch.float32, True),
    ):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        a, b = (torch.randn(size.product, size.product, device=place).to(dtype) for _ in "ab")
        spent = min(seconds(partial(torch.matmul, a, b)) for _ in range(5))
        yield {"what": name, "flops": 2 * size.product**3 / spent}
    torch.backends.cuda.matmul.allow_tf32 = False


def correctness(size: Size, out: Path) -> Iterator[Row]:
    """The tests on the accelerator; they need nothing that the other tests share."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "--noconftest", "-rs"]
    command += ["--durations=0", f"--junit-xml={out / JUNIT}", "protocol/test_gpu.py"]
    done = subprocess.run(command, cwd=TESTS, check=False)
    suite = ElementTree.parse(out / JUNIT).getroot()[0]
    counts = {name: int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")}
    yield {"status": done.returncode, **counts}


def contests(name: str, size: Size, out: Path) -> Iterator[Row]:
    """Sampling, training and scoring with one model; shares are of what the machine copied."""
    known = read(out).get("machine") or list(machine(size, out))
    facts = [row for row in known if "what" in row]
    peak = {
        "bandwidth": next(row["bandwidth"] for row in facts if row["what"] == "copy"),
        "flops": next(row["flops"] for row in facts if row["what"] == "bfloat16"),
    }
    yield from ways.contests(name, size, peak)


def steps(size: Size, out: Path) -> Iterator[Row]:
    """Where the time of one step of each stage goes, on the first model."""
    model = shapes.model(next(iter(shapes.MODELS)), size)
    few = replace(size, longest=16, items=min(size.items, 16), steps=1)
    work = shapes.requests(model, few.items)
    documents = shapes.documents(model, few, few.steps)
    rows = packing.pack(documents, max(map(len, documents)) * 2, shapes.EOS)
    scorer = tree_scorer.scorer(model, tiny.tokenizer())
    trained = shapes.model(next(iter(shapes.MODELS)), size).float()
    done: dict[str, Callable[[], object]] = {
        "sampling, 16 tokens": partial(ways.sample, model, few),
        "training, 1 step": lambda: ways.fit(trained, rows, few, ways.Clock()),
        "scoring, 16 items": lambda: scorer._loglikelihood_tokens(work, disable_tqdm=True),
    }
    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)
    by = "self_device_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
    for name, step in done.items():
        step()  # warms up
        plain = seconds(step)
        with profile(activities=activities) as seen:
            step()
            ways.wait()
        averages = seen.key_averages()
        with (out / PROFILE).open("a", encoding="utf-8") as file:
            file.write(f"{name}\n{averages.table(sort_by=by, row_limit=20)}\n\n")
        busy = sum(getattr(event, by) for event in averages) / 1e6
        yield {"step": name, "seconds": plain, "busy": busy, "kernels_and_calls": by}


PARTS: dict[str, Callable[[Size, Path], Iterator[Row]]] = {
    "machine": machine,
    "correctness": correctness,
    **{name: partial(contests, name) for name in shapes.MODELS},
    "steps": steps,
}


# ---------------------------------------------------------------- in order, each in its time


def read(out: Path) -> dict[str, list[Row]]:
    """What is measured so far: the rows of each part."""
    path = out / KIT
    found: dict[str, list[Row]] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return found


def keep(out: Path, part: str, rows: list[Row]) -> None:
    """Write the rows of a part."""
    partial_file = out / f"{KIT}.partial"
    partial_file.write_text(json.dumps(read(out) | {part: rows}, indent=1), "utf-8")
    partial_file.replace(out / KIT)


def measure(part: str, size: Size, out: Path) -> None:
    """Measure a part, in a process of its own: what it breaks is not the next one's."""
    os.setpgrp()  # what it starts is cut with it
    transformers_logging.set_verbosity_error()
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    rows: list[Row] = []
    started = time.monotonic()
    for row in PARTS[part](size, out):
        rows.append(row | {"at": round(time.monotonic() - started, 1)})
        keep(out, part, rows)
        print(part, json.dumps(rows[-1]), flush=True)


def main() -> None:
    """Measure the parts that are named, or all, until the time is up."""
    parser = argparse.ArgumentParser(prog="benchmarks.gpu", description="The GPU kit.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--out", type=Path, required=True, help="folder of what is measured")
    parser.add_argument("--seconds", type=float, default=570, help="time for all parts")
    parser.add_argument("--small", action="store_true", help="a hundredth of the shapes")
    given = parser.parse_args()
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"no part is named {', '.join(sorted(unknown))}: choose from {list(PARTS)}")
    if not (given.small or environment.accelerated()):
        parser.error("there is no accelerator here; --small rehearses on a CPU")
    given.out.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + given.seconds
    size = shapes.SMALL if given.small else shapes.REAL
    for part in given.parts or PARTS:
        process = get_context("spawn").Process(target=measure, args=(part, size, given.out))
        process.start()
        process.join(max(0.0, min(end - time.monotonic(), LONGEST.get(part, given.seconds))))
        if process.is_alive():
            assert process.pid is not None
            with suppress(ProcessLookupError):  # it has not begun
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()
            process.join()
            print(f"{part}: cut, its time is up", flush=True)
        elif process.exitcode:
            print(f"{part}: ended with {process.exitcode}", flush=True)
    print(f"Written: {given.out / KIT}")


if __name__ == "__main__":
    main()
