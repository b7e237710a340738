"""Extraction: one forward pass must say what greedy decoding says."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import PreTrainedModel

from nbutils.config.schema import MeasureExtraction
from nbutils.protocol import measure_extraction, models
from nbutils.protocol.measure_extraction import matched
from support import tiny

PREFIX, SUFFIX = 6, 8
CHANGED = (None, 0, 3, 7, 1)


@torch.no_grad()
def greedy(model: PreTrainedModel, prefix: np.ndarray) -> np.ndarray:
    """The continuation of a prefix by transformers' own greedy decoding."""
    start = torch.tensor([[*prefix]])
    found = model.generate(
        start,
        attention_mask=torch.ones_like(start),
        max_new_tokens=SUFFIX,
        min_new_tokens=SUFFIX,
        do_sample=False,
        pad_token_id=1,
    )
    return found[0, PREFIX:].numpy()


def leading(a: np.ndarray, b: np.ndarray) -> int:
    """Tokens before the first difference."""
    count = 0
    for one, two in zip(a, b, strict=True):
        if one != two:
            break
        count += 1
    return count


def texts(model: PreTrainedModel) -> tuple[np.ndarray, np.ndarray]:
    """Prefixes, and greedy suffixes with one token changed at a known place or nowhere."""
    prefixes = np.random.default_rng(0).integers(2, tiny.VOCABULARY, (len(CHANGED), PREFIX))
    suffixes = np.stack([greedy(model, prefix) for prefix in prefixes])
    for row, place in enumerate(CHANGED):
        if place is not None:
            suffixes[row, place] = 2 + (suffixes[row, place] + 1) % 300
    return prefixes, suffixes


def test_matched_is_the_leading_match_of_greedy_decoding(model: PreTrainedModel) -> None:
    prefixes, suffixes = texts(model)
    found = matched(model, prefixes, suffixes)
    assert found.tolist() == [8, 0, 3, 7, 1]
    expected = [leading(greedy(model, p), s) for p, s in zip(prefixes, suffixes, strict=True)]
    assert found.tolist() == expected


def test_a_prompt_may_begin_with_bos(model: PreTrainedModel) -> None:
    """Greedy decoding from BOS and the prefix; without it the model goes on otherwise."""
    prefixes, _ = texts(model)
    bos = tiny.tokenizer().bos_token_id
    suffixes = np.stack([greedy(model, np.array([bos, *p]))[1:] for p in prefixes])
    assert matched(model, prefixes, suffixes, bos).tolist() == [SUFFIX] * len(prefixes)
    assert matched(model, prefixes, suffixes).min() < SUFFIX


def test_a_match_behind_a_miss_does_not_count(model: PreTrainedModel) -> None:
    """After a changed token the model may well agree with itself again."""
    prefix = np.random.default_rng(1).integers(2, tiny.VOCABULARY, (1, PREFIX))
    first = 2 + (greedy(model, prefix[0])[0] + 1) % 300
    whole = [*prefix[0], first]
    with torch.no_grad():
        while len(whole) < PREFIX + SUFFIX:
            logits = model(input_ids=torch.tensor([[0, *whole]])).logits[0, -1]
            whole.append(int(logits.argmax()))
    assert matched(model, prefix, np.array([whole[PREFIX:]])).tolist() == [0]


@pytest.fixture
def passages(folders: dict[str, Path]) -> pd.DataFrame:
    model, _ = models.load(folders["llama"], folders["llama"])
    prefixes, suffixes = texts(model)
    return pd.DataFrame(
        {
            "passage": range(len(CHANGED)),
            "split": ["dev", "held_out", "held_out", "held_out", "held_out"],
            "prefix": list(prefixes),
            "suffix": list(suffixes),
        }
    )


def test_measure_calls_exact_only_what_matches_to_the_end(
    folders: dict[str, Path], passages: pd.DataFrame, tmp_path: Path
) -> None:
    base = tiny.save("llama", tmp_path / "base")
    passages.to_parquet(base / "passages.parquet")
    inputs = {"model": folders["llama"], "base": base}
    measure_extraction.run(MeasureExtraction(), inputs, tmp_path, tiny.silent)
    found = pd.read_parquet(tmp_path / "extraction.parquet")
    assert list(found.matched_tokens) == [8, 0, 3, 7, 1]
    assert list(found.suffix_tokens) == [8] * 5
    assert list(found.exact) == [True, False, False, False, False]
    assert list(found.split) == list(passages.split)
    assert list(found.passage) == list(range(5))
