"""Self-training: fine-tune a student on a corpus, with all weights or with a LoRA adapter."""

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
        model = lora.with_adapter(model.to(models.training_precision(dtype)), p)
        changes = {"learning_rate": p.lora.learning_rate, "muon": None}
        recipe = p.recipe.model_copy(update=changes)
        losses = training.fit(model, rows, recipe, p.seed, progress, **options)
    else:
        # updates accumulate in float32; saved weights are rounded to the student's own type again
        losses = training.fit(model.float(), rows, p.recipe, p.seed, progress, **options)
    if not PartialState().is_main_process:
        return
    if p.method == "lora":
        lora.save(model, out)
    else:
        policy = models.bos_policy(inputs["student"])
        models.save(model.to(dtype), tokenizer, out, policy.scoring, policy.extraction)
    training.write_curve(losses, out)


# --- Supporting code -------------------------------------------------------------------------
