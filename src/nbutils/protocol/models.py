"""Models: how they are saved and loaded, and where their documents begin.

A saved model is a folder with safetensors weights, a tokenizer, a configuration and
``bos.json``, which records the BOS policy of its tokenizer.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from nbutils.errors import UserError

# Saving and loading take milliseconds here: their bars would only bury the grid's own progress.
logging.disable_progress_bar()


LONGEST = 1024
"""No document is longer, in tokens, however far a model could read."""


class ModelError(UserError):
    """A model folder cannot be loaded."""


@dataclass(frozen=True)
class BosPolicy:
    """Which token begins a document, and whether benchmark items and passages begin with it.

    The tokenizer's own ``bos_token`` is that token, whatever it was published with. ``scoring``
    is about the contexts of benchmark items, ``extraction`` about the prefixes of passages.
    """

    token: str
    scoring: bool
    extraction: bool = False


def save(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    scoring: bool | None = None,
    extraction: bool = False,
) -> None:
    """Write weights (safetensors), tokenizer, configuration and BOS policy.

    Unless told, scoring begins with BOS where the tokenizer adds it by itself.
    """
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    begins = adds_bos(tokenizer) if scoring is None else scoring
    policy = BosPolicy(str(tokenizer.bos_token), begins, extraction)
    (folder / "bos.json").write_text(json.dumps(asdict(policy)), "utf-8")


def adds_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a tokenizer begins a text with its BOS by itself."""
    return bool(tokenizer("a").input_ids[0] == tokenizer.bos_token_id)


def bos_policy(folder: Path) -> BosPolicy:
    """The BOS policy of a saved model."""
    return BosPolicy(**json.loads((folder / "bos.json").read_text("utf-8")))


