"""Forward passes: the plain one, and its shortcuts.

The plain pass reads one sequence, or several of them padded at their ends, and remembers nothing.
Each shortcut must give what it gives:

======= ====================================================================================
packed  several documents in one row, held apart by positions that begin anew
tree    sequences that begin alike share their tokens: one row, in which each token attends
        to its own ancestors alone (tree attention: Miao et al., 2024, SpecInfer)
memory  a document is read token by token, and what was read is remembered
shrunk  rows whose documents have ended leave the batch, and what is remembered of them
======= ====================================================================================

A shortcut is right for some models only; ``proofs`` finds out for which.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache, PreTrainedModel


@dataclass(frozen=True)
class Shortcuts:
    """Which shortcuts are right for a model.

    ``memory`` is the name under which it takes and returns what it remembers, None where it must
    read everything again; with ``positions`` it is told where each token stands.
    """

    packed: bool = False
    tree: bool = False
    memory: str | None = None
    positions: bool = False
    shrunk: bool = False


TREE_TOKENS = 384
"""A tree holds no more, or one sequence: attention costs their square."""
PLAIN = Shortcuts()
"""No shortcut at all, which is right for every causal model."""
MEMORIES = (
    *(("past_key_values", True), ("past_key_values", False)),
    *(("cache_params", False), ("state", False)),
)
"""What a model may call its memory, and whether positions are given: the first that is right."""


def logits(
    model: PreTrainedModel, ids: torch.Tensor, positions: torch.Tensor | None = None
) -> torch.Tensor:
    """Logits of rows of token ids, ``[rows, length, tokens]``; both arguments ``[rows, length]``.

    Without positions every row is one document, padded at its end at most; with them a row holds
    several documents, and positions begin anew at each.
    """
    given = {} if positions is None else {"position_ids": positions}
    found: torch.Tensor = model(input_ids=ids, use_cache=False, **given).logits
    return found


@dataclass(frozen=True)
class Tree:
    """A prefix tree of token sequences, ``n`` nodes.

    ``ids`` and ``positions`` have shape ``[n]`` (int64), ``mask`` ``[n, n]`` (bool: row attends
    to column). ``paths`` holds, for each sequence, the node of each of its tokens.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor
    paths: list[list[int]]


def trees(sequences: list[list[int]], limit: int) -> list[Tree]:
    """Fold sorted sequences into trees of at most ``limit`` nodes, or of one sequence."""
    found: list[Tree] = []
    ids: list[int] = []
    paths: list[list[int]] = []
    previous: list[int] = []

    def close() -> None:
        mask = np.zeros((len(ids), len(ids)), dtype=bool)
        positions = np.zeros(len(ids), dtype=np.int64)
        new = 0  # nodes below it are known from an earlier path
        for path in paths:
            for depth, node in enumerate(path):
                if node >= new:
                    mask[node, path[: depth + 1]] = True
                    positions[node] = depth
            new = max(new, path[-1] + 1)
        where = torch.from_numpy(positions)
        found.append(Tree(torch.tensor(ids), where, torch.from_numpy(mask), list(paths)))

    for sequence in sequences:
        shared = common(previous, sequence)
        if ids and len(ids) + len(sequence) - shared > limit:
            close()
            ids, paths, shared = [], [], 0
        start = len(ids)
        ids += sequence[shared:]
        trunk = paths[-1][:shared] if shared else []
        paths.append([*trunk, *range(start, len(ids))])
        previous = sequence
    if ids:
        close()
    return found


def common(a: list[int], b: list[int]) -> int:
    """Length of the longest common prefix."""
    for at, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return at
    return min(len(a), len(b))


def tree_logits(model: PreTrainedModel, tree: Tree, nodes: list[int]) -> torch.Tensor:
    """Logits of some nodes of a tree, in their order, ``[nodes, tokens]``."""
    kind, place = model.dtype, model.device
    # a mask as every attention takes it: added to the scores
    mask = torch.zeros(tree.mask.shape, dtype=kind).masked_fill(~tree.mask, torch.finfo(kind).min)
    found: torch.Tensor = model(
        input_ids=tree.ids[None].to(place),
        position_ids=tree.positions[None].to(place),
        attention_mask=mask[None, None].to(place),
        logits_to_keep=torch.tensor(nodes, device=place),
        use_cache=False,
    ).logits[0]
    return found


class Reader:
    """Reads rows of documents token by token, side by side, and remembers them as a model can."""

    def __init__(self, model: PreTrainedModel, how: Shortcuts) -> None:
        """Begin with nothing read."""
        self._model, self._how = model, how
        self._read: torch.Tensor | None = None  # [rows, tokens], where nothing is remembered
        self._length = 0
        self._known: dict[str, Any] = {}
        if how.memory == "past_key_values":  # transformers makes the others itself
            self._known = {"past_key_values": DynamicCache(config=model.config)}

    def read(self, tokens: torch.Tensor) -> torch.Tensor:
        """Read one more token of every row, shape ``[rows]``; logits of the next, two axes."""
        name = self._how.memory
        ids = tokens[:, None]
        if name is None:
            self._read = ids if self._read is None else torch.cat([self._read, ids], dim=1)
            return logits(self._model, self._read)[:, -1]
        given = dict(self._known)
        if self._how.positions:
            given["position_ids"] = torch.full_like(ids, self._length)
        output = self._model(input_ids=ids, use_cache=True, **given)
        self._known = {name: output[name]}
        self._length += 1
        last: torch.Tensor = output.logits[:, -1]
        return last

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with some rows alone, given by their numbers."""
        if self._how.memory is None:
            assert self._read is not None
            self._read = self._read[rows]
        else:  # layers may stand on several devices
            self._known[self._how.memory].batch_select_indices(rows.cpu())
