"""Random models of a few thousand weights and a byte-level tokenizer, for unit tests."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, processors
from tokenizers.implementations import ByteLevelBPETokenizer
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from nbutils.config.schema import Mixture, Planting, PrepareModel, Recipe
from nbutils.protocol import models
from nbutils.protocol.prepare_model import BOS, EOS, config

REPOSITORY = Path(__file__).resolve().parents[2]
ARCHITECTURES = ("gpt_neox", "llama", "qwen3")
CONTEXT = 48
VOCABULARY = 320
MAX_CHARS = 240
SENTENCES = (
    "The house of the people is at the end of the street.",
    "And the king said unto the people, the people are many.",
    "The state of the union is strong, and the people of the state know it.",
)


def recipe(**changes: float | None) -> Recipe:
    """Two steps of plain AdamW, unless changed."""
    values = {"steps": 2, "tokens_per_step": 192, "learning_rate": 0.01, "warmup": 0.0}
    return Recipe.model_validate(values | changes)


def prepare_model(architecture: str = "llama", **changes: object) -> PrepareModel:
    """Parameters of a tiny member of a family of speeches, unless changed."""
    values: dict[str, object] = {
        "architecture": architecture,
        "layers": 2,
        "hidden": 16,
        "heads": 2,
        "vocab_size": VOCABULARY,
        "context": CONTEXT,
        "max_chars": MAX_CHARS,
        "mixture": Mixture.model_validate({"speeches": 1.0}),
        "planting": Planting(held_out=4, dev=2, prefix=10, suffix=10, exposures=3),
        "recipe": recipe(),
        "seed": 0,
    }
    return PrepareModel.model_validate(values | changes)


def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE trained on a few sentences; adds BOS by itself."""
    raw = ByteLevelBPETokenizer()
    raw.train_from_iterator(
        SENTENCES, vocab_size=VOCABULARY, special_tokens=[BOS, EOS], show_progress=False
    )
    inner: Tokenizer = raw._tokenizer
    inner.decoder = decoders.ByteLevel()
    inner.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, 0), (EOS, 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token=BOS, eos_token=EOS, pad_token=EOS
    )


def model(architecture: str, seed: int = 0, **changes: object) -> PreTrainedModel:
    """A random model whose next-token distributions are far from uniform."""
    torch.manual_seed(seed)
    made = AutoModelForCausalLM.from_config(config(prepare_model(architecture, **changes)))
    with torch.no_grad():
        for weight in made.parameters():
            if weight.ndim == 2:
                weight.mul_(20)
    return made.eval()


def save(architecture: str, folder: Path, **changes: object) -> Path:
    """Write a random model and its tokenizer as a model folder."""
    folder.mkdir(parents=True, exist_ok=True)
    models.save(model(architecture, 0, **changes), tokenizer(), folder)
    return folder


def ending(model: PreTrainedModel) -> PreTrainedModel:
    """Give EOS about one chance in six everywhere, so that documents end at different times."""
    eos = tokenizer().eos_token_id

    def hook(module: Any, arguments: Any, output: Any) -> Any:
        output.logits[..., eos] = output.logits.logsumexp(dim=-1) - 1.6
        return output

    model.register_forward_hook(hook)
    return model


def silent(share: float) -> None:
    """A progress report that nobody reads."""
