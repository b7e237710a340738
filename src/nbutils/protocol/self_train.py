"""Self-training: fine-tune a student on a corpus, with all weights or with a LoRA adapter."""

import json
import re
from pathlib import Path

import pandas as pd
import torch
from accelerate import PartialState
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.pytorch_utils import Conv1D

from nbutils.config.schema import Recipe, SelfTrain
from nbutils.errors import UserError, first_line
from nbutils.protocol import forward, miniature, models, packing, training
from nbutils.runs.checkpoint import Checkpoint
from nbutils.runs.types import Progress


def read(
    inputs: dict[str, Path], recipe: Recipe
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, packing.Packed]:
    """The student, its tokenizer, and the corpus, tokenized by the student and packed.

    Raises:
        TrainingError: No document of the corpus has text.
    """
    model, tokenizer = models.load(inputs["student"], inputs["student"])
    corpus = pd.read_parquet(inputs["corpus"] / "corpus.parquet")
    texts = [t for t in corpus.text if t.strip()]
    rows = packing.read(model, tokenizer, texts, recipe.tokens_per_step)
    return model, tokenizer, rows


def run(p: SelfTrain, inputs: dict[str, Path], out: Path, progress: Progress) -> None:
    """Stage *self-train*: minimise the student's next-token loss on the documents of the corpus.

    Writes a model folder (``full``) or an adapter folder (``lora``), both as safetensors, and
    ``curve.parquet`` (step, loss in nats per token). LoRA: Hu et al. (2022).

    Raises:
        AdapterError: The model takes no adapter.
        TrainingError: No document of the corpus has text, or the loss is not finite.
    """
    model, tokenizer, rows = read(inputs, p.recipe)
    dtype = model.dtype
    options = {"checkpoint": Checkpoint(out), "precision": models.training_precision(dtype)}
    if p.method == "lora":
        assert p.lora is not None
        model = with_adapter(model.to(models.training_precision(dtype)), p)
        changes = {"learning_rate": p.lora.learning_rate, "muon": None}
        recipe = p.recipe.model_copy(update=changes)
        losses = training.fit(model, rows, recipe, p.seed, progress, **options)
    else:
        # updates accumulate in float32; saved weights are rounded to the student's own type again
        losses = training.fit(model.float(), rows, p.recipe, p.seed, progress, **options)
    if not PartialState().is_main_process:
        return
    if p.method == "lora":
        model.save_pretrained(out)
        _normalise_adapter(out)
    else:
        policy = models.bos_policy(inputs["student"])
        models.save(model.to(dtype), tokenizer, out, policy.scoring, policy.extraction)
    training.write_curve(losses, out)


# --- Supporting code -------------------------------------------------------------------------


class AdapterError(UserError):
    """A model takes no adapter."""


def with_adapter(model: PreTrainedModel, p: SelfTrain) -> PeftModel:
    """The student with an untrained LoRA adapter on every linear layer that can have one.

    Raises:
        AdapterError: The model's layers take no adapter.
    """
    assert p.lora is not None
    torch.manual_seed(p.seed)
    try:
        config = LoraConfig(
            r=p.lora.rank,
            lora_alpha=p.lora.alpha,
            target_modules="all-linear",
            exclude_modules=_unsupported(model) or None,
            task_type="CAUSAL_LM",
        )
        wrapped = get_peft_model(model, config)
        with torch.no_grad():
            forward.logits(wrapped, torch.full((1, 2), 3, device=model.device))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # peft and a model's own code may raise anything
        raise AdapterError(
            f"a {model.config.model_type} model takes no LoRA adapter ({first_line(error)}): use "
            "method full"
        ) from error
    return wrapped


def _unsupported(model: PreTrainedModel) -> list[str]:
    """Linear layers on which an adapter has no effect or fails, by their names within a layer.

    Of some, the model uses the weight without calling the forward pass (Mamba's ``dt_proj``); some
    return more than one tensor (routers of experts). A pass through a small copy of the
    architecture shows both. The last projection of a state-space layer is always included, because
    only the kernels of accelerators bypass its forward pass.
    """
    small = miniature.small_copy(model)
    linear = {n: m for n, m in small.named_modules() if isinstance(m, (nn.Linear, Conv1D))}
    returns_tensor: dict[str, bool] = {}
    for name, module in linear.items():
        module.register_forward_hook(
            lambda _, inputs, output, name=name: returns_tensor.update(
                {name: isinstance(output, torch.Tensor)}
            )
        )
    ids = torch.arange(16, device=small.device)[None] % models.embedding_rows(small)
    forward.logits(small, ids).sum().backward()
    unsupported = {
        name
        for name, module in linear.items()
        if not returns_tensor.get(name, module.weight.grad is None)
        or (name.endswith("out_proj") and _is_state_space(small.get_submodule(name[:-9])))
    }
    return sorted({re.sub(r"^.*\.\d+\.", "", name) for name in unsupported})


def _is_state_space(module: nn.Module) -> bool:
    return hasattr(module, "A_log") and hasattr(module, "D")


def _normalise_adapter(folder: Path) -> None:
    """Make peft's files the same on every machine: no local paths, and lists in order."""
    (folder / "README.md").unlink(missing_ok=True)  # the run's manifest documents the adapter
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text("utf-8"))
    config["base_model_name_or_path"] = None
    config["target_modules"].sort()
    path.write_text(json.dumps(config, indent=1, sort_keys=True), "utf-8")
