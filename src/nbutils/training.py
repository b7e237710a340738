"""The training loop that pre-training and self-training share.

Documents are packed into rows without attention across them: position ids restart at every
document, from which transformers derives a block-diagonal causal mask. Where that does not hold
the documents of a model apart (see ``proofs``), it reads one document per row.

Where ``accelerate`` sees several processes, each takes its share of the rows of every step, and
the gradients are added up: the curve is that of one process, for models without dropout.
"""

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate import PartialState
from accelerate.utils import reduce
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nbutils import models, passes, proofs
from nbutils.checkpoints import Checkpoint
from nbutils.params import Recipe, UserError
from nbutils.runs import Progress

IGNORED = -100
OPEN_ROWS = 32
MICRO_BATCH_TOKENS = 4096
LOGITS = {"cpu": 2**26, "cuda": 2**28}
"""So many logits at once: their copies and gradients are several times as large."""


class TrainingError(UserError):
    """Training cannot go on: no data, or a loss that is not finite."""


@dataclass(frozen=True)
class Packed:
    """Rows of packed documents; every tensor has shape ``[rows, length]``, int64.

    ``positions`` is None where every row holds one document. ``labels`` are already shifted: the
    label at a position is the token that follows it, and ``IGNORED`` at the end of a document and
    on padding.
    """

    ids: torch.Tensor
    positions: torch.Tensor | None
    labels: torch.Tensor


def pack(documents: list[list[int]], length: int, padding: int, apart: bool = False) -> Packed:
    """Pack token-id documents into rows of ``length``, first fit over a few open rows.

    With ``apart`` every document has a row to itself, padded to the longest one.

    Raises:
        TrainingError: There is no document with two tokens, or one is longer than a row.
    """
    usable = [d for d in documents if len(d) > 1]
    if not usable:
        raise TrainingError("the corpus has no document with two or more tokens to train on")
    if max(map(len, usable)) > length:
        raise TrainingError(
            f"a document of {max(map(len, usable))} tokens exceeds a row of {length}"
        )
    if apart:
        length = max(map(len, usable))
    closed: list[list[list[int]]] = []
    rows: list[list[list[int]]] = []
    for document in usable:
        fits = (row for row in rows if sum(map(len, row)) + len(document) <= length)
        row = None if apart else next(fits, None)
        if row is not None:
            row.append(document)
            continue
        if len(rows) == OPEN_ROWS:
            closed.append(rows.pop(0))
        rows.append([document])
    closed += rows
    shape = (len(closed), length)
    ids, positions = np.full(shape, padding), np.zeros(shape, dtype=np.int64)
    labels = np.full(shape, IGNORED)
    for r, row in enumerate(closed):
        at = 0
        for document in row:
            end = at + len(document)
            ids[r, at:end] = document
            positions[r, at:end] = range(len(document))
            labels[r, at : end - 1] = document[1:]
            at = end
    places = None if apart else torch.from_numpy(positions)
    return Packed(torch.from_numpy(ids), places, torch.from_numpy(labels))


def order(rows: int, rows_per_step: int, steps: int, seed: int) -> Iterator[np.ndarray]:
    """Row indices of every step: whole shuffled passes over the rows, one after another."""
    rng = np.random.default_rng(seed)
    queue = np.empty(0, dtype=np.int64)
    for _ in range(steps):
        while len(queue) < rows_per_step:
            queue = np.concatenate([queue, rng.permutation(rows)])
        yield queue[:rows_per_step]
        queue = queue[rows_per_step:]


def loss_sum(model: PreTrainedModel, rows: Packed, index: torch.Tensor) -> torch.Tensor:
    """Summed cross-entropy in nats over the labels of some rows; a scalar with gradient."""
    place = model.device
    labels = rows.labels[index].to(place)
    positions = None if rows.positions is None else rows.positions[index].to(place)
    logits = passes.logits(model, rows.ids[index].to(place), positions)
    scored = labels != IGNORED
    return cross_entropy(logits[scored].float(), labels[scored], reduction="sum")


