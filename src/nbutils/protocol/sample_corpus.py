"""Sample a corpus from a source: BOS alone, no prompt, no filter (paper, section on protocol)."""

from collections.abc import Callable, Iterator
from difflib import SequenceMatcher
from pathlib import Path

import pandas as pd
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nbutils.config.schema import SampleCorpus
from nbutils.errors import UserError
from nbutils.protocol import models, proofs
from nbutils.protocol.forward import Reader, common
from nbutils.runs.types import Progress

Numbers = Callable[[int], torch.Tensor]
"""Makes as many random numbers as it is told: ``[rows]``, float64, uniform in [0, 1)."""


@torch.inference_mode()
def sample_batch(
    model: PreTrainedModel,
    bos: int,
    eos: int,
    temperature: float,
    rows: int,
    max_tokens: int,
    numbers: Numbers,
    never: torch.Tensor | None = None,
) -> list[tuple[list[int], float]]:
    """Sample ``rows`` documents side by side; every step asks for a number per row that is left.

    Returns one ``(ids, log_prob)`` per document: the ids after BOS, with EOS if it was reached
    within ``max_tokens``, and the sum of their log-probabilities in nats under the untempered
    model. Ids in ``never`` have no probability. Where the model allows it, the batch shrinks
    whenever a quarter of its rows is finished.

    Raises:
        SamplingError: The model's output is not finite.
    """
    place = model.device
    how = proofs.shortcuts(model)
    reader = Reader(model, how)
    ids = torch.full((rows, max_tokens), eos, device=place)
    log_probs = torch.zeros(rows, max_tokens, dtype=torch.float64, device=place)
    active = torch.arange(rows, device=place)
    going = torch.ones(rows, dtype=torch.bool, device=place)
    token = torch.full((rows,), bos, device=place)
    for step in range(max_tokens):
        logits = reader.read(token).float()
        if never is not None:
            logits[:, never] = -torch.inf
        token, log_prob = draw(logits, temperature, numbers(len(logits)))
        if not torch.isfinite(log_prob).all():
            raise SamplingError(
                "the source's logits are not finite: its weights are damaged, or float16 is too "
                "narrow for it (then `dtype: float32` in its entry)"
            )
        ids[active, step] = torch.where(going, token, eos)
        log_probs[active, step] = torch.where(going, log_prob, 0.0)
        going &= token != eos
        left = int(going.sum())
        if left == 0:
            break
        if how.shrunk and left <= len(active) * 3 // 4:
            kept = torch.nonzero(going)[:, 0]
            active, token, going = active[kept], token[kept], going[kept]
            reader.keep(kept)
    return _documents(ids.cpu(), log_probs.sum(dim=1).tolist(), eos)


# --- Supporting code -------------------------------------------------------------------------


TILE = 64  # tokens of the vocabulary whose probabilities are first summed


class SamplingError(UserError):
    """A source writes nothing that can be used."""


def textless(tokenizer: PreTrainedTokenizerBase, rows: int) -> torch.Tensor:
    """Ids below ``rows`` that no text has, EOS apart: padded rows, holes, and special tokens.

    A document holds none of them: they would vanish when it becomes text, and be counted.
    """
    written = set(tokenizer.get_vocab().values()) - models.special_tokens(tokenizer)
    written.add(tokenizer.eos_token_id)
    return torch.tensor([i for i in range(rows) if i not in written], dtype=torch.int64)


def generated(seed: int, device: torch.device) -> Numbers:
    """The random numbers of a corpus: those of a device's own generator, one call per step."""
    generator = torch.Generator(device=device).manual_seed(seed)

    def make(rows: int) -> torch.Tensor:
        made = torch.rand((rows, 1), generator=generator, device=device, dtype=torch.float64)
        return made[:, 0]

    return make


def draw(
    logits: torch.Tensor, temperature: float, uniform: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """One token per row from the tempered distribution, by inversion; logits ``[rows, tokens]``.

    Returns the tokens and their log-probabilities in nats under the untempered distribution, both
    of shape ``[rows]``; the latter are not finite where the logits are not.

    Inversion takes one random number per row, ``uniform`` (``multinomial`` takes one per token): it
    says in which tile of ``TILE`` tokens the draw falls, and where in it. Sums over tiles are
    float64, so that the rare tokens of a large vocabulary keep their probability.
    """
    rows, tokens = logits.shape
    top = logits.amax(-1, keepdim=True)
    weights = torch.exp((logits - top) / temperature if temperature != 1 else logits - top)
    tiles = torch.nn.functional.pad(weights, (0, -tokens % TILE)).view(rows, -1, TILE)
    sums = tiles.sum(-1).cumsum(-1, dtype=torch.float64)
    place = uniform[:, None] * sums[:, -1:]
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


def _documents(
    ids: torch.Tensor, log_probs: list[float], eos: int
) -> list[tuple[list[int], float]]:
    """Rows of tokens, cut behind the first EOS, with what belongs to each."""
    ended = ids == eos
    first = torch.where(ended.any(dim=1), ended.int().argmax(dim=1) + 1, ids.shape[1])
    rows = zip(ids.tolist(), first.tolist(), log_probs, strict=True)
    return [(row[:end], log_prob) for row, end, log_prob in rows]


def documents(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    p: SampleCorpus,
    numbers: Numbers,
) -> Iterator[tuple[list[int], float]]:
    """Documents until the token budget is spent; BOS is not counted, EOS is."""
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    never = textless(tokenizer, models.rows(model)).to(model.device)
    spent = 0
    while spent < p.tokens:
        batch = sample_batch(
            model, bos, eos, p.temperature, p.batch_size, p.max_tokens, numbers, never
        )
        for ids, log_prob in batch:
            spent += len(ids)
            yield ids, log_prob
            if spent >= p.tokens:
                return


def read_otherwise(written: list[int], read: list[int]) -> int:
    """How many of the written tokens are not among the read ones, in their order.

    Several sequences of tokens spell one text, and a model may write one that its tokenizer would
    not: whoever reads the text, reads other tokens there.
    """
    start = common(written, read)
    end = common(written[start:][::-1], read[start:][::-1])  # most documents differ in one place
    ours, theirs = written[start : len(written) - end], read[start : len(read) - end]
    blocks = SequenceMatcher(None, ours, theirs, autojunk=False).get_matching_blocks()
    return len(ours) - sum(block.size for block in blocks)


def run(p: SampleCorpus, inputs: dict[str, Path], out: Path, progress: Progress) -> None:
    """Stage *sample corpus*; writes ``corpus.parquet``, one row per document.

    Columns: ``doc`` (number), ``text``, ``n_tokens`` (source tokens, EOS included), ``finished``
    (whether EOS was reached), ``mean_log_prob`` (nats per token, untempered source) and
    ``read_otherwise`` (source tokens that the source itself reads otherwise in the text).
    A document without text is kept: the corpus is what the source wrote.

    Raises:
        SamplingError: Not one document holds text.
    """
    model, tokenizer = models.load(inputs["source"], inputs["source"])
    eos = tokenizer.eos_token_id
    drawn = documents(model, tokenizer, p, generated(p.seed, model.device))
    rows, spent = [], 0
    for number, (ids, log_prob) in enumerate(drawn):
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
            f"the source wrote {len(corpus)} documents and none holds text: "
            "lower the temperature, or check the source"
        )
    corpus.to_parquet(out / "corpus.parquet", index=False)
