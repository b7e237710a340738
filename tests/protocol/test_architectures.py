"""Any causal language model of transformers at a tiny size: sample, train, score, extract."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from nbutils.config.schema import Lora, SampleCorpus, SelfTrain
from nbutils.protocol import (
    forward,
    measure_extraction,
    models,
    packing,
    proofs,
    sample_corpus,
    self_train,
    tree_scorer,
)
from nbutils.protocol.lora import with_adapter
from nbutils.protocol.models import ModelError
from support import tiny, zoo

BOS, EOS = 0, 1
CONTEXT = "the people of the state know the house of the people is at the end of the street"
PAIRS = [(CONTEXT, end) for end in (" of the state", " and the king", " are")]
PAIRS += [("the people of", " the house"), ("the state", " is"), ("", "the king")]


def refused(architecture: str) -> set[str]:
    """The shortcuts that are wrong for an architecture."""
    return zoo.OTHERS[architecture][1] if architecture in zoo.OTHERS else set()


@pytest.mark.parametrize("architecture", zoo.SIZES)
@torch.no_grad()
def test_a_model_is_read_as_transformers_and_lm_eval_read_it(
    architecture: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    """Every number that a stage takes from a model, beside the plain way, to 1e-3 nats.

    The shortcuts that are right were found on the model; those that are wrong are in ``zoo``.
    """
    model = zoo.make(architecture)
    found = proofs.shortcuts(model)
    names = ("packed", "tree", "memory", "shrunk")
    assert {n for n in names if not getattr(found, n)} == refused(architecture)
    _packed_is_alone(model)
    _scores_are_those_of_lm_eval(model, tokenizer)
    _extraction_is_greedy_generation(model)
    _samples_have_the_chances_of_teacher_forcing(tiny.ending(model))


def _packed_is_alone(model: PreTrainedModel) -> None:
    rng = np.random.default_rng(0)
    documents = [[BOS, *rng.integers(3, 300, n).tolist(), EOS] for n in (20, 9, 17, 3)]
    rows = packing.pack(documents, 64, EOS, not proofs.shortcuts(model).packed)
    read = forward.logits(model, rows.ids, rows.positions).log_softmax(-1)
    expected = {
        tuple(d): forward.logits(model, torch.tensor([d])).log_softmax(-1)[0] for d in documents
    }
    for row, ids in zip(read, rows.ids.tolist(), strict=True):
        at = 0
        while at < len(ids) and ids[at] == BOS:
            document = next(d for d in expected if tuple(ids[at : at + len(d)]) == d)
            end = at + len(document)
            torch.testing.assert_close(row[at:end], expected.pop(document), rtol=0, atol=1e-3)
            at = end
    assert not expected


def _scores_are_those_of_lm_eval(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    plain = HFLM(
        pretrained=model, tokenizer=tokenizer, max_length=models.context(model),
        add_bos_token=True, batch_size=1, logits_cache=False,
    )  # fmt: skip
    requests = [
        Instance("loglikelihood", {}, pair, i, ("task", i, 1)) for i, pair in enumerate(PAIRS)
    ]
    ours = tree_scorer.scorer(model, tokenizer).loglikelihood(requests, disable_tqdm=True)
    theirs = plain.loglikelihood(requests, disable_tqdm=True)
    assert [a for a, _ in ours] == pytest.approx([a for a, _ in theirs], abs=1e-3)
    assert [g for _, g in ours] == [g for _, g in theirs]


def _extraction_is_greedy_generation(model: PreTrainedModel) -> None:
    prefixes = np.random.default_rng(0).integers(3, tiny.VOCABULARY, (3, 12))
    made = [
        model.generate(
            torch.tensor(prefix[None]), max_new_tokens=5, do_sample=False, eos_token_id=None,
            attention_mask=torch.ones(1, 12, dtype=torch.long),
        )  # one row at a time: transformers' own cache mixes the rows of RWKV
        for prefix in prefixes
    ]  # fmt: skip
    suffixes = torch.cat(made)[:, 12:].numpy()
    wrong = suffixes.copy()
    wrong[:, 2] = (wrong[:, 2] + 1) % tiny.VOCABULARY
    assert measure_extraction.matched(model, prefixes, suffixes).tolist() == [5] * 3
    assert measure_extraction.matched(model, prefixes, wrong).tolist() == [2] * 3


def _samples_have_the_chances_of_teacher_forcing(model: PreTrainedModel) -> None:
    numbers = sample_corpus.random_numbers(0, range(12), 24)
    drawn = sample_corpus.sample_batch(model, BOS, EOS, 1.0, numbers)
    assert len({len(ids) for ids, _ in drawn}) > 3  # so rows have left the batch
    for ids, total in drawn:
        logits = forward.logits(model, torch.tensor([[BOS, *ids[:-1]]]))[0].log_softmax(-1)
        expected = logits[torch.arange(len(ids)), torch.tensor(ids)].sum().item()
        assert total == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("architecture", zoo.NO_CAUSAL_MODELS)
def test_a_model_that_looks_ahead_is_refused(architecture: str) -> None:
    with pytest.raises(ModelError, match="is no causal language model"):
        proofs.find(zoo.make(architecture))


@pytest.mark.parametrize("architecture", zoo.SIZES)
def test_every_weight_of_an_adapter_is_reached(architecture: str) -> None:
    lora = Lora(rank=4, alpha=8, learning_rate=0.02)
    p = SelfTrain(method="lora", recipe=tiny.recipe(), lora=lora)
    wrapped = with_adapter(zoo.make(architecture), p)
    forward.logits(wrapped, torch.arange(3, 40)[None]).sum().backward()
    trained = {n: w for n, w in wrapped.named_parameters() if w.requires_grad}
    assert trained
    # an expert that no token is sent to has no gradient in this pass
    assert {n for n, w in trained.items() if w.grad is None and "expert" not in n} == set()


# ---------------------------------------------------------------- through the stages, whole

STAGES = ("gpt_neox", "gemma", "gpt2", "mistral", "opt", "lfm2", "qwen3_5_text", "mamba", "rwkv")


@pytest.fixture(scope="module", params=STAGES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model of each kind of layer."""
    path: Path = tmp_path_factory.mktemp(request.param)
    models.save(zoo.make(request.param), tiny.tokenizer(), path)
    return path


