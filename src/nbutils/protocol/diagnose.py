"""Compatibility diagnostics: scores of a corpus and a student that use no benchmark.

=================== ======================================================================
diagnostic          what it compares
=================== ======================================================================
gradient_cosine     the student's gradient on the corpus and on its own corpus (as in
                    Yu et al., 2020, who compare the gradients of tasks)
perplexity_gap      how much worse student and source predict each other's text than their
                    own, in nats per character, summed over both (Jeffreys, 1946)
tokenizer_overlap   share of the corpus's source tokens that are in the student's vocabulary
representation_cka  linear CKA of the two models' mean hidden states on the corpus
                    (Kornblith et al., 2019)
ngram_divergence    Jensen-Shannon divergence of the word bigrams of the corpus and of the
                    student's own corpus (Lin, 1991), in nats
own_loss_slope      how fast the loss on the student's own corpus falls along the gradient
                    on the corpus, in nats per unit of weight change
=================== ======================================================================

The student's own corpus is sampled with another seed: otherwise the self pairing would compare a
corpus with itself.
"""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.spatial.distance import jensenshannon
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nbutils.config.schema import Diagnose
from nbutils.protocol import models, packing, text
from nbutils.protocol.measure_proxies import corpus_texts, mean_log_likelihood
from nbutils.runs.types import Progress


def gradient(model: PreTrainedModel, rows: packing.Packed) -> torch.Tensor:
    """Gradient of the mean loss in nats per token, as one vector of shape ``[weights]``."""
    model.zero_grad()
    count = int((rows.labels != packing.IGNORED).sum())
    micro_batch = packing.rows_at_once(model, rows.ids.shape[1])
    for part in torch.arange(len(rows.ids)).split(micro_batch):
        (packing.loss_sum(model, rows, part) / count).backward()
    # layers may be on several devices
    return torch.cat([w.grad.flatten().cpu() for w in model.parameters() if w.grad is not None])


def per_character(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: list[str]
) -> float:
    """Negative log-likelihood in nats per character, which is comparable across tokenizers."""
    rows = packing.read(model, tokenizer, texts)
    tokens = int((rows.labels != packing.IGNORED).sum())
    return -mean_log_likelihood(model, rows) * tokens / _characters_read(model, tokenizer, texts)


def linear_cka(a: np.ndarray, b: np.ndarray) -> float:
    """Linear centred kernel alignment of two sets of states, ``[n, p]`` and ``[n, q]``; 0 to 1."""
    a, b = a - a.mean(0), b - b.mean(0)
    cross = np.linalg.norm(a.T @ b) ** 2
    return float(cross / (np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b)))


def bigram_divergence(a: list[str], b: list[str]) -> float:
    """Jensen-Shannon divergence of the word bigrams of two lists of texts, in nats; 0 to log 2."""
    counts = [Counter(bigram for t in texts for bigram in _bigrams(t)) for texts in (a, b)]
    bigrams = sorted(counts[0] | counts[1])
    p, q = (np.array([c[bigram] for bigram in bigrams], dtype=float) for c in counts)
    return float(jensenshannon(p, q)) ** 2


def _bigrams(document: str) -> list[tuple[str, str]]:
    words = text.words(document)
    return list(pairwise(words))


# --- Supporting code -------------------------------------------------------------------------


def _characters_read(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: list[str]
) -> int:
    """Characters of texts up to the model's context, where documents are truncated."""
    documents = zip(texts, models.encode(tokenizer, texts, models.context(model)), strict=True)
    return sum(
        len(whole if ids[-1] == tokenizer.eos_token_id else tokenizer.decode(ids[1:]))
        for whole, ids in documents
    )


def overlap(
    source: PreTrainedTokenizerBase, student: PreTrainedTokenizerBase, texts: list[str]
) -> float:
    """Share of the texts' tokens, as ``source`` splits them, in the vocabulary of ``student``."""
    vocabulary = student.get_vocab()
    ids = models.token_ids(source, texts)
    tokens = [token for document in ids for token in source.convert_ids_to_tokens(document)]
    return sum(token in vocabulary for token in tokens) / len(tokens)


@torch.inference_mode()
def states(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: list[str]
) -> np.ndarray:
    """Mean last hidden state of each text, shape ``[texts, hidden]``."""
    documents = [
        torch.tensor(ids) for ids in models.encode(tokenizer, texts, models.context(model))
    ]
    order = sorted(range(len(documents)), key=lambda i: len(documents[i]))  # for little padding
    means = dict[int, np.ndarray]()
    for part in torch.tensor(order).split(packing.rows_at_once(model, len(documents[order[-1]]))):
        batch = [documents[i] for i in part.tolist()]
        inputs = pad_sequence(batch, batch_first=True, padding_value=tokenizer.eos_token_id)
        inputs = inputs.to(model.device)
        output = model(input_ids=inputs, output_hidden_states=True, use_cache=False)
        for i, ids, hidden in zip(part.tolist(), batch, output.hidden_states[-1], strict=True):
            means[i] = hidden[: len(ids)].mean(0).float().cpu().numpy()
    return np.vstack([means[i] for i in range(len(texts))])


def run(p: Diagnose, inputs: dict[str, Path], out: Path, progress: Progress) -> None:
    """Stage *diagnose*; writes ``diagnostics.parquet`` with ``diagnostic`` and ``value``."""
    student, tokenizer = models.load(inputs["student"], inputs["student"])
    source, source_tokenizer = models.load(inputs["source"], inputs["source"])
    if student.dtype == torch.float16:
        student.float()  # gradients overflow float16
    corpus = corpus_texts(inputs["corpus"], p.documents)
    own_corpus = corpus_texts(inputs["own"], p.documents)
    progress(0.1)
    corpus_gradient = gradient(student, packing.read(student, tokenizer, corpus))
    own_gradient = gradient(student, packing.read(student, tokenizer, own_corpus))
    student.zero_grad()
    progress(0.5)
    gap = (
        per_character(student, tokenizer, corpus)
        - per_character(source, source_tokenizer, corpus)
        + per_character(source, source_tokenizer, own_corpus)
        - per_character(student, tokenizer, own_corpus)
    )
    progress(0.7)
    values = {
        "gradient_cosine": torch.cosine_similarity(corpus_gradient, own_gradient, dim=0).item(),
        "perplexity_gap": gap,
        "tokenizer_overlap": overlap(source_tokenizer, tokenizer, corpus),
        "representation_cka": linear_cka(
            states(student, tokenizer, corpus), states(source, source_tokenizer, corpus)
        ),
        "ngram_divergence": bigram_divergence(corpus, own_corpus),
        "own_loss_slope": (corpus_gradient @ own_gradient / corpus_gradient.norm()).item(),
    }
    frame = pd.DataFrame({"diagnostic": list(values), "value": list(values.values())})
    frame.to_parquet(out / "diagnostics.parquet", index=False)
    progress(1.0)
