"""What is timed: our way and what a user would otherwise run, each of them at its best.

All ways of a contest do the same work with the same weights: those of the book's own model, on its
own corpus and suite. A way does its work once, and returns how much of it there was.
"""

import contextlib
import copy
import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import lm_eval
import pandas as pd
import torch
from datasets import Dataset
from lm_eval.models.huggingface import HFLM
from peft import LoraConfig, get_peft_model
from transformers import (
    ContinuousBatchingConfig,
    DataCollatorWithFlattening,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
    default_data_collator,
)

from nbutils.config.schema import Precision, Recipe
from nbutils.config.tiers import Tier
from nbutils.protocol import (
    forward,
    measure_utility,
    models,
    packing,
    prepare_benchmarks,
    sample_corpus,
    training,
    tree_scorer,
)
from nbutils.protocol.packing import IGNORED, Packed
from nbutils.results.project import Project
from nbutils.runs import environment

MODEL = "neox-small"
SLOTS = 32
"""Documents that continuous batching holds at a time on a CPU: the fastest of 16 to 256 there."""


@dataclass(frozen=True)
class Way:
    """One way to do the work of a contest; ``work`` returns its amount, in tokens or items.

    ``model`` is read, or a copy of it that the work makes.
    """

    name: str
    work: Callable[[], int]
    model: PreTrainedModel
    ours: bool = False
    precision: Precision = "float32"


@dataclass(frozen=True)
class Contest:
    """Ways to do the same work.

    ``batch`` is how many rows the book's way hands to a matrix product at a time, and ``passes``
    how often every weight meets a token: once in reading, three times in training. ``own`` says
    whether the book does it so; the peers may do it otherwise if that is faster for them.
    """

    stage: str
    task: str
    batch: int
    ways: list[Way]
    passes: int = 1
    own: bool = True


@dataclass(frozen=True)
class Material:
    """The book's own model, the corpus it wrote, as texts, and the suite's folder.

    ``in_bfloat16`` is the same model, None where that is no faster.
    """

    tier: Tier
    model: PreTrainedModel
    in_bfloat16: PreTrainedModel | None
    tokenizer: PreTrainedTokenizerBase
    texts: list[str]
    suite: Path


def material(project: Project, tier: str) -> Material:
    """What a tier makes of ``MODEL``; what is missing is computed into the project's store."""
    plan = project.plan(tier)
    suite, source, corpus = plan.suite(), plan.model(MODEL), plan.corpus(MODEL, 1.0, 0)
    project.compute_all([suite, corpus], plan.tier.threads)
    folder = project.store.path(source)
    model, tokenizer = models.load(folder, folder, "float32")
    faster = environment.fast_bfloat16()
    in_bfloat16 = models.load(folder, folder, "bfloat16")[0] if faster else None
    texts = pd.read_parquet(project.store.path(corpus) / "corpus.parquet").text
    written = [text for text in texts if text.strip()]
    place = project.store.path(suite)
    return Material(plan.tier, model, in_bfloat16, tokenizer, written, place)


# ---------------------------------------------------------------- sampling


def sampled(of: Material, rows: int) -> Contest:
    """So many documents from BOS, whose tokens count up to EOS."""
    ways = _sampled(of, rows, "float32")
    if of.in_bfloat16:
        ways += _sampled(replace(of, model=of.in_bfloat16), rows, "bfloat16")
    own = rows == of.tier.corpus.batch_size
    return Contest("sampling", "documents", rows, ways, own=own)


def _sampled(of: Material, rows: int, precision: Precision) -> list[Way]:
    works = {
        "generate": partial(generate, of, rows, None),
        "generate, static cache": partial(generate, of, rows, "static"),
        "generate_batch": partial(generate_batch, of, rows),
        "ours": partial(sample, of, rows),
    }
    end = "" if precision == "float32" else f", {precision}"
    return [Way(n + end, work, of.model, n == "ours", precision) for n, work in works.items()]


def generate(of: Material, rows: int, cache: str | None) -> int:
    """``generate``, with its growing cache or with another; tokens in documents."""
    prompt = torch.full((rows, 1), of.tokenizer.bos_token_id, device=of.model.device)
    settings = _settings(of, {"cache_implementation": cache} if cache else {})
    with torch.inference_mode():
        out = of.model.generate(prompt, settings, attention_mask=torch.ones_like(prompt))
    ended = (out[:, 1:] == of.tokenizer.eos_token_id).int()
    first = torch.where(ended.any(1), ended.argmax(1) + 1, ended.shape[1])
    return int(first.sum())


