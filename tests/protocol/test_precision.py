"""Precision: what weights compute in by device, and what is kept of them."""

import json
from pathlib import Path

import pytest
import torch

from nbutils.protocol import models, packing, training
from support import tiny


@pytest.mark.parametrize(
    ("saved", "there", "here"),
    [
        (torch.bfloat16, "has bfloat16", torch.bfloat16),
        (torch.bfloat16, "has none", torch.float16),
        (torch.float16, "has none", torch.float16),
        (torch.float32, "has bfloat16", torch.float32),
        (torch.bfloat16, "is a CPU", torch.float32),
        (torch.float16, "is a CPU", torch.float32),
    ],
)
def test_weights_compute_in_what_the_device_is_good_at(
    saved: torch.dtype, there: str, here: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there != "is a CPU")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: there == "has bfloat16")
    assert models.precision(saved) == here


def test_float16_is_never_trained_in() -> None:
    assert models.training_precision(torch.float16) == torch.float32
    assert models.training_precision(torch.bfloat16) == torch.bfloat16


def test_a_manifest_names_the_precision_of_the_model_that_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.model("llama").to(torch.bfloat16).save_pretrained(tmp_path / "model")
    (tmp_path / "corpus").mkdir()
    folders = [tmp_path / "corpus", tmp_path / "model"]
    assert json.loads((folders[1] / "config.json").read_text())["dtype"] == "bfloat16"
    assert models.computed_in(folders) == "float32"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    assert models.computed_in(folders) == "bfloat16"
    assert models.computed_in(folders[:1]) == "float32"


def test_training_in_bfloat16_keeps_float32_weights() -> None:
    """The losses are those of float32 to the three digits that bfloat16 has."""
    documents = [[0, *range(3, 3 + n), 1] for n in (5, 9, 12, 20)]
    packed = packing.pack(documents, 2 * tiny.CONTEXT, 1)
    curves = []
    for precision in (torch.float32, torch.bfloat16):
        model = tiny.model("llama")
        recipe = tiny.recipe(steps=5)
        curves.append(training.fit(model, packed, recipe, 0, tiny.silent, precision=precision))
        assert {w.dtype for w in model.parameters()} == {torch.float32}
    assert curves[1] == pytest.approx(curves[0], rel=0.01)
    assert curves[1] != curves[0]


@pytest.mark.filterwarnings("ignore:out of memory")
def test_activations_are_computed_again_where_one_row_does_not_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Gradient checkpointing comes after the smallest micro-batch, and changes no loss."""
    real = packing.loss_sum
    packed = packing.pack([[0, *range(3, 40), 1]] * 3, 48, 1)
    whole = training.fit(tiny.model("llama"), packed, tiny.recipe(steps=3), 0, tiny.silent)
    model = tiny.model("llama")

    def small(model: torch.nn.Module, rows: packing.Packed, index: torch.Tensor) -> torch.Tensor:
        if not model.is_gradient_checkpointing:
            raise torch.OutOfMemoryError
        return real(model, rows, index)

    monkeypatch.setattr(training, "loss_sum", small)
    with pytest.warns(UserWarning, match="going on with gradient checkpointing"):
        found = training.fit(model, packed, tiny.recipe(steps=3), 0, tiny.silent)
    assert found == pytest.approx(whole, rel=1e-5)
