"""Extraction: which planted passages does greedy decoding reproduce exactly?"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nbutils.config.schema import MeasureExtraction
from nbutils.protocol import forward, models
from nbutils.runs.types import Progress


@torch.inference_mode()
def matched(
    model: PreTrainedModel, prefixes: np.ndarray, suffixes: np.ndarray, bos: int | None = None
) -> np.ndarray:
    """Leading suffix tokens that greedy decoding from the prefix reproduces.

    The prompt is the prefix alone, as in the evaluation of Pythia's memorization (Biderman et al.,
    2023), whose training sequences began anywhere in a document. With ``bos`` that token comes
    first, for models whose every training sequence began with it.

    Greedy decoding follows the true suffix exactly as long as the most likely next token, given
    the true text so far, is the true one. So one forward pass over the whole passage shows where
    the two diverge, and no token has to be generated.

    Args:
        model: Any causal language model.
        prefixes: Token ids, shape ``[passages, prefix]``.
        suffixes: Token ids, shape ``[passages, suffix]``.
        bos: Id of the token that begins every prompt, if one does.

    Returns:
        Counts from 0 to ``suffix``, shape ``[passages]``.
    """
    begin = np.full((len(prefixes), 0 if bos is None else 1), bos or 0)
    start = begin.shape[1] + prefixes.shape[1]  # the logits before it predict the first token
    counts = []
    for ids in torch.from_numpy(np.hstack([begin, prefixes, suffixes])).split(ROWS):
        logits = forward.logits(model, ids.to(model.device)).cpu()
        correct = logits[:, start - 1 : -1].argmax(dim=-1) == ids[:, start:]
        counts.append(correct.long().cumprod(dim=1).sum(dim=1))
    return torch.cat(counts).numpy()


def rows(model: PreTrainedModel, passages: pd.DataFrame, bos: int | None = None) -> pd.DataFrame:
    """Extraction, one row per passage.

    Columns: ``passage``, ``split`` (``dev`` or ``held_out``), ``matched_tokens``, ``suffix_tokens``
    and ``exact`` (whether the whole suffix is reproduced).
    """
    prefixes, suffixes = np.vstack(list(passages.prefix)), np.vstack(list(passages.suffix))
    counts = matched(model, prefixes, suffixes, bos)
    return passages[["passage", "split"]].assign(
        matched_tokens=counts,
        suffix_tokens=suffixes.shape[1],
        exact=counts == suffixes.shape[1],
    )


# --- Supporting code -------------------------------------------------------------------------


ROWS = 32  # passages per batch: the logits of a large vocabulary need much memory


def begins_with(folder: Path, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Id of the token that begins every prompt, by the BOS policy of a model folder, or None."""
    return tokenizer.bos_token_id if models.bos_policy(folder).extraction else None


def run(p: MeasureExtraction, inputs: dict[str, Path], out: Path, progress: Progress) -> None:
    """Stage *measure extraction*; writes ``extraction.parquet`` (see ``rows``).

    The passages are those of the untouched student, ``inputs["base"]``.
    """
    model, tokenizer = models.load(inputs["model"], inputs["base"])
    passages = pd.read_parquet(inputs["base"] / "passages.parquet")
    table = rows(model, passages, begins_with(inputs["base"], tokenizer))
    table.to_parquet(out / "extraction.parquet", index=False)
    progress(1.0)
