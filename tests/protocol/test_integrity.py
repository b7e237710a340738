"""Integrity: weights that are not all there, encoders, tokens beyond the rows, no tokenizer."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from nbutils.config.schema import FetchModel
from nbutils.errors import UserError
from nbutils.protocol import fetch_model, model_sources, models
from nbutils.protocol.models import ModelError
from support import tiny

Weights = dict[str, torch.Tensor]
HEAD = "lm_head.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model with a head of its own."""
    model = tiny.model("llama")
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
    models.save(model, tiny.tokenizer(), tmp_path / "model")
    return tmp_path / "model"


def change(folder: Path, weights: Callable[[Weights], Weights] | None = None, **config: Any) -> str:
    """Change the weights and the configuration of a model folder; return its origin."""
    if weights:
        path = folder / "model.safetensors"
        save_file(weights(load_file(path)), path, {"format": "pt"})
    values = json.loads((folder / "config.json").read_text("utf-8")) | config
    (folder / "config.json").write_text(json.dumps(values), "utf-8")
    return f"folder:{folder}"


def without(part: str) -> Callable[[Weights], Weights]:
    return lambda weights: {k: w for k, w in weights.items() if part not in k}


def wrapped(prefix: str) -> Callable[[Weights], Weights]:
    return lambda weights: {prefix + k: w for k, w in weights.items()}


def holding(value: float) -> Callable[[Weights], Weights]:
    return lambda weights: weights | {"model.norm.weight": torch.full((16,), value)}


@pytest.mark.parametrize(
    ("weights", "config", "message"),
    [
        (without(HEAD), {}, "lm_head.weight is missing: the weights of folder:"),
        (without("1.mlp"), {}, r"layers.1.mlp.down_proj.weight and 2 more are missing"),
        (wrapped("_orig_mod."), {}, "are missing, _orig_mod.lm_head.weight and .* are left over"),
        (wrapped("module."), {}, "are missing, module.lm_head.weight and .* are left over"),
        (None, {"num_hidden_layers": 3}, "model.layers.2.input_layernorm.weight and 8 more are mi"),
        (None, {"num_hidden_layers": 1}, "model.layers.1.input_layernorm.weight and 8 more are le"),
        (
            lambda w: w | {"model.norm.weight": torch.ones(3)},
            {},
            "norm.weight .3 instead of 16. is",
        ),
        (None, {"model_type": "bert"}, "must be those of the BertLMHeadModel in its configuration"),
        (None, {"model_type": "t5"}, "is no causal language model"),
        (holding(float("nan")), {}, "the weight model.norm.weight of folder:.* is not finite"),
        (holding(float("-inf")), {}, "the weight model.norm.weight of folder:.* is not finite"),
    ],
)
def test_weights_that_are_not_the_models_are_named(
    weights: Callable[[Weights], Weights] | None, config: dict[str, Any], message: str, folder: Path
) -> None:
    with pytest.raises(ModelError, match=message) as raised:
        fetch_model.read(change(folder, weights, **config))
    assert len(str(raised.value).splitlines()) == 1


def test_numbers_that_a_precision_does_not_hold_are_named(folder: Path) -> None:
    origin = change(folder, holding(1e6))
    fetch_model.read(origin, "bfloat16")
    with pytest.raises(ModelError, match=r"not finite as float16: .* or another dtype"):
        fetch_model.read(origin, "float16")


@pytest.mark.parametrize(
    ("architecture", "extra"),
    [
        ("llama", {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}),
        ("gpt_neox", {"gpt_neox.layers.0.attention.bias": torch.ones(1, 1, 4, 4)}),
        ("gpt_neox", {"gpt_neox.layers.0.attention.masked_bias": torch.tensor(-1e9)}),
    ],
)
def test_what_a_model_computes_by_itself_may_be_stored(
    architecture: str, extra: Weights, tmp_path: Path
) -> None:
    """And a tied head, of all three architectures, need not be."""
    folder = tiny.save(architecture, tmp_path)
    assert HEAD not in load_file(folder / "model.safetensors")
    fetch_model.read(change(folder, lambda weights: weights | extra))


def test_masks_of_older_versions_may_be_stored(tmp_path: Path) -> None:
    size = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "vocab_size": tiny.VOCABULARY}
    config = AutoConfig.for_model("gpt_neo", attention_types=[[["global"], 1]], **size)
    models.save(AutoModelForCausalLM.from_config(config), tiny.tokenizer(), tmp_path)
    attention = "transformer.h.0.attn.attention"
    masks = {f"{attention}.bias": torch.ones(1), f"{attention}.masked_bias": torch.tensor(-1e9)}
    fetch_model.read(change(tmp_path, lambda weights: weights | masks))


def test_a_head_that_was_stored_stays_though_the_configuration_ties_it(
    folder: Path, tmp_path: Path
) -> None:
    stored = load_file(folder / "model.safetensors")[HEAD]
    model, tokenizer = fetch_model.read(change(folder, tie_word_embeddings=True))
    models.save(model, tokenizer, tmp_path / "out")
    again, _ = models.load(tmp_path / "out", tmp_path / "out")
    assert not again.config.tie_word_embeddings
    assert torch.equal(again.get_output_embeddings().weight, stored)


@pytest.mark.parametrize("architecture", ["bert", "roberta", "electra"])
def test_an_encoder_is_no_language_model(architecture: str, tmp_path: Path) -> None:
    """Transformers gives it a head, and nothing is missing; as a decoder it is one."""
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    for decoder in (True, False):
        config = AutoConfig.for_model(
            architecture, **size, intermediate_size=32, vocab_size=320, is_decoder=decoder
        )
        out = tmp_path / str(decoder)
        models.save(AutoModelForCausalLM.from_config(config), tiny.tokenizer(), out)
    for decoder in (True, False):
        p = FetchModel.model_validate({"origin": f"folder:{tmp_path / str(decoder)}"})
        (out := tmp_path / f"out-{decoder}").mkdir()
        if decoder:
            fetch_model.run(p, {}, out, tiny.silent)
            continue
        with pytest.raises(ModelError, match="is no causal language model: its logits at a"):
            fetch_model.run(p, {}, out, tiny.silent)


