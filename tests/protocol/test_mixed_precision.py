"""Mixed precision: copies in 16 bits train as float32 does, to the digits that they have."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from nbutils.config.schema import Lora, Recipe, SelfTrain
from nbutils.protocol import lora, packing, training
from nbutils.protocol.mixed_precision import Copy
from nbutils.runs import checkpoint as checkpoint_of
from nbutils.runs.checkpoint import Checkpoint
from support import tiny, zoo


def rows() -> packing.Packed:
    rng = np.random.default_rng(0)
    documents = [[0, *rng.integers(3, 60, size=n).tolist(), 1] for n in (5, 9, 12, 20, 30, 41)]
    return packing.pack(documents, 2 * tiny.CONTEXT, 1)


def curve(model: PreTrainedModel, recipe: Recipe, precision: str) -> list[float]:
    return training.fit(model, rows(), recipe, 0, tiny.silent, precision=precision)  # type: ignore[arg-type]


@pytest.mark.parametrize("muon", [None, 0.02])
def test_a_hundred_steps_go_as_with_autocast(
    muon: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch's own mixed precision rounds in other places, and as much."""
    recipe = tiny.recipe(steps=100, learning_rate=0.002, muon=muon)
    full, ours = (curve(tiny.model("llama"), recipe, p) for p in ("float32", "bfloat16"))

    def autocast(*arguments: Any) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return packing.loss_sum(*arguments)

    monkeypatch.setattr(training, "loss_sum", autocast)
    theirs = curve(tiny.model("llama"), recipe, "float32")
    assert ours[:10] == pytest.approx(full[:10], rel=0.005)
    last = [float(np.mean(losses[75:])) for losses in (full, theirs, ours)]
    assert last[0] < 0.5 * full[0]
    assert last[2] == pytest.approx(last[1], rel=0.03)
    assert last[2] == pytest.approx(last[0], rel=0.1)
    assert ours != full


def test_updates_below_the_rounding_of_16_bits_add_up() -> None:
    """The weights are float32 before and after: a rate that bfloat16 would round away trains."""
    recipe = tiny.recipe(steps=10, learning_rate=2e-5, warmup=0.0, weight_decay=0.0)
    model = tiny.model("llama")
    before = {n: w.detach().clone() for n, w in model.named_parameters()}
    curve(model, recipe, "bfloat16")
    after = dict(model.named_parameters())
    assert {w.dtype for w in after.values()} == {torch.float32}
    assert all(w.grad is None for w in after.values())
    large = [n for n, w in before.items() if w.abs().mean() > 0.5]  # the weights of the norms
    assert large
    for name in large:
        assert (after[name] != before[name]).all()
        assert torch.equal(after[name].to(torch.bfloat16), before[name].to(torch.bfloat16))


def test_gradients_of_micro_batches_are_added_in_float32() -> None:
    model = tiny.model("llama")
    reader, packed = Copy(model, torch.bfloat16), rows()
    packing.loss_sum(reader.model, packed, torch.tensor([0])).backward()
    once = {n: w.grad.clone() for n, w in model.named_parameters() if w.grad is not None}
    packing.loss_sum(reader.model, packed, torch.tensor([0])).backward()
    assert once
    for name, gradient in once.items():
        twice = model.get_parameter(name).grad
        assert twice is not None
        assert twice.dtype == torch.float32
        torch.testing.assert_close(twice, 2 * gradient)
    assert all(w.grad is None for w in reader.model.parameters())
    reader.drop_gradients()
    assert all(w.grad is None for w in model.parameters())


def test_frozen_weights_are_not_copied() -> None:
    """The base of an adapter is needed once."""
    base = tiny.model("llama").to(torch.bfloat16)
    adapter = Lora(rank=2, alpha=4, learning_rate=0.02)
    p = SelfTrain(method="lora", recipe=tiny.recipe(), lora=adapter, precision="bfloat16")
    wrapped = lora.with_adapter(base, p)
    reader = Copy(wrapped, torch.bfloat16)
    pairs = zip(wrapped.parameters(), reader.model.parameters(), strict=True)
    assert {(w.requires_grad, w is copied) for w, copied in pairs} == {(True, False), (False, True)}
    assert {w.dtype for w in wrapped.parameters() if w.requires_grad} == {torch.float32}
    losses = curve(wrapped, p.recipe.model_copy(update={"learning_rate": 0.02}), "bfloat16")
    assert losses[-1] < losses[0]


def test_a_killed_training_goes_on_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint_of, "SECONDS", 0.0)
    recipe, weights = tiny.recipe(steps=6, muon=0.02), []

    class KilledError(Exception):
        pass

    def kill(share: float) -> None:
        if share >= 0.5:
            raise KilledError

    for killed in (False, True):
        model = tiny.model("llama")
        checkpoint = Checkpoint(tmp_path / "run") if killed else None
        if killed:
            with pytest.raises(KilledError):
                training.fit(model, rows(), recipe, 0, kill, checkpoint, "bfloat16")
            model = tiny.model("llama")
        training.fit(model, rows(), recipe, 0, tiny.silent, checkpoint, "bfloat16")
        weights.append([w.detach() for w in model.parameters()])
    assert all(map(torch.equal, *weights))


@pytest.mark.parametrize("architecture", zoo.SIZES)
def test_every_architecture_trains_in_16_bits(architecture: str) -> None:
    """The first gradients are those of float32, up to rounding."""
    recipe = tiny.recipe(steps=2, learning_rate=0.001)
    curves = [curve(zoo.make(architecture), recipe, p) for p in ("float32", "bfloat16")]
    assert curves[1] == pytest.approx(curves[0], rel=0.02)
