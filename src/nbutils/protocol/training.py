"""The training loop that pre-training and self-training share.

Documents are packed into rows without attention across them: position ids restart at every
document, and from them transformers derives a block-diagonal causal mask. Where a model does not
separate documents in this way (see ``proofs``), it reads one document per row.

Where ``accelerate`` has several processes, each takes a share of the rows of every step, and
gradients are summed: for models without dropout, the loss curve is that of one process.
"""

import math
import warnings
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from accelerate import PartialState
from accelerate.utils import reduce
from transformers import PreTrainedModel

from nbutils.config.schema import Precision, Recipe
from nbutils.protocol.mixed_precision import Copy
from nbutils.protocol.optimizers import learning_rates, make_optimizers
from nbutils.protocol.packing import (
    IGNORED,
    Packed,
    TrainingError,
    loss_sum,
    order,
    rows_at_once,
    rows_per_step,
)
from nbutils.runs.checkpoint import Checkpoint
from nbutils.runs.types import Progress


def fit(
    model: PreTrainedModel,
    rows: Packed,
    recipe: Recipe,
    seed: int,
    progress: Progress,
    checkpoint: Checkpoint | None = None,
    precision: Precision = "float32",
) -> list[float]:
    """Train in place; return the mean loss in nats per token at every step, before its update.

    The rows of a step pass through the model in micro-batches, whose gradients add up to that of
    the whole step. Where memory does not suffice, the micro-batch is halved; at one row, gradient
    checkpointing is turned on. A warning reports both. With a ``precision`` of 16 bits, a copy of
    the model computes the gradients of its float32 weights (see ``mixed_precision``).

    Raises:
        TrainingError: The loss or the gradient is not finite; the message names the step. The
            model is then partly trained and must be discarded.
    """
    processes = PartialState()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizers = make_optimizers(model, recipe, getattr(torch, precision))
    schedules = [learning_rates(optimizer, recipe) for optimizer in optimizers]
    micro = rows_at_once(model, rows.ids.shape[1])
    losses: list[float] = []
    model.train()
    torch.manual_seed(seed)
    state = checkpoint.load() if checkpoint else None
    if state:
        losses = _restore(state, trained, optimizers, schedules)
    reader = Copy(model, getattr(torch, precision))
    batch_size = rows_per_step(rows, recipe.tokens_per_step)
    batches = order(len(rows.ids), batch_size, recipe.steps, seed)
    for step, batch in enumerate(islice(batches, len(losses), None), start=len(losses)):
        index = torch.from_numpy(batch)
        own_rows = index[processes.process_index :: processes.num_processes]
        loss, micro = _backward(reader, rows, own_rows, _labels(rows, index), micro)
        if processes.num_processes > 1:
            loss = _sum_over_processes(loss, trained)
        norm = torch.nn.utils.clip_grad_norm_(trained, 1.0)
        if not (math.isfinite(loss) and math.isfinite(norm.item())):
            rate = schedules[0].get_last_lr()[0]
            raise TrainingError(NOT_FINITE.format(step + 1, recipe.steps, rate))
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        reader.refresh()
        losses.append(loss)
        if checkpoint and processes.is_main_process and checkpoint.due():
            checkpoint.save(_state(losses, trained, optimizers, schedules))
        progress((step + 1) / recipe.steps)
    model.eval()
    return losses


# --- Supporting code -------------------------------------------------------------------------


NOT_FINITE = (
    "the loss is not finite at step {} of {} (learning rate {:g}): lower the learning rate, or "
    "check the model's weights"
)


def write_curve(losses: list[float], folder: Path) -> None:
    """Write ``curve.parquet``: ``step`` (from 1) and ``loss`` (nats per token)."""
    curve = pd.DataFrame({"step": range(1, len(losses) + 1), "loss": losses})
    curve.to_parquet(folder / "curve.parquet", index=False)


def _labels(rows: Packed, index: torch.Tensor) -> int:
    """Number of tokens that are predicted in the rows ``index``."""
    return int((rows.labels[index] != IGNORED).sum())


def _sum_over_processes(loss: float, trained: list[torch.nn.Parameter]) -> float:
    """Sum gradients, in place, and losses over processes; a process may have had no row."""
    for weight in trained:
        grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
        weight.grad = reduce(grad, "sum")
    device = trained[0].device
    return float(reduce(torch.tensor(loss, device=device, dtype=torch.float64), "sum"))


def _backward(
    reader: Copy,
    rows: Packed,
    index: torch.Tensor,
    count: int,
    micro: int,
) -> tuple[float, int]:
    """Accumulate the gradients of the rows ``index`` of a step that predicts ``count`` tokens.

    Returns these rows' part of the step's loss, and the rows per micro-batch that fit into memory.
    """
    model = reader.model
    while True:
        try:
            total = 0.0
            # with fewer rows than processes, some processes have none
            for part in index.split(micro) if len(index) else ():
                loss = loss_sum(model, rows, part) / count
                loss.backward()
                total += loss.item()
            return total, micro
        except torch.OutOfMemoryError:
            can_save_memory = (
                model.supports_gradient_checkpointing and not model.is_activation_checkpointing
            )
            if micro > 1:
                micro //= 2
                remedy = f"{micro} rows at a time"
            elif can_save_memory:
                model.activation_checkpointing_enable()
                remedy = "gradient checkpointing"
            else:
                raise TrainingError(
                    f"a single row of {rows.ids.shape[1]} tokens does not fit into memory, even "
                    "with gradient checkpointing: use LoRA or a smaller model"
                ) from None
            reader.drop_gradients()
            torch.cuda.empty_cache()
            warnings.warn(f"out of memory: going on with {remedy}", stacklevel=2)


Optimizers = list[torch.optim.Optimizer]
Schedules = list[torch.optim.lr_scheduler.LambdaLR]


def _state(
    losses: list[float],
    trained: list[torch.nn.Parameter],
    optimizers: Optimizers,
    schedules: Schedules,
) -> dict[str, Any]:
    """Everything on which the next step depends."""
    return {
        "losses": losses,
        "weights": [w.detach() for w in trained],
        "optimizers": [o.state_dict() for o in optimizers],
        "schedules": [s.state_dict() for s in schedules],
        "random": torch.get_rng_state(),
        "random_on_devices": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _restore(
    state: dict[str, Any],
    trained: list[torch.nn.Parameter],
    optimizers: Optimizers,
    schedules: Schedules,
) -> list[float]:
    """Restore a saved state; return the losses so far."""
    with torch.no_grad():
        for weight, saved in zip(trained, state["weights"], strict=True):
            weight.copy_(saved)
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    for schedule, saved in zip(schedules, state["schedules"], strict=True):
        schedule.load_state_dict(saved)
    torch.set_rng_state(state["random"])
    if state["random_on_devices"]:
        torch.cuda.set_rng_state_all(state["random_on_devices"])
    return list(state["losses"])
