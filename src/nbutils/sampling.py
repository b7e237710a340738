"""Sample a corpus from a source: BOS alone, no prompt, no filter (paper, section on protocol)."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import torch
from transformers import DynamicCache, PreTrainedModel

from nbutils import models
from nbutils.params import SampleCorpus, UserError
from nbutils.training import Progress


class SamplingError(UserError):
    """A source writes nothing that can be used."""


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
    model. Finished rows leave the batch, so that no time is spent on them.

    Raises:
        SamplingError: The model's output is not finite.
    """
    ids: list[list[int]] = [[] for _ in range(rows)]
    totals = [0.0] * rows
    active = list(range(rows))
    cache = DynamicCache(config=model.config)
    token = torch.full((rows, 1), bos, device=model.device)
    for _ in range(max_tokens):
        logits = model(input_ids=token, past_key_values=cache, use_cache=True).logits[:, -1].float()
        if not torch.isfinite(logits).all():
            raise SamplingError("the source's logits are not finite: its weights are damaged")
        probabilities = torch.softmax(logits / temperature, dim=-1)
        token = torch.multinomial(probabilities, 1, generator=generator)
        log_prob = logits.gather(1, token)[:, 0] - logits.logsumexp(dim=-1)
        for row, new, value in zip(active, token[:, 0].tolist(), log_prob.tolist(), strict=True):
            ids[row].append(new)
            totals[row] += value
        going = torch.nonzero(token[:, 0] != eos)[:, 0]
        if len(going) == 0:
            break
        if len(going) < len(active):
            active = [active[i] for i in going.tolist()]
            token = token[going]
            cache.batch_select_indices(going)
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
    model.to(models.device())
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
