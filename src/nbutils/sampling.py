"""Sample a corpus from a source: BOS alone, no prompt, no filter (paper, section on protocol)."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from nbutils import models
from nbutils.params import SampleCorpus, UserError
from nbutils.training import Progress


class SamplingError(UserError):
    """A source writes nothing that can be used."""


class Room(DynamicLayer):
    """The keys and values of one attention layer, in memory that is taken once.

    Appending a token writes in place, where ``DynamicLayer`` would copy all that came before.
    """

    _layer_type = None  # keeps transformers from making this its own default

    def __init__(self, tokens: int) -> None:
        """Leave room for ``tokens`` positions."""
        super().__init__()
        self.tokens = tokens

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append the states of new tokens; return those of all tokens so far."""
        start = self.get_seq_length()
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            shape = (*key_states.shape[:2], self.tokens, key_states.shape[3])
            self.room = key_states.new_empty(shape), value_states.new_empty(shape)
        end = start + key_states.shape[2]
        for room, states in zip(self.room, (key_states, value_states), strict=True):
            room[:, :, start:end] = states
        self.keys, self.values = (room[:, :, :end] for room in self.room)
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep some rows of the batch."""
        end = self.get_seq_length()
        if end == 0:
            return
        keys, values = self.room
        self.room = keys[indices], values[indices]
        self.keys, self.values = (room[:, :, :end] for room in self.room)


def new_cache(model: PreTrainedModel, tokens: int) -> DynamicCache:
    """An empty cache with room for ``tokens`` positions in every plain attention layer."""
    cache = DynamicCache(config=model.config)
    cache.layers = [
        Room(tokens) if type(layer) is DynamicLayer else layer for layer in cache.layers
    ]
    return cache


def memory_name(model: PreTrainedModel) -> str | None:
    """Under which name a model takes and returns what it remembers of the tokens it read.

    None where it must read them again: with several rows transformers 5.23 mixes RWKV's states.
    """
    named = inspect.signature(model.forward).parameters
    return next((n for n in ("past_key_values", "cache_params") if n in named), None)


def draw(logits: torch.Tensor, temperature: float, generator: torch.Generator) -> torch.Tensor:
    """One token a row from the tempered distribution, by inversion; logits ``[rows, tokens]``.

    Inversion takes one random number a row (``multinomial`` one a token). The sums are float64,
    so that the rare tokens of a large vocabulary keep their probability.
    """
    summed = torch.softmax(logits / temperature, dim=-1).cumsum(-1, dtype=torch.float64)
    shape = (len(logits), 1)
    place = torch.rand(shape, generator=generator, device=logits.device, dtype=torch.float64)
    chosen = torch.searchsorted(summed, place * summed[:, -1:], right=True)
    return chosen.clamp(max=logits.shape[1] - 1)


@torch.inference_mode()
def sample_batch(
    model: PreTrainedModel,
    bos: int,
    eos: int,
    temperature: float,
    rows: int,
    max_tokens: int,
    generator: torch.Generator,
) -> list[tuple[list[int], float]]:
    """Sample ``rows`` documents side by side.

    Returns one ``(ids, log_prob)`` a document: the ids after BOS, with EOS if it was reached
    within ``max_tokens``, and the sum of their log-probabilities in nats under the untempered
    model. A batch of an attention model shrinks whenever a quarter of its rows is finished.

    Raises:
        SamplingError: The model's output is not finite.
    """
    ids: list[list[int]] = [[] for _ in range(rows)]
    totals = [0.0] * rows
    active = list(range(rows))
    going = torch.ones(rows, dtype=torch.bool, device=model.device)
    name = memory_name(model)
    cache = new_cache(model, max_tokens) if name == "past_key_values" else None
    known: dict[str, Any] = {} if cache is None else {"past_key_values": cache}
    read = torch.full((rows, 1), bos, device=model.device)
    for _ in range(max_tokens):
        output = model(input_ids=read, use_cache=name is not None, **known)
        logits = output.logits[:, -1].float()
        total = logits.logsumexp(dim=-1)
        if not torch.isfinite(total).all():
            raise SamplingError("the source's logits are not finite: its weights are damaged")
        token = draw(logits, temperature, generator)
        log_prob = logits.gather(1, token)[:, 0] - total
        new = zip(active, going.tolist(), token[:, 0].tolist(), log_prob.tolist(), strict=True)
        for row, open_, id_, value in new:
            if open_:
                ids[row].append(id_)
                totals[row] += value
        known = {name: output[name]} if name else {}
        read = token if name else torch.cat([read, token], dim=1)
        going &= token[:, 0] != eos
        left = int(going.sum())
        if left == 0:
            break
        if cache is not None and left <= len(active) * 3 // 4:
            kept = torch.nonzero(going)[:, 0]
            active = [active[i] for i in kept.tolist()]
            read, going = read[kept], going[kept]
            cache.batch_select_indices(kept)
    return list(zip(ids, totals, strict=True))


def documents(
    model: PreTrainedModel, bos: int, eos: int, p: SampleCorpus
) -> Iterator[tuple[list[int], float]]:
    """Documents until the token budget is spent; BOS is not counted, EOS is."""
    generator = torch.Generator(device=model.device).manual_seed(p.seed)
    spent = 0
    while spent < p.tokens:
        batch = sample_batch(model, bos, eos, p.temperature, p.batch_size, p.max_tokens, generator)
        for ids, log_prob in batch:
            spent += len(ids)
            yield ids, log_prob
            if spent >= p.tokens:
                return


def sample(p: SampleCorpus, inputs: dict[str, Path], out: Path, progress: Progress) -> None:
    """Stage *sample corpus*; writes ``corpus.parquet``, one row a document.

    Columns: ``doc`` (number), ``text``, ``n_tokens`` (source tokens, EOS included), ``finished``
    (whether EOS was reached) and ``mean_log_prob`` (nats per token, untempered source).
    A document without text is kept: the corpus is what the source wrote.

    Raises:
        SamplingError: Not one document holds text.
    """
    model, tokenizer = models.load(inputs["source"], inputs["source"])
    eos = tokenizer.eos_token_id
    rows, spent = [], 0
    for number, (ids, log_prob) in enumerate(documents(model, tokenizer.bos_token_id, eos, p)):
        spent += len(ids)
        progress(min(1.0, spent / p.tokens))
        rows.append(
            {
                "doc": number,
                "text": tokenizer.decode(ids, skip_special_tokens=True),
                "n_tokens": len(ids),
                "finished": ids[-1] == eos,
                "mean_log_prob": log_prob / len(ids),
            }
        )
    corpus = pd.DataFrame(rows)
    if not corpus.text.str.strip().any():
        raise SamplingError(
            f"the source wrote {len(corpus)} documents and none holds text: "
            "lower the temperature, or check the source"
        )
    corpus.to_parquet(out / "corpus.parquet", index=False)
