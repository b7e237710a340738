"""An accelerator computes what the CPU does: one stage after the other, then all of them.

Each test runs on the CPU, too, as a rehearsal. It needs no fixture that other tests share, so that
a machine without the book's libraries can run it. What was found is in the report as properties.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lm_eval.models.huggingface import HFLM
from transformers import PreTrainedModel

from nbutils.config.design import LABELS
from nbutils.config.schema import Precision
from nbutils.protocol import (
    forward,
    measure_extraction,
    packing,
    sample_corpus,
    training,
    tree_scorer,
)
from nbutils.results.layout import LOCAL
from nbutils.runs import checkpoint
from nbutils.runs.checkpoint import Checkpoint
from support import tiny
from support.project import NBUTILS, new_project

BOS, EOS = 0, 1
TOLERANCE = 1e-5
PATIENCE = 170
"""Seconds that a grid may take."""
ON_GPU = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no accelerator here"),
]
Note = Callable[[str, Any], None]


@pytest.fixture
def note(record_property: Note) -> Note:
    """Write a number, or several, into the report; a worker passes on plain ones alone."""
    return lambda name, value: record_property(name, json.loads(json.dumps(value, default=float)))


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=ON_GPU)])
def place(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=tiny.ARCHITECTURES)
def architecture(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def documents(number: int, seed: int = 0) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(4, tiny.CONTEXT, number)
    return [[BOS, *rng.integers(2, tiny.VOCABULARY, n - 2).tolist(), EOS] for n in lengths]


def rows(number: int = 24) -> packing.Packed:
    return packing.pack(documents(number), 2 * tiny.CONTEXT, EOS)


@torch.no_grad()
def model_of(architecture: str, place: str = "cpu") -> PreTrainedModel:
    """A wider tiny model, whose next-token distributions are about as sharp."""
    model = tiny.model(architecture, hidden=64, heads=4, layers=4)
    for weight in model.parameters():
        if weight.ndim == 2:
            weight.mul_(0.4)
    return model.to(place)


@torch.no_grad()
def read(model: PreTrainedModel, ids: list[int]) -> float:
    """The mean log-probability of the tokens after BOS, by the plain pass, nats."""
    log_probs = forward.logits(model, torch.tensor([[BOS, *ids[:-1]]])).log_softmax(-1)[0]
    return float(log_probs.gather(1, torch.tensor(ids)[:, None]).double().mean())


def sampled_differences(
    architecture: str, place: str, dtype: torch.dtype
) -> tuple[np.ndarray, list[int]]:
    """Differences of log-probabilities, nats per token, of samples and a plain pass on the CPU."""
    plain = tiny.ending(model_of(architecture).to(dtype).float())
    model = tiny.ending(model_of(architecture, place).to(dtype))
    numbers = sample_corpus.random_numbers(0, range(64), tiny.CONTEXT - 1).to(place)
    found = sample_corpus.sample_batch(model, BOS, EOS, 1.0, numbers)
    differences = [read(plain, ids) - log_prob / len(ids) for ids, log_prob in found]
    return np.abs(differences), [len(ids) for ids, _ in found]


def test_samples_have_the_log_probabilities_of_the_cpu(
    place: str, architecture: str, note: Note
) -> None:
    differences, lengths = sampled_differences(architecture, place, torch.float32)
    note("largest difference, nats per token", differences.max())
    assert differences.max() <= TOLERANCE
    assert len(set(lengths)) > 5  # rows left the batch on the way


def test_samples_in_bfloat16_are_near_it(place: str, architecture: str, note: Note) -> None:
    differences, _ = sampled_differences(architecture, place, torch.bfloat16)
    note("mean difference, nats per token", differences.mean())
    assert differences.mean() <= 0.05


def test_packed_loss_and_gradients_are_those_of_the_cpu(
    place: str, architecture: str, note: Note
) -> None:
    found = []
    for where in ("cpu", place):
        model = model_of(architecture, where)
        packed = rows()
        loss = packing.loss_sum(model, packed, torch.arange(len(packed.ids)))
        loss.backward()
        gradient = torch.cat([w.grad.flatten().cpu() for w in model.parameters()])
        found.append((loss.item(), gradient))
    (loss, gradient), (other_loss, other) = found
    differences = abs(other_loss / loss - 1), float((other - gradient).norm() / gradient.norm())
    note("relative differences of loss and gradient", differences)
    assert max(differences) <= TOLERANCE


def test_training_in_bfloat16_follows_the_curve_of_the_cpu(
    place: str, architecture: str, note: Note
) -> None:
    curves = []
    ways: list[tuple[str, Precision]] = [("cpu", "float32"), (place, "bfloat16")]
    for where, precision in ways:
        model, recipe = model_of(architecture, where), tiny.recipe(steps=8, learning_rate=0.003)
        curves.append(training.fit(model, rows(), recipe, 0, tiny.silent, precision=precision))
    note("largest relative difference", np.abs(np.divide(curves[1], curves[0]) - 1).max())
    assert curves[1] == pytest.approx(curves[0], rel=0.02)


def test_scores_are_those_of_lm_eval_and_of_the_cpu(
    place: str, architecture: str, note: Note
) -> None:
    split = [(ids[:k], ids[k:]) for ids in documents(40) for k in (2, len(ids) - 2)]
    model = model_of(architecture, place)
    found = tree_scorer.log_likelihoods(model, tree_scorer.plan(split, tiny.CONTEXT))
    differences = {}
    for name, other in {"there": model, "on the CPU": model_of(architecture)}.items():
        view = HFLM(
            pretrained=other,
            tokenizer=tiny.tokenizer(),
            max_length=tiny.CONTEXT,
            batch_size=16,
            logits_cache=False,
        )
        named = [((str(i), ""), *pair) for i, pair in enumerate(split)]
        expected = view._loglikelihood_tokens(named, disable_tqdm=True)
        differences[name] = max(
            abs(mine - theirs) / max(1.0, abs(theirs))
            for (mine, _), (theirs, _) in zip(found, expected, strict=True)
        )
        assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]
    note("largest relative differences", differences)
    assert max(differences.values()) <= TOLERANCE


def test_extraction_is_what_greedy_decoding_writes(place: str, architecture: str) -> None:
    """Of 32 passages the model writes half by itself; the others differ somewhere."""
    model = model_of(architecture, place)
    prompts = torch.randint(2, tiny.VOCABULARY, (32, 8), generator=torch.Generator().manual_seed(0))
    attended = torch.ones_like(prompts).to(place)
    endless = {"max_new_tokens": 12, "eos_token_id": tiny.VOCABULARY}  # which is never written
    with torch.inference_mode():
        out = model.generate(
            prompts.to(place), attention_mask=attended, do_sample=False, pad_token_id=EOS, **endless
        )
    written = out[:, 8:].cpu().numpy()
    suffixes = written.copy()
    for row in range(16):
        suffixes[row, row % 12] = 2 + (suffixes[row, row % 12] == 2)
    expected = [row % 12 for row in range(16)] + [12] * 16
    assert measure_extraction.matched(model, prompts.numpy(), suffixes).tolist() == expected


# ---------------------------------------------------------------- interruptions


KILLED = """
import os, pathlib, sys, test_gpu
test_gpu.train(sys.argv[1], pathlib.Path(sys.argv[2]), stop=4)
"""


def train(place: str, folder: Path, stop: int | None = None) -> list[float]:
    """Train eight steps, with a checkpoint at each; the process may kill itself at one."""
    checkpoint.SECONDS = 0.0

    def watch(share: float) -> None:
        if round(8 * share) == stop:
            os.kill(os.getpid(), signal.SIGKILL)

    model = model_of("qwen3", place)
    recipe = tiny.recipe(steps=8, muon=0.02)
    return training.fit(model, rows(), recipe, 0, watch, Checkpoint(folder), "bfloat16")


@pytest.mark.slow
def test_a_killed_training_goes_on_where_it_was(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, note: Note
) -> None:
    monkeypatch.setattr(checkpoint, "SECONDS", 0.0)
    whole = train(place, tmp_path / "whole")
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    command = [sys.executable, "-c", KILLED, place, str(tmp_path / "killed")]
    killed = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, check=False)
    assert killed.returncode == -signal.SIGKILL
    resumed = train(place, tmp_path / "killed")
    note("same to the bit", resumed == whole)
    assert resumed == pytest.approx(whole, rel=0.0 if place == "cpu" else 1e-3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no accelerator here")
def test_too_little_memory_halves_the_micro_batch(note: Note) -> None:
    """A process that may use little more than what half of the rows need."""
    packed = packing.pack(documents(6000), 512, EOS)
    shape = {"hidden": 256, "heads": 4, "layers": 4, "vocab_size": 32768}
    recipe = tiny.recipe(steps=2, tokens_per_step=4096)

    def fit() -> list[float]:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        model = tiny.model("llama", **shape).to("cuda")
        return training.fit(model, packed, recipe, 0, tiny.silent)

    whole = fit()
    peak, all_there = torch.cuda.max_memory_reserved(), torch.cuda.mem_get_info()[1]
    torch.cuda.set_per_process_memory_fraction(0.6 * peak / all_there)
    try:
        with pytest.warns(UserWarning, match="out of memory: going on with") as told:
            halved = fit()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    note("warnings", [str(warning.message) for warning in told])
    assert halved == pytest.approx(whole, rel=1e-4)


# ---------------------------------------------------------------- every stage


def grid(root: Path, precision: str, cpu: bool) -> subprocess.Popen:
    """Start the smoke tier in a project of its own."""
    tier = new_project(root) / "notebooks" / "tiers" / "smoke.yml"
    text = tier.read_text("utf-8")
    tier.write_text(text.replace("precision: float32", f"precision: {precision}"), "utf-8")
    environment = os.environ | ({"CUDA_VISIBLE_DEVICES": ""} if cpu else {})
    with (root / "log").open("w") as log:
        return subprocess.Popen(
            [*NBUTILS, "run", "smoke"], cwd=root, env=environment, stdout=log, stderr=log
        )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no accelerator here")
def test_every_stage_makes_the_tables_of_the_cpu(tmp_path: Path, note: Note) -> None:
    """In float32 all numbers are near; in bfloat16 every run ends well."""
    how = {"cpu": ("float32", True), "cuda": ("float32", False), "mixed": ("bfloat16", False)}
    grids = {name: grid(tmp_path / name, *given) for name, given in how.items()}
    end = time.monotonic() + PATIENCE
    try:
        for name, process in grids.items():
            status = process.wait(end - time.monotonic())
            assert status == 0, (tmp_path / name / "log").read_text()[-2000:]
    finally:
        for process in grids.values():
            process.kill()
    differences = compared(*(tmp_path / name / LOCAL / "smoke" for name in ("cpu", "cuda")))
    note("mean absolute differences", differences)
    assert differences["loss"] <= 0.01
    assert differences["accuracy"] <= 0.03
    assert differences["mean_log_prob"] <= 0.05


def compared(first: Path, second: Path) -> dict[str, float]:
    """Mean absolute differences of some columns of two runs of one tier."""
    wanted = {
        "curves": ("loss", ["seed", *LABELS]),
        "gains": ("accuracy", [*LABELS, "task"]),
        "corpora": ("mean_log_prob", ["source", "round", "temperature", "seed"]),
    }
    found = {}
    for table, (column, labels) in wanted.items():
        ours, theirs = (
            pd.read_parquet(folder / f"{table}.parquet").explode(column)
            for folder in (first, second)
        )
        assert ours[labels].reset_index(drop=True).equals(theirs[labels].reset_index(drop=True))
        values = (frame[column].to_numpy(dtype=float) for frame in (ours, theirs))
        found[column] = float(np.nanmean(np.abs(np.subtract(*values))))
    return found
