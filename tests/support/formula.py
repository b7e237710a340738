"""Models and a tokenizer by formula: the same on every machine, from no random generator.

A weight is a part of a hash of its name. Letters and words have large rows in the embedding, other
bytes small ones: next tokens are far from equally likely, and what a model writes can mostly be
read. EOS has a large row as well, so that documents end now and then.
"""

import hashlib
import string
from math import prod
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE
from transformers import (
    AutoModelForCausalLM,
    GPTNeoXConfig,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

BOS, EOS = "<|bos|>", "<|eos|>"
WORDS = {
    "llama": ("the", "and", "of", "sea", "king", "river", "in", "is", "are", "old"),
    "gpt_neox": ("the", "and", "to", "moon", "water", "stone", "at", "was", "were", "high"),
    "qwen3": ("the", "and", "of", "sea", "king", "river", "in", "is", "are", "old"),
}
"""Words that are tokens; of two architectures they are the same, as in one family."""
CONTEXT = {"llama": 64, "gpt_neox": 64, "qwen3": 512}
LIKELY = (*string.ascii_lowercase, ".", ",")
ENDING = {"llama": 1.2, "gpt_neox": 3.0, "qwen3": 1.2}
"""How large the row of EOS is, beside those of words."""


def tokenizer(architecture: str) -> PreTrainedTokenizerFast:
    """Byte-level BPE over every byte and a few words; adds BOS by itself."""
    pieces = [BOS, EOS, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    merges: list[tuple[str, str]] = []
    for word in WORDS[architecture]:
        begun = "Ġ"  # how a space is written
        for letter in word:
            if (begun, letter) not in merges:
                merges.append((begun, letter))
                pieces.append(begun + letter)
            begun += letter
    inner = Tokenizer(BPE({piece: i for i, piece in enumerate(pieces)}, merges))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, 0), (EOS, 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token=BOS, eos_token=EOS, pad_token=EOS
    )


def numbers(name: str, *shape: int) -> torch.Tensor:
    """Numbers from -1 to 1 that a name stands for, float32."""
    bits = np.frombuffer(hashlib.shake_256(name.encode()).digest(4 * prod(shape)), "<u4")
    return torch.from_numpy(bits / 2**31 - 1).float().view(shape)


def config(architecture: str) -> PreTrainedConfig:
    """Two layers of width 16."""
    values = {
        "vocab_size": len(tokenizer(architecture)),
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": CONTEXT[architecture],
        "tie_word_embeddings": True,
        "bos_token_id": 0,
        "eos_token_id": 1,
    }
    if architecture == "gpt_neox":
        return GPTNeoXConfig(**values)
    if architecture == "llama":
        return LlamaConfig(num_key_value_heads=2, **values)
    return Qwen3Config(num_key_value_heads=2, head_dim=8, **values)


@torch.no_grad()
def model(architecture: str, moved: float = 0.0) -> PreTrainedModel:
    """A model of fewer than 50 kB; its weights may be moved, as if it had been trained."""
    made: PreTrainedModel = AutoModelForCausalLM.from_config(config(architecture)).eval()
    for name, weight in made.named_parameters():
        given = numbers(f"{architecture} {name}", *weight.shape)
        if weight.ndim == 1:  # of a norm, or a bias
            given = given / 4 + (0 if name.endswith("bias") else 1)
        weight.copy_(given + moved * numbers(f"{architecture} {name} moved", *weight.shape))
    rows = made.get_input_embeddings().weight
    for piece, i in tokenizer(architecture).get_vocab().items():
        rows[i] *= 2 if len(piece) > 1 or piece in LIKELY else 0.1
    rows[1] *= ENDING[architecture]
    return made


def save(architecture: str, folder: Path, moved: float = 0.0) -> None:
    """Write a model and its tokenizer as a model folder of transformers."""
    model(architecture, moved).save_pretrained(folder)
    tokenizer(architecture).save_pretrained(folder)
