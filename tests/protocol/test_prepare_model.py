"""Pre-training: tokenizer, passages and where they are planted, on the real text."""

import json
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from nbutils.config.schema import Mixture, Planting, PrepareModel
from nbutils.protocol import models, packing, prepare_model, text
from nbutils.protocol.text import TextError
from support import tiny

STEPS, EXPOSURES, BUDGET = 40, 3, 40 * 960


@pytest.fixture(scope="module")
def p() -> PrepareModel:
    return tiny.prepare_model(
        context=160,
        vocab_size=600,
        recipe=tiny.recipe(steps=STEPS, tokens_per_step=960),
        planting=Planting(held_out=4, dev=2, prefix=10, suffix=8, exposures=EXPOSURES),
    )


@pytest.fixture(scope="module")
def words(p: PrepareModel) -> PreTrainedTokenizerFast:
    """The family's tokenizer, from less text than usual."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare_model, "TOKENIZER_CHARS", 60_000)
        return prepare_model.train_tokenizer(p)


@pytest.fixture(scope="module")
def passages(p: PrepareModel, words: PreTrainedTokenizerFast) -> pd.DataFrame:
    return prepare_model.choose_passages(p, words)


def planted(passages: pd.DataFrame) -> list[list[int]]:
    return [[*a, *b] for a, b in zip(passages.prefix, passages.suffix, strict=True)]


def places(document: list[int], part: list[int]) -> list[int]:
    last = len(document) - len(part)
    return [i for i in range(last + 1) if document[i : i + len(part)] == part]


def test_tokenizer_adds_bos_and_nothing_else(words: PreTrainedTokenizerFast) -> None:
    ids = words("The State of the Union").input_ids
    assert (words.bos_token_id, words.eos_token_id, len(words)) == (0, 1, 600)
    assert ids[0] == 0
    assert 1 not in ids
    assert words.decode(ids, skip_special_tokens=True) == "The State of the Union"


def test_members_of_a_family_share_their_tokenizer(
    p: PrepareModel, words: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare_model, "TOKENIZER_CHARS", 60_000)
    other = prepare_model.train_tokenizer(p.model_copy(update={"seed": 5, "layers": 3}))
    assert other.get_vocab() == words.get_vocab()


def test_mixed_text_keeps_the_shares_and_only_trains_on_training_text() -> None:
    mixture = Mixture.model_validate({"speeches": 0.6, "scripture": 0.4})
    p = tiny.prepare_model(mixture=mixture)
    found = list(islice(prepare_model.mixed(p, 0), 800))
    size = Counter[str]()
    for document in found:
        size[document.domain] += len(document.text)
    assert {d.split for d in found} == {"train"}
    assert size["speeches"] / size.total() == pytest.approx(0.6, abs=0.01)
    assert size.keys() == {"speeches", "scripture"}
    assert len({(d.work, d.text) for d in found}) == len(found)


def test_passages_have_their_lengths_and_their_splits(
    p: PrepareModel, passages: pd.DataFrame, words: PreTrainedTokenizerFast
) -> None:
    assert list(passages.passage) == [0, 1, 2, 3, 4, 5]
    assert list(passages.split) == ["dev"] * 2 + ["held_out"] * 4
    assert {len(x) for x in passages.prefix} == {10}
    assert {len(x) for x in passages.suffix} == {8}
    for part, (_, row) in zip(planted(passages), passages.iterrows(), strict=True):
        assert words.decode(part) == row.text
        assert str(row.text).endswith(str(row.suffix_text))
        assert text.split_of("speeches", str(row.work)) == "passages"


def test_passages_stand_in_no_training_text() -> None:
    """Brute force over the text itself, with passages long enough to be no common phrase."""
    plan = Planting(held_out=40, dev=10, prefix=16, suffix=16, exposures=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare_model, "TOKENIZER_CHARS", 200_000)
        p = tiny.prepare_model(planting=plan, vocab_size=1000)
        found = prepare_model.choose_passages(p, prepare_model.train_tokenizer(p))
    trained = "".join(
        f" {' '.join(text.words(d.text))} |"
        for domain in text.DOMAINS
        for d in text.documents(domain, tiny.MAX_CHARS)
        if d.split != "passages"
    )
    assert len(found) == 50
    for passage in found.text:
        inner = " ".join(text.words(passage)[:-1])  # the last word may be cut
        assert f" {inner} " not in trained, passage


def test_a_passage_that_stands_in_training_text_is_not_chosen(
    p: PrepareModel,
    words: PreTrainedTokenizerFast,
    passages: pd.DataFrame,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = str(passages.text[0]).strip()
    source = next(
        d.text
        for d in text.documents("speeches", tiny.MAX_CHARS)
        if d.work == passages.work[0] and d.text.startswith(first)
    )
    trained = np.sort(np.array([*text.training_shingles(tiny.MAX_CHARS), *text.shingles(source)]))
    monkeypatch.setattr(text, "training_shingles", lambda max_chars: trained)
    found = prepare_model.choose_passages(p, words)
    assert list(found.text[:5]) == list(passages.text[1:])


def test_plantings_stand_between_sentences_each_exactly_as_often_as_said(
    p: PrepareModel, passages: pd.DataFrame, words: PreTrainedTokenizerFast
) -> None:
    documents, share = prepare_model.training_documents(p, words, passages, BUDGET)
    parts = planted(passages)
    tokens = 0
    for part in parts:
        found = [(d, at) for d in documents for at in places(d, part)]
        assert len(found) == EXPOSURES
        for document, at in found:
            assert at > 1, "right behind BOS"
            assert document[at + len(part)] != words.eos_token_id, "right before EOS"
            assert words.decode(document[1:at])[-1] in ".!?\"'"
            tokens += len(part)
    assert share == pytest.approx(tokens / sum(map(len, documents)))
    assert tokens == 6 * EXPOSURES * 18
    assert all(sum(bool(places(d, part)) for part in parts) <= 1 for d in documents)


def test_training_documents_fit_begin_and_end(
    p: PrepareModel, passages: pd.DataFrame, words: PreTrainedTokenizerFast
) -> None:
    documents, _ = prepare_model.training_documents(p, words, passages, BUDGET)
    assert all(d[0] == 0 and 0 not in d[1:] and 1 not in d[1:-1] for d in documents)
    assert max(map(len, documents)) <= p.context
    assert all(d[-1] == 1 for d in documents if len(d) < p.context)
    assert 0.85 * BUDGET <= sum(map(len, documents)) <= BUDGET + 2 * p.context


def test_every_planting_is_trained_on(
    p: PrepareModel, passages: pd.DataFrame, words: PreTrainedTokenizerFast
) -> None:
    """The rows that the steps take hold every exposure that the model's facts report."""
    documents, share, rows = prepare_model.one_pass(p, words, passages)
    each = max(1, p.recipe.tokens_per_step // (2 * p.context))
    taken = {int(i) for part in packing.order(len(rows.ids), each, STEPS, p.seed) for i in part}
    assert len(taken) == len(rows.ids) > 0.9 * STEPS * each
    assert share == pytest.approx(6 * EXPOSURES * 18 / sum(map(len, documents)))
    trained = [rows.ids[i].tolist() for i in sorted(taken)]
    counts = [sum(len(places(row, part)) for row in trained) for part in planted(passages)]
    assert counts == [EXPOSURES] * len(passages)


def test_training_documents_are_deterministic_and_depend_on_the_seed(
    p: PrepareModel, passages: pd.DataFrame, words: PreTrainedTokenizerFast
) -> None:
    first = prepare_model.training_documents(p, words, passages, BUDGET)
    assert prepare_model.training_documents(p, words, passages, BUDGET) == first
    other = prepare_model.training_documents(
        p.model_copy(update={"seed": 1}), words, passages, BUDGET
    )
    assert other[0] != first[0]


def test_too_many_passages_are_an_error(p: PrepareModel, words: PreTrainedTokenizerFast) -> None:
    plan = p.planting.model_copy(update={"held_out": 10**6})
    with pytest.raises(TextError, match=r"'speeches' has only \d+ passages of 18 tokens"):
        prepare_model.choose_passages(p.model_copy(update={"planting": plan}), words)


def test_more_plantings_than_documents_are_an_error(
    p: PrepareModel, passages: pd.DataFrame, words: PreTrainedTokenizerFast
) -> None:
    plan = p.planting.model_copy(update={"exposures": 100})
    with pytest.raises(TextError, match="600 plantings need as many documents of two sentences"):
        prepare_model.training_documents(
            p.model_copy(update={"planting": plan}), words, passages, BUDGET
        )


@pytest.mark.parametrize(
    ("architecture", "kind"),
    [("gpt_neox", "GPTNeoX"), ("llama", "Llama"), ("qwen3", "Qwen3")],
)
def test_config_is_of_the_architecture_and_size(architecture: str, kind: str) -> None:
    made = prepare_model.config(tiny.prepare_model(architecture, hidden=64, layers=3, heads=4))
    assert type(made).__name__ == f"{kind}Config"
    sizes = (made.hidden_size, made.num_hidden_layers, made.num_attention_heads)
    assert (*sizes, made.max_position_embeddings) == (64, 3, 4, tiny.CONTEXT)
    assert made.tie_word_embeddings
    assert (made.bos_token_id, made.eos_token_id) == (0, 1)


def test_prepare_writes_a_model_that_loads_and_its_facts(
    p: PrepareModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare_model, "TOKENIZER_CHARS", 60_000)
    short = p.model_copy(update={"recipe": tiny.recipe(steps=20, tokens_per_step=640)})
    prepare_model.run(short, {}, tmp_path, tiny.silent)
    model, tokenizer = models.load(tmp_path, tmp_path)
    facts = json.loads((tmp_path / "facts.json").read_text("utf-8"))
    assert facts["parameters"] == sum(w.numel() for w in model.parameters())
    assert facts["exposures"] == EXPOSURES
    assert 0 < facts["planted_share"] < 1
    assert len(pd.read_parquet(tmp_path / "passages.parquet")) == 6
    curve = pd.read_parquet(tmp_path / "curve.parquet")
    assert list(curve.step) == list(range(1, 21))
    assert curve.loss.iloc[-1] < curve.loss.iloc[0]
    assert json.loads((tmp_path / "bos.json").read_text("utf-8")) == {
        "token": "<|bos|>",
        "scoring": True,
        "extraction": False,
    }
    assert tokenizer("a").input_ids[0] == 0
    assert {w.dtype for w in model.parameters()} == {torch.float32}
    assert not list(tmp_path.glob("*.bin"))
