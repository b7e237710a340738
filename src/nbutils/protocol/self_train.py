"""Self-training: fine-tune a student on a corpus, with all weights or with a LoRA adapter."""

from pathlib import Path

import pandas as pd
import torch
from accelerate import PartialState
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nbutils.config.schema import Precision, Recipe, SelfTrain
from nbutils.protocol import lora, models, packing, training
from nbutils.runs.checkpoint import Checkpoint
from nbutils.runs.types import Progress


def read(
    inputs: dict[str, Path], recipe: Recipe, precision: Precision
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, packing.Packed]:
    """The student in a precision, its tokenizer, and the corpus, tokenized by it and packed.

    Raises:
        TrainingError: No document of the corpus has text.
    """
    model, tokenizer = models.load(inputs["student"], inputs["student"], precision)
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
    checkpoint = Checkpoint(out)
    if p.method == "lora":
        assert p.lora is not None
        model, tokenizer, rows = read(inputs, p.recipe, p.precision)
        model = lora.with_adapter(model.to(getattr(torch, p.precision)), p)
        changes = {"learning_rate": p.lora.learning_rate, "muon": None}
        recipe = p.recipe.model_copy(update=changes)
        losses = training.fit(model, rows, recipe, p.seed, progress, checkpoint, p.precision)
    else:
        model, tokenizer, rows = read(inputs, p.recipe, "float32")
        losses = training.fit(model, rows, p.recipe, p.seed, progress, checkpoint, p.precision)
    if not PartialState().is_main_process:
        return
    if p.method == "lora":
        lora.save(model, out)
    else:
        policy = models.bos_policy(inputs["student"])
        dtype = models.measured_in(models.saved_precision(inputs["student"]))
        models.save(model.to(dtype), tokenizer, out, policy.scoring, policy.extraction)
    training.write_curve(losses, out)


# --- Supporting code -------------------------------------------------------------------------
