"""Models: saving, loading, tokenizing, devices and precision.

A saved model is a folder with safetensors weights, a tokenizer, a configuration and ``bos.json``,
which records its BOS policy.
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

from nbutils.config.schema import Precision
from nbutils.errors import UserError

# Loading takes milliseconds here, and its bars would hide the progress of the runs.
logging.disable_progress_bar()


LONGEST = 1024
"""Most tokens of a document, also for models with a longer context."""


class ModelError(UserError):
    """A model folder cannot be loaded."""


@dataclass(frozen=True)
class BosPolicy:
    """Which token begins a document, and whether benchmark items and passages begin with it.

    ``token`` is the ``bos_token`` of the saved tokenizer, which may differ from the published one.
    With ``scoring``, contexts of benchmark items begin with it; with ``extraction``, prompts of
    passages do.
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

    Without ``scoring``, benchmark items begin with BOS where the tokenizer adds it by itself.
    """
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    scoring = adds_bos(tokenizer) if scoring is None else scoring
    policy = BosPolicy(str(tokenizer.bos_token), scoring, extraction)
    (folder / "bos.json").write_text(json.dumps(asdict(policy)), "utf-8")


def adds_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a tokenizer puts its BOS before a text by itself."""
    return bool(tokenizer("a").input_ids[0] == tokenizer.bos_token_id)


def bos_policy(folder: Path) -> BosPolicy:
    """The BOS policy of a saved model."""
    return BosPolicy(**json.loads((folder / "bos.json").read_text("utf-8")))


def load(
    folder: Path, base: Path, precision: Precision | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model, or the adapter in ``folder`` on top of the model in ``base``.

    Only safetensors are read, and remote code is never executed. The model is placed on the device,
    or on several where one is too small. It computes in ``precision``; without one, as it is
    measured (see ``measured_in``).

    Raises:
        ModelError: Files are missing, truncated or of another kind, or the model is too large.
    """
    adapter = (folder / "adapter_config.json").is_file()
    weights: Any = {"use_safetensors": True, "trust_remote_code": False, "local_files_only": True}
    path = base if adapter else folder
    try:
        saved = saved_precision(path)
        dtype = computing(saved, precision) if precision else measured_in(saved)
        model = AutoModelForCausalLM.from_pretrained(
            path, dtype=dtype, device_map=_places(path), **weights
        )
        _check_places(model)
        if adapter:
            from peft import PeftModel  # slow to import, and most models have no adapter

            # merged, so that scoring is as fast as with the base model
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
    """Token ids of documents (BOS, text, EOS), each truncated to ``limit`` ids."""
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    return [[bos, *ids, eos][:limit] for ids in token_ids(tokenizer, texts)]


def token_ids(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    """Token ids of texts without BOS and EOS; a special token in a text is read as letters."""
    if not texts:
        return []
    encoded: list[list[int]] = tokenizer(
        texts, add_special_tokens=False, split_special_tokens=True
    ).input_ids
    # Unigram vocabularies may hold special tokens as words, which the tokenizer does not split.
    special = special_tokens(tokenizer) - {tokenizer.unk_token_id}
    if special.isdisjoint(i for ids in encoded for i in ids):
        return encoded
    letters = {i: _letters(tokenizer, i) for i in special}
    return [[letter for i in ids for letter in letters.get(i, [i])] for ids in encoded]


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Ids that stand for no text: BOS and other named ones, and all that decoding may skip."""
    added = tokenizer.added_tokens_decoder
    return {*tokenizer.all_special_ids, *(i for i, token in added.items() if token.special)}


def _letters(tokenizer: PreTrainedTokenizerBase, special: int) -> list[int]:
    """Ids of the letters of a special token, with the unknown token where a letter has none."""
    text = str(tokenizer.convert_ids_to_tokens(special))
    vocabulary, unknown = tokenizer.get_vocab(), tokenizer.unk_token_id
    ids = [vocabulary.get(letter, unknown) for letter in text]
    return [i for i in ids if i is not None]


def context(model: PreTrainedModel) -> int:
    """Most tokens of a document for a model: its context length, or ``LONGEST`` if smaller."""
    config = model.config.get_text_config()
    limits = [getattr(config, n, None) for n in ("max_position_embeddings", "context_length")]
    return min((LONGEST, *(limit for limit in limits if isinstance(limit, int) and limit > 0)))


def embedding_rows(model: PreTrainedModel) -> int:
    """Number of token ids that a model embeds; every id must be smaller."""
    return int(model.get_input_embeddings().num_embeddings)


def special_ids(config: PreTrainedConfig) -> set[int]:
    """Ids that a configuration names: BOS, EOS, padding and others."""
    named = [v for n, v in vars(config.get_text_config()).items() if n.endswith("token_id")]
    ids = [value for v in named for value in (v if isinstance(v, list) else [v])]
    return {value for value in ids if isinstance(value, int)}


# ---------------------------------------------------------------- devices and precision


def device() -> torch.device:
    """The accelerator of this process if there is one, else the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", PartialState().local_process_index)


def _places(folder: Path) -> str | dict[str, torch.device] | None:
    """The device map: this process's accelerator, or all of them where one is too small."""
    if not torch.cuda.is_available():
        return None
    free, _ = torch.cuda.mem_get_info(device())
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    alone = PartialState().num_processes == 1
    return "auto" if alone and torch.cuda.device_count() > 1 and 2 * size > free else {"": device()}


def _check_places(model: PreTrainedModel) -> None:
    """Raise ``ModelError`` where weights were placed off the accelerators."""
    places = {str(place) for place in getattr(model, "hf_device_map", {}).values()}
    if torch.cuda.is_available() and places & {"cpu", "disk"}:
        raise ModelError(
            f"a model of {model.num_parameters():,} weights does not fit into the memory of this "
            "machine's accelerators: take a smaller model, or a machine with more of them"
        )


def computing(saved: torch.dtype, precision: Precision) -> torch.dtype:
    """The type that saved weights compute in where models are sampled from, or trained.

    With bfloat16, an accelerator keeps weights that were saved as float16 in that type.
    """
    if precision == "bfloat16" and saved == torch.float16 and torch.cuda.is_available():
        return torch.float16
    return getattr(torch, precision)


def measured_in(saved: torch.dtype) -> torch.dtype:
    """The type in which a model is measured: its own on an accelerator, float32 on a CPU.

    An accelerator without bfloat16 takes float16. On a CPU measurements are few, and bfloat16 would
    change one answer in 200.
    """
    if not torch.cuda.is_available():
        return torch.float32
    if saved == torch.bfloat16 and not torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.float16
    return saved


def saved_precision(folder: Path) -> torch.dtype:
    """The type of the weights in a model folder by its configuration; float32 without one."""
    path = folder / "config.json"
    values = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    name = values.get("dtype") or values.get("torch_dtype") or "float32"
    return getattr(torch, name)


def computed_in(folders: Iterable[Path]) -> str:
    """Name of the type in which the model of the first folder is measured; float32 without one."""
    saved = [folder for folder in folders if (folder / "config.json").is_file()]
    return str(measured_in(saved_precision(saved[0])) if saved else torch.float32)[len("torch.") :]
