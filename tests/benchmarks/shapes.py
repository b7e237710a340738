"""Models at the shapes of published ones, with random weights that end documents, and their work.

The configurations are those that the hub has; nothing is downloaded.
"""

from dataclasses import dataclass

import numpy as np
import torch
from transformers import (
    AutoModelForCausalLM,
    GPTNeoXConfig,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
)

from nbutils.protocol import forward, models

BOS, EOS = 0, 1
TOKENS = {"bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": EOS}


@dataclass(frozen=True)
class Size:
    """How much is measured: rows and tokens of one batch, of a step, and items of a suite.

    ``product`` is the width of a matrix product, ``copied`` the mebibytes of a copy. ``weights``
    replaces the widths and depths of every configuration.
    """

    product: int
    copied: int
    rows: int
    longest: int
    tokens_per_step: int
    steps: int
    items: int
    weights: dict[str, int]


REAL = Size(8192, 8192, 512, 192, 16384, 8, 600, {})
SMALL = Size(
    *(256, 16, 8, 24, 512, 3, 6),
    weights={
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 512,
        "max_position_embeddings": 160,
    },
)
"""A hundredth of ``REAL`` or less, for a rehearsal on a CPU."""

MODELS: dict[str, tuple[type[PreTrainedConfig], dict[str, int | bool]]] = {
    "qwen2.5-0.5b": (
        Qwen2Config,
        {
            "hidden_size": 896,
            "intermediate_size": 4864,
            "num_hidden_layers": 24,
            "num_attention_heads": 14,
            "num_key_value_heads": 2,
            "vocab_size": 151936,
            "max_position_embeddings": 32768,
            "tie_word_embeddings": True,
        },
    ),
    "llama-3.2-1b": (
        LlamaConfig,
        {
            "hidden_size": 2048,
            "intermediate_size": 8192,
            "num_hidden_layers": 16,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "vocab_size": 128256,
            "max_position_embeddings": 131072,
            "tie_word_embeddings": True,
        },
    ),
    "pythia-410m": (
        GPTNeoXConfig,
        {
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "vocab_size": 50304,
            "max_position_embeddings": 2048,
        },
    ),
}


def model(name: str, size: Size) -> PreTrainedModel:
    """Random bfloat16 weights on the device, which end a document after half of the longest."""
    config_class, shape = MODELS[name]
    config = config_class(**shape | size.weights, **TOKENS)
    torch.manual_seed(0)
    with torch.device(models.device()):
        made = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    end_documents(made.eval(), size.longest // 2)
    return made


WRITERS = ("o_proj", "down_proj", "attention.dense", "dense_4h_to_h")
"""Layers whose outputs are added to the residual stream."""


@torch.no_grad()
def end_documents(model: PreTrainedModel, mean: int) -> None:
    """Let EOS follow every token with a probability of about one in ``mean``.

    One direction of the residual stream becomes constant: every embedding holds it, and no layer
    writes to it. Of it the head's row of EOS reads as much as it takes.
    """
    for name, weight in model.named_parameters():
        if name.rsplit(".", 1)[0].endswith(WRITERS):
            weight[0] = 0
    model.get_input_embeddings().weight[:, 0] = 1
    head = model.get_output_embeddings().weight
    ids = torch.randint(2, len(head), (8, 32), device=model.device)
    constant = model.base_model(ids).last_hidden_state[..., 0].float().mean()
    logits = forward.logits(model, ids).float()
    wanted = logits.logsumexp(-1).mean() - np.log(mean - 1)
    head[EOS, 0] += (wanted - logits[..., EOS].mean()) / constant


def multiplied(model: PreTrainedModel) -> int:
    """Number of weights that every token is multiplied with: not those of an embedding alone."""
    every = sum(w.numel() for w in model.parameters())
    inner, outer = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    return every if inner is outer else every - inner.numel()


def cached(model: PreTrainedModel) -> int:
    """Bytes that the cache holds of one token."""
    config = model.config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = config.hidden_size // config.num_attention_heads
    return 2 * config.num_hidden_layers * heads * width * model.dtype.itemsize


def documents(model: PreTrainedModel, size: Size, steps: int) -> list[list[int]]:
    """Random documents that fill so many training steps, as token ids."""
    rng, longest = np.random.default_rng(0), size.tokens_per_step // 32
    lengths = rng.geometric(2 / longest, 100 * steps).clip(4, longest)
    rows = models.embedding_rows(model)
    return [[BOS, *rng.integers(2, rows, n - 2).tolist(), EOS] for n in lengths]


Request = tuple[tuple[str, str], list[int], list[int]]


def requests(model: PreTrainedModel, items: int) -> list[Request]:
    """Items of four choices that share a context: its tokens, and those of each choice."""
    rng, rows = np.random.default_rng(0), models.embedding_rows(model)
    found = []
    for item in range(items):
        context = [BOS, *rng.integers(2, rows, rng.integers(20, 100)).tolist()]
        for choice in range(4):
            end = rng.integers(2, rows, rng.integers(4, 30)).tolist()
            found.append(((str(item), str(choice)), context, end))
    return found
