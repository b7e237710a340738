"""Time sampling, training and scoring beside what a user would otherwise run.

    make bench

Ways of one contest take turns, so that what else a machine does hits all alike. Writes
``runs/bench.json``: a row a way, with the ratio of its rate to that of the contest's first way;
for each stage the ratio of its first contest; and the time that more and more work takes.
"""

import gc
import json
import logging
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from statistics import median
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table
from transformers import AutoTokenizer
from transformers.utils import logging as transformers_logging

from nbutils.charts import speed
from nbutils.config import tiers
from nbutils.protocol import models
from nbutils.runs import environment
from support import (
    peers,
    tiny,  # the tests' own tokenizer
)
from support.peers import Contest

REPEATS = 3
SIZES = (128, 192, 320)  # width of the model
BATCHES = (64, 256, 1024)
THREADS = 2
STEPS = (4, 8, 16)  # of work that grows: training steps, batches of documents, tens of items


def contests() -> list[Callable[[], Contest]]:
    """What is contested, made only when its turn comes; the first of a stage is its headline."""
    shapes = [(SIZES[0], batch) for batch in reversed(BATCHES)] + [(s, 64) for s in SIZES[1:]]
    found = [partial(_sampled, size, batch) for size, batch in shapes]
    found += [partial(_trained, size, steps) for size, steps in zip(SIZES, (10, 6, 3), strict=True)]
    found += [partial(_trained, SIZES[0], 10, lora=True)]
    sizes = zip(SIZES, (100, 60, 30), strict=True)
    return [*found, *(partial(_scored, size, items) for size, items in sizes)]


def _sampled(size: int, batch: int) -> Contest:
    return peers.sampled(peers.model(size), batch)


def _trained(size: int, steps: int, lora: bool = False) -> Contest:
    return peers.trained(peers.model(size), steps, lora)


def _scored(size: int, items: int) -> Contest:
    return peers.scored(peers.model(size), tokenizer(), items)


def scaling() -> list[dict[str, Any]]:
    """A row a stage and amount of work, done our way on the smallest model: its median seconds."""
    student = peers.model(SIZES[0])
    growing: dict[str, dict[int, Callable[[], int]]] = {
        "sampling": {n * 64 * peers.LENGTH: partial(peers.write, student, n) for n in STEPS},
        "training": {n * 2048: peers.trained(student, n, lora=False).ways["ours"] for n in STEPS},
        "scoring": {n * 10: peers.scored(student, tokenizer(), n * 10).ways["ours"] for n in STEPS},
    }
    rows = []
    for stage, works in growing.items():
        next(iter(works.values()))()  # warms up
        turns = [[seconds(work) for work in works.values()] for _ in range(REPEATS)]
        medians = [median(found) for found in zip(*turns, strict=True)]
        rows += [
            {"stage": stage, "work": amount, "seconds": spent}
            for amount, spent in zip(works, medians, strict=True)
        ]
    return rows


def tokenizer() -> Any:
    """The tests' byte-level tokenizer, as a folder gives it back."""
    with tempfile.TemporaryDirectory() as folder:
        tiny.tokenizer().save_pretrained(folder)
        return AutoTokenizer.from_pretrained(folder)


@dataclass(frozen=True)
class Ceiling:
    """What this machine can do: floating-point operations and bytes per second."""

    flops: float
    bandwidth: float


def ceiling() -> Ceiling:
    """The rate of a large matrix product, and of copying a large tensor."""
    place = models.device()
    a, b = (torch.randn(2048, 2048, device=place) for _ in range(2))
    big = torch.randn(2**26, device=place)
    products, copies = [], []
    for _ in range(5):
        products.append(seconds(lambda: a @ b))
        copies.append(seconds(lambda: big.clone()))
    return Ceiling(2 * 2048**3 / min(products), 2 * 4 * 2**26 / min(copies))


def seconds(work: Callable[[], Any]) -> float:
    """Wall-clock time of some work, with the accelerator waited for."""
    started = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def measured(contest: Contest, best: Ceiling) -> list[dict[str, Any]]:
    """A row a way: its rates over the repeats, taken in turns."""
    rates: dict[str, list[float]] = {name: [] for name in contest.ways}
    peaks = {name: peak_memory(way) for name, way in contest.ways.items()}  # and warms up
    for _ in range(REPEATS):
        for name, way in contest.ways.items():
            started = time.perf_counter()
            work = way()
            rates[name].append(work / (time.perf_counter() - started))
    first = median(next(iter(rates.values())))
    return [
        {
            "stage": contest.stage,
            "contest": contest.name,
            "parameters": contest.parameters,
            "batch": contest.batch,
            "way": name,
            "rate": median(found),
            "low": min(found),
            "high": max(found),
            "ratio": median(found) / first,
            "of_ceiling": median(found) * contest.flops / best.flops,
            "memory_mib": peaks[name],
        }
        for name, found in rates.items()
    ]


def peak_memory(way: Callable[[], Any]) -> float | None:
    """Peak memory while a way is gone, MiB; None where it is not known."""
    gc.collect()
    peak = environment.PeakMemory()
    way()
    return peak.mib() if peak.exact else None


def main() -> None:
    """Measure everything, print a table and write ``runs/bench.json``."""
    transformers_logging.set_verbosity_error()
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    torch.set_num_threads(THREADS)
    best = ceiling()
    rows = [row for make in track(contests(), "contests") for row in measured(make(), best)]
    growing = scaling()
    headlines: dict[str, float] = {}
    for row in rows:
        if row["way"] == "ours":
            headlines.setdefault(row["stage"], round(row["ratio"], 2))
    found = headlines | {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "git": environment.git_state(),
        "device": environment.device(),
        "threads": THREADS,
        "system": platform.platform(),
        "versions": environment.versions(),
        "flops": best.flops,
        "bandwidth": best.bandwidth,
        "rows": rows,
        "scaling": growing,
    }
    place = tiers.project_root() / "runs" / speed.MEASURED
    place.parent.mkdir(exist_ok=True)
    place.write_text(json.dumps(found, indent=1), "utf-8")
    show(rows, best)
    print(f"Written: {place}")


def show(rows: list[dict[str, Any]], best: Ceiling) -> None:
    """Print the rows for people."""
    console = Console()
    columns = ("contest", "weights", "way", "rate", "ratio", "of peak", "MiB")
    for stage, mine in groupby(rows, lambda r: r["stage"]):
        table = Table(*columns, title=stage, box=box.SIMPLE_HEAD, padding=0)
        for r in mine:
            table.add_row(
                *(r["contest"], f"{r['parameters'] / 1e6:.1f} M", r["way"]),
                f"{r['rate']:,.0f} [{r['low']:,.0f}, {r['high']:,.0f}]",
                *(f"{r['ratio']:.2f}", f"{r['of_ceiling']:.0%}", f"{r['memory_mib'] or 0:,.0f}"),
            )
        console.print(table)
    console.print(
        f"peak here: {best.flops / 1e9:,.0f} GFLOP/s, {best.bandwidth / 1e9:,.0f} GB/s; rates are "
        "tokens per second (sampling, training) and items per second (scoring)"
    )


if __name__ == "__main__":
    main()
