"""Self-training: fine-tune a student on a corpus, in full or through a LoRA adapter."""

import json
from pathlib import Path

import pandas as pd
import torch
from accelerate import PartialState
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nbutils import models, training
from nbutils.checkpoints import Checkpoint
from nbutils.params import SelfTrain
from nbutils.runs import Progress


def read(
    inputs: dict[str, Path],
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, training.Packed]:
    """The student, its tokenizer, and the corpus as the student reads it.

    The corpus is text, so it is tokenized anew by the student.

    Raises:
        TrainingError: The corpus holds no usable document.
    """
    model, tokenizer = models.load(inputs["student"], inputs["student"])
    corpus = pd.read_parquet(inputs["corpus"] / "corpus.parquet")
    rows = training.read(model, tokenizer, [t for t in corpus.text if t.strip()])
    return model, tokenizer, rows


def adapted(model: PreTrainedModel, p: SelfTrain) -> PeftModel:
    """The student with an untrained LoRA adapter on every linear layer that can take one."""
    assert p.lora is not None
    torch.manual_seed(p.seed)
    settings = LoraConfig(
        r=p.lora.rank,
        lora_alpha=p.lora.alpha,
        target_modules="all-linear",
        # Mamba's kernels read this weight past the layer that an adapter would wrap.
        exclude_modules=["out_proj"] if "mamba" in model.config.model_type else None,
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, settings)


def train(p: SelfTrain, inputs: dict[str, Path], out: Path, progress: Progress) -> None:
    """Stage *self-train*: the student's next-token loss on the corpus, document by document.

    Writes a model folder (``full``) or an adapter folder (``lora``), both as safetensors, and
    ``curve.parquet`` (step, loss in nats per token).

    Raises:
        TrainingError: The corpus holds no usable document, or the loss is not finite.
    """
    model, tokenizer, rows = read(inputs)
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
        models.save(model.to(dtype), tokenizer, out)
    training.write_curve(losses, out)


def _settle(folder: Path) -> None:
    """Make what peft writes of an adapter the same everywhere: no local paths, lists in order."""
    (folder / "README.md").unlink(missing_ok=True)  # the manifest says more
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text("utf-8"))
    config["base_model_name_or_path"] = None
    config["target_modules"].sort()
    path.write_text(json.dumps(config, indent=1, sort_keys=True), "utf-8")
