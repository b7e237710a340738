"""Pre-training from scratch: the families that are made here, and their planted passages.

The members of a family share the tokenizer, the mixture and the passages; they differ in size and
seed. Passages come from works that are in no other split. They are planted inside documents: a
passage at the start would follow BOS, and sampling from BOS alone would reproduce it (Carlini et
al., 2021, measure such extraction for web-scale models).
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tokenizers import Tokenizer, decoders, processors
from tokenizers.implementations import ByteLevelBPETokenizer
from transformers import (
    AutoModelForCausalLM,
    GPTNeoXConfig,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

from nbutils.config.schema import PrepareModel
from nbutils.protocol import models, packing, proofs, text, training
from nbutils.protocol.packing import TrainingError
from nbutils.runs.checkpoint import Checkpoint
from nbutils.runs.types import Progress


def training_documents(
    p: PrepareModel, tokenizer: PreTrainedTokenizerFast, passages: pd.DataFrame, budget: int
) -> tuple[list[list[int]], float]:
    """Token-id documents of about ``budget`` tokens, and the share of planted tokens in them.

    Each exposure of a passage is inserted between two sentences of a document of its own, at a
    random place that is neither the start nor the end.
    """
    rng = np.random.default_rng(p.seed)
    planted = [[*a, *b] for a, b in zip(passages.prefix, passages.suffix, strict=True)]
    exposures = [
        planted[i] for _ in range(p.planting.exposures) for i in rng.permutation(len(planted))
    ]
    most_tokens = p.context - 2 - (len(planted[0]) if planted else 0)  # without BOS, EOS, passage
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    hosts: list[list[list[int]]] = []  # documents of several sentences, which can hold a passage
    single: list[list[list[int]]] = []  # documents of one sentence
    size = sum(map(len, exposures))
    for document in mixed(p, p.seed):
        if size >= budget:
            break
        parts = [s if i == 0 else " " + s for i, s in enumerate(document.sentences)]
        sentences = tokenizer(parts, add_special_tokens=False).input_ids
        while len(sentences) > 1 and sum(map(len, sentences)) > most_tokens:
            sentences.pop()
        (hosts if len(sentences) > 1 else single).append(sentences)
        size += sum(map(len, sentences)) + 2
    if len(exposures) > len(hosts):
        raise text.TextError(
            f"{len(exposures)} plantings need as many documents of two sentences, the training "
            f"text has {len(hosts)}: lower planting.exposures or raise the steps"
        )
    chosen = rng.permutation(len(hosts))[: len(exposures)]
    for host, passage in zip(chosen, exposures, strict=True):
        sentences = hosts[host]
        sentences.insert(int(rng.integers(1, len(sentences))), passage)
    ids = [
        [bos, *(token for sentence in sentences for token in sentence), eos][: p.context]
        for sentences in hosts + single
    ]
    total = sum(map(len, ids))
    return [ids[i] for i in rng.permutation(len(ids))], sum(map(len, exposures)) / total


def one_pass(
    p: PrepareModel, tokenizer: PreTrainedTokenizerFast, passages: pd.DataFrame
) -> tuple[list[list[int]], float, packing.Packed]:
    """Training text for exactly one pass, so that every planting is trained on once.

    Returns the documents, the share of planted tokens, and the packed rows.
    """
    length = packing.row_length(p.context, p.recipe.tokens_per_step)
    capacity = p.recipe.steps * (p.recipe.tokens_per_step // length)
    budget = capacity * length
    while True:
        documents, share = training_documents(p, tokenizer, passages, budget)
        rows = packing.pack(documents, length, tokenizer.eos_token_id)
        if len(rows.ids) <= capacity:
            return documents, share, rows
        budget = int(budget * capacity / len(rows.ids)) - length


# --- Supporting code -------------------------------------------------------------------------


BOS, EOS = "<|bos|>", "<|eos|>"
TOKENIZER_CHARS = 4_000_000


def config(p: PrepareModel) -> PreTrainedConfig:
    """The transformers configuration of a family's member."""
    shared = {
        "vocab_size": p.vocab_size,
        "hidden_size": p.hidden,
        "num_hidden_layers": p.layers,
        "num_attention_heads": p.heads,
        "max_position_embeddings": p.context,
        "tie_word_embeddings": True,
        "bos_token_id": 0,
        "eos_token_id": 1,
    }
    gated = round(p.hidden * 8 / 3 / 32) * 32  # as many weights as an ungated 4x feed-forward layer
    if p.architecture == "gpt_neox":
        return GPTNeoXConfig(intermediate_size=4 * p.hidden, **shared)
    if p.architecture == "llama":
        return LlamaConfig(intermediate_size=gated, **shared)
    return Qwen3Config(
        intermediate_size=gated,
        num_key_value_heads=p.heads,
        head_dim=p.hidden // p.heads,
        **shared,
    )


