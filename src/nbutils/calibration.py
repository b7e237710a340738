"""Calibration: how fast this machine trains, reads and samples, within a few seconds."""

import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from nbutils import lineages, models, sampling, training
from nbutils.costs import Rates
from nbutils.params import PrepareModel, Recipe
from nbutils.runs import Manifest

SECONDS = 4.0
"""How long one measurement takes at least."""


def pace(manifest: Manifest) -> float:
    """How long this machine takes for what a recorded pre-training took a second for."""
    p = PrepareModel.model_validate(manifest.parameters)
    model = AutoModelForCausalLM.from_config(lineages.config(p)).to(models.device())
    here = _step_seconds(model, p.recipe, manifest.threads)
    return here * p.recipe.steps / manifest.wall_seconds


def rates(threads: int) -> Rates:
    """Train and sample with a small model of random weights."""
    large = torch.cuda.is_available()  # small matrices would not fill an accelerator
    config = LlamaConfig(
        hidden_size=1024 if large else 256,
        intermediate_size=4096 if large else 1024,
        num_hidden_layers=8 if large else 4,
        num_attention_heads=8 if large else 4,
        vocab_size=4096,
        max_position_embeddings=128,
    )
    model = AutoModelForCausalLM.from_config(config).to(models.device())
    weights = sum(w.numel() for w in model.parameters())
    recipe = Recipe.model_validate({"steps": 1, "tokens_per_step": 4096, "learning_rate": 0.0})
    step = _step_seconds(model, recipe, threads)
    generator = torch.Generator(device=model.device).manual_seed(0)
    rows, tokens = 64, 32

    def sample(times: int) -> None:
        for _ in range(times):  # EOS lies outside the vocabulary: every row is full
            sampling.sample_batch(model.eval(), 0, -1, 1.0, rows, tokens, generator)

    # a training step reads forward once and backward at twice the cost
    reading = step / recipe.tokens_per_step / 3 / weights
    return Rates(reading, _seconds_each(sample) / (rows * tokens) / weights)


def _step_seconds(model: PreTrainedModel, recipe: Recipe, threads: int) -> float:
    """Seconds of a training step on random tokens."""
    length = model.config.max_position_embeddings
    ids: list[list[int]] = torch.randint(2, model.config.vocab_size, (64, length)).tolist()
    packed = training.pack(ids, 2 * length, 0)

    usual = models.training_precision(models.precision(torch.bfloat16))  # of published models

    def train(steps: int) -> None:
        several = recipe.model_copy(update={"steps": steps})
        training.fit(model, packed, several, 0, lambda share: None, precision=usual)

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return _seconds_each(train)
    finally:
        torch.set_num_threads(before)


def _seconds_each(repeat: Callable[[int], Any]) -> float:
    """Seconds of one repetition: doubled until it takes ``SECONDS``, the first one not counted."""
    repeat(1)
    times = 1
    while True:
        started = time.monotonic()
        repeat(times)
        seconds = time.monotonic() - started
        if seconds >= SECONDS:
            return seconds / times
        times *= 2
