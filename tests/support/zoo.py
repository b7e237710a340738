"""Tiny random models of many architectures of transformers: whatever a person may bring."""

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from support import tiny

Size = dict[str, Any]
SMALL: Size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
WIDE: Size = SMALL | {"intermediate_size": 32, "num_key_value_heads": 2}
HEADS: Size = WIDE | {"head_dim": 8}
EXPERTS: Size = HEADS | {
    "num_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
}
WINDOW: Size = {"sliding_window": 8}
WINDOWS: Size = WINDOW | {"layer_types": ["sliding_attention", "full_attention"]}
DELTA: Size = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
CONVOLUTION: Size = {
    "layer_types": ["conv", "full_attention"], "block_ff_dim": 32, "block_multiple_of": 8
}  # fmt: skip
MAMBA: Size = {
    "mamba_n_heads": 4,
    "mamba_d_head": 8,
    "mamba_d_state": 4,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 16,
}
STATE: Size = {"hidden_size": 16, "num_hidden_layers": 2, "state_size": 4}
LATENT: Size = EXPERTS | {
    "n_routed_experts": 4,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "kv_lora_rank": 8,
    "q_lora_rank": 8,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 4,
    "v_head_dim": 8,
}

FULL_ATTENTION: dict[str, Size] = {
    "apertus": HEADS,
    "arcee": HEADS,
    "bitnet": HEADS,
    "cohere": HEADS,
    "deepseek_v2": LATENT,
    "diffllama": HEADS,
    "ernie4_5": HEADS,
    "gemma": WIDE | {"head_dim": 8, "num_key_value_heads": 1},
    "glm4": HEADS,
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2},
    "gpt_bigcode": {"n_embd": 16, "n_layer": 2, "n_head": 2},
    "gpt_neox": WIDE,
    "gptj": {"n_embd": 16, "n_layer": 2, "n_head": 2, "rotary_dim": 4},
    "granite": HEADS,
    "granitemoe": EXPERTS,
    "helium": HEADS,
    "llama": HEADS,
    "nemotron": HEADS,
    "olmo": HEADS,
    "olmo2": HEADS,
    "olmoe": EXPERTS,
    "phi": WIDE,
    "phimoe": EXPERTS,
    "qwen2": WIDE,
    "qwen3": HEADS,
    "qwen3_moe": EXPERTS,
    "smollm3": HEADS,
    "stablelm": WIDE,
}
"""Every shortcut is right: these take them all."""
OTHERS: dict[str, tuple[Size, set[str]]] = {
    # windows: a tree lies in a row in another order than along its paths
    "cohere2": (HEADS | WINDOWS, {"tree"}),
    "exaone4": (HEADS | WINDOWS, {"tree"}),
    "gemma2": (HEADS | WINDOWS, {"tree"}),
    "gemma3_text": (HEADS | WINDOWS, {"tree"}),
    "gpt_neo": (
        {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "window_size": 8}
        | {"attention_types": [[["global", "local"], 1]]},
        {"tree"},
    ),
    "llama4_text": (
        HEADS
        | {"attention_chunk_size": 8, "num_local_experts": 2, "intermediate_size_mlp": 32}
        | {"interleave_moe_layer_step": 2},
        {"tree"},
    ),
    "mistral": (HEADS | WINDOW, {"tree"}),
    "mixtral": (EXPERTS | WINDOW, {"tree"}),
    "modernbert-decoder": (
        HEADS
        | {"local_attention": 8, "layer_types": ["sliding_attention", "full_attention"]}
        | {"cls_token_id": 0, "sep_token_id": 1},
        {"tree"},
    ),
    "olmo3": (HEADS | WINDOWS, {"tree"}),
    "phi3": (HEADS | WINDOW, {"tree"}),
    "starcoder2": (HEADS | WINDOW, {"tree"}),
    "gpt_oss": (EXPERTS | WINDOWS, {"packed", "tree"}),
    # positions are made from a mask that knows of one document in a row
    "biogpt": (WIDE, {"packed"}),
    "falcon": (WIDE | {"alibi": False}, {"packed"}),
    "opt": (SMALL | {"ffn_dim": 32, "word_embed_proj_dim": 16}, {"packed"}),
    "xglm": (
        {"d_model": 16, "num_layers": 2, "attention_heads": 2, "ffn_dim": 32}
        | {"max_position_embeddings": 128},
        {"packed"},
    ),
    # no positions at all
    "bloom": ({"hidden_size": 16, "n_layer": 2, "n_head": 2}, {"packed", "tree"}),
    "mpt": ({"d_model": 16, "n_layers": 2, "n_heads": 2}, {"packed", "tree"}),
    # layers that read a row as it lies
    "bamba": (HEADS | MAMBA | {"attn_layer_indices": [1]}, {"packed", "tree", "shrunk"}),
    "falcon_h1": (
        HEADS | MAMBA | {"mamba_d_ssm": 16, "mamba_n_heads": 2},
        {"packed", "tree", "shrunk"},
    ),
    "falcon_mamba": (STATE | {"time_step_rank": 2}, {"packed", "tree", "shrunk"}),
    "granitemoehybrid": (
        HEADS
        | MAMBA
        | {"layer_types": ["mamba", "attention"], "num_local_experts": 0}
        | {"shared_intermediate_size": 32},
        {"packed", "tree", "shrunk"},
    ),
    "jamba": (
        HEADS
        | {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2}
        | {"expert_layer_offset": 1, "num_experts": 2, "mamba_d_state": 4, "mamba_dt_rank": 2}
        | {"use_mamba_kernels": False},
        {"packed", "tree", "shrunk"},
    ),
    "lfm2": (HEADS | CONVOLUTION, {"packed", "tree", "shrunk"}),
    "lfm2_moe": (EXPERTS | CONVOLUTION | {"num_dense_layers": 1}, {"packed", "tree", "shrunk"}),
    "mamba": (STATE | {"time_step_rank": 2}, {"packed", "tree", "shrunk"}),
    "mamba2": (
        STATE | {"num_heads": 4, "head_dim": 8, "n_groups": 1, "chunk_size": 16},
        {"packed", "tree", "shrunk"},
    ),
    "minimax": (
        EXPERTS | {"layer_types": ["linear_attention", "full_attention"], "block_size": 16},
        {"packed", "tree", "memory"},
    ),
    "nemotron_h": (
        HEADS
        | {"layers_block_type": ["mamba", "attention"], "mamba_num_heads": 4, "n_groups": 1}
        | {"mamba_head_dim": 8, "ssm_state_size": 4, "chunk_size": 16},
        {"packed", "tree", "memory"},
    ),
    "olmo_hybrid": (HEADS | DELTA, {"packed", "tree", "shrunk"}),
    "qwen3_5_text": (HEADS | DELTA, {"packed", "tree", "shrunk"}),
    "qwen3_next": (EXPERTS | DELTA, {"packed", "tree", "shrunk"}),
    "recurrent_gemma": (
        {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "lru_width": 16}
        | {"intermediate_size": 32, "attention_window_size": 8},
        {"packed", "tree", "memory"},
    ),
    "rwkv": (
        {"hidden_size": 16, "num_hidden_layers": 2, "attention_hidden_size": 16},
        {"packed", "tree", "memory"},
    ),
    "zamba2": (
        HEADS
        | {"layers_block_type": ["mamba", "hybrid"], "mamba_d_state": 4, "mamba_headdim": 8}
        | {"n_mamba_heads": 4, "mamba_ngroups": 1, "chunk_size": 16, "use_mem_rope": True},
        {"packed", "tree", "memory"},
    ),
}
"""What each shortcut that is missing here would spoil: these take the plain way there."""
SIZES = FULL_ATTENTION | {name: size for name, (size, _) in OTHERS.items()}
NO_CAUSAL_MODELS = ("bert", "electra", "roberta", "xlm")


def make(architecture: str, **changes: object) -> PreTrainedModel:
    """A random model whose next-token distributions are far from uniform."""
    size = SIZES.get(architecture, HEADS)
    tokens = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    values = size | {"vocab_size": tiny.VOCABULARY} | tokens | changes
    torch.manual_seed(0)
    made = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **values))
    with torch.no_grad():
        for weight in made.parameters():
            if weight.ndim > 1:
                weight.mul_(12)
    return made.eval()
