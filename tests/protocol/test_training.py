"""Training: packing, masking, order, the loop and its optimizers."""

import copy
import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import log_softmax
from transformers import PreTrainedModel

from nbutils.protocol import packing
from nbutils.protocol.muon import Muon
from nbutils.protocol.optimizers import make_optimizers
from nbutils.protocol.packing import (
    IGNORED,
    Packed,
    TrainingError,
    order,
    pack,
    row_length,
    rows_per_step,
)
from nbutils.protocol.training import fit
from support import tiny

DOCUMENTS = [[0, 5, 6, 1], [0, 7, 1], [0, 8, 9, 10, 1], [0, 11, 12, 13, 14, 15, 1], [0, 16]]


def test_pack_on_a_hand_case() -> None:
    """Eight places: the third document does not fit behind the first two, the last one does."""
    packed = pack([[0, 5, 6, 1], [0, 7, 1], [9], [0, 8, 9, 10, 1], [0, 2]], 8, padding=3)
    i = IGNORED
    assert packed.ids.tolist() == [[0, 5, 6, 1, 0, 7, 1, 3], [0, 8, 9, 10, 1, 0, 2, 3]]
    assert packed.positions is not None
    assert packed.positions.tolist() == [[0, 1, 2, 3, 0, 1, 2, 0], [0, 1, 2, 3, 4, 0, 1, 0]]
    assert packed.labels.tolist() == [[5, 6, 1, i, 7, 1, i, i], [8, 9, 10, 1, i, 2, i, i]]


@given(st.lists(st.lists(st.integers(10, 99), min_size=2, max_size=12), min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_every_document_is_packed_once_with_its_own_next_tokens(documents: list[list[int]]) -> None:
    packed = pack(documents, 12, padding=1)
    assert packed.positions is not None
    found = []
    for ids, positions, labels in zip(
        packed.ids.tolist(), packed.positions.tolist(), packed.labels.tolist(), strict=True
    ):
        document: list[int] = []
        for place, token in enumerate(ids):
            if positions[place] == 0:
                document = []
            document.append(token)
            assert positions[place] == len(document) - 1
            if labels[place] != IGNORED:
                assert labels[place] == ids[place + 1]
            elif token != 1:
                found.append(tuple(document))
    assert Counter(found) == Counter(map(tuple, documents))


@pytest.mark.parametrize("documents", [[], [[0]], [[0], []]])
def test_nothing_to_pack_is_an_error(documents: list[list[int]]) -> None:
    with pytest.raises(TrainingError, match="no document with two or more tokens"):
        pack(documents, 8, padding=1)


def test_a_document_longer_than_a_row_is_an_error() -> None:
    with pytest.raises(TrainingError, match="a document of 9 tokens exceeds a row of 8"):
        pack([[0] * 9], 8, padding=1)


@pytest.mark.parametrize(
    ("longest", "tokens", "length"),
    [
        (128, 2048, 256),  # two of the longest documents
        (128, 1024, 256),
        (62, 64, 64),
        (128, 300, 150),  # two rows, not one of 256
        (1024, 4095, 2047),
        (10, None, 20),
    ],
)
def test_a_row_is_a_part_of_a_step(longest: int, tokens: int | None, length: int) -> None:
    assert row_length(longest, tokens) == length


@given(st.integers(1, 1024), st.integers(1, 5000))
def test_the_rows_of_a_step_hold_its_tokens_and_every_document(longest: int, tokens: int) -> None:
    if longest > tokens:
        with pytest.raises(TrainingError, match=f"a document has {longest} tokens and a step"):
            row_length(longest, tokens)
        return
    length = row_length(longest, tokens)
    assert longest <= length <= max(2 * longest, tokens if tokens < 2 * longest else 0)
    packed = Packed(*(torch.zeros(1, length, dtype=torch.int64) for _ in range(3)))
    rows = rows_per_step(packed, tokens)
    assert tokens - rows < rows * length <= tokens


def test_padding_behind_a_document_is_no_token_of_a_step() -> None:
    """Four documents of 5, 2, 5 and 4 tokens, one per row of 5: 16 tokens are four rows."""
    documents = [[0, 5, 6, 7, 1], [0, 1], [0, 5, 6, 7, 1], [0, 5, 6, 1]]
    packed = pack(documents, 99, padding=1, separate=True)
    assert packed.ids.shape == (4, 5)
    assert rows_per_step(packed, 16) == 4


@torch.no_grad()
def test_no_attention_across_documents(model: PreTrainedModel) -> None:
    packed = pack(DOCUMENTS, 24, padding=1)
    assert len(packed.ids) == 1
    row = model(input_ids=packed.ids, position_ids=packed.positions, use_cache=False).logits[0]
    at = 0
    for document in DOCUMENTS:
        alone = model(input_ids=torch.tensor([document]), use_cache=False).logits[0]
        torch.testing.assert_close(row[at : at + len(document)], alone, atol=1e-4, rtol=1e-4)
        at += len(document)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 12), st.integers(0, 3))
def test_order_walks_in_whole_shuffled_passes(rows: int, each: int, steps: int, seed: int) -> None:
    chosen = [index.tolist() for index in order(rows, each, steps, seed)]
    assert [len(index) for index in chosen] == [each] * steps
    flat = list(itertools.chain(*chosen))
    for start in range(0, len(flat), rows):
        part = flat[start : start + rows]
        assert len(set(part)) == len(part)
        assert set(part) <= set(range(rows))
    assert chosen == [index.tolist() for index in order(rows, each, steps, seed)]


