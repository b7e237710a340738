"""Time sampling, training and scoring beside what a user would otherwise run.

    make bench

Ways of one contest take turns in one process and thread, as the book's own runs compute, so that
what else a machine does hits all alike; it does not count as CPU time, by which ways are compared.
Writes ``runs/bench.json``: a row a way; the ceilings of this machine at the shapes that occur; and
for each stage the ratio of our way to the best of its peers.
"""

import gc
import json
import logging
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
import torch
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import nn
from transformers.utils import logging as transformers_logging

from nbutils.charts import speed
from nbutils.results.project import Project
from nbutils.runs import environment
from support import peers
from support.peers import Contest, Material, Way


@dataclass(frozen=True)
class Size:
    """How much is timed of a tier's model: batches beside the tier's own, steps, items a task."""

    tier: str = "tiny"
    batches: tuple[int, ...] = (64, 256)
    steps: int = 10
    items: int = 60
    turns: int = 3
    patience: float = 90.0
    """Seconds after which a contest takes no third turn."""


def contests(of: Material, size: Size) -> list[Callable[[], Contest]]:
    """What is contested, small before large; made only when its turn comes."""
    batches = sorted({*size.batches, of.tier.corpus.batch_size})
    found: list[Callable[[], Contest]] = [partial(peers.sampled, of, rows) for rows in batches]
    found += [partial(peers.trained, of, size.steps, lora) for lora in (False, True)]
    return [*found, partial(peers.scored, of, size.items)]


# ---------------------------------------------------------------- what a machine can do


def products(model: nn.Module, rows: int, passes: int, dtype: torch.dtype) -> float:
    """Operations per second of a model's own matrix products, so many rows at a time.

    With three passes, those of the gradients of inputs and weights are among them.
    """
    place = next(model.parameters()).device
    shapes = [tuple(m.weight.shape) for m in model.modules() if isinstance(m, nn.Linear)]
    work = [
        tuple(torch.randn(s, device=place, dtype=dtype) for s in ((rows, i), (o, i), (rows, o)))
        for o, i in shapes
    ]

    def multiply() -> None:
        for x, weight, gradient in work:
            torch.mm(x, weight.T)
            if passes > 1:
                torch.mm(gradient, weight)
            if passes > 2:
                torch.mm(gradient.T, x)

    multiply()
    return 2.0 * rows * passes * sum(o * i for o, i in shapes) / min(
        clocked(multiply).used for _ in range(7)
    )  # fmt: skip


def ceilings(of: Material, contest: Contest) -> dict[str, float]:
    """The rates of ``products`` at the shapes of a contest, by precision."""
    dtypes = [torch.float32, *([torch.bfloat16] if of.in_bfloat16 else [])]
    rate = partial(products, of.model, contest.batch, contest.passes)
    return {str(dtype).removeprefix("torch."): rate(dtype) for dtype in dtypes}


# ---------------------------------------------------------------- what a way takes


@dataclass(frozen=True)
class Spent:
    """CPU time and wall time of some work in seconds, and what the work returned."""

    cpu: float
    wall: float
    result: Any

    @property
    def used(self) -> float:
        """The time by which ways are compared: an accelerator's work is no CPU time."""
        return self.wall if torch.cuda.is_available() else self.cpu


def clocked(work: Callable[[], Any]) -> Spent:
    """Do some work once, all threads of this process together, and wait for the accelerator."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return Spent(time.process_time() - cpu, time.perf_counter() - wall, result)


@dataclass
class Count:
    """Tokens that a model has read, padding and the rest of ended documents among them."""

    tokens: int = 0
    operations: float = 0.0


@contextmanager
def counted(model: nn.Module) -> Iterator[Count]:
    """Count what a model, or a copy of it made meanwhile, reads and multiplies going forward."""
    count = Count()

    def read(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        count.tokens += inputs[0].numel()

    def multiplied(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        count.operations += 2.0 * inputs[0].numel() * module.weight.shape[0]

    hooks = [model.get_input_embeddings().register_forward_pre_hook(read)]
    linear = [m for m in model.modules() if isinstance(m, nn.Linear)]
    hooks += [m.register_forward_pre_hook(multiplied) for m in linear]
    try:
        yield count
    finally:
        for hook in hooks:
            hook.remove()


@dataclass(frozen=True)
class Turn:
    """One turn of a way: its time, what its model read, and its peak memory in MiB if known."""

    spent: Spent
    count: Count
    memory: float | None


def turn(way: Way) -> Turn:
    """Let a way do its work once."""
    peak = environment.PeakMemory()
    with counted(way.model) as count:
        spent = clocked(way.work)
    return Turn(spent, count, peak.mib() if peak.exact else None)


def turns(contest: Contest, size: Size) -> list[list[Turn]]:
    """A list a turn, with a way's in each place."""
    started, taken = time.perf_counter(), []
    for _ in range(size.turns):
        taken.append([turn(way) for way in contest.ways])
        if len(taken) > 1 and time.perf_counter() - started > size.patience:
            break
    return taken


