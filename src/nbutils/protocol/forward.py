"""Forward passes: the plain one, and its shortcuts.

The plain pass reads one sequence, or a batch of sequences padded at the end, without a cache. A
shortcut is faster and must give the same logits:

======= ====================================================================================
packed  several documents in one row, separated by position ids that restart at each
tree    sequences with a common prefix share its tokens, in one row in which each token
        attends only to its own ancestors (tree attention: Miao et al., 2024, SpecInfer)
memory  a document is read token by token, with a cache of the tokens before
shrunk  rows whose documents have ended are removed from the batch and from the cache
======= ====================================================================================

A shortcut is right only for some models; ``proofs`` tests for which.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer


@dataclass(frozen=True)
class Shortcuts:
    """Which shortcuts are right for a model.

    ``memory`` is the model's name for its cache, as argument and as output; None where it must
    read all earlier tokens again. With ``positions``, reading with the cache takes position ids.
    """

    packed: bool = False
    tree: bool = False
    memory: str | None = None
    positions: bool = False
    shrunk: bool = False


TREE_TOKENS = 384
"""Largest tree of several sequences, in tokens: the cost of attention grows with the square."""
LITTLE = 8
"""Tokens that sequences of different documents may share by chance."""
PLAIN = Shortcuts()
"""No shortcut, which is right for every causal model."""
MEMORIES = (
    *(("past_key_values", True), ("past_key_values", False)),
    *(("cache_params", False), ("state", False)),
)
"""Names of a cache, and whether position ids are passed, in the order in which they are tried."""


def logits(
    model: PreTrainedModel, ids: torch.Tensor, positions: torch.Tensor | None = None
) -> torch.Tensor:
    """Logits of rows of token ids, ``[rows, length, vocabulary]``.

    ``ids`` and ``positions`` have shape ``[rows, length]``. Without positions every row is one
    document, with padding only at its end. With them a row holds several documents, and positions
    restart at each.
    """
    options = {} if positions is None else {"position_ids": positions}
    output: torch.Tensor = model(input_ids=ids, use_cache=False, **options).logits
    return output


@dataclass(frozen=True)
class Tree:
    """A prefix tree of token sequences, ``n`` nodes.

    ``ids``, ``positions`` and ``ends`` have shape ``[n]`` (int64). Nodes are numbered depth first:
    node ``i`` and its descendants are those from ``i`` to before ``ends[i]``. ``paths`` holds the
    nodes of each sequence, one per token.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    ends: torch.Tensor
    paths: list[list[int]]

    @property
    def mask(self) -> torch.Tensor:
        """Where the node of the row attends to that of the column, ``[n, n]`` (bool)."""
        nodes = torch.arange(len(self.ids))
        return (nodes <= nodes[:, None]) & (nodes[:, None] < self.ends)


def trees(sequences: list[list[int]], limit: int) -> list[Tree]:
    """Merge sorted sequences into trees of at most ``limit`` nodes, or of one sequence."""
    finished: list[Tree] = []
    ids: list[int] = []
    paths: list[list[int]] = []
    previous: list[int] = []

    def close() -> None:
        positions, ends = np.zeros((2, len(ids)), dtype=np.int64)
        for path in paths:
            positions[path] = range(len(path))
            ends[path] = np.maximum(ends[path], path[-1] + 1)
        depths, last = torch.from_numpy(positions), torch.from_numpy(ends)
        finished.append(Tree(torch.tensor(ids), depths, last, list(paths)))

    for sequence in sequences:
        shared = common_prefix(previous, sequence)
        # where another document begins, little would be shared
        another = shared <= LITTLE and len(ids) > limit / 2
        if ids and (another or len(ids) + len(sequence) - shared > limit):
            close()
            ids, paths, shared = [], [], 0
        start = len(ids)
        ids += sequence[shared:]
        trunk = paths[-1][:shared] if shared else []
        paths.append([*trunk, *range(start, len(ids))])
        previous = sequence
    if ids:
        close()
    return finished


