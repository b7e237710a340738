"""Miniatures: architectures at the size of real models, of which nothing is computed."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from nbutils.protocol import miniature, proofs
from nbutils.protocol.forward import PLAIN
from nbutils.protocol.models import ModelError
from support import tiny, zoo

LAYERS = {
    "deepseek_v3": 4,  # three dense ones, then experts
    "gemma3_text": 6,  # five windows, then one without
    "glm4_moe": 2,
    "gpt2": 1,
    "gpt_neo": 2,
    "gpt_neox": 1,
    "jamba": 5,
    "llama": 1,
    "llama4_text": 4,
    "mistral": 1,
    "mixtral": 1,
    "mamba2": 1,
    "qwen3": 1,
    "qwen3_5_text": 4,
    "qwen3_next": 4,
}
"""How many of the first layers of a default configuration hold one of each kind."""


def published(architecture: str) -> PreTrainedModel:
    """A model of the size that its architecture was published in, without weights."""
    with torch.device("meta"):
        made: PreTrainedModel = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture))
    return made


@pytest.mark.parametrize("architecture", LAYERS)
def test_a_miniature_holds_each_kind_of_layer_and_little_else(architecture: str) -> None:
    model = published(architecture)
    assert miniature.layers_of_each_kind(model) == LAYERS[architecture]
    config = miniature.cut(model)
    kinds = getattr(config, "layer_types", None)
    assert kinds is None or set(kinds) == set(model.config.layer_types)
    assert miniature.size(model, config) < miniature.LIMIT


def test_windows_that_hold_the_longest_document_stay() -> None:
    wide, narrow = (
        miniature.cut(zoo.make("mistral", sliding_window=n, max_position_embeddings=2048))
        for n in (1024, 512)
    )
    assert (wide.sliding_window, narrow.sliding_window) == (1024, miniature.WINDOW)


def test_an_architecture_without_a_miniature_takes_the_plain_way_and_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = zoo.make("llama")

    def fail(*given: object, **options: object) -> None:
        raise ValueError("no such size")

    with monkeypatch.context() as patch:
        patch.setattr(type(model), "_from_config", fail)
        with pytest.raises(ModelError, match="no small copy of a llama model can be made"):
            miniature.small_copy(model)
        found = proofs.find(model)
    assert found.shortcuts == PLAIN
    assert "no such size" in str(found.facts()["packed"]["why"])


def test_what_is_too_large_is_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(miniature, "LIMIT", 10)
    with pytest.raises(ModelError, match=r"can be made \([\d,]+ weights\)"):
        miniature.small_copy(tiny.model("llama"))
