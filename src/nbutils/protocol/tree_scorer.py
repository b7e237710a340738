"""Scoring for lm-eval: requests that begin alike share their tokens in one forward pass.

The choices of an item share its context, and the items of a document share what stands before
them. Sorted, the requests form prefix trees (see ``passes``), so a shared prefix is read once and
no token is padding. A model for which trees are not right reads its requests one by one.

The numbers are those of lm-eval's own passes with ``logits_cache=False``. Its cache (version
0.4.13) answers requests of equal tokens alike even where context and continuation part at
different places, as they do for two items of one document.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nbutils.errors import UserError
from nbutils.protocol import forward, models, proofs


@torch.inference_mode()
def log_likelihoods(
    model: PreTrainedModel, requests: list[tuple[list[int], list[int]]], context: int
) -> list[tuple[float, bool]]:
    """Log-likelihood, in nats, of each continuation after its context; both are token ids.

    The second value says whether greedy decoding would have written the continuation. A request
    longer than the model's ``context`` loses its first tokens, as in lm-eval.
    """
    read = [(before + target)[-(context + 1) :] for before, target in requests]
    order = sorted(range(len(read)), key=lambda i: read[i])  # requests that begin alike meet
    answers: list[tuple[float, bool]] = [(0.0, False)] * len(read)
    done = 0
    for tree in forward.trees([read[i][:-1] for i in order], forward.TREE_TOKENS):
        chosen = order[done : done + len(tree.paths)]
        done += len(tree.paths)
        targets = [read[i][-len(requests[i][1]) :] for i in chosen]
        # the nodes whose logits predict the tokens of a continuation
        nodes = [path[-len(t) :] for path, t in zip(tree.paths, targets, strict=True)]
        needed = sorted({n for path in nodes for n in path})
        place = {n: k for k, n in enumerate(needed)}
        where = torch.tensor([place[n] for path in nodes for n in path])
        wanted = torch.tensor([t for target in targets for t in target], device=model.device)
        scores = forward.tree_logits(model, tree, needed).float().log_softmax(-1)
        greedy = scores.argmax(-1)[where] == wanted
        likely = scores[where, wanted]
        start = 0
        for i, target in zip(chosen, targets, strict=True):
            end = start + len(target)
            answers[i] = (likely[start:end].sum().item(), bool(greedy[start:end].all()))
            start = end
    return answers


# --- Supporting code -------------------------------------------------------------------------


Request = tuple[tuple[str, str], list[int], list[int]]
"""Context and continuation: as texts, then as token ids."""


class ScoringError(UserError):
    """A request cannot be scored by this model."""


class Scorer(HFLM):
    """lm-eval's own model class; texts are encoded at once, and begin with BOS if they are to.

    lm-eval leaves BOS to the tokenizer, and many add none.
    """

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
        ids = self.tokenizer(plain, add_special_tokens=self._added).input_ids if plain else []
        self._encoded = dict(zip(plain, ids, strict=True))
        return super().loglikelihood(requests, disable_tqdm)

    @property
    def _added(self) -> bool:
        """Whether the tokenizer itself puts the BOS that is wanted before a text."""
        return bool(self.add_bos_token) and models.adds_bos(self.tokenizer)

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **kwargs: Any
    ) -> list[int]:
        """Token ids of a text, from those encoded before where it is one of them."""
        if add_special_tokens is not None or kwargs:
            return list(super().tok_encode(string, add_special_tokens, **kwargs))
        ids = self._encoded.get(string)
        if ids is None:
            begins = string.startswith(self.tokenizer.decode(self.prefix_token_id))
            ids = super().tok_encode(string, self._added and not begins)
        begin = [self.prefix_token_id] if self.add_bos_token else []
        return list(ids) if ids[:1] == begin else begin + list(ids)

    def tok_batch_encode(
        self, strings: list[str], *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids of the prompts of a task whose answers are generated.

        Raises:
            ScoringError: A text spells a token that the model does not embed.
        """
        if self.add_bos_token and not self._added:
            begin = str(self.tokenizer.bos_token)
            strings = [text if text.startswith(begin) else begin + text for text in strings]
        ids, mask = super().tok_batch_encode(strings, *args, **kwargs)
        for text, row in zip(strings, ids.tolist(), strict=True):
            self._check(row, text)
        return ids, mask

    def _loglikelihood_tokens(
        self,
        requests: list[Request],
        disable_tqdm: bool = False,
        override_bs: int | None = None,
    ) -> list[tuple[float, bool]]:
        """Log-likelihood in nats and greediness of each continuation, in the order given.

        Raises:
            ScoringError: A continuation does not fit the model's context, or a text spells a token
                that the model does not embed.
        """
        for (context, end), before, target in requests:
            if len(target) > self.max_length:
                raise ScoringError(
                    f"a choice of {len(target)} tokens exceeds the model's context of "
                    f"{self.max_length}: take another task, or a model with a longer context"
                )
            self._check([*before, *target], context + end)
        return self._scored(requests, disable_tqdm, override_bs)

    def _check(self, ids: list[int], text: str) -> None:
        """Raise ``ScoringError`` where one of a text's ids is beyond the rows of the embedding."""
        if max(ids, default=0) < models.embedding_rows(self.model):
            return
        token = self.tokenizer.convert_ids_to_tokens(max(ids))
        raise ScoringError(
            f"a text spells {token!r}, a token that the model has no embedding for "
            f"({text[:80]!r}): take another task"
        )

    def _scored(
        self, requests: list[Request], disable_tqdm: bool, override_bs: int | None
    ) -> list[tuple[float, bool]]:
        return super()._loglikelihood_tokens(requests, disable_tqdm, override_bs)


class TreeScorer(Scorer):
    """The same with other forward passes: over prefix trees."""

    def _scored(
        self, requests: list[Request], disable_tqdm: bool, override_bs: int | None
    ) -> list[tuple[float, bool]]:
        pairs = [(context, continuation) for _, context, continuation in requests]
        return log_likelihoods(self.model, pairs, self.max_length)


def scorer(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, begin: bool = True) -> HFLM:
    """lm-eval's view of a model in memory; with ``begin``, contexts begin with BOS."""
    kind = TreeScorer if proofs.shortcuts(model).tree else Scorer
    return kind(
        pretrained=model,
        tokenizer=tokenizer,
        max_length=models.context(model),
        add_bos_token=begin,
        batch_size=1,
        logits_cache=False,
    )
