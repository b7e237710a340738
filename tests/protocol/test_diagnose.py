"""Diagnostics: by hand where one can, and what must hold for any corpus."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from nbutils.config.schema import Diagnose, MeasureFidelity
from nbutils.protocol import diagnose, measure_proxies, models, packing
from support import tiny

TEXTS = list(tiny.SENTENCES)


def test_bigram_divergence_by_hand() -> None:
    """Half of the mass is shared: (a b) against (a b) and (b c), each half."""
    found = diagnose.bigram_divergence(["a b"], ["a b c"])
    p, q = np.array([1.0, 0.0]), np.array([0.5, 0.5])
    m = (p + q) / 2
    by_hand = (np.log(1 / m[0]) + (q * np.log(q / m)).sum()) / 2
    assert found == pytest.approx(by_hand)
    assert diagnose.bigram_divergence(TEXTS, TEXTS) == 0
    assert diagnose.bigram_divergence(["a b"], ["c d"]) == pytest.approx(np.log(2))


def test_linear_cka_is_blind_to_rotation_and_scale() -> None:
    rng = np.random.default_rng(0)
    states = rng.normal(size=(50, 4))
    rotation = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    assert diagnose.linear_cka(states, 3 * states @ rotation + 1) == pytest.approx(1)
    assert diagnose.linear_cka(states, rng.normal(size=(50, 4))) < 0.3


def test_overlap_by_hand(tokenizer: PreTrainedTokenizerFast) -> None:
    assert diagnose.overlap(tokenizer, tokenizer, TEXTS) == 1

    class Other:
        def get_vocab(self) -> dict[str, int]:
            return {tokenizer.tokenize("The")[0]: 0}

    pieces = [p for t in TEXTS for p in tokenizer.tokenize(t)]
    share = pieces.count(tokenizer.tokenize("The")[0]) / len(pieces)
    assert diagnose.overlap(tokenizer, Other(), TEXTS) == pytest.approx(share)


def test_the_gradient_is_that_of_the_mean_loss(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    rows = packing.read(model, tokenizer, TEXTS)
    found = diagnose.gradient(model, rows)
    model.zero_grad()
    total, count = torch.tensor(0.0), 0
    for each in TEXTS:
        ids = torch.tensor([[0, *tokenizer(each, add_special_tokens=False).input_ids, 1]])
        ids = ids[:, : tiny.CONTEXT]
        total = total + model(input_ids=ids, labels=ids).loss * (ids.shape[1] - 1)
        count += ids.shape[1] - 1
    (total / count).backward()
    expected = torch.cat([w.grad.flatten() for w in model.parameters() if w.grad is not None])
    assert torch.allclose(found, expected, atol=1e-4)


@torch.no_grad()
def test_states_are_those_of_each_text_alone(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In batches of two, of texts of different lengths that do not come in their order."""
    monkeypatch.setattr(packing, "rows_at_once", lambda model, length: 2)
    texts = TEXTS[::-1]
    documents = models.encode(tokenizer, texts, tiny.CONTEXT)
    assert len(documents[0]) > len(documents[1]) > len(documents[2])
    found = diagnose.states(model, tokenizer, texts)
    for ids, state in zip(documents, found, strict=True):
        hidden = model(torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0]
        assert state == pytest.approx(hidden.mean(0).numpy(), abs=1e-4)


def stage(tmp_path: Path, student: Path, source: Path, own: list[str]) -> dict[str, float]:
    for name, texts in (("corpus", TEXTS), ("own", own)):
        (tmp_path / name).mkdir()
        pd.DataFrame({"text": texts}).to_parquet(tmp_path / name / "corpus.parquet")
    inputs = {"corpus": tmp_path / "corpus", "own": tmp_path / "own"}
    inputs |= {"student": student, "source": source}
    diagnose.run(Diagnose(documents=9), inputs, tmp_path, tiny.silent)
    found = pd.read_parquet(tmp_path / "diagnostics.parquet")
    return dict(zip(found.diagnostic, found.value, strict=True))


def test_characters_beyond_the_context_do_not_count(tokenizer: PreTrainedTokenizerFast) -> None:
    """A document that is truncated is as surprising per character as what is read of it."""
    model = tiny.model("llama")
    long = " ".join([*tiny.SENTENCES] * 4)
    (ids,) = models.encode(tokenizer, [long], tiny.CONTEXT)
    assert ids[-1] != tokenizer.eos_token_id
    nats = -model(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
    total = nats[range(len(ids) - 1), ids[1:]].sum().item()
    read = tokenizer.decode(ids[1:])
    assert diagnose.per_character(model, tokenizer, [long]) == pytest.approx(total / len(read))


def test_a_corpus_equal_to_the_own_is_fully_compatible(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    found = stage(tmp_path, folders["llama"], folders["llama"], TEXTS)
    assert found["gradient_cosine"] == pytest.approx(1, abs=1e-5)
    assert found["perplexity_gap"] == pytest.approx(0, abs=1e-6)
    assert found["tokenizer_overlap"] == found["representation_cka"] == pytest.approx(1)
    assert found["ngram_divergence"] == 0
    assert found["own_loss_slope"] > 0


def test_another_model_and_corpus_are_less_compatible(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    found = stage(tmp_path, folders["llama"], folders["gpt_neox"], ["And the street is many."])
    assert found["gradient_cosine"] < 0.99
    assert found["ngram_divergence"] > 0.1
    assert found["representation_cka"] < 1
    assert len(found) >= 5


def test_fidelity_is_the_judges_likelihood(folders: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    pd.DataFrame({"text": [*TEXTS, " "]}).to_parquet(tmp_path / "corpus" / "corpus.parquet")
    inputs = {"corpus": tmp_path / "corpus", "judge": folders["qwen3"]}
    measure_proxies.run_measure_fidelity(
        MeasureFidelity(documents=2), inputs, tmp_path, tiny.silent
    )
    found = pd.read_parquet(tmp_path / "fidelity.parquet").log_likelihood
    assert list(found) == [
        pytest.approx(measure_proxies.log_likelihood(folders["qwen3"], TEXTS[:2]))
    ]
