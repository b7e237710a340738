"""Compatibility diagnostics: scores of (corpus, student) that never look at a benchmark.

=================== ======================================================================
diagnostic          what it compares
=================== ======================================================================
gradient_cosine     the student's gradient on the corpus and on its own corpus (as in
                    Yu et al., 2020, who compare the gradients of tasks)
perplexity_gap      how much worse student and source predict each other's text than their
                    own, nats a character, both ways summed (Jeffreys, 1946)
tokenizer_overlap   share of the corpus' source tokens that the student has as well
representation_cka  linear CKA of the two models' mean hidden states on the corpus
                    (Kornblith et al., 2019)
ngram_divergence    Jensen-Shannon divergence of the word bigrams of the corpus and of the
                    student's own corpus (Lin, 1991), nats
own_loss_slope      how fast the loss on the student's own corpus falls along the
                    corpus' gradient, nats a unit of weight change
=================== ======================================================================

The student's own corpus is one of another seed, so that the self pairing is no tautology.
"""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.spatial.distance import jensenshannon
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nbutils.config.schema import Diagnose
from nbutils.protocol import models, packing, text
from nbutils.protocol.measure_proxies import corpus_texts, mean_log_likelihood
from nbutils.runs.types import Progress


def gradient(model: PreTrainedModel, rows: packing.Packed) -> torch.Tensor:
    """Gradient of the mean loss, every weight in one vector of shape ``[weights]``."""
    model.zero_grad()
    count = int((rows.labels != packing.IGNORED).sum())
    for part in torch.arange(len(rows.ids)).split(packing.rows_at_once(model, rows.ids.shape[1])):
        (packing.loss_sum(model, rows, part) / count).backward()
    # layers may stand on several devices
    return torch.cat([w.grad.flatten().cpu() for w in model.parameters() if w.grad is not None])


def per_character(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: list[str]
) -> float:
    """Negative log-likelihood in nats a character, so that tokenizers can be compared."""
    rows = packing.read(model, tokenizer, texts)
    tokens = int((rows.labels != packing.IGNORED).sum())
    return -mean_log_likelihood(model, rows) * tokens / sum(map(len, texts))


def linear_cka(a: np.ndarray, b: np.ndarray) -> float:
    """Linear centred kernel alignment of two sets of states, ``[n, p]`` and ``[n, q]``; 0 to 1."""
    a, b = a - a.mean(0), b - b.mean(0)
    shared = np.linalg.norm(a.T @ b) ** 2
    return float(shared / (np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b)))


def bigram_divergence(a: list[str], b: list[str]) -> float:
    """Jensen-Shannon divergence of the texts' word bigrams, in nats; 0 to log 2."""
    counts = [Counter(g for t in texts for g in _bigrams(t)) for texts in (a, b)]
    grams = sorted(counts[0] | counts[1])
    p, q = (np.array([c[g] for g in grams], dtype=float) for c in counts)
    return float(jensenshannon(p, q)) ** 2


def _bigrams(document: str) -> list[tuple[str, str]]:
    words = text.words(document)
    return list(pairwise(words))


# --- Around it -------------------------------------------------------------------------------


def overlap(
    source: PreTrainedTokenizerBase, student: PreTrainedTokenizerBase, texts: list[str]
) -> float:
    """Share of the texts' tokens under ``source`` that ``student`` has in its vocabulary."""
    known = student.get_vocab()
    ids = models.token_ids(source, texts)
    pieces = [piece for each in ids for piece in source.convert_ids_to_tokens(each)]
    return sum(p in known for p in pieces) / len(pieces)


@torch.inference_mode()
def states(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: list[str]
) -> np.ndarray:
    """Mean last hidden state of each text, shape ``[texts, hidden]``."""
    limit = models.context(model)
    found = []
    for ids in models.encode(tokenizer, texts, limit):
        inputs = torch.tensor([ids], device=model.device)
        out = model(input_ids=inputs, output_hidden_states=True, use_cache=False)
        found.append(out.hidden_states[-1][0].mean(0).float().cpu().numpy())
    return np.vstack(found)


def run(p: Diagnose, inputs: dict[str, Path], out: Path, progress: Progress) -> None:
    """Stage *diagnose*; writes ``diagnostics.parquet`` with ``diagnostic`` and ``value``."""
    student, tokenizer = models.load(inputs["student"], inputs["student"])
    source, foreign = models.load(inputs["source"], inputs["source"])
    student.to(models.training_precision(student.dtype))  # gradients overflow float16
    corpus = corpus_texts(inputs["corpus"], p.documents)
    own = corpus_texts(inputs["own"], p.documents)
    progress(0.1)
    theirs = gradient(student, packing.read(student, tokenizer, corpus))
    mine = gradient(student, packing.read(student, tokenizer, own))
    student.zero_grad()
    progress(0.5)
    gap = (
        per_character(student, tokenizer, corpus)
        - per_character(source, foreign, corpus)
        + per_character(source, foreign, own)
        - per_character(student, tokenizer, own)
    )
    progress(0.7)
    values = {
        "gradient_cosine": torch.cosine_similarity(theirs, mine, dim=0).item(),
        "perplexity_gap": gap,
        "tokenizer_overlap": overlap(foreign, tokenizer, corpus),
        "representation_cka": linear_cka(
            states(student, tokenizer, corpus), states(source, foreign, corpus)
        ),
        "ngram_divergence": bigram_divergence(corpus, own),
        "own_loss_slope": (theirs @ mine / theirs.norm()).item(),
    }
    frame = pd.DataFrame({"diagnostic": list(values), "value": list(values.values())})
    frame.to_parquet(out / "diagnostics.parquet", index=False)
    progress(1.0)
