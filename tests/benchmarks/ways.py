"""What is timed on an accelerator: sampling, training and scoring, our way and the peers' ways.

Every contest yields a row per way: its rate, the share of what the machine could do, peak memory.
A way that fails is a row, too. Rates are those of one warmed-up run; of training, of the median
step.
"""

import contextlib
import copy
import gc
import io
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from itertools import pairwise
from statistics import median
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM
from transformers import (
    ContinuousBatchingConfig,
    GenerationConfig,
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    default_data_collator,
)

from benchmarks import shapes
from benchmarks.shapes import BOS, EOS, Request, Size
from nbutils.config.schema import Recipe
from nbutils.errors import first_line
from nbutils.protocol import models, packing, proofs, sample_corpus, training, tree_scorer
from nbutils.protocol.packing import IGNORED, Packed
from nbutils.runs import environment
from support import tiny

Row = dict[str, Any]
WARM = 2  # training steps, or tokens of a document


def seconds(work: Callable[[], Any]) -> float:
    """Wall-clock time of some work, with the accelerator waited for."""
    wait()
    started = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - started


def wait() -> None:
    """Wait until the accelerator has done what it was asked to."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def contests(name: str, size: Size, peak: dict[str, float]) -> Iterator[Row]:
    """All contests on one model; ``peak`` has the machine's ``flops`` and ``bandwidth``."""
    model = shapes.model(name, size)
    right = asdict(proofs.shortcuts(model))
    yield {"weights": model.num_parameters(), "dtype": str(model.dtype), "shortcuts": right}
    for contest in (sampled, trained, scored, compiled):
        yield from contest(model, size, peak)