@pytest.fixture(scope="module")
def corpus(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the model wrote."""
    out: Path = tmp_path_factory.mktemp("corpus")
    p = SampleCorpus(temperature=1.0, tokens=600, max_tokens=30, batch_size=8, seed=0)
    sample_corpus.run(p, {"source": folder}, out, tiny.silent)
    return out


@pytest.mark.parametrize("method", ["full", "lora"])
def test_training_lowers_the_loss_of_the_own_corpus(
    folder: Path, corpus: Path, tmp_path: Path, method: str
) -> None:
    lora = Lora(rank=4, alpha=8, learning_rate=0.02) if method == "lora" else None
    recipe = tiny.recipe(steps=12, learning_rate=0.005)
    p = SelfTrain.model_validate({"method": method, "recipe": recipe, "lora": lora, "seed": 0})
    self_train.run(p, {"student": folder, "corpus": corpus}, tmp_path, tiny.silent)
    losses = pd.read_parquet(tmp_path / "curve.parquet").loss
    assert losses.tail(3).mean() < losses.head(3).mean()
    trained, _ = models.load(tmp_path, folder)
    assert all(torch.isfinite(w).all() for w in trained.parameters())


def test_the_first_loss_is_that_of_the_documents_one_by_one(folder: Path, corpus: Path) -> None:
    """Packing joins no documents: the mean over tokens is the one without any packing."""
    inputs = {"student": folder, "corpus": corpus}
    model, tokenizer, rows = self_train.read(inputs, tiny.recipe(), "float32")
    texts = [t for t in pd.read_parquet(corpus / "corpus.parquet").text if t.strip()]
    total, count = 0.0, 0
    with torch.no_grad():
        packed = packing.loss_sum(model, rows, torch.arange(len(rows.ids))).item()
        for ids in models.encode(tokenizer, texts, models.context(model)):
            logits = model(input_ids=torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
            total -= logits[torch.arange(len(ids) - 1), torch.tensor(ids[1:])].sum().item()
            count += len(ids) - 1
    assert int((rows.labels != packing.IGNORED).sum()) == count
    assert packed == pytest.approx(total, rel=1e-4)
