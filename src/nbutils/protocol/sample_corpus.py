"""Sample a corpus from a source: BOS alone, no prompt, no filter (paper, section on protocol)."""

import math
from collections.abc import Iterator
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nbutils.config.schema import SampleCorpus
from nbutils.errors import UserError
from nbutils.protocol import models, proofs
from nbutils.protocol.forward import Reader, common_prefix
from nbutils.runs.types import Progress


@torch.inference_mode()
def sample_batch(
    model: PreTrainedModel,
    bos: int,
    eos: int,
    temperature: float,
    numbers: torch.Tensor,
    never: torch.Tensor | None = None,
) -> list[tuple[list[int], float]]:
    """Sample documents, with one random number per document and step: ``[rows, max_tokens]``.

    Returns one ``(ids, log_prob)`` per document: the ids after BOS, with EOS if it was reached
    within ``max_tokens``, and the sum of their log-probabilities in nats at temperature 1. The ids
    in ``never`` have probability zero. Where the model allows it, finished rows leave the batch
    whenever they are a quarter of it.

    Raises:
        SamplingError: The model's logits are not finite.
    """
    (rows, max_tokens), device = numbers.shape, model.device
    shortcuts = proofs.shortcuts(model)
    reader = Reader(model, shortcuts)
    ids = torch.full((rows, max_tokens), eos, device=device)
    log_probs = torch.zeros(rows, max_tokens, dtype=torch.float64, device=device)
    active = torch.arange(rows, device=device)  # the documents that are still in the batch
    unfinished = torch.ones(rows, dtype=torch.bool, device=device)
    token = torch.full((rows,), bos, device=device)
    for step in range(max_tokens):
        logits = reader.read(token).float()
        if never is not None:
            logits[:, never] = -torch.inf
        token, log_prob = draw(logits, temperature, numbers[active, step])
        if not torch.isfinite(log_prob).all():
            raise SamplingError(
                "the source's logits are not finite: its weights are damaged, or its "
                "activations overflow float16 (then set `dtype: float32` in its entry)"
            )
        ids[active, step] = torch.where(unfinished, token, eos)
        log_probs[active, step] = torch.where(unfinished, log_prob, 0.0)
        unfinished &= token != eos
        remaining = int(unfinished.sum())
        if remaining == 0:
            break
        if shortcuts.shrunk and remaining <= len(active) * 3 // 4:
            selected = torch.nonzero(unfinished)[:, 0]
            active, token, unfinished = active[selected], token[selected], unfinished[selected]
            reader.keep(selected)
    return _documents(ids.cpu(), log_probs.sum(dim=1).tolist(), eos)


# --- Supporting code -------------------------------------------------------------------------


TILE = 64  # tokens of the vocabulary whose probabilities are summed in one tile


class SamplingError(UserError):
    """A source generates no text that can be used."""


def textless(tokenizer: PreTrainedTokenizerBase, rows: int) -> torch.Tensor:
    """Ids below ``rows`` that stand for no text, except EOS: padding rows, gaps, special tokens.

    They are never sampled: decoding would drop them, and the token budget would count them.
    """
    allowed = set(tokenizer.get_vocab().values()) - models.special_tokens(tokenizer)
    allowed.add(tokenizer.eos_token_id)
    return torch.tensor([i for i in range(rows) if i not in allowed], dtype=torch.int64)


def random_numbers(seed: int, documents: range, max_tokens: int) -> torch.Tensor:
    """Uniform numbers in [0, 1), float64, ``[documents, max_tokens]``: a stream per document.

    So a document depends on its number and on the corpus's seed, and not on its batch.
    """
    streams = (np.random.Philox(key=seed, counter=(0, 0, 0, number)) for number in documents)
    numbers = [np.random.Generator(stream).random(max_tokens) for stream in streams]
    return torch.from_numpy(np.stack(numbers))


