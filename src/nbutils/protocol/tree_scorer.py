"""Scoring for lm-eval: requests with a common prefix share its tokens in one forward pass.

The choices of an item share its context, and the items of a document share the text before them.
Sorted requests form prefix trees (see ``forward``), so a shared prefix is read once and no token is
padding. A model for which trees are not right reads its requests one by one.

The numbers are those of lm-eval's own passes with ``logits_cache=False``. Its cache (version
0.4.13) gives the same answer to requests with equal tokens, even where their continuations begin
at different tokens, as for two items of one document.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from nbutils import files
from nbutils.errors import UserError
from nbutils.protocol import forward, models, proofs


@dataclass(frozen=True)
class Reading:
    """A tree, and what is read in it.

    ``nodes`` are those whose logits predict the tokens of a continuation. ``rows`` and ``tokens``,
    ``[tokens of all continuations]``, say which of them predicts which token. ``spans`` has one
    entry per request: its number, and where its tokens begin and end.
    """

    tree: forward.Tree
    nodes: list[int]
    rows: torch.Tensor
    tokens: torch.Tensor
    spans: list[tuple[int, int, int]]


def plan(requests: list[tuple[list[int], list[int]]], context: int) -> list[Reading]:
    """Trees for requests: token ids of contexts, and of their continuations.

    A request longer than ``context``, the model's context length, loses its first tokens, as in
    lm-eval.
    """
    sequences = [(before + target)[-(context + 1) :] for before, target in requests]
    order = sorted(range(len(sequences)), key=lambda i: sequences[i])  # groups common prefixes
    readings = []
    done = 0
    for tree in forward.trees([sequences[i][:-1] for i in order], forward.TREE_TOKENS):
        predicting, tokens, spans = list[int](), list[int](), []
        for i, path in zip(order[done:], tree.paths, strict=False):
            target = sequences[i][-len(requests[i][1]) :]
            spans.append((i, len(tokens), len(tokens) + len(target)))
            predicting += path[-len(target) :]
            tokens += target
        done += len(tree.paths)
        nodes = sorted(set(predicting))
        row_of = {node: row for row, node in enumerate(nodes)}
        rows = torch.tensor([row_of[node] for node in predicting])
        readings.append(Reading(tree, nodes, rows, torch.tensor(tokens), spans))
    return readings


@torch.inference_mode()
def log_likelihoods(
    model: PreTrainedModel, readings: Sequence[Reading]
) -> list[tuple[float, bool]]:
    """Log-likelihood, in nats, of each continuation after its context.

    The second value says whether greedy decoding would produce the continuation.
    """
    answers = {}
    for reading in readings:
        rows, tokens = reading.rows.to(model.device), reading.tokens.to(model.device)
        log_probs = forward.tree_logits(model, reading.tree, reading.nodes).float().log_softmax(-1)
        is_greedy = (log_probs.argmax(-1)[rows] == tokens).tolist()
        token_log_probs = log_probs[rows, tokens].cpu()
        for i, start, end in reading.spans:
            answers[i] = token_log_probs[start:end].sum().item(), all(is_greedy[start:end])
    return [answers[i] for i in range(len(answers))]


# --- Supporting code -------------------------------------------------------------------------


Request = tuple[tuple[str, str], list[int], list[int]]
"""Context and continuation: as texts, then as token ids."""


class ScoringError(UserError):
    """A request cannot be scored by this model."""


class Scorer(HFLM):
    """lm-eval's own model class, which encodes all texts in one call and adds BOS if wanted.

    lm-eval itself leaves BOS to the tokenizer, and many tokenizers add none.
    """

    _encoded: Mapping[str, list[int]] = MappingProxyType({})

    def loglikelihood(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """For each continuation, its log-likelihood in nats and whether it is the greedy one.

        Encodes all texts in one call first, where ``HFLM`` would encode them one by one.
        """
        pairs = [request.args for request in requests]
        texts = {text for c, end in pairs if c for text in (c.rstrip(), c + end)}
        prefix = self.tokenizer.decode(self.prefix_token_id)
        without_bos = sorted(text for text in texts if text and not text.startswith(prefix))
        self._encoded = {}
        if without_bos:
            ids = self.tokenizer(without_bos, add_special_tokens=self._tokenizer_adds_bos).input_ids
            self._encoded = dict(zip(without_bos, ids, strict=True))
        return super().loglikelihood(requests, disable_tqdm)

    @property
    def _tokenizer_adds_bos(self) -> bool:
        """Whether BOS is wanted and the tokenizer adds it by itself."""
        return bool(self.add_bos_token) and models.adds_bos(self.tokenizer)

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **kwargs: Any
    ) -> list[int]:
        """Token ids of a text, looked up where it was already encoded."""
        if add_special_tokens is not None or kwargs:
            return list(super().tok_encode(string, add_special_tokens, **kwargs))
        ids = self._encoded.get(string)
        if ids is None:
            has_bos = string.startswith(self.tokenizer.decode(self.prefix_token_id))
            ids = super().tok_encode(string, self._tokenizer_adds_bos and not has_bos)
        bos = [self.prefix_token_id] if self.add_bos_token else []
        return list(ids) if ids[:1] == bos else bos + list(ids)

    def tok_batch_encode(
        self, strings: list[str], *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids of prompts, for tasks whose answers are generated.

        Raises:
            ScoringError: A text spells a token that the model does not embed.
        """
        if self.add_bos_token and not self._tokenizer_adds_bos:
            bos = str(self.tokenizer.bos_token)
            strings = [text if text.startswith(bos) else bos + text for text in strings]
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
        """For each request, its log-likelihood in nats and whether the continuation is greedy.

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
        """Raise ``ScoringError`` where the model has no embedding for one of a text's ids."""
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
    """A scorer whose forward passes read prefix trees.

    Trees are planned once for all models that read the same requests alike: those of a family,
    before and after every fine-tune.
    """

    _readings: Sequence[Reading] = ()

    def loglikelihood(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """As ``Scorer`` does; texts that this process has planned before are not encoded again."""
        reader = models.embedding_rows(self.model), self.max_length, self.add_bos_token
        key = (*reader, _content(self.tokenizer), tuple(request.args for request in requests))
        if key in _PLANNED:
            return log_likelihoods(self.model, _PLANNED[key])
        answers = super().loglikelihood(requests, disable_tqdm)
        _PLANNED[key] = self._readings
        if len(_PLANNED) > KEPT:
            del _PLANNED[next(iter(_PLANNED))]
        return answers

    def _scored(
        self, requests: list[Request], disable_tqdm: bool, override_bs: int | None
    ) -> list[tuple[float, bool]]:
        pairs = [(context, continuation) for _, context, continuation in requests]
        self._readings = plan(pairs, self.max_length)
        return log_likelihoods(self.model, self._readings)


KEPT = 4
"""Plans that a process keeps; one is of a suite and a tokenizer, as a tier has few."""
_PLANNED: dict[Hashable, Sequence[Reading]] = {}


def _content(tokenizer: PreTrainedTokenizerBase) -> Hashable:
    """What decides how a tokenizer encodes; equal for equal tokenizers, wherever they lie."""
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        return tokenizer  # equal to itself alone
    content = files.sha256(tokenizer.backend_tokenizer.to_str())
    return type(tokenizer), tokenizer.bos_token_id, tokenizer.split_special_tokens, content


def scorer(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, begin: bool = True) -> HFLM:
    """A model in memory as lm-eval takes it; with ``begin``, contexts begin with BOS."""
    scorer_class = TreeScorer if proofs.shortcuts(model).tree else Scorer
    return scorer_class(
        pretrained=model,
        tokenizer=tokenizer,
        max_length=models.context(model),
        add_bos_token=begin,
        prefix_token_id=tokenizer.bos_token_id,  # which lm-eval would look up for every text
        batch_size=1,
        logits_cache=False,
    )
