"""Packing: documents in rows of equal length, without attention across them, and their loss."""

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
"""Most logits of a micro-batch, by device: copies and gradients need several times as much."""


class TrainingError(UserError):
    """Training cannot continue: there is no data, or the loss is not finite."""


@dataclass(frozen=True)
class Packed:
    """Rows of packed documents; every tensor has shape ``[rows, length]``, int64.

    ``positions`` is None where every row holds one document. ``labels`` are already shifted: the
    label at a position is the next token, or ``IGNORED`` at the end of a document and on padding.
    """

    ids: torch.Tensor
    positions: torch.Tensor | None
    labels: torch.Tensor


def pack(documents: list[list[int]], length: int, padding: int, separate: bool = False) -> Packed:
    """Pack token-id documents into rows of ``length`` tokens, first fit over ``OPEN_ROWS`` rows.

    With ``separate``, every document has its own row, padded to the longest one with ``padding``.

    Raises:
        TrainingError: No document has two tokens, or one is longer than a row.
    """
    usable = [d for d in documents if len(d) > 1]
    if not usable:
        raise TrainingError("the corpus has no document with two or more tokens to train on")
    if max(map(len, usable)) > length:
        raise TrainingError(
            f"a document of {max(map(len, usable))} tokens exceeds a row of {length}"
        )
    if separate:
        length = max(map(len, usable))
    closed: list[list[list[int]]] = []
    rows: list[list[list[int]]] = []
    for document in usable:
        fits = (row for row in rows if sum(map(len, row)) + len(document) <= length)
        row = None if separate else next(fits, None)
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
        start = 0
        for document in row:
            end = start + len(document)
            ids[r, start:end] = document
            positions[r, start:end] = range(len(document))
            labels[r, start : end - 1] = document[1:]
            start = end
    position_ids = None if separate else torch.from_numpy(positions)
    return Packed(torch.from_numpy(ids), position_ids, torch.from_numpy(labels))


def order(rows: int, rows_per_step: int, steps: int, seed: int) -> Iterator[np.ndarray]:
    """Row indices for each step, ``[rows_per_step]``, from shuffled passes over all rows."""
    rng = np.random.default_rng(seed)
    queue = np.empty(0, dtype=np.int64)
    for _ in range(steps):
        while len(queue) < rows_per_step:
            queue = np.concatenate([queue, rng.permutation(rows)])
        yield queue[:rows_per_step]
        queue = queue[rows_per_step:]


def loss_sum(model: PreTrainedModel, rows: Packed, index: torch.Tensor) -> torch.Tensor:
    """Summed cross-entropy, in nats, over the labels of the rows ``index``; a scalar tensor."""
    device = model.device
    labels = rows.labels[index].to(device)
    positions = None if rows.positions is None else rows.positions[index].to(device)
    logits = forward.logits(model, rows.ids[index].to(device), positions)
    # labels that are ignored add nothing; to select the others would copy the logits
    return cross_entropy(
        logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="sum"
    )


def read(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: list[str],
    tokens_per_step: int | None = None,
) -> Packed:
    """Tokenize texts and pack them into rows; whole rows make up ``tokens_per_step``, if given.

    Documents are truncated at the model's context and at ``tokens_per_step``.

    Raises:
        TrainingError: No document has two tokens.
    """
    limit = min(models.context(model), tokens_per_step or models.LONGEST)
    documents = models.encode(tokenizer, texts, limit)
    longest = max(map(len, documents), default=1)
    length = row_length(longest, tokens_per_step)
    return pack(documents, length, tokenizer.eos_token_id, not proofs.shortcuts(model).packed)


def row_length(longest: int, tokens_per_step: int | None = None) -> int:
    """Tokens per row: at most twice the longest document, so that whole rows make up a step.

    Raises:
        TrainingError: The longest document has more tokens than a step.
    """
    if tokens_per_step is None:
        return 2 * longest
    if longest > tokens_per_step:
        raise TrainingError(
            f"a document has {longest} tokens and a step {tokens_per_step} (tokens_per_step): a "
            "step holds whole documents, so raise tokens_per_step, or lower the tier's context"
        )
    return tokens_per_step // math.ceil(tokens_per_step / (2 * longest))


def rows_per_step(rows: Packed, tokens_per_step: int) -> int:
    """Rows per step; where each row is one document, its padding does not count as tokens."""
    tokens_per_row = rows.ids.shape[1]
    if rows.positions is None:
        tokens = int((rows.labels != IGNORED).sum()) + len(rows.ids)
        tokens_per_row = math.ceil(tokens / len(rows.ids))
    return max(1, tokens_per_step // tokens_per_row)


def rows_at_once(model: PreTrainedModel, length: int) -> int:
    """Rows of ``length`` tokens per micro-batch of a model."""
    tokens = LOGITS[model.device.type] // model.get_output_embeddings().weight.shape[0]
    return max(1, min(MICRO_BATCH_TOKENS, tokens) // length)