def draw(
    logits: torch.Tensor, temperature: float, uniform: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw one token per row at a temperature, by inversion; logits ``[rows, vocabulary]``.

    Returns the tokens and their log-probabilities in nats at temperature 1, both of shape
    ``[rows]``; the latter are not finite where the logits are not.

    Inversion needs one random number per row, ``uniform`` (``multinomial`` needs one per token of
    the vocabulary). It selects a tile of ``TILE`` tokens, then a token in it. Sums over tiles are
    float64, so that the rare tokens of a large vocabulary keep their probability.
    """
    rows, tokens = logits.shape
    top = logits.amax(-1, keepdim=True)
    weights = torch.exp((logits - top) / temperature if temperature != 1 else logits - top)
    tiles = torch.nn.functional.pad(weights, (0, -tokens % TILE)).view(rows, -1, TILE)
    sums = tiles.sum(-1).cumsum(-1, dtype=torch.float64)
    position = uniform[:, None] * sums[:, -1:]
    tile = torch.searchsorted(sums, position, right=True).clamp(max=sums.shape[1] - 1)
    end = sums.gather(1, tile)
    start = torch.where(tile > 0, sums.gather(1, (tile - 1).clamp(min=0)), 0.0)
    inside = tiles[torch.arange(rows, device=logits.device), tile[:, 0]]
    inside = inside.cumsum(-1, dtype=torch.float64)
    # as a share of the tile: rounding must not push the position beyond its last token
    share = ((position - start) / (end - start)).clamp(max=1 - 1e-12)
    offset = torch.searchsorted(inside, share * inside[:, -1:], right=True)
    token = (tile * TILE + offset).clamp(max=tokens - 1)
    total = sums[:, -1].log() + top[:, 0] if temperature == 1 else logits.logsumexp(-1)
    return token[:, 0], (logits.gather(1, token)[:, 0] - total).double()


def _documents(
    ids: torch.Tensor, log_probs: list[float], eos: int
) -> list[tuple[list[int], float]]:
    """Rows of token ids, each cut after its first EOS, with their log-probabilities."""
    ended = ids == eos
    first = torch.where(ended.any(dim=1), ended.int().argmax(dim=1) + 1, ids.shape[1])
    rows = zip(ids.tolist(), first.tolist(), log_probs, strict=True)
    return [(row[:end], log_prob) for row, end, log_prob in rows]


def documents(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, p: SampleCorpus
) -> Iterator[tuple[list[int], float]]:
    """Sample documents until the token budget is spent, which counts EOS and not BOS."""
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    never = textless(tokenizer, models.embedding_rows(model)).to(model.device)
    spent = sampled = 0
    while spent < p.tokens:
        rows = rows_needed(p, sampled, spent)
        numbers = random_numbers(p.seed, range(sampled, sampled + rows), p.max_tokens)
        sampled += rows
        batch = sample_batch(model, bos, eos, p.temperature, numbers.to(model.device), never)
        for ids, log_prob in batch:
            spent += len(ids)
            yield ids, log_prob
            if spent >= p.tokens:
                return


SPARE = 1.05  # of the documents that are expected to be needed: most budgets end in one last batch


def rows_needed(p: SampleCorpus, sampled: int, spent: int) -> int:
    """Documents of the next batch: as many as the budget is expected to need, within the limit."""
    if not sampled:
        return p.batch_size
    expected = (p.tokens - spent) / (spent / sampled)
    return min(p.batch_size, math.ceil(SPARE * expected) + 1)


def read_otherwise(written: list[int], read: list[int]) -> int:
    """How many of the written tokens are not matched by the read ones, in order.

    Several sequences of tokens spell the same text, and a model may generate one that its tokenizer
    would not produce. A model that reads the text then sees other tokens.
    """
    start = common_prefix(written, read)
    # the common end, too: most documents differ in one place
    end = common_prefix(written[start:][::-1], read[start:][::-1])
    written_part, read_part = written[start : len(written) - end], read[start : len(read) - end]
    matcher = SequenceMatcher(None, written_part, read_part, autojunk=False)
    return len(written_part) - sum(block.size for block in matcher.get_matching_blocks())


def run(p: SampleCorpus, inputs: dict[str, Path], out: Path, progress: Progress) -> None:
    """Stage *sample corpus*; writes ``corpus.parquet``, one row per document.

    Columns: ``doc`` (number), ``text``, ``n_tokens`` (source tokens, EOS included), ``finished``
    (whether EOS was reached), ``mean_log_prob`` (nats per token under the source at temperature 1)
    and ``read_otherwise`` (generated tokens that the source's tokenizer does not reproduce from
    the text). Empty documents stay in the corpus, which is never filtered.

    Raises:
        SamplingError: All documents are empty.
    """
    model, tokenizer = models.load(inputs["source"], inputs["source"], p.precision)
    eos = tokenizer.eos_token_id
    rows, spent = [], 0
    for number, (ids, log_prob) in enumerate(documents(model, tokenizer, p)):
        spent += len(ids)
        progress(min(1.0, spent / p.tokens))
        finished = ids[-1] == eos
        text = tokenizer.decode(ids, skip_special_tokens=True)
        (read,) = models.encode(tokenizer, [text], len(ids) + p.max_tokens)
        written = ids if finished else [*ids, eos]
        rows.append(
            {
                "doc": number,
                "text": text,
                "n_tokens": len(ids),
                "finished": finished,
                "mean_log_prob": log_prob / len(ids),
                "read_otherwise": read_otherwise(written, read[1:]),
            }
        )
    corpus = pd.DataFrame(rows)
    if not corpus.text.str.strip().any():
        raise SamplingError(
            f"the source wrote {len(corpus)} documents and none holds text: lower the temperature, "
            "or check the source"
        )
    corpus.to_parquet(out / "corpus.parquet", index=False)
