"""Packing: documents in rows of equal length, none attending to another, and their loss."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nbutils.errors import UserError
from nbutils.protocol import forward, models, proofs

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
    logits = forward.logits(model, rows.ids[index].to(place), positions)
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
    return pack(documents, length, tokenizer.eos_token_id, not proofs.shortcuts(model).packed)


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