def generate_batch(of: Material, rows: int) -> int:
    """``generate_batch``: continuous batching, in which a new document takes an ended one's place.

    On a CPU its own settings would fill more than half of the memory with an empty cache.
    """
    slots = ContinuousBatchingConfig()
    if of.model.device.type == "cpu":
        slots = ContinuousBatchingConfig(
            page_size=of.tier.context,
            num_blocks=2 * SLOTS,
            max_batch_tokens=SLOTS,
            max_requests_per_batch=SLOTS,
            allow_block_sharing=False,
        )
    prompts = [[of.tokenizer.bos_token_id]] * rows
    found = of.model.generate_batch(prompts, _settings(of, {}), slots)
    return sum(len(document.generated_tokens) for document in found.values())


def _settings(of: Material, changes: dict[str, Any]) -> GenerationConfig:
    """Plain sampling at temperature 1, up to the model's context."""
    eos = of.tokenizer.eos_token_id
    length = {"max_new_tokens": of.tier.context - 1, "eos_token_id": eos, "pad_token_id": eos}
    return GenerationConfig(do_sample=True, top_k=0, **length, **changes)


def sample(of: Material, rows: int) -> int:
    """One batch as the stage samples it; tokens in documents."""
    tokenizer, device = of.tokenizer, of.model.device
    numbers = sample_corpus.random_numbers(0, range(rows), of.tier.context - 1).to(device)
    never = sample_corpus.textless(tokenizer, models.embedding_rows(of.model)).to(device)
    ends = tokenizer.bos_token_id, tokenizer.eos_token_id
    found = sample_corpus.sample_batch(of.model, *ends, 1.0, numbers, never)
    return sum(len(ids) for ids, _ in found)


# ---------------------------------------------------------------- training


def trained(of: Material, steps: int, lora: bool) -> Contest:
    """So many steps on the model's own corpus; the tokens that are predicted count."""
    recipe = of.tier.self_train.model_copy(update={"steps": steps})
    limit = min(of.tier.context, recipe.tokens_per_step)
    documents = models.encode(of.tokenizer, of.texts, limit)
    length = packing.row_length(max(map(len, documents)), recipe.tokens_per_step)
    rows_per_step = recipe.tokens_per_step // length
    rows = packing.pack(documents, length, of.tokenizer.eos_token_id)
    assert rows.positions is not None
    used = slice(steps * rows_per_step)
    rows = Packed(rows.ids[used], rows.positions[used], rows.labels[used])
    work = Work(of, recipe, lora, documents, rows)
    works: list[tuple[str, Callable[[], int], Precision]] = [
        ("Trainer", work.padded, "float32"),
        ("Trainer, grouped by length", partial(work.padded, "group_by_length"), "float32"),
        ("Trainer, flattened batches", work.flattened, "float32"),
        ("Trainer, packed rows", work.packed, "float32"),
        ("ours", work.ours, "float32"),
    ]
    if of.in_bfloat16:
        works += [
            ("Trainer, packed rows, bfloat16", partial(work.packed, bf16=True), "bfloat16"),
            ("ours, bfloat16", partial(work.ours, "bfloat16"), "bfloat16"),
        ]
    ways = [Way(n, each, of.model, n.startswith("ours"), p) for n, each, p in works]
    # the gradient of frozen weights is not computed
    task, passes = ("LoRA", 2) if lora else ("all weights", 3)
    return Contest("training", task, recipe.tokens_per_step, ways, passes)