def common_prefix(a: list[int], b: list[int]) -> int:
    """Length of the longest common prefix of two sequences of token ids."""
    for length, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return length
    return min(len(a), len(b))


def tree_logits(model: PreTrainedModel, tree: Tree, nodes: list[int]) -> torch.Tensor:
    """Logits of the given nodes of a tree, in the order given, ``[nodes, vocabulary]``."""
    dtype, device = model.dtype, model.device
    # an additive mask, which every attention implementation accepts
    mask = torch.zeros(tree.mask.shape, dtype=dtype)
    mask = mask.masked_fill(~tree.mask, torch.finfo(dtype).min)
    output: torch.Tensor = model(
        input_ids=tree.ids[None].to(device),
        position_ids=tree.positions[None].to(device),
        attention_mask=mask[None, None].to(device),
        logits_to_keep=torch.tensor(nodes, device=device),
        use_cache=False,
    ).logits[0]
    return output


SLAB = 16  # tokens


class SlabLayer(DynamicLayer):
    """A layer of a cache that makes room for ``SLAB`` tokens at a time.

    transformers' own copies all earlier tokens for each new one. Values are the same.
    """

    keys: torch.Tensor
    values: torch.Tensor
    _room: tuple[torch.Tensor, ...] = ()

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add keys and values, ``[rows, heads, tokens, width]``; return those of all tokens."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        new, start = (key_states, value_states), self.get_seq_length()
        end = start + key_states.shape[-2]
        if not self._room or end > self._room[0].shape[-2]:
            room = [x.new_empty((*x.shape[:-2], end + SLAB - 1, x.shape[-1])) for x in new]
            if start:
                for larger, old in zip(room, (self.keys, self.values), strict=True):
                    larger[..., :start, :] = old
            self._room = tuple(room)
        for larger, added in zip(self._room, new, strict=True):
            larger[..., start:end, :] = added
        self.keys, self.values = (larger[..., :end, :] for larger in self._room)
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Continue with some of the rows; the next token makes room anew."""
        super().batch_select_indices(indices)
        self._room = ()


def cache(model: PreTrainedModel) -> DynamicCache:
    """A model's empty cache; layers with a window or a state of their own stay transformers'."""
    empty = DynamicCache(config=model.config)
    empty.layers = [SlabLayer() if type(x) is DynamicLayer else x for x in empty.layers]
    return empty


class Reader:
    """Reads a batch of documents token by token, with the model's cache where it is right."""

    def __init__(self, model: PreTrainedModel, shortcuts: Shortcuts) -> None:
        """Start with no token read."""
        self._model, self._shortcuts = model, shortcuts
        self._ids: torch.Tensor | None = None  # all ids read, [rows, length], without a cache
        self._length = 0
        self._cache: dict[str, Any] = {}
        if shortcuts.memory == "past_key_values":  # models create other kinds of cache themselves
            self._cache = {"past_key_values": cache(model)}

    def read(self, tokens: torch.Tensor) -> torch.Tensor:
        """Read one token per row, ``[rows]``; return the next logits, ``[rows, vocabulary]``."""
        name = self._shortcuts.memory
        ids = tokens[:, None]
        if name is None:
            self._ids = ids if self._ids is None else torch.cat([self._ids, ids], dim=1)
            return logits(self._model, self._ids)[:, -1]
        options = dict(self._cache)
        if self._shortcuts.positions:
            options["position_ids"] = torch.full_like(ids, self._length)
        output = self._model(input_ids=ids, use_cache=True, **options)
        self._cache = {name: output[name]}
        self._length += 1
        last: torch.Tensor = output.logits[:, -1]
        return last

    def keep(self, rows: torch.Tensor) -> None:
        """Continue with the given rows (their numbers) and drop the others."""
        if self._shortcuts.memory is None:
            assert self._ids is not None
            self._ids = self._ids[rows]
        else:  # layers may be on several devices
            self._cache[self._shortcuts.memory].batch_select_indices(rows.cpu())