def mixed(p: PrepareModel, seed: int) -> Iterator[text.Document]:
    """Endless training documents in the proportions of the mixture, measured in characters.

    Each document comes from the domain that is furthest below its share. Every pass over a domain
    has a new random order.
    """
    rng = np.random.default_rng(seed)
    shares = p.mixture.shares()
    pools = {
        domain: [d for d in text.documents(domain, p.max_chars) if d.split == "train"]
        for domain in shares
    }
    queues: dict[str, list[text.Document]] = {domain: [] for domain in shares}
    written = dict.fromkeys(shares, 0)
    while True:
        domain = min(shares, key=lambda d: written[d] / shares[d])
        if not queues[domain]:
            queues[domain] = [pools[domain][i] for i in rng.permutation(len(pools[domain]))]
        document = queues[domain].pop()
        written[domain] += len(document.text)
        yield document


def train_tokenizer(p: PrepareModel) -> PreTrainedTokenizerFast:
    """Train byte-level BPE on the family's mixture; the tokenizer adds BOS by itself."""
    raw = ByteLevelBPETokenizer()
    sample, size = [], 0
    for document in mixed(p, seed=0):  # a fixed seed, as the family shares the tokenizer
        sample.append(document.text)
        size += len(document.text)
        if size >= TOKENIZER_CHARS:
            break
    raw.train_from_iterator(
        sample, vocab_size=p.vocab_size, special_tokens=[BOS, EOS], show_progress=False
    )
    inner: Tokenizer = raw._tokenizer
    inner.decoder = decoders.ByteLevel()
    inner.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, 0), (EOS, 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=EOS,
    )


def choose_passages(p: PrepareModel, tokenizer: PreTrainedTokenizerFast) -> pd.DataFrame:
    """Passages of the family's main domain: the first tokens of documents of held-out works.

    Several passages may come from one work; dev and held-out passages share works.

    Returns one row per passage: ``passage`` (number), ``split``, ``work``, ``prefix`` and
    ``suffix`` (lists of token ids), ``text`` and ``suffix_text``.

    Raises:
        TextError: The domain has too few passages.
    """
    planting = p.planting
    length = planting.prefix + planting.suffix
    number = planting.held_out + planting.dev
    trained = text.training_shingles(p.max_chars)
    pool = [d for d in text.documents(p.mixture.main(), p.max_chars) if d.split == "passages"]
    rows: list[dict[str, object]] = []
    for i in np.random.default_rng(0).permutation(len(pool)):
        document = pool[i]
        ids = tokenizer(" " + document.text, add_special_tokens=False).input_ids[:length]
        if len(rows) == number:
            break
        if len(ids) < length or text.leaks(document.text, trained):
            continue
        rows.append(
            {
                "passage": len(rows),
                "split": "dev" if len(rows) < planting.dev else "held_out",
                "work": document.work,
                "prefix": ids[: planting.prefix],
                "suffix": ids[planting.prefix :],
                "text": tokenizer.decode(ids),
                "suffix_text": tokenizer.decode(ids[planting.prefix :]),
            }
        )
    if len(rows) < number:
        raise text.TextError(
            f"domain {p.mixture.main()!r} has only {len(rows)} passages of {length} tokens, "
            f"{number} are asked for: lower planting.held_out or planting.dev"
        )
    return pd.DataFrame(rows)


def run(p: PrepareModel, inputs: dict[str, Path], out: Path, progress: Progress) -> None:
    """Stage *prepare model*: train a tokenizer, plant passages, pre-train; writes a model folder.

    It also holds ``passages.parquet``, ``curve.parquet`` (step, loss) and ``facts.json``
    (parameters, training tokens, planted share, exposures, and the shortcuts that are right for
    the model, see ``proofs``).

    Raises:
        TextError: There is too little text for the passages or their plantings.
        TrainingError: The loss is not finite, or packed documents are not kept separate.
    """
    tokenizer = train_tokenizer(p)
    passages = choose_passages(p, tokenizer)
    documents, planted_share, rows = one_pass(p, tokenizer, passages)
    torch.manual_seed(p.seed)
    model = AutoModelForCausalLM.from_config(config(p)).to(models.device())
    if not proofs.find(model).shortcuts.packed:
        raise TrainingError(
            f"a {p.architecture} model reads packed documents as one document here: install the "
            "version of transformers in requirements.lock"
        )
    losses = training.fit(model, rows, p.recipe, p.seed, progress, Checkpoint(out), p.precision)
    finding = proofs.find(model)
    proofs.note(finding.shortcuts, model)
    models.save(model, tokenizer, out)
    passages.to_parquet(out / "passages.parquet", index=False)
    training.write_curve(losses, out)
    facts = {
        "parameters": sum(w.numel() for w in model.parameters()),
        "training_tokens": sum(map(len, documents)),
        "planted_share": planted_share,
        "exposures": p.planting.exposures if len(passages) else 0,
        "shortcuts": finding.facts(),
        "tried": proofs.where(model),
    }
    (out / "facts.json").write_text(json.dumps(facts, indent=1), "utf-8")