@dataclass(frozen=True)
class Work:
    """A fine-tune of some steps, on whole documents or on the rows that hold them packed."""

    of: Material
    recipe: Recipe
    lora: bool
    documents: list[list[int]]
    rows: Packed

    def padded(self, strategy: str = "random") -> int:
        """``Trainer`` on batches that are padded to their longest document."""
        return self._documents(self._pad, train_sampling_strategy=strategy)

    def flattened(self) -> int:
        """``Trainer`` with its collator that makes one row of the documents of a batch."""
        return self._documents(DataCollatorWithFlattening())

    def packed(self, bf16: bool = False) -> int:
        """``Trainer`` on packed rows, in which position ids restart at every document."""
        own = [self.rows.ids, self.rows.positions, self.rows.labels.roll(1, dims=1)]
        names = ("input_ids", "position_ids", "labels")
        dataset = {name: x.tolist() for name, x in zip(names, own, strict=True) if x is not None}
        per_step = len(self.rows.ids) // self.recipe.steps
        self._train(dataset, per_step, default_data_collator, bf16=bf16)
        return self._labels()

    def ours(self, precision: Precision = "float32") -> int:
        """The loop of pre-training and self-training; frozen weights are kept in the precision."""
        student = self._student(getattr(torch, precision) if self.lora else torch.float32)
        training.fit(student, self.rows, self.recipe, 0, _silent, precision=precision)
        return self._labels()

    def _documents(self, collator: Any, **settings: Any) -> int:
        """Train on as many documents as the packed rows hold; return the predicted tokens."""
        held = int((self.rows.labels != IGNORED).sum())
        mean = sum(len(d) - 1 for d in self.documents) / len(self.documents)
        per_step = max(1, round(held / mean / self.recipe.steps))
        used = self.documents[: per_step * self.recipe.steps]
        self._train({"input_ids": used}, per_step, collator, **settings)
        return sum(len(document) - 1 for document in used)

    def _train(self, rows: dict[str, Any], per_step: int, collator: Any, **settings: Any) -> None:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            arguments = TrainingArguments(
                folder,
                per_device_train_batch_size=per_step,
                max_steps=self.recipe.steps,
                learning_rate=self.recipe.learning_rate,
                report_to=[],
                save_strategy="no",
                logging_strategy="no",
                disable_tqdm=True,
                use_cpu=not torch.cuda.is_available(),
                **settings,
            )
            dataset = Dataset.from_dict(rows)
            Trainer(self._student(), arguments, collator, dataset).train()

    def _student(self, kept: torch.dtype = torch.float32) -> Any:
        fresh = copy.deepcopy(self.of.model).to(kept)
        settings = LoraConfig(
            r=self.of.tier.lora.rank,
            lora_alpha=self.of.tier.lora.alpha,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        )
        return get_peft_model(fresh, settings) if self.lora else fresh

    def _labels(self) -> int:
        return int((self.rows.labels != IGNORED).sum())

    def _pad(self, rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        """The collator of transformers for language models: padding is no label."""
        longest = max(len(row["input_ids"]) for row in rows)
        ids = torch.full((len(rows), longest), self.of.tokenizer.eos_token_id)
        labels, mask = torch.full_like(ids, IGNORED), torch.zeros_like(ids)
        for at, row in enumerate(rows):
            end = len(row["input_ids"])
            ids[at, :end] = labels[at, :end] = torch.tensor(row["input_ids"])
            mask[at, :end] = 1
        return {"input_ids": ids, "labels": labels, "attention_mask": mask}


def _silent(share: float) -> None:
    """Report no progress."""


# ---------------------------------------------------------------- scoring


def scored(of: Material, items: int) -> Contest:
    """The first ``items`` items of each task of the suite.

    lm-eval's cache of logits (version 0.4.13) answers some items for others of the same tokens. It
    is on unless turned off, so it is timed; the answers without it are ours.
    """
    sizes: list[int | str] = [1, "auto", 16, 64]
    works = [(f"lm-eval, batch {size}", partial(_lm_eval, of, items, size)) for size in sizes]
    plain = partial(_lm_eval, of, items, 16, cache=False)
    works.append(("lm-eval, batch 16, no logits cache", plain))
    ways = [Way(name, work, of.model) for name, work in works]
    ways.append(Way("ours, first of its tokenizer", partial(_first, of, items), of.model, True))
    ways.append(Way("ours", lambda: len(score(of, items)), of.model, True))
    return Contest("scoring", "suite", forward.TREE_TOKENS, ways)


def _first(of: Material, items: int) -> int:
    """As ``score``, for the first model with this tokenizer: the suite is encoded and planned."""
    tree_scorer._PLANNED.clear()
    return len(score(of, items))


def _lm_eval(of: Material, items: int, size: int | str, cache: bool = True) -> int:
    return len(lm_eval_score(of, items, size, cache))


def lm_eval_score(of: Material, items: int, size: int | str, cache: bool) -> pd.DataFrame:
    """The suite by lm-eval's own model, so many requests at a time; see ``score``."""
    view = HFLM(
        pretrained=of.model,
        tokenizer=of.tokenizer,
        max_length=models.context(of.model),
        batch_size=size,
        add_bos_token=True,
        logits_cache=cache,
    )
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        found = lm_eval.simple_evaluate(
            model=view,
            tasks=sorted(path.stem for path in of.suite.glob("*.yaml")),
            task_manager=prepare_benchmarks.manager(of.suite),
            limit=items,
            bootstrap_iters=0,
            log_samples=True,
            verbosity="ERROR",
        )
    return measure_utility.rows(found["samples"])


def score(of: Material, items: int) -> pd.DataFrame:
    """The suite as the stage scores it: the table of ``measure_utility.rows``."""
    return measure_utility.score(of.model, of.tokenizer, of.suite, items)