def rows(of: Material, contest: Contest, taken: list[list[Turn]]) -> list[dict[str, Any]]:
    """A row a way; see ``speed.rows`` for its columns."""
    best = ceilings(of, contest)
    found = []
    for way, mine in zip(contest.ways, zip(*taken, strict=True), strict=True):
        rates = [t.spent.result / t.spent.used for t in mine]
        last = mine[-1]
        seconds = median(t.spent.used for t in mine)
        done = contest.passes * last.count.operations / seconds
        found.append(
            {
                "stage": contest.stage,
                "task": contest.task,
                "batch": contest.batch,
                "own": contest.own,
                "way": way.name,
                "ours": way.ours,
                "precision": way.precision,
                "rate": median(rates),
                "low": min(rates),
                "high": max(rates),
                "wall_rate": median(t.spent.result / t.spent.wall for t in mine),
                "turns": len(mine),
                "read": last.count.tokens / last.spent.result,
                "ceiling": best[way.precision],
                "of_ceiling": done / best[way.precision],
                "memory_mib": max((t.memory for t in mine if t.memory is not None), default=None),
            }
        )
    return found


# ---------------------------------------------------------------- all of it


def measure(project: Project, size: Size) -> dict[str, Any]:
    """Measure every contest; what ``runs/bench.json`` holds."""
    before = torch.get_num_threads()
    of = peers.material(project, size.tier)
    torch.set_num_threads(of.tier.threads)
    gc.freeze()  # Trainer collects garbage, and would go through all that is imported here
    try:
        found, warm = [], set()
        for make in track(contests(of, size), "contests"):
            contest = make()
            if contest.stage not in warm:
                warm.add(contest.stage)
                turns(contest, Size(turns=1))
            found += rows(of, contest, turns(contest, size))
    finally:
        gc.unfreeze()
        torch.set_num_threads(before)
    judged = speed.of_stages(speed.rows({"rows": found}))
    return {stage: round(headline.ratio, 2) for stage, headline in judged.items()} | {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "git": environment.git_state(),
        "device": environment.device(),
        "system": platform.platform(),
        "versions": environment.versions(),
        "threads": of.tier.threads,
        "model": peers.MODEL,
        "tier": size.tier,
        "weights": sum(w.numel() for w in of.model.parameters()),
        "rows": found,
    }


def write(found: dict[str, Any], root: Path) -> Path:
    """Write a measurement where the page looks for one's own; return the place."""
    place = root / "runs" / speed.MEASURED
    place.parent.mkdir(exist_ok=True)
    place.write_text(json.dumps(found, indent=1), "utf-8")
    return place


def show(measured: pd.DataFrame) -> None:
    """Print a measurement for people."""
    console = Console()
    for contest, mine in speed.speed_table(measured).groupby("contest", sort=False):
        shown = mine.drop(columns="contest")
        table = Table(*map(str, shown), title=str(contest), box=box.SIMPLE_HEAD, padding=0)
        for row in shown.to_numpy():
            table.add_row(*row)
        console.print(table)
    for sentence in [*speed.sentences(measured), speed.answer(measured)]:
        console.print(sentence)


def main() -> None:
    """Measure everything, print it and write ``runs/bench.json``."""
    transformers_logging.set_verbosity_error()
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    project = Project.here()
    found = measure(project, Size())
    place = write(found, project.root)
    show(speed.rows(found))
    print(f"Written: {place}")


if __name__ == "__main__":
    main()
