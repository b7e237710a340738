"""Sample a corpus from a source: BOS alone, no prompt, no filter (paper, section on protocol)."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from transformers import DynamicCache, PreTrainedModel

from nbutils import models
from nbutils.params import SampleCorpus, UserError
from nbutils.runs import Progress

TILE = 64  # tokens of the vocabulary whose probabilities are first summed


class SamplingError(UserError):
    """A source writes nothing that can be used."""


def memory_name(model: PreTrainedModel) -> str | None:
    """Under which name a model takes and returns what it remembers of the tokens it read.

    None where it must read them again: with several rows transformers 5.23 mixes RWKV's states.
    """
    named = inspect.signature(model.forward).parameters
    return next((n for n in ("past_key_values", "cache_params") if n in named), None)


def draw(
    logits: torch.Tensor, temperature: float, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """One token a row from the tempered distribution, by inversion; logits ``[rows, tokens]``.

    Returns the tokens and their log-probabilities in nats under the untempered distribution, both
    of shape ``[rows]``; the latter are not finite where the logits are not.

    Inversion takes one random number a row (``multinomial`` one a token): it says in which tile of
    ``TILE`` tokens the draw falls, and where in it. Sums over tiles are float64, so that the rare
    tokens of a large vocabulary keep their probability.
    """
    rows, tokens = logits.shape
    top = logits.amax(-1, keepdim=True)
    weights = torch.exp((logits - top) / temperature if temperature != 1 else logits - top)
    tiles = torch.nn.functional.pad(weights, (0, -tokens % TILE)).view(rows, -1, TILE)
    sums = tiles.sum(-1).cumsum(-1, dtype=torch.float64)
    place = torch.rand(
        (rows, 1), generator=generator, device=logits.device, dtype=torch.float64
    ) * sums[:, -1:]  # fmt: skip
    tile = torch.searchsorted(sums, place, right=True).clamp(max=sums.shape[1] - 1)
    end = sums.gather(1, tile)
    start = torch.where(tile > 0, sums.gather(1, (tile - 1).clamp(min=0)), 0.0)
    inside = tiles[torch.arange(rows, device=logits.device), tile[:, 0]]
    inside = inside.cumsum(-1, dtype=torch.float64)
    # as a share of the tile: rounding must not push the place beyond its last token
    share = ((place - start) / (end - start)).clamp(max=1 - 1e-12)
    offset = torch.searchsorted(inside, share * inside[:, -1:], right=True)
    token = (tile * TILE + offset).clamp(max=tokens - 1)
    total = sums[:, -1].log() + top[:, 0] if temperature == 1 else logits.logsumexp(-1)
    return token[:, 0], (logits.gather(1, token)[:, 0] - total).double()


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
    place = model.device
    ids = torch.full((rows, max_tokens), eos, device=place)
    log_probs = torch.zeros(rows, max_tokens, dtype=torch.float64, device=place)
    active = torch.arange(rows, device=place)
    going = torch.ones(rows, dtype=torch.bool, device=place)
    name = memory_name(model)
    attends = name == "past_key_values"
    cache = DynamicCache(config=model.config)
    known: dict[str, Any] = {"past_key_values": cache} if attends else {}
    read = torch.full((rows, 1), bos, device=place)
    for step in range(max_tokens):
        output = model(input_ids=read, use_cache=name is not None, **known)
        token, log_prob = draw(output.logits[:, -1].float(), temperature, generator)
        if not torch.isfinite(log_prob).all():
            raise SamplingError(
                "the source's logits are not finite: its weights are damaged, or float16 is too "
                "narrow for it (then `dtype: float32` in its entry)"
            )
        ids[active, step] = torch.where(going, token, eos)
        log_probs[active, step] = torch.where(going, log_prob, 0.0)
        known = {name: output[name]} if name else {}
        read = token[:, None] if name else torch.cat([read, token[:, None]], dim=1)
        going &= token != eos
        left = int(going.sum())
        if left == 0:
            break
        if attends and left <= len(active) * 3 // 4:
            kept = torch.nonzero(going)[:, 0]
            active, read, going = active[kept], read[kept], going[kept]
            cache.batch_select_indices(kept.cpu())  # layers may stand on several devices
    return _documents(ids.cpu(), log_probs.sum(dim=1).tolist(), eos)


def _documents(
    ids: torch.Tensor, log_probs: list[float], eos: int
) -> list[tuple[list[int], float]]:
    """Rows of tokens, cut behind the first EOS, with what belongs to each."""
    ended = ids == eos
    first = torch.where(ended.any(dim=1), ended.int().argmax(dim=1) + 1, ids.shape[1])
    rows = zip(ids.tolist(), first.tolist(), log_probs, strict=True)
    return [(row[:end], log_prob) for row, end, log_prob in rows]


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
