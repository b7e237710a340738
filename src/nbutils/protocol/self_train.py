"""Self-training: fine-tune a student on a corpus, in full or through a LoRA adapter."""

from pathlib import Path

import pandas as pd
from accelerate import PartialState
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nbutils.config.schema import Recipe, SelfTrain
from nbutils.protocol import lora, models, packing, training
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
        model = lora.adapted(model.to(models.training_precision(dtype)), p)
        peak = {"learning_rate": p.lora.learning_rate, "muon": None}
        recipe = p.recipe.model_copy(update=peak)
        losses = training.fit(model, rows, recipe, p.seed, progress, **how)
    else:
        # updates add up in float32; what is saved is rounded to the student's own type again
        losses = training.fit(model.float(), rows, p.recipe, p.seed, progress, **how)
    if not PartialState().is_main_process:
        return
    if p.method == "lora":
        lora.save(model, out)
    else:
        policy = models.bos_policy(inputs["student"])
        models.save(model.to(dtype), tokenizer, out, policy.scoring, policy.extraction)
    training.write_curve(losses, out)


# --- Supporting code -------------------------------------------------------------------------
