"""What is timed: our way and what a user would otherwise run, on the same weights and inputs.

Every contest yields ways by name; a way does its work once and returns the tokens of work done.
"""

import contextlib
import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from datasets import Dataset
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import (
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
)

from nbutils.config.schema import Recipe, SampleCorpus
from nbutils.protocol import models, packing, sample_corpus, training, tree_scorer

BOS, EOS = 0, 1
VOCABULARY = 2048
CONTEXT = 128
LENGTH = 50  # mean tokens of a document
Way = Callable[[], int]


@dataclass(frozen=True)
class Contest:
    """Ways to do the same work; ratios are to the first one. ``flops`` is that of one token."""

    stage: str
    name: str
    parameters: int
    batch: int
    ways: dict[str, Way]
    flops: float


def model(hidden: int, layers: int = 4) -> PreTrainedModel:
    """Random weights that end a document with probability ``1 / LENGTH`` at every token."""
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 32,
        intermediate_size=4 * hidden,
        max_position_embeddings=CONTEXT,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )
    made = GPTNeoXForCausalLM(config)
    with torch.no_grad():
        # a constant in what the head reads, which only the row of EOS sees
        direction = torch.ones(hidden) / hidden**0.5
        made.gpt_neox.final_layer_norm.bias.copy_(direction)
        head = made.get_output_embeddings().weight
        head -= (head @ direction)[:, None] * direction
        head[EOS] = direction * float(np.log(VOCABULARY / LENGTH))
    return made.to(models.device()).eval()


def weights(of: PreTrainedModel) -> int:
    """Number of weights."""
    return sum(w.numel() for w in of.parameters())


# ---------------------------------------------------------------- sampling


def sampled(of: PreTrainedModel, rows: int) -> Contest:
    """One batch of documents from BOS."""

    def generate(cache: str | None) -> int:
        prompt = torch.full((rows, 1), BOS, device=of.device)
        settings = {"cache_implementation": cache} if cache else {}
        with torch.inference_mode():
            out = of.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                do_sample=True,
                top_k=0,
                max_new_tokens=CONTEXT - 1,
                eos_token_id=EOS,
                pad_token_id=EOS,
                **settings,
            )
        ended = (out[:, 1:] == EOS).int()
        first = torch.where(ended.any(1), ended.argmax(1) + 1, ended.shape[1])
        return int(first.sum())

    def ours() -> int:
        numbers = sample_corpus.random_numbers(0, range(rows), CONTEXT - 1).to(of.device)
        found = sample_corpus.sample_batch(of, BOS, EOS, 1.0, numbers)
        return sum(len(ids) for ids, _ in found)

    ways = {
        "generate": lambda: generate(None),
        "generate, static cache": lambda: generate("static"),
        "ours": ours,
    }
    return Contest("sampling", f"{rows} rows", weights(of), rows, ways, 2.0 * weights(of))


def words() -> PreTrainedTokenizerBase:
    """A tokenizer with a word for every row of the model, so that every id has a text."""
    inner = Tokenizer(WordLevel({f"w{i}": i for i in range(VOCABULARY)}, unk_token=f"w{BOS}"))
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token=f"w{BOS}", eos_token=f"w{EOS}")


def write(of: PreTrainedModel, batches: int) -> int:
    """So many batches of 64 documents, as the stage samples them."""
    size = {"tokens": batches * 64 * LENGTH, "max_tokens": CONTEXT - 1, "batch_size": 64}
    p = SampleCorpus.model_validate({"temperature": 1.0, "seed": 0} | size)
    return sum(len(ids) for ids, _ in sample_corpus.documents(of, words(), p))


# ---------------------------------------------------------------- training


def trained(of: PreTrainedModel, steps: int, lora: bool) -> Contest:
    """So many steps of 2048 tokens on documents of varied length."""
    rng = np.random.default_rng(0)
    lengths = rng.geometric(1 / LENGTH, 400 * steps).clip(4, CONTEXT)
    documents = [[BOS, *rng.integers(2, VOCABULARY, n - 2).tolist(), EOS] for n in lengths]
    rows_a_step = round(2048 / float(lengths.mean()))

    def student() -> PreTrainedModel:
        fresh = type(of)(of.config).to(models.device())
        settings = LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM")
        return get_peft_model(fresh, settings) if lora else fresh

    def trainer() -> int:
        used = documents[: rows_a_step * steps]
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            arguments = TrainingArguments(
                folder,
                per_device_train_batch_size=rows_a_step,
                max_steps=steps,
                learning_rate=1e-3,
                report_to=[],
                save_strategy="no",
                logging_strategy="no",
                disable_tqdm=True,
                use_cpu=not torch.cuda.is_available(),
            )
            Trainer(
                model=student(),
                args=arguments,
                train_dataset=Dataset.from_dict({"input_ids": used}),
                data_collator=Padded(),
            ).train()
        return sum(map(len, used))

    def ours() -> int:
        packed = packing.pack(documents, 2 * CONTEXT, EOS)
        recipe = Recipe.model_validate(
            {"steps": steps, "tokens_per_step": 2048, "learning_rate": 1e-3}
        )
        training.fit(student(), packed, recipe, 0, lambda share: None)
        used = next(iter(packing.order(len(packed.ids), 8 * steps, 1, 0)))
        return int((packed.labels[torch.from_numpy(used)] != packing.IGNORED).sum())

    ways = {"Trainer with PEFT" if lora else "Trainer": trainer, "ours": ours}
    name = "LoRA" if lora else "full"
    return Contest("training", name, weights(of), 2048, ways, 6.0 * weights(of))


class Padded:
    """The collator of transformers for language models, without a tokenizer."""

    def __call__(self, rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        """Pad to the longest row; padding is no label and is not attended to."""
        longest = max(len(row["input_ids"]) for row in rows)
        ids = torch.full((len(rows), longest), EOS)
        labels, mask = torch.full_like(ids, packing.IGNORED), torch.zeros_like(ids)
        for at, row in enumerate(rows):
            end = len(row["input_ids"])
            ids[at, :end] = labels[at, :end] = torch.tensor(row["input_ids"])
            mask[at, :end] = 1
        return {"input_ids": ids, "labels": labels, "attention_mask": mask}


# ---------------------------------------------------------------- scoring


def scored(of: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, items: int) -> Contest:
    """Items of four choices that share a context, as the suite has them."""
    rng = np.random.default_rng(0)
    words = sorted(w for w in tokenizer.get_vocab() if w.isascii() and w.isalpha())
    requests = []
    for item in range(items):
        context = " ".join(rng.choice(words, 30))
        for choice in range(4):
            end = " " + " ".join(rng.choice(words, 3))
            requests.append(Instance("loglikelihood", {}, (context, end), choice, ("t", item, 1)))

    def plain(size: int | str) -> int:
        view = HFLM(
            pretrained=of,
            tokenizer=tokenizer,
            max_length=CONTEXT,
            batch_size=size,
            add_bos_token=True,
        )
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            view.loglikelihood(requests, disable_tqdm=True)
        return items

    def ours() -> int:
        tree_scorer.scorer(of, tokenizer).loglikelihood(requests, disable_tqdm=True)
        return items

    ways = {"lm-eval": lambda: plain(1), "lm-eval, automatic batch": lambda: plain("auto")}
    flops = 2.0 * weights(of) * 45  # tokens of an item that must be read at least
    return Contest("scoring", f"{items} items", weights(of), 4, ways | {"ours": ours}, flops)
