"""Extraction: which planted passages does greedy decoding reproduce exactly?"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedModel

from nbutils import models
from nbutils.params import MeasureExtraction
from nbutils.runs import Progress

ROWS = 32  # passages at once: the logits of a large vocabulary take room


@torch.inference_mode()
def matched(model: PreTrainedModel, prefixes: np.ndarray, suffixes: np.ndarray) -> np.ndarray:
    """Leading suffix tokens that greedy decoding from the prefix reproduces.

    The prompt is the prefix alone, without BOS, as in the evaluation of Pythia's memorization
    (Biderman et al., 2023): the model has read the passage inside documents.

    Greedy decoding follows the true suffix exactly as long as the most likely next token, given
    the true text so far, is the true one; so one forward pass over the whole passage tells where
    the two part, at the price of one token a passage.

    Args:
        model: Any causal language model.
        prefixes: Token ids, shape ``[passages, prefix]``.
        suffixes: Token ids, shape ``[passages, suffix]``.

    Returns:
        Counts from 0 to ``suffix``, shape ``[passages]``.
    """
    start = prefixes.shape[1]  # the logits before it predict the suffix's first token
    counts = []
    for ids in torch.from_numpy(np.hstack([prefixes, suffixes])).split(ROWS):
        logits = model(input_ids=ids.to(model.device), use_cache=False).logits.cpu()
        right = logits[:, start - 1 : -1].argmax(dim=-1) == ids[:, start:]
        counts.append(right.long().cumprod(dim=1).sum(dim=1))
    return torch.cat(counts).numpy()


def rows(model: PreTrainedModel, passages: pd.DataFrame) -> pd.DataFrame:
    """One row a passage: ``passage``, ``split``, ``matched_tokens``, ``suffix_tokens``, ``exact``.

    ``split`` is ``dev`` or ``held_out``.
    """
    prefixes, suffixes = np.vstack(list(passages.prefix)), np.vstack(list(passages.suffix))
    counts = matched(model, prefixes, suffixes)
    return passages[["passage", "split"]].assign(
        matched_tokens=counts,
        suffix_tokens=suffixes.shape[1],
        exact=counts == suffixes.shape[1],
    )


def measure(p: MeasureExtraction, inputs: dict[str, Path], out: Path, progress: Progress) -> None:
    """Stage *measure extraction*; writes ``extraction.parquet`` (see ``rows``).

    Passages are those of the untouched student, ``inputs["base"]``.
    """
    model, _ = models.load(inputs["model"], inputs["base"])
    passages = pd.read_parquet(inputs["base"] / "passages.parquet")
    found = rows(model, passages)
    found.to_parquet(out / "extraction.parquet", index=False)
    progress(1.0)