# ---------------------------------------------------------------- shards


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    tiny.model("llama").save_pretrained(tmp_path / "shards", max_shard_size="8KB")
    tiny.tokenizer().save_pretrained(tmp_path / "shards")
    return tmp_path / "shards"


def test_shards_are_all_there_or_refused(sharded: Path) -> None:
    origin = f"folder:{sharded}"
    fetch_model.read(origin)
    before = model_sources.content_digest(origin)
    (sharded / "consolidated.safetensors").write_bytes(b"the same in another form")
    assert model_sources.content_digest(origin) == before
    lost = sorted(sharded.glob("model-*.safetensors"))[1]
    lost.unlink()
    with pytest.raises(UserError, match=f"names {lost.name}, which is not there: copy"):
        fetch_model.read(origin)


def test_shards_without_their_index_are_refused(sharded: Path) -> None:
    (sharded / model_sources.INDEX).unlink()
    with pytest.raises(UserError, match=r"neither model.safetensors nor .*index.json, by which"):
        fetch_model.read(f"folder:{sharded}")


# ---------------------------------------------------------------- GGUF

GGUF_NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "model.layers": "blk",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "lm_head": "output",
    "self_attn.o_proj": "attn_output", "self_attn.": "attn_", "mlp.": "ffn_", "_proj": "",
}  # fmt: skip


def as_gguf(folder: Path, path: Path) -> str:
    """Write a llama in a folder as a GGUF file; return its origin."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    tokenizer = json.loads((folder / "tokenizer.json").read_text("utf-8"))["model"]
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(sorted(tokenizer["vocab"], key=tokenizer["vocab"].get))
    writer.add_token_merges([" ".join(merge) for merge in tokenizer["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    for name, weight in load_file(folder / "model.safetensors").items():
        for theirs, other in GGUF_NAMES.items():
            name = name.replace(theirs, other)
        writer.add_tensor(name, weight.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return f"gguf:{path}"


def test_a_gguf_file_is_whole_and_its_name_is_nothing_of_it(folder: Path, tmp_path: Path) -> None:
    """A head of its own is kept; what lies beside the file is not read."""
    (tmp_path / "tokenizer_config.json").write_text("no JSON")
    origin = as_gguf(folder, tmp_path / "a.gguf")
    stored = load_file(folder / "model.safetensors")[HEAD]
    assert torch.equal(fetch_model.read(origin)[0].get_output_embeddings().weight, stored)
    (tmp_path / "b.gguf").symlink_to(tmp_path / "a.gguf")
    assert model_sources.content_digest(
        f"gguf:{tmp_path}/./b.gguf"
    ) == model_sources.content_digest(origin)
    change(folder, without("layers.1.mlp"))
    with pytest.raises(ModelError, match=r"layers.1.mlp.down_proj.weight and 2 more are missing"):
        fetch_model.read(as_gguf(folder, tmp_path / "c.gguf"))


# ---------------------------------------------------------------- tokens


def spread(*, own: bool, special: bool) -> PreTrainedTokenizerFast:
    """A tokenizer with one token far beyond the others: ``<far>``, whose id is 600."""
    values = json.loads(tiny.tokenizer().backend_tokenizer.to_str())
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    if own:
        values["model"]["vocab"]["<far>"] = 600
    if not own or special:
        gap = range(len(values["model"]["vocab"]), 600)
        between = [] if own else [{"id": i, "content": f"<gap-{i}>", "special": True} for i in gap]
        far = {"id": 600, "content": "<far>", "special": special}
        values["added_tokens"] += [token | flags for token in [*between, far]]
    backend = type(tiny.tokenizer().backend_tokenizer).from_str(json.dumps(values))
    ends = {"bos_token": "<|bos|>", "eos_token": "<|eos|>"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **ends)


def test_special_tokens_that_were_added_may_lie_beyond_the_rows(folder: Path) -> None:
    spread(own=False, special=True).save_pretrained(folder)
    _, tokenizer = fetch_model.read(f"folder:{folder}")
    assert tokenizer.convert_tokens_to_ids("<far>") == 600


@pytest.mark.parametrize(("own", "special"), [(True, False), (True, True), (False, False)])
def test_a_token_that_text_may_become_must_have_a_row(
    own: bool, special: bool, folder: Path
) -> None:
    """However few tokens there are in all."""
    spread(own=own, special=special).save_pretrained(folder)
    with pytest.raises(ModelError, match="gives '<far>' the id 600, and the model embeds 320 ids"):
        fetch_model.read(f"folder:{folder}")


@pytest.mark.parametrize("end", ["bos_token", "eos_token"])
def test_the_tokens_that_begin_and_end_documents_must_have_rows(end: str, folder: Path) -> None:
    tokenizer = spread(own=False, special=True)
    setattr(tokenizer, end, "<far>")
    tokenizer.save_pretrained(folder)
    with pytest.raises(ModelError, match="gives '<far>' the id 600"):
        fetch_model.read(f"folder:{folder}")


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_a_folder_without_a_tokenizer_is_refused(architecture: str, tmp_path: Path) -> None:
    """Of some architectures transformers makes one without a vocabulary."""
    tiny.model(architecture).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="has no tokenizer that can be read: allowed beside"):
        fetch_model.read(f"folder:{tmp_path}")
