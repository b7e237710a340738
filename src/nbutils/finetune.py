"""Self-training: fine-tune a student on a corpus, in full or through a LoRA adapter."""

from pathlib import Path

import pandas as pd
import torch
from peft import LoraConfig, get_peft_model

from nbutils import models, training
from nbutils.params import SelfTrain


def train(p: SelfTrain, inputs: dict[str, Path], out: Path, progress: training.Progress) -> None:
    """Stage *self-train*: the student's next-token loss on the corpus, document by document.

    The corpus is text, so it is tokenized anew by the student. Writes a model folder (``full``)
    or an adapter folder (``lora``), both as safetensors, and ``curve.parquet`` (step, loss in
    nats per token).

    Raises:
        TrainingError: The corpus holds no usable document, or the loss is not finite.
    """
    model, tokenizer = models.load(inputs["student"], inputs["student"])
    context = model.config.max_position_embeddings
    corpus = pd.read_parquet(inputs["corpus"] / "corpus.parquet")
    texts = [t for t in corpus.text if t.strip()]
    rows = training.pack(
        models.encode(tokenizer, texts, context), 2 * context, tokenizer.eos_token_id
    )
    recipe = p.recipe
    trained = model
    if p.method == "lora":
        assert p.lora is not None
        torch.manual_seed(p.seed)
        trained = get_peft_model(
            model,
            LoraConfig(
                r=p.lora.rank,
                lora_alpha=p.lora.alpha,
                target_modules="all-linear",
                task_type="CAUSAL_LM",
            ),
        )
        recipe = recipe.model_copy(update={"learning_rate": p.lora.learning_rate, "muon": None})
    trained.to(models.device())
    losses = training.fit(trained, rows, recipe, p.seed, progress)
    if p.method == "lora":
        trained.save_pretrained(out)
        # peft's model card quotes local paths; the manifest says more
        (out / "README.md").unlink(missing_ok=True)
    else:
        models.save(trained, tokenizer, out)
    pd.DataFrame({"step": range(1, len(losses) + 1), "loss": losses}).to_parquet(
        out / "curve.parquet", index=False
    )
