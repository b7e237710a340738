"""The stopwatch: measure, within seconds, how fast this machine trains, reads and samples.

Workers compute several runs in parallel, which share caches, memory and often the cores: each run
is slower than it would be alone. So other processes train during the measurement, as they will
during the runs.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from nbutils.config.schema import Precision, PrepareModel, Recipe
from nbutils.protocol import models, packing, prepare_model, sample_corpus, training
from nbutils.runs import environment
from nbutils.runs.types import Manifest

SECONDS = 1.0
"""Shortest duration of one measurement."""
STARTING = 60.0
"""Longest time to wait until another process trains, in seconds."""
RECIPE = Recipe.model_validate({"steps": 1, "tokens_per_step": 1024, "learning_rate": 0.0})


def pace(manifest: Manifest, workers: int) -> float:
    """See ``calibration.pace``."""
    p = PrepareModel.model_validate(manifest.parameters)
    model = AutoModelForCausalLM.from_config(prepare_model.config(p)).to(models.device())
    with _others_training(workers - 1, manifest.threads):
        seconds = _step_seconds(model, p.recipe, manifest.threads)
    return seconds * p.recipe.steps / manifest.seconds


def rates(threads: int, workers: int) -> list[float]:
    """See ``calibration.rates``."""
    model = _model()
    weights = sum(w.numel() for w in model.parameters())
    rows, tokens = 64, 32
    numbers = sample_corpus.random_numbers(0, range(rows), tokens).to(model.device)

    def sample(times: int) -> None:
        for _ in range(times):  # EOS -1 is not in the vocabulary: every document has all tokens
            sample_corpus.sample_batch(model.eval(), 0, -1, 1.0, numbers)

    with _others_training(workers - 1, threads):
        step, sampled = _step_seconds(model, RECIPE, threads), _seconds_each(sample)
    # a training step is one forward pass, and a backward pass at twice its cost
    reading = step / RECIPE.tokens_per_step / 3 / weights
    return [reading, sampled / (rows * tokens) / weights]


@contextmanager
def _others_training(others: int, threads: int) -> Iterator[None]:
    """Let other processes train in the meantime; none on an accelerator, which takes one run."""
    if torch.cuda.is_available():
        others = 0
    context = get_context("spawn")
    training_now = [context.Event() for _ in range(others)]
    processes = [
        context.Process(target=_train_on, args=(threads, event), daemon=True)
        for event in training_now
    ]
    for process in processes:
        process.start()
    try:
        for event in training_now:
            event.wait(STARTING)
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


def _train_on(threads: int, training_now: Event) -> None:
    """Train until this process is killed; set the event after the first measurement."""
    model = _model()
    while True:
        _step_seconds(model, RECIPE, threads)
        training_now.set()


def _model() -> PreTrainedModel:
    """A model with random weights on the device; larger ones take as long per weight."""
    large = torch.cuda.is_available()  # small matrices would leave an accelerator idle
    config = LlamaConfig(
        hidden_size=1024 if large else 512,
        intermediate_size=4096 if large else 2048,
        num_hidden_layers=8 if large else 6,
        num_attention_heads=8,
        vocab_size=16384,
        max_position_embeddings=128,
    )
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config).to(models.device())
    return model


def _step_seconds(model: PreTrainedModel, recipe: Recipe, threads: int) -> float:
    """Seconds per training step on random tokens."""
    length = model.config.max_position_embeddings
    ids: list[list[int]] = torch.randint(2, model.config.vocab_size, (64, length)).tolist()
    packed = packing.pack(ids, 2 * length, 0)

    precision: Precision = "bfloat16" if environment.fast_bfloat16() else "float32"

    def train(steps: int) -> None:
        repeated = recipe.model_copy(update={"steps": steps})
        training.fit(model, packed, repeated, 0, lambda share: None, precision=precision)

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return _seconds_each(train)
    finally:
        torch.set_num_threads(before)


def _seconds_each(repeat: Callable[[int], Any]) -> float:
    """Seconds per repetition, after one to warm up; as many as take ``SECONDS``."""
    # the CPU time of one thread, as in a manifest: other work on the machine does not count
    clock = time.monotonic if torch.cuda.is_available() else time.thread_time
    repeat(1)
    times = 1
    while True:
        started = clock()
        repeat(times)
        seconds = clock() - started
        if seconds >= SECONDS:
            return seconds / times
        times *= 2
