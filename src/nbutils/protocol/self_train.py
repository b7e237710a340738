"""Self-training: fine-tune a student on a corpus, in full or through a LoRA adapter."""

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
    """The student, its tokenizer, and the corpus as the student reads it.

    The corpus is text, so it is tokenized anew by the student.

    Raises:
        TrainingError: The corpus holds no usable document.
    """
    model, tokenizer = models.load(inputs["student"], inputs["student"])
    corpus = pd.read_parquet(inputs["corpus"] / "corpus.parquet")
    texts = [t for t in corpus.text if t.strip()]
    rows = packing.read(model, tokenizer, texts, recipe.tokens_per_step)
    return model, tokenizer, rows


def run(p: SelfTrain, inputs: dict[str, Path], out: Path, progress: Progress) -> None:
    """Stage *self-train*: the student's next-token loss on the corpus, document by document.

    Writes a model folder (``full``) or an adapter folder (``lora``), both as safetensors, and
    ``curve.parquet`` (step, loss in nats per token).

    Raises:
        TrainingError: The corpus holds no usable document, or the loss is not finite.
    """
    model, tokenizer, rows = read(inputs, p.recipe)
    dtype = model.dtype
    how = {"checkpoint": Checkpoint(out), "precision": models.training_precision(dtype)}
    if p.method == "lora":
        assert p.lora is not None
        model = adapted(model.to(models.training_precision(dtype)), p)
        peak = {"learning_rate": p.lora.learning_rate, "muon": None}
        recipe = p.recipe.model_copy(update=peak)
        losses = training.fit(model, rows, recipe, p.seed, progress, **how)
    else:
        # updates add up in float32; what is saved is rounded to the student's own type again
        losses = training.fit(model.float(), rows, p.recipe, p.seed, progress, **how)
    if not PartialState().is_main_process:
        return
    if p.method == "lora":
        model.save_pretrained(out)
        _settle(out)
    else:
        policy = models.bos_policy(inputs["student"])
        models.save(model.to(dtype), tokenizer, out, policy.scoring, policy.extraction)
    training.write_curve(losses, out)


# --- Supporting code -------------------------------------------------------------------------


class AdapterError(UserError):
    """A model takes no adapter."""


def adapted(model: PreTrainedModel, p: SelfTrain) -> PeftModel:
    """The student with an untrained LoRA adapter on every linear layer that can take one.

    Raises:
        AdapterError: Its layers cannot be wrapped.
    """
    assert p.lora is not None
    torch.manual_seed(p.seed)
    try:
        settings = LoraConfig(
            r=p.lora.rank,
            lora_alpha=p.lora.alpha,
            target_modules="all-linear",
            exclude_modules=_unreached(model) or None,
            task_type="CAUSAL_LM",
        )
        wrapped = get_peft_model(model, settings)
        with torch.no_grad():
            forward.logits(wrapped, torch.full((1, 2), 3, device=model.device))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # peft and a model's own code may raise anything
        raise AdapterError(
            f"a {model.config.model_type} model takes no LoRA adapter ({first_line(error)}): use "
            "the method full"
        ) from error
    return wrapped


def _unreached(model: PreTrainedModel) -> list[str]:
    """Linear layers that an adapter would not reach, by their names within a layer.

    Some are read past their own forward pass (Mamba's ``dt_proj``), some answer with more than one
    tensor (routers of experts). Found on a small copy of the architecture, by what a pass through
    it calls. The last projection of a state-space layer is one of them too, though only kernels of
    accelerators show it.
    """
    small = miniature.small_copy(model)
    linear = {n: m for n, m in small.named_modules() if isinstance(m, (nn.Linear, Conv1D))}
    answers: dict[str, bool] = {}
    for name, part in linear.items():
        part.register_forward_hook(
            lambda _, given, out, name=name: answers.update({name: isinstance(out, torch.Tensor)})
        )
    ids = torch.arange(16, device=small.device)[None] % models.embedding_rows(small)
    forward.logits(small, ids).sum().backward()
    left_out = {
        name
        for name, part in linear.items()
        if not answers.get(name, part.weight.grad is None)
        or (name.endswith("out_proj") and _is_state_space(small.get_submodule(name[:-9])))
    }
    return sorted({re.sub(r"^.*\.\d+\.", "", name) for name in left_out})


def _is_state_space(part: nn.Module) -> bool:
    return hasattr(part, "A_log") and hasattr(part, "D")


def _settle(folder: Path) -> None:
    """Make what peft writes of an adapter the same everywhere: no local paths, lists in order."""
    (folder / "README.md").unlink(missing_ok=True)  # the manifest says more
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text("utf-8"))
    config["base_model_name_or_path"] = None
    config["target_modules"].sort()
    path.write_text(json.dumps(config, indent=1, sort_keys=True), "utf-8")