def load(folder: Path, base: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model, or the adapter in ``folder`` on top of the model in ``base``.

    Only safetensors are read and remote code stays off. The model stands on the device, spread over
    several where one is too small, in the precision it computes in there (see ``precision``).

    Raises:
        ModelError: Files are missing, truncated or of another kind.
    """
    adapter = (folder / "adapter_config.json").is_file()
    weights: Any = {"use_safetensors": True, "trust_remote_code": False, "local_files_only": True}
    try:
        path = base if adapter else folder
        model = AutoModelForCausalLM.from_pretrained(
            path, dtype=precision(saved_precision(path)), device_map=_places(path), **weights
        )
        _check_places(model)
        if adapter:
            from peft import PeftModel  # heavy, and most models have no adapter

            # merged, so that scoring costs what the base costs
            model = PeftModel.from_pretrained(model, str(folder)).merge_and_unload()
        tokenizer = AutoTokenizer.from_pretrained(
            base, trust_remote_code=False, local_files_only=True
        )
    except (torch.OutOfMemoryError, ModelError):
        raise
    except Exception as error:  # transformers, safetensors and tokenizers share no base class
        raise ModelError(
            f"the model in {folder} cannot be loaded ({type(error).__name__}: {error}): "
            "delete the folder and run again"
        ) from error
    return model.eval(), tokenizer


@torch.no_grad()
def moved(before: Path, after: Path) -> float:
    """How far fine-tuning moved the model in ``before``: the norm of the update over the weights'.

    Raises:
        ModelError: One of the two cannot be loaded.
    """
    old, _ = load(before, before)
    new, _ = load(after, before)
    weights = {name: weight.float() for name, weight in old.named_parameters()}
    updates = [new.get_parameter(name).float() - weight for name, weight in weights.items()]
    squares = [sum(float(x.norm()) ** 2 for x in part) for part in (updates, weights.values())]
    return (squares[0] / squares[1]) ** 0.5


def encode(tokenizer: PreTrainedTokenizerBase, texts: list[str], limit: int) -> list[list[int]]:
    """Token ids of documents: BOS, text, EOS; at most ``limit`` ids each, cut at the end."""
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    return [[bos, *ids, eos][:limit] for ids in token_ids(tokenizer, texts)]


def token_ids(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    """Token ids of texts and nothing else: what spells a special token is read letter by letter."""
    if not texts:
        return []
    found: list[list[int]] = tokenizer(
        texts, add_special_tokens=False, split_special_tokens=True
    ).input_ids
    # Some vocabularies (Unigram's) hold special tokens as words, which splitting does not touch.
    spelled = special_tokens(tokenizer) - {tokenizer.unk_token_id}
    if spelled.isdisjoint(i for ids in found for i in ids):
        return found
    letters = {i: _letters(tokenizer, i) for i in spelled}
    return [[letter for i in ids for letter in letters.get(i, [i])] for ids in found]


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Ids that stand for no text: named ones as BOS, and all others that decoding leaves out."""
    added = tokenizer.added_tokens_decoder
    return {*tokenizer.all_special_ids, *(i for i, token in added.items() if token.special)}


def _letters(tokenizer: PreTrainedTokenizerBase, special: int) -> list[int]:
    """What a special token is read as where it is text: its letters, each a token or unknown."""
    text = str(tokenizer.convert_ids_to_tokens(special))
    known, unknown = tokenizer.get_vocab(), tokenizer.unk_token_id
    ids = [known.get(letter, unknown) for letter in text]
    return [i for i in ids if i is not None]


def context(model: PreTrainedModel) -> int:
    """Tokens of the longest document that is read: the model's limit, or ``LONGEST``."""
    config = model.config.get_text_config()
    named = [getattr(config, n, None) for n in ("max_position_embeddings", "context_length")]
    return min((LONGEST, *(limit for limit in named if isinstance(limit, int) and limit > 0)))


def rows(model: PreTrainedModel) -> int:
    """How many token ids a model embeds: no id may be as large."""
    return int(model.get_input_embeddings().num_embeddings)


def special_ids(config: PreTrainedConfig) -> set[int]:
    """Ids that a configuration gives a meaning of their own: BOS, EOS, padding and others."""
    named = [v for n, v in vars(config.get_text_config()).items() if n.endswith("token_id")]
    each = [value for v in named for value in (v if isinstance(v, list) else [v])]
    return {value for value in each if isinstance(value, int)}


# ---------------------------------------------------------------- devices and precision


def device() -> torch.device:
    """The accelerator of this process when there is one, else the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", PartialState().local_process_index)


def _places(folder: Path) -> str | dict[str, torch.device] | None:
    """Where weights go: to this process's accelerator, or over all where they leave it no room."""
    if not torch.cuda.is_available():
        return None
    free, _ = torch.cuda.mem_get_info(device())
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    alone = PartialState().num_processes == 1
    return "auto" if alone and torch.cuda.device_count() > 1 and 2 * size > free else {"": device()}


def _check_places(model: PreTrainedModel) -> None:
    """Raise ``ModelError`` where weights found no room on the accelerators."""
    places = {str(place) for place in getattr(model, "hf_device_map", {}).values()}
    if torch.cuda.is_available() and places & {"cpu", "disk"}:
        raise ModelError(
            f"a model of {model.num_parameters():,} weights does not fit onto the accelerators of "
            "this machine: take a smaller model, or a machine with more of them"
        )


def precision(saved: torch.dtype) -> torch.dtype:
    """What weights of a saved type compute in here: that type on an accelerator, else float32.

    An accelerator without bfloat16 takes float16; a CPU has neither at a useful speed.
    """
    if not torch.cuda.is_available():
        return torch.float32
    if saved == torch.bfloat16 and not torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.float16
    return saved


def training_precision(computing: torch.dtype) -> torch.dtype:
    """What a model that computes in some type is trained in: gradients overflow float16."""
    return torch.float32 if computing == torch.float16 else computing


def saved_precision(folder: Path) -> torch.dtype:
    """The type of the weights in a model folder, as its configuration says; else float32."""
    path = folder / "config.json"
    values = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    name = values.get("dtype") or values.get("torch_dtype") or "float32"
    return getattr(torch, name)


def computed_in(folders: Iterable[Path]) -> str:
    """Name of the precision in which the first model among these folders computes here."""
    found = [folder for folder in folders if (folder / "config.json").is_file()]
    return str(precision(saved_precision(found[0])) if found else torch.float32)[len("torch.") :]
