"""Precision: what weights compute in by device, and what is kept of them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nbutils.protocol import models, packing, schedule, stages, training
from nbutils.protocol.plan import Plan
from nbutils.runs import environment
from nbutils.runs.store import Store
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
def test_weights_are_measured_in_what_the_device_is_good_at(
    saved: torch.dtype, there: str, here: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there != "is a CPU")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: there == "has bfloat16")
    assert models.measured_in(saved) == here


@pytest.mark.parametrize("there", ["is a CPU", "is an accelerator"])
def test_models_are_sampled_in_the_precision_that_is_asked_for(
    there: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there != "is a CPU")
    for saved in (torch.float32, torch.bfloat16, torch.float16):
        assert models.computing(saved, "float32") == torch.float32
    assert models.computing(torch.float32, "bfloat16") == torch.bfloat16
    half = torch.bfloat16 if there == "is a CPU" else torch.float16
    assert models.computing(torch.float16, "bfloat16") == half


def test_a_model_is_loaded_in_a_precision(folders: dict[str, Path]) -> None:
    folder = folders["llama"]
    types = [models.load(folder, folder, p)[0].dtype for p in (None, "float32", "bfloat16")]
    assert types == [torch.float32, torch.float32, torch.bfloat16]


def test_a_tier_leaves_the_precision_to_the_machine_or_names_it(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_plan = replace(plan, tier=plan.tier.model_copy(update={"precision": "auto"}))
    keys = set()
    for fast, precision in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(environment, "fast_bfloat16", lambda fast=fast: fast)
        here, named = open_plan, plan.computed_in(precision)  # type: ignore[arg-type]
        assert here.precision == named.precision == precision
        runs = schedule.of_tier(here)
        found = {run.stage for run in runs if getattr(run.params, "precision", None) == precision}
        assert found == {"prepare_model", "sample_corpus", "self_train", "trace"} & {
            run.stage for run in runs
        }
        model = here.model(plan.tier.grid.students[0])
        keys.add(Store(Path(), stages.versions()).key(model))
        assert keys >= {Store(Path(), stages.versions()).key(named.model(model.labels["model"]))}  # type: ignore[arg-type]
    assert len(keys) == 2  # so that no run of one precision stands for one of the other


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
