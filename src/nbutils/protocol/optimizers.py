"""Optimizers and the learning-rate schedule of a training."""

import torch
from transformers import PreTrainedModel

from nbutils.config.schema import Recipe
from nbutils.protocol.muon import Muon


def make_optimizers(
    model: PreTrainedModel, recipe: Recipe, precision: torch.dtype = torch.float32
) -> list[torch.optim.Optimizer]:
    """AdamW for all trained weights; with ``recipe.muon``, Muon for the hidden matrices.

    Embeddings, norms and biases stay with AdamW. Muon computes in ``precision``.
    """
    trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    muon = recipe.muon or 0.0
    hidden = [p for n, p in trained if muon and p.ndim == 2 and "embed" not in n]
    others = [p for _, p in trained if all(p is not h for h in hidden)]
    adamw = torch.optim.AdamW(
        others,
        lr=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        betas=(0.9, 0.95),
        fused=True,
    )
    if not hidden:
        return [adamw]
    return [adamw, Muon(hidden, muon, precision)]


def learning_rates(
    optimizer: torch.optim.Optimizer, recipe: Recipe
) -> torch.optim.lr_scheduler.LambdaLR:
    """Learning-rate schedule: linear warm-up to the optimizer's rate, linear decay to zero."""
    warmup = round(recipe.warmup * recipe.steps)

    def share_of_peak(step: int) -> float:
        rising, steps_left = (step + 1) / (warmup + 1), recipe.steps - step
        return min(rising, steps_left / max(1, recipe.steps - warmup))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, share_of_peak)
