"""Sampling: what is drawn, how likely it was, and when it stops."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from scipy import stats as scipy_stats
from tokenizers import AddedToken
from torch.nn.functional import log_softmax, softmax
from transformers import PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from nbutils.config.schema import SampleCorpus
from nbutils.protocol import models, proofs, sample_corpus
from nbutils.protocol.forward import Shortcuts
from nbutils.protocol.sample_corpus import SamplingError, sample_batch
from support import tiny

BOS, EOS = 0, 1


def numbers(rows: int, length: int, seed: int = 0) -> torch.Tensor:
    return sample_corpus.random_numbers(seed, range(rows), length)


def parameters(**changes: float) -> SampleCorpus:
    values = {"temperature": 1.0, "tokens": 200, "max_tokens": 20, "batch_size": 8, "seed": 0}
    return SampleCorpus.model_validate(values | changes)


@torch.no_grad()
def teacher_forced(model: PreTrainedModel, ids: list[int]) -> float:
    table = log_softmax(model(input_ids=torch.tensor([[BOS, *ids]])).logits[0], dim=-1)
    return sum(table[i, token].item() for i, token in enumerate(ids))


@torch.no_grad()
def test_a_low_temperature_follows_the_likeliest_path(model: PreTrainedModel) -> None:
    path = [BOS]
    for _ in range(12):
        token = int(model(input_ids=torch.tensor([path])).logits[0, -1].argmax())
        path.append(token)
        if token == EOS:
            break
    found = sample_batch(model, BOS, EOS, 1e-5, numbers(3, 12))
    assert [ids for ids, _ in found] == [path[1:]] * 3


def test_log_probabilities_are_those_of_teacher_forcing_though_rows_leave(
    model: PreTrainedModel,
) -> None:
    """Rows end at different times and leave the batch; the others must not notice."""
    found = sample_batch(tiny.ending(model), BOS, EOS, 1.3, numbers(24, 15))
    lengths = {len(ids) for ids, _ in found}
    assert len(lengths) >= 4
    assert min(lengths) < 15
    for ids, log_prob in found:
        assert log_prob == pytest.approx(teacher_forced(model, ids), abs=1e-4 * len(ids))
        assert EOS not in ids[:-1]
        assert ids[-1] == EOS or len(ids) == 15


@pytest.mark.parametrize("temperature", [0.7, 1.0, 2.0])
def test_the_first_token_follows_the_softmax(temperature: float) -> None:
    model = tiny.model("llama")
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[BOS]])).logits[0, -1].double()
    expected = softmax(logits / temperature, dim=-1).numpy()
    number = 20_000
    found = sample_batch(model, BOS, EOS, temperature, numbers(number, 1))
    counts = np.bincount([ids[0] for ids, _ in found], minlength=len(expected))
    common = expected * number >= 10
    observed = np.append(counts[common], counts[~common].sum())
    wanted = np.append(expected[common], expected[~common].sum()) * number
    kept = wanted >= 5
    assert kept[:-1].sum() >= 5
    observed, wanted = observed[kept], wanted[kept]
    assert observed.sum() >= number - 20
    p_value = scipy_stats.chisquare(observed, wanted * observed.sum() / wanted.sum()).pvalue
    assert p_value > 1e-3


@torch.inference_mode()
def generated(model: PreTrainedModel, rows: int, length: int) -> list[list[int]]:
    """Documents as transformers samples them from BOS, cut behind EOS."""
    prompt = torch.full((rows, 1), BOS)
    torch.manual_seed(1)
    out = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=True,
        top_k=0,
        max_new_tokens=length,
        eos_token_id=EOS,
        pad_token_id=EOS,
    )[:, 1:].tolist()
    return [row[: row.index(EOS) + 1] if EOS in row else row for row in out]


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_every_position_holds_the_tokens_that_generate_writes(architecture: str) -> None:
    """Counts of tokens, position by position, over many documents: chi-square of two samples.

    Rows leave our batch as their documents end; EOS counts as a token, what follows it does not.
    """
    model, rows, length = tiny.ending(tiny.model(architecture)), 8_000, 8
    ours = [ids for ids, _ in sample_batch(model, BOS, EOS, 1.0, numbers(rows, length))]
    theirs = generated(model, rows, length)
    p_values = []
    for at in range(length):
        counts = np.stack([
            np.bincount([d[at] for d in found if len(d) > at], minlength=tiny.VOCABULARY)
            for found in (ours, theirs)
        ])  # fmt: skip
        common = counts.sum(axis=0) >= 20
        table = np.column_stack([counts[:, common], counts[:, ~common].sum(axis=1)])
        table = table[:, table.sum(axis=0) > 0]
        assert table.shape[1] > 5
        p_values.append(scipy_stats.chi2_contingency(table).pvalue)
    assert min(p_values) > 1e-3 / length


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
def test_a_draw_is_that_of_the_softmax_tile_by_tile(temperature: float) -> None:
    """150 tokens are two tiles and a part; some have no probability, some nearly none."""
    logits = 3 * torch.randn(150, generator=torch.Generator().manual_seed(5))
    logits[[0, 63, 64, 149]] = -torch.inf
    logits[70] = -40.0
    rows = logits.expand(60_000, -1)
    tokens, log_probs = sample_corpus.draw(rows, temperature, numbers(len(rows), 1)[:, 0])
    counts = torch.bincount(tokens, minlength=150).double().numpy()
    expected = softmax(logits.double() / temperature, dim=-1).numpy() * len(rows)
    assert counts[expected == 0].sum() == 0
    kept = expected >= 5
    observed = np.append(counts[kept], counts[~kept].sum())
    wanted = np.append(expected[kept], expected[~kept].sum())
    assert scipy_stats.chisquare(observed, wanted).pvalue > 1e-3
    torch.testing.assert_close(
        log_probs, logits.log_softmax(-1)[tokens].double(), rtol=0, atol=1e-5
    )


def test_a_number_says_where_in_the_distribution_a_draw_falls() -> None:
    """Of a half and two quarters, in one tile and in two."""
    given = torch.tensor([0.0, 0.49, 0.51, 0.74, 0.76, 1 - 1e-9], dtype=torch.float64)
    logits = torch.tensor([0.5, 0.25, 0.25]).log().repeat(len(given), 1)
    tokens, log_probs = sample_corpus.draw(logits, 1.0, given)
    assert tokens.tolist() == [0, 0, 1, 1, 2, 2]
    torch.testing.assert_close(log_probs, logits[0, tokens].double())
    wide = torch.full((len(given), 3 + sample_corpus.TILE), -torch.inf)
    wide[:, :2], wide[:, -1] = logits[:, :2], logits[:, 2]
    last = wide.shape[1] - 1
    assert sample_corpus.draw(wide, 1.0, given)[0].tolist() == [0, 0, 1, 1, last, last]


def test_a_document_does_not_depend_on_its_batch(model: PreTrainedModel) -> None:
    """Nor on how many others have left it: its numbers are its own."""
    ending, drawn = tiny.ending(model), numbers(24, 15)
    together = sample_batch(ending, BOS, EOS, 1.0, drawn)
    alone = [sample_batch(ending, BOS, EOS, 1.0, drawn[i : i + 1])[0] for i in range(24)]
    assert [ids for ids, _ in together] == [ids for ids, _ in alone]


def test_the_numbers_of_a_document_are_a_stream_of_its_own() -> None:
    whole = numbers(50, 9, seed=7)
    assert torch.equal(whole[20:], sample_corpus.random_numbers(7, range(20, 50), 9))
    assert torch.equal(whole[:, :4], numbers(50, 4, seed=7))
    assert whole.unique().numel() == whole.numel()
    assert not torch.isin(whole, numbers(50, 9, seed=8)).any()
    assert scipy_stats.kstest(numbers(400, 25).flatten(), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("batch_size", [3, 8, 64])
def test_the_size_of_a_batch_changes_no_corpus(model: PreTrainedModel, batch_size: int) -> None:
    ending, p = tiny.ending(model), parameters(tokens=150, batch_size=batch_size)
    one_by_one = parameters(tokens=150, batch_size=1)
    found, expected = (
        [ids for ids, _ in sample_corpus.documents(ending, tiny.tokenizer(), given)]
        for given in (p, one_by_one)
    )
    assert found == expected


def test_the_last_batch_is_as_large_as_the_budget_needs() -> None:
    p = parameters(tokens=1000, batch_size=64)
    assert sample_corpus.rows_needed(p, 0, 0) == 64
    assert sample_corpus.rows_needed(p, 64, 320) == 64  # five tokens per document: 136 are left
    assert sample_corpus.rows_needed(p, 128, 900) == 16


@pytest.mark.parametrize("likely", [0, 64, 100])
def test_a_certain_token_is_always_drawn(likely: int) -> None:
    logits = torch.full((5_000, 101), -torch.inf)
    logits[:, likely] = 2.0
    tokens, log_probs = sample_corpus.draw(logits, 1.0, numbers(len(logits), 1)[:, 0])
    assert set(tokens.tolist()) == {likely}
    assert log_probs.abs().max() < 1e-6


def test_sampling_is_deterministic_by_its_seed() -> None:
    model = tiny.model("qwen3")
    one, same, other = (sample_batch(model, BOS, EOS, 1.0, numbers(5, 8, s)) for s in (3, 3, 4))
    assert one == same
    assert one != other


def test_documents_stop_at_the_budget() -> None:
    model = tiny.ending(tiny.model("llama"))
    drawn = sample_corpus.documents(model, tiny.tokenizer(), parameters(tokens=100))
    found = [len(ids) for ids, _ in drawn]
    assert sum(found) >= 100
    assert sum(found[:-1]) < 100
    assert len(found) > 5


def test_sample_writes_one_row_a_document(folders: dict[str, Path], tmp_path: Path) -> None:
    shares: list[float] = []
    folder = folders["gpt_neox"]
    sample_corpus.run(parameters(tokens=300), {"source": folder}, tmp_path, shares.append)
    corpus = pd.read_parquet(tmp_path / "corpus.parquet")
    model, tokenizer = models.load(folder, folder)
    drawn = list(sample_corpus.documents(model, tokenizer, parameters(tokens=300)))
    assert list(corpus.columns) == [
        *("doc", "text", "n_tokens", "finished", "mean_log_prob", "read_otherwise")
    ]
    assert list(corpus.doc) == list(range(len(drawn)))
    for row, (ids, log_prob) in zip(corpus.itertuples(), drawn, strict=True):
        assert row.text == tokenizer.decode([i for i in ids if i not in (BOS, EOS)])
        assert row.n_tokens == len(ids)
        assert row.finished == (ids[-1] == EOS)
        assert row.mean_log_prob == pytest.approx(log_prob / len(ids))
        (read,) = models.encode(tokenizer, [str(row.text)], 99)
        ended = ids if row.finished else [*ids, EOS]
        assert (row.read_otherwise == 0) == (read[1:] == ended)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


@pytest.mark.parametrize(
    ("written", "read", "otherwise"),
    [
        ([5, 6, 7, 1], [5, 6, 7, 1], 0),
        ([5, 6, 7, 8, 1], [5, 9, 8, 1], 2),  # 6 and 7 are read as 9
        ([5, 1], [6, 7, 1], 1),
        ([5, 6, 1], [1], 2),
        ([5, 6, 7, 8, 9, 1], [5, 2, 7, 3, 9, 1], 2),  # 6 and 8; 7 is read as it was written
    ],
)
def test_tokens_that_are_read_otherwise_are_counted(
    written: list[int], read: list[int], otherwise: int
) -> None:
    assert sample_corpus.read_otherwise(written, read) == otherwise


def test_ids_without_text_are_never_drawn(tmp_path: Path) -> None:
    """Padded rows, and special tokens but for EOS; the others keep their proportions."""
    tokenizer = tiny.tokenizer()
    tokenizer.add_tokens([AddedToken("<|reserved|>", special=True), AddedToken("<tool>")])
    (tmp_path / "model").mkdir()
    models.save(tiny.model("qwen3", vocab_size=tiny.VOCABULARY + 64), tokenizer, tmp_path / "model")
    model, tokenizer = models.load(tmp_path / "model", tmp_path / "model")
    never = sample_corpus.textless(tokenizer, models.embedding_rows(model))
    reserved = tokenizer.convert_tokens_to_ids("<|reserved|>")
    assert never.tolist() == [BOS, reserved, *range(len(tokenizer), tiny.VOCABULARY + 64)]
    may = set(range(tiny.VOCABULARY + 64)) - set(never.tolist()) - {EOS}
    assert all(tokenizer.decode([i], skip_special_tokens=True) for i in may)
    drawn = list(sample_corpus.documents(model, tokenizer, parameters(tokens=2000)))
    assert {i for ids, _ in drawn for i in ids}.isdisjoint(never.tolist())
    for ids, log_prob in drawn[:8]:
        logits = model(input_ids=torch.tensor([[BOS, *ids[:-1]]])).logits[0].detach()
        logits[:, never] = -torch.inf
        chances = logits.log_softmax(-1)[torch.arange(len(ids)), torch.tensor(ids)]
        assert log_prob == pytest.approx(chances.sum().item(), abs=1e-3)


class Constant:
    """Stands in for a source that finds one token likeliest, whatever came before."""

    device = torch.device("cpu")
    dtype = torch.float32

    def __init__(self, logits: torch.Tensor) -> None:
        self.logits = logits
        self.config = tiny.model("llama").config
        proofs.note(Shortcuts(memory="past_key_values"), self)

    def to(self, device: torch.device) -> "Constant":
        return self

    def forward(
        self, input_ids: torch.Tensor, past_key_values: Any = None, use_cache: bool = True
    ) -> CausalLMOutputWithPast:
        logits = self.logits.repeat(*input_ids.shape, 1)
        return CausalLMOutputWithPast(logits=logits, past_key_values=past_key_values)

    __call__ = forward

    def get_input_embeddings(self) -> torch.nn.Embedding:
        return torch.nn.Embedding(tiny.VOCABULARY, 1)


def stand_in(monkeypatch: pytest.MonkeyPatch, logits: torch.Tensor) -> None:
    loaded = (Constant(logits), tiny.tokenizer())
    monkeypatch.setattr(models, "load", lambda *_: loaded)


def test_finished_says_whether_eos_was_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = torch.full((tiny.VOCABULARY,), -1e4)
    logits[[EOS, 70]] = 0.0
    stand_in(monkeypatch, logits)
    sample_corpus.run(parameters(max_tokens=2, tokens=400), {"source": tmp_path}, tmp_path, print)
    corpus = pd.read_parquet(tmp_path / "corpus.parquet")
    assert set(zip(corpus.n_tokens, corpus.finished, strict=True)) == {
        (1, True), (2, True), (2, False)}  # fmt: skip
    assert corpus.finished.mean() == pytest.approx(0.75, abs=0.1)
    np.testing.assert_allclose(corpus.mean_log_prob, np.log(0.5), rtol=1e-5)
    assert corpus.n_tokens.sum() in (400, 401)


def test_a_source_that_writes_nothing_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = torch.full((tiny.VOCABULARY,), -1e4)
    logits[EOS] = 0.0
    stand_in(monkeypatch, logits)
    with pytest.raises(SamplingError, match="wrote 20 documents and none holds text"):
        sample_corpus.run(parameters(tokens=20), {"source": tmp_path}, tmp_path, tiny.silent)
    assert list(tmp_path.iterdir()) == []


def test_damaged_weights_are_an_error(model: PreTrainedModel) -> None:
    with torch.no_grad():
        next(model.parameters())[:] = float("nan")
    with pytest.raises(SamplingError, match="logits are not finite"):
        sample_batch(model, BOS, EOS, 1.0, numbers(2, 4))


@pytest.mark.parametrize("temperature", [5.0, 0.01, 1e-6, 1e-38, 1e-300])
def test_whatever_temperature_the_schema_lets_through_can_be_sampled_at(temperature: float) -> None:
    try:
        p = parameters(temperature=temperature)
    except ValidationError:
        assert temperature < 0.01
        return
    (found,) = sample_batch(tiny.model("llama"), BOS, EOS, p.temperature, numbers(1, 4))
    assert len(found[0]) in range(1, 5)