def test_order_shuffles_by_the_seed() -> None:
    first, second = (next(order(50, 50, 1, seed)).tolist() for seed in (0, 1))
    assert first != second
    assert first != sorted(first)


def by_hand(model: PreTrainedModel, documents: list[list[int]]) -> float:
    """Mean cross-entropy of next tokens, each document by itself."""
    losses = []
    with torch.no_grad():
        for document in documents:
            table = log_softmax(model(input_ids=torch.tensor([document])).logits[0], dim=-1)
            losses += [-table[i, t].item() for i, t in enumerate(document[1:])]
    return float(np.mean(losses))


def test_the_first_loss_is_the_cross_entropy_by_hand(model: PreTrainedModel) -> None:
    expected = by_hand(model, DOCUMENTS)
    packed = pack(DOCUMENTS, 24, padding=1)
    losses = fit(model, packed, tiny.recipe(steps=4, tokens_per_step=64), 0, tiny.silent)
    assert losses[0] == pytest.approx(expected, rel=1e-5)
    assert losses[-1] < losses[0]
    assert by_hand(model, DOCUMENTS) < losses[-1]
    assert not model.training


def test_progress_is_told_at_every_step() -> None:
    shares: list[float] = []
    packed = pack(DOCUMENTS, 24, padding=1)
    fit(tiny.model("llama"), packed, tiny.recipe(steps=4), 0, shares.append)
    assert shares == [0.25, 0.5, 0.75, 1.0]


def test_small_batches_accumulate_to_the_big_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows with different counts of labels, so that a mean of means would differ."""
    model = tiny.model("llama")
    start = copy.deepcopy(model.state_dict())
    documents = [[0, *range(2, 2 + n), 1] for n in (2, 14, 8, 20, 5, 11)]
    packed = pack(documents, 24, padding=1)
    assert len(packed.ids) == 4
    recipe = tiny.recipe(steps=3, tokens_per_step=24 * 4)
    results = []
    for tokens in (4096, 24):
        monkeypatch.setattr(packing, "MICRO_BATCH_TOKENS", tokens)
        model.load_state_dict(start)
        results.append((fit(model, packed, recipe, 0, tiny.silent), copy.deepcopy(
            model.state_dict())))  # fmt: skip
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-4)
    torch.testing.assert_close(results[0][1], results[1][1], atol=1e-4, rtol=1e-4)


def test_training_is_deterministic() -> None:
    packed = pack(DOCUMENTS, 24, padding=1)
    models = [tiny.model("qwen3") for _ in range(2)]
    losses = [fit(m, packed, tiny.recipe(muon=0.02), 7, tiny.silent) for m in models]
    assert losses[0] == losses[1]
    for one, two in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(one, two)


def test_damaged_weights_are_an_error_that_names_the_step(model: PreTrainedModel) -> None:
    with torch.no_grad():
        next(model.parameters())[:] = float("nan")
    with pytest.raises(TrainingError, match=r"not finite at step 1 of 2 \(learning rate 0.01\)"):
        fit(model, pack(DOCUMENTS, 24, padding=1), tiny.recipe(), 0, tiny.silent)


def test_a_gradient_that_is_not_finite_stops_before_the_update() -> None:
    model = tiny.model("llama")
    weight = next(model.parameters())
    weight.register_hook(lambda gradient: gradient * float("inf"))
    before = weight.detach().clone()
    with pytest.raises(TrainingError, match="not finite at step 1 of 2"):
        fit(model, pack(DOCUMENTS, 24, padding=1), tiny.recipe(), 0, tiny.silent)
    assert torch.equal(weight, before)


def test_muon_and_adamw_share_the_weights_out(model: PreTrainedModel) -> None:
    adamw, muon = make_optimizers(model, tiny.recipe(muon=0.02))
    assert isinstance(adamw, torch.optim.AdamW)
    assert isinstance(muon, Muon)
    held = [w for o in (adamw, muon) for group in o.param_groups for w in group["params"]]
    assert Counter(map(id, held)) == Counter(map(id, model.parameters()))
    names = {id(w): name for name, w in model.named_parameters()}
    by_muon = {names[id(w)] for group in muon.param_groups for w in group["params"]}
    expected = {n for n, w in model.named_parameters() if ".layers." in n and w.ndim == 2}
    assert by_muon == expected
    assert len(expected) >= 8
    assert (adamw.param_groups[0]["lr"], muon.param_groups[0]["lr"]) == (0.01, 0.02)


def test_without_muon_adamw_holds_every_trained_weight(model: PreTrainedModel) -> None:
    frozen = next(model.parameters()).requires_grad_(False)
    (adamw,) = make_optimizers(model, tiny.recipe())
    held = Counter(id(w) for group in adamw.param_groups for w in group["params"])
    assert held == Counter(id(w) for w in model.parameters() if w is not frozen)


def test_rows_are_untouched_by_training() -> None:
    packed = pack(DOCUMENTS, 24, padding=1)
    before = Packed(packed.ids.clone(), None, packed.labels.clone())
    fit(tiny.model("llama"), packed, tiny.recipe(), 0, tiny.silent)
    assert torch.equal(packed.ids, before.ids)
    assert torch.equal(packed.labels, before.labels)
