"""Scoring for lm-eval: requests that begin alike share their tokens in one forward pass.

The choices of an item share its context, and the items of a document share what stands before
them. Sorted, the requests form a prefix tree; a tree is one row of tokens in which each token
attends to its own ancestors alone (tree attention: Miao et al., 2024, SpecInfer), so a shared
prefix is read once and no token is padding.

The numbers are those of lm-eval's own passes with ``logits_cache=False``. Its cache (version
0.4.13) answers requests of equal tokens alike even where context and continuation part at
different places, as they do for two items of one document.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nbutils import models
from nbutils.params import UserError

TREE_TOKENS = 384  # attention costs its square, a cut prefix is read again


class ScoringError(UserError):
    """A request cannot be scored by this model."""


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


class TreeScorer(HFLM):
    """lm-eval's own model class; only the forward passes differ, and texts are encoded at once."""

    _encoded: Mapping[str, list[int]] = MappingProxyType({})

    def loglikelihood(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """Log-likelihood in nats and greediness of each continuation of its context.

        What ``HFLM`` would encode text by text is encoded in one call before.
        """
        pairs = [request.args for request in requests]
        texts = {text for c, end in pairs if c for text in (c.rstrip(), c + end)}
        begin = self.tokenizer.decode(self.prefix_token_id)
        plain = sorted(text for text in texts if text and not text.startswith(begin))
        special = bool(self.add_bos_token)
        ids = self.tokenizer(plain, add_special_tokens=special).input_ids if plain else []
        self._encoded = dict(zip(plain, ids, strict=True))
        return super().loglikelihood(requests, disable_tqdm)

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **kwargs: Any
    ) -> list[int]:
        """Token ids of a text, from those encoded before where it is one of them."""
        if add_special_tokens is None and not kwargs and string in self._encoded:
            return list(self._encoded[string])
        return list(super().tok_encode(string, add_special_tokens, **kwargs))

    @torch.inference_mode()
    def _loglikelihood_tokens(
        self,
        requests: list[tuple[tuple[str, str], list[int], list[int]]],
        disable_tqdm: bool = False,
        override_bs: int | None = None,
    ) -> list[tuple[float, bool]]:
        """Log-likelihood in nats and greediness of each continuation, in the order given.

        Raises:
            ScoringError: A continuation does not fit the model's context.
        """
        longest = max((len(target) for _, _, target in requests), default=0)
        if longest > self.max_length:
            raise ScoringError(
                f"a choice of {longest} tokens exceeds the model's context of {self.max_length}: "
                "take another task, or a model with a longer context"
            )
        read = [(context + target)[-(self.max_length + 1) :] for _, context, target in requests]
        order = sorted(range(len(read)), key=lambda i: read[i])
        answers: list[tuple[float, bool]] = [(0.0, False)] * len(read)
        at = 0
        for tree in trees([read[i][:-1] for i in order], TREE_TOKENS):
            chosen = order[at : at + len(tree.paths)]
            at += len(tree.paths)
            targets = [read[i][-len(requests[i][2]) :] for i in chosen]
            nodes = [p[-len(t) :] for p, t in zip(tree.paths, targets, strict=True)]
            kept = sorted({n for path in nodes for n in path})
            place = {n: k for k, n in enumerate(kept)}
            where = torch.tensor([place[n] for path in nodes for n in path])
            wanted = torch.tensor([t for target in targets for t in target], device=self.device)
            logits = self.model(
                input_ids=tree.ids[None].to(self.device),
                position_ids=tree.positions[None].to(self.device),
                attention_mask=self._added(tree.mask),
                logits_to_keep=torch.tensor(kept, device=self.device),
                use_cache=False,
            ).logits[0]
            scores = logits.float().log_softmax(-1)
            likely = scores.argmax(-1)[where] == wanted
            chances = scores[where, wanted]
            start = 0
            for i, target in zip(chosen, targets, strict=True):
                end = start + len(target)
                answers[i] = (chances[start:end].sum().item(), bool(likely[start:end].all()))
                start = end
        return answers

    def _added(self, mask: torch.Tensor) -> torch.Tensor:
        """A mask as every attention takes it: added to the scores, ``[1, 1, nodes, nodes]``."""
        kind = self.model.dtype
        added = torch.zeros(mask.shape, dtype=kind).masked_fill(~mask, torch.finfo(kind).min)
        return added[None, None].to(self.device)


def scorer(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, begin: bool = True) -> HFLM:
    """lm-eval's view of a model in memory; a recurrent one reads its requests one by one."""
    kind = TreeScorer if models.attends(model) else HFLM
    return kind(
        pretrained=model,
        tokenizer=tokenizer,
        max_length=models.context(model),
        add_bos_token=begin,
        logits_cache=False,
    )