def measured(stage: str, way: str, measure: Callable[[], Row]) -> Row:
    """The row of one way, with peak memory, MiB, or with the error that ended it."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    memory = environment.PeakMemory()
    row = {"stage": stage, "way": way}
    try:
        return row | measure() | {"memory_mib": round(memory.mib())}
    except Exception as error:  # a peer may raise anything
        return row | {"error": f"{type(error).__name__}: {first_line(error)}"[:300]}


# ---------------------------------------------------------------- sampling


def sampled(model: PreTrainedModel, size: Size, peak: dict[str, float]) -> Iterator[Row]:
    """One batch of documents from BOS, whose tokens count up to EOS."""
    ways: dict[str, Callable[[Size], list[int]]] = {
        "ours": partial(sample, model),
        "generate": partial(generate, model, None),
        "generate_batch": partial(generate_batch, model),
    }
    warm = replace(size, longest=8)
    for name, way in ways.items():
        yield measured("sampling", name, partial(_sampled, model, way, warm, size, peak))


def compiled(model: PreTrainedModel, size: Size, peak: dict[str, float]) -> Iterator[Row]:
    """``generate`` with a static cache, for whose length it is compiled, which may take minutes."""
    way = partial(generate, model, "static")
    measure = partial(_sampled, model, way, size, size, peak)
    yield measured("sampling", "generate, static cache", measure)


def _sampled(
    model: PreTrainedModel,
    way: Callable[[Size], list[int]],
    warm: Size,
    size: Size,
    peak: dict[str, float],
) -> Row:
    """Tokens per second, and the share of the time in which weights and cache could be read."""
    way(warm)
    lengths: list[int] = []
    spent = seconds(lambda: lengths.extend(way(size)))
    read = shapes.multiplied(model) * model.dtype.itemsize * max(lengths)
    read += shapes.cached(model) * sum(n * (n + 1) // 2 for n in lengths)
    return {
        "rows": size.rows,
        "tokens": sum(lengths),
        "longest": max(lengths),
        "seconds": spent,
        "rate": sum(lengths) / spent,
        "of_bandwidth": read / peak["bandwidth"] / spent,
    }


def sample(model: PreTrainedModel, size: Size) -> list[int]:
    """One batch as the stage samples it; the tokens of each document."""
    numbers = sample_corpus.random_numbers(0, range(size.rows), size.longest).to(model.device)
    found = sample_corpus.sample_batch(model, BOS, EOS, 1.0, numbers)
    return [len(ids) for ids, _ in found]


def generate(model: PreTrainedModel, cache: str | None, size: Size) -> list[int]:
    """``generate`` with its growing cache, or with another; the tokens of each document."""
    prompt = torch.full((size.rows, 1), BOS, device=model.device)
    settings = _settings(size, cache_implementation=cache)
    with torch.inference_mode():
        out = model.generate(prompt, settings, attention_mask=torch.ones_like(prompt))
    ended = (out[:, 1:] == EOS).int()
    first = torch.where(ended.any(1), ended.argmax(1) + 1, ended.shape[1])
    return [int(n) for n in first]


def generate_batch(model: PreTrainedModel, size: Size) -> list[int]:
    """``generate_batch`` (continuous batching); the tokens of each document."""
    slots = ContinuousBatchingConfig()
    if model.device.type == "cpu":  # its own settings would fill half of the memory
        slots = ContinuousBatchingConfig(page_size=32, num_blocks=64, max_batch_tokens=32)
    # it changes the attention of the model that it is given
    found = copy.copy(model).generate_batch([[BOS]] * size.rows, _settings(size), slots)
    return [len(document.generated_tokens) for document in found.values()]


def _settings(size: Size, **changes: Any) -> GenerationConfig:
    """Plain sampling at temperature 1."""
    ends = {"max_new_tokens": size.longest, "eos_token_id": EOS, "pad_token_id": EOS}
    return GenerationConfig(do_sample=True, top_k=0, **ends, **changes)


# ---------------------------------------------------------------- training


class Clock(TrainerCallback):
    """The moments at which training steps end."""

    def __init__(self) -> None:
        self.ticks: list[float] = []

    def tick(self, *_: Any, **__: Any) -> None:
        wait()
        self.ticks.append(time.perf_counter())

    on_step_end = tick

    def step(self) -> float:
        """Seconds of the median step after the first ones, which warm up."""
        after = self.ticks[WARM - 1 :]
        return median(b - a for a, b in pairwise(after))


def trained(model: PreTrainedModel, size: Size, peak: dict[str, float]) -> Iterator[Row]:
    """Steps on packed documents, with float32 weights and products in bfloat16."""
    written = shapes.documents(model, size, size.steps)
    length = packing.row_length(max(map(len, written)), size.tokens_per_step)
    rows = packing.pack(written, length, EOS)
    for name, way in {"ours": fit, "Trainer, packed rows": trainer}.items():
        yield measured("training", name, partial(_trained, model, way, rows, size, peak))


def _trained(
    model: PreTrainedModel,
    way: Callable[[PreTrainedModel, Packed, Size, Clock], Row],
    rows: Packed,
    size: Size,
    peak: dict[str, float],
) -> Row:
    """Tokens per second, and the share of the peak without the operations of attention (MFU)."""
    clock = Clock()
    facts = way(copy.deepcopy(model).float(), rows, size, clock)
    rate = size.tokens_per_step / clock.step()
    share = 6 * shapes.multiplied(model) * rate / peak["flops"]
    filled = float((rows.labels != IGNORED).double().mean())
    return {"step": clock.step(), "rate": rate, "of_peak": share, "filled": filled, **facts}


def fit(model: PreTrainedModel, rows: Packed, size: Size, clock: Clock) -> Row:
    """The loop that pre-training and self-training share."""
    values = {"steps": size.steps, "tokens_per_step": size.tokens_per_step, "learning_rate": 1e-5}
    recipe = Recipe.model_validate(values)
    losses = training.fit(model, rows, recipe, 0, clock.tick, precision="bfloat16")
    return {"loss": losses[-1], "rows": packing.rows_at_once(model, rows.ids.shape[1])}


def trainer(model: PreTrainedModel, rows: Packed, size: Size, clock: Clock) -> Row:
    """``Trainer`` with bf16 on the same rows, as many of them at once as memory takes."""
    assert rows.positions is not None
    unshifted = rows.labels.roll(1, dims=1)  # transformers shifts labels itself
    columns = {"input_ids": rows.ids, "position_ids": rows.positions, "labels": unshifted}
    dataset: Any = [{name: x[i] for name, x in columns.items()} for i in range(len(rows.ids))]
    at_once = per_step = size.tokens_per_step // rows.ids.shape[1]
    while True:
        clock.ticks.clear()
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            arguments = TrainingArguments(
                folder,
                per_device_train_batch_size=at_once,
                gradient_accumulation_steps=per_step // at_once,
                max_steps=size.steps,
                learning_rate=1e-5,
                bf16=True,
                report_to=[],
                save_strategy="no",
                logging_strategy="no",
                disable_tqdm=True,
                use_cpu=not torch.cuda.is_available(),
            )
            try:
                done = Trainer(
                    model=model,
                    args=arguments,
                    train_dataset=dataset,
                    data_collator=default_data_collator,
                    callbacks=[clock],
                ).train()
                return {"loss": done.training_loss, "rows": at_once}
            except torch.OutOfMemoryError:
                if at_once == 1:
                    raise
        at_once //= 2
        model.zero_grad()
        torch.cuda.empty_cache()


# ---------------------------------------------------------------- scoring


def scored(model: PreTrainedModel, size: Size, peak: dict[str, float]) -> Iterator[Row]:
    """Items of four choices, given as token ids."""
    work = shapes.requests(model, size.items)
    tokens = sum(len(before) + len(end) for _, before, end in work)
    views = {"ours": partial(tree_scorer.scorer, model, tiny.tokenizer())}
    for batch in ("auto", 64):
        views[f"lm-eval, batch {batch}"] = partial(lm_eval, model, batch)
    for name, view in views.items():
        yield measured("scoring", name, partial(_scored, view, work)) | {"tokens": tokens}


def _scored(view: Callable[[], HFLM], work: list[Request]) -> Row:
    """Items per second."""
    made = view()
    made._loglikelihood_tokens(work[:8], disable_tqdm=True)  # warms up
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        spent = seconds(lambda: made._loglikelihood_tokens(work, disable_tqdm=True))
    return {"items": len(work) // 4, "seconds": spent, "rate": len(work) / 4 / spent}


def lm_eval(model: PreTrainedModel, batch: int | str) -> HFLM:
    """lm-eval's own view of a model in memory, so many requests at a time."""
    return HFLM(
        pretrained=model,
        tokenizer=tiny.tokenizer(),
        max_length=models.context(model),
        batch_size=batch,
        add_bos_token=True,
    )