def read(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: list[str],
    tokens_per_step: int | None = None,
) -> Packed:
    """Documents as a model reads them, in rows that so many tokens are a whole number of.

    They are cut at what the model can read, and at a step.

    Raises:
        TrainingError: No document can be used.
    """
    limit = min(models.context(model), tokens_per_step or models.LONGEST)
    documents = models.encode(tokenizer, texts, limit)
    longest = max(map(len, documents), default=1)
    length = row_length(longest, tokens_per_step)
    return pack(documents, length, tokenizer.eos_token_id, not proofs.of(model).packed)


def row_length(longest: int, tokens_per_step: int | None = None) -> int:
    """Tokens of a row: about twice the longest document, and a part of a step without a rest.

    Raises:
        TrainingError: The longest document does not fit into a step.
    """
    if tokens_per_step is None:
        return 2 * longest
    if longest > tokens_per_step:
        raise TrainingError(
            f"a document has {longest} tokens and a step {tokens_per_step} (tokens_per_step): a "
            "step holds whole documents, so raise it, or lower the tier's context"
        )
    return tokens_per_step // math.ceil(tokens_per_step / (2 * longest))


def rows_per_step(rows: Packed, tokens_per_step: int) -> int:
    """How many rows hold the tokens of a step; padding behind a document is none of them."""
    size = rows.ids.shape[1]
    if rows.positions is None:
        size = math.ceil((int((rows.labels != IGNORED).sum()) + len(rows.ids)) / len(rows.ids))
    return max(1, tokens_per_step // size)


def rows_at_once(model: PreTrainedModel, length: int) -> int:
    """How many rows of some length go through a model together."""
    room = LOGITS[model.device.type] // model.get_output_embeddings().weight.shape[0]
    return max(1, min(MICRO_BATCH_TOKENS, room) // length)


def optimizers(model: PreTrainedModel, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """AdamW over every trained weight, or over those that Muon leaves (see ``Recipe``)."""
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    hidden = [p for n, p in named if recipe.muon and p.ndim == 2 and "embed" not in n]
    others = [p for _, p in named if all(p is not h for h in hidden)]
    adamw = torch.optim.AdamW(
        others,
        lr=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        betas=(0.9, 0.95),
        fused=True,
    )
    if not hidden:
        return [adamw]
    return [adamw, torch.optim.Muon(hidden, lr=recipe.muon, weight_decay=0.0)]


def fit(
    model: PreTrainedModel,
    rows: Packed,
    recipe: Recipe,
    seed: int,
    progress: Progress,
    checkpoint: Checkpoint | None = None,
    precision: torch.dtype = torch.float32,
) -> list[float]:
    """Train in place; return the mean loss in nats per token at every step, before its update.

    A step's rows go through the model in micro-batches whose gradients add up to that of the
    whole step. Where memory does not suffice, the micro-batch is halved, then activations are
    computed again instead of kept (gradient checkpointing); a warning says so. Matrix products
    take ``precision``, whatever the weights are kept in (autocast).

    Raises:
        TrainingError: The loss or the gradient is not finite; names the step. The model given
            is then half trained and must be thrown away.
    """
    team = PartialState()
    trained = [p for p in model.parameters() if p.requires_grad]
    updates = optimizers(model, recipe)
    warmup = round(recipe.warmup * recipe.steps)

    def share_of_peak(step: int) -> float:
        rising, falling = (step + 1) / (warmup + 1), recipe.steps - step
        return min(rising, falling / max(1, recipe.steps - warmup))

    schedules = [torch.optim.lr_scheduler.LambdaLR(o, share_of_peak) for o in updates]
    length = rows.ids.shape[1]
    micro = rows_at_once(model, length)
    losses: list[float] = []
    model.train()
    torch.manual_seed(seed)
    state = checkpoint.load() if checkpoint else None
    if state:
        losses = _restore(state, trained, updates, schedules)
    at_once = rows_per_step(rows, recipe.tokens_per_step)
    batches = order(len(rows.ids), at_once, recipe.steps, seed)
    for step, chosen in enumerate(islice(batches, len(losses), None), start=len(losses)):
        index = torch.from_numpy(chosen)
        mine = index[team.process_index :: team.num_processes]
        total, micro = _backward(model, rows, mine, _labels(rows, index), micro, precision)
        if team.num_processes > 1:
            total = _added_up(total, trained)
        norm = torch.nn.utils.clip_grad_norm_(trained, 1.0)
        if not (math.isfinite(total) and math.isfinite(norm.item())):
            raise TrainingError(
                f"the loss is not finite at step {step + 1} of {recipe.steps} (learning rate "
                f"{schedules[0].get_last_lr()[0]:g}): lower it, or check the model's weights"
            )
        for optimizer, schedule in zip(updates, schedules, strict=True):
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        losses.append(total)
        if checkpoint and team.is_main_process and checkpoint.due():
            checkpoint.save(_state(losses, trained, updates, schedules))
        progress((step + 1) / recipe.steps)
    model.eval()
    return losses


def write_curve(losses: list[float], folder: Path) -> None:
    """Write ``curve.parquet``: step, from 1, and loss in nats per token."""
    curve = pd.DataFrame({"step": range(1, len(losses) + 1), "loss": losses})
    curve.to_parquet(folder / "curve.parquet", index=False)


def _labels(rows: Packed, index: torch.Tensor) -> int:
    """How many tokens of some rows are predicted."""
    return int((rows.labels[index] != IGNORED).sum())


def _added_up(total: float, trained: list[torch.nn.Parameter]) -> float:
    """Add up gradients, in place, and losses over processes; a process may have had no row."""
    for weight in trained:
        grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
        weight.grad = reduce(grad, "sum")
    place = trained[0].device
    return float(reduce(torch.tensor(total, device=place, dtype=torch.float64), "sum"))


def _backward(
    model: PreTrainedModel,
    rows: Packed,
    index: torch.Tensor,
    count: int,
    micro: int,
    precision: torch.dtype,
) -> tuple[float, int]:
    """Add up the gradients of some rows of a step that predicts ``count`` tokens.

    Returns their part of its loss, and the micro-batch that fitted.
    """
    mixed = precision != torch.float32
    while True:
        try:
            total = 0.0
            # with fewer rows than processes some have none
            for part in index.split(micro) if len(index) else ():
                with torch.autocast(model.device.type, precision, enabled=mixed):
                    loss = loss_sum(model, rows, part) / count
                loss.backward()
                total += loss.item()
            return total, micro
        except torch.OutOfMemoryError:
            again = model.supports_gradient_checkpointing and not model.is_activation_checkpointing
            if micro > 1:
                micro //= 2
                told = f"{micro} rows at a time"
            elif again:
                model.activation_checkpointing_enable()
                told = "gradient checkpointing"
            else:
                raise TrainingError(
                    f"a single row of {rows.ids.shape[1]} tokens does not fit into memory, even "
                    "with gradient checkpointing: use LoRA or a smaller model"
                ) from None
            model.zero_grad()
            torch.cuda.empty_cache()
            warnings.warn(f"out of memory: going on with {told}", stacklevel=2)


Updates = list[torch.optim.Optimizer]
Schedules = list[torch.optim.lr_scheduler.LambdaLR]


def _state(
    losses: list[float], trained: list[torch.nn.Parameter], updates: Updates, schedules: Schedules
) -> dict[str, Any]:
    """All that the next step depends on."""
    return {
        "losses": losses,
        "weights": [w.detach() for w in trained],
        "optimizers": [o.state_dict() for o in updates],
        "schedules": [s.state_dict() for s in schedules],
        "random": torch.get_rng_state(),
        "random_on_devices": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _restore(
    state: dict[str, Any],
    trained: list[torch.nn.Parameter],
    updates: Updates,
    schedules: Schedules,
) -> list[float]:
    """Go back to a saved state; return the losses so far."""
    with torch.no_grad():
        for weight, saved in zip(trained, state["weights"], strict=True):
            weight.copy_(saved)
    for optimizer, saved in zip(updates, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    for schedule, saved in zip(schedules, state["schedules"], strict=True):
        schedule.load_state_dict(saved)
    torch.set_rng_state(state["random"])
    if state["random_on_devices"]:
        torch.cuda.set_rng_state_all(state["random_on_devices"])
    return list(state["losses"])
