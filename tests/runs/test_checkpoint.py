"""Resuming inside a run: to the same bits, whatever stopped it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
import torch
from transformers import PreTrainedModel

from nbutils.config.schema import FetchModel, Lora, SampleCorpus, SelfTrain
from nbutils.protocol import compute as real
from nbutils.protocol import packing, training
from nbutils.protocol.packing import Packed, pack
from nbutils.protocol.training import fit
from nbutils.runs import checkpoint as runs_checkpoint
from nbutils.runs.checkpoint import FILE, Checkpoint, CheckpointError
from nbutils.runs.types import Manifest, Run
from support import slow, tiny
from support.project import open_store


class InterruptionError(Exception):
    """What stops a training here."""


def rows() -> Packed:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, tiny.VOCABULARY, (24, 40), generator=generator)
    return pack(ids.tolist(), 48, 0)


def stop_after(steps: int, of: int) -> Callable[[float], None]:
    def progress(share: float) -> None:
        if round(share * of) == steps:
            raise InterruptionError

    return progress


@pytest.mark.parametrize("muon", [None, 0.02])
def test_a_resumed_training_is_the_undisturbed_one(
    muon: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses and every weight are equal, bit by bit, after three interruptions."""
    monkeypatch.setattr(runs_checkpoint, "SECONDS", 0.0)
    recipe = tiny.recipe(steps=8, warmup=0.25, muon=muon)
    whole = tiny.model("llama")
    losses = fit(whole, rows(), recipe, 3, tiny.silent)
    for steps in (2, 3, 6):
        with pytest.raises(InterruptionError):
            fit(
                tiny.model("llama"), rows(), recipe, 3, stop_after(steps, 8),
                Checkpoint(tmp_path / "run"),
            )  # fmt: skip
    seen: list[float] = []
    model = tiny.model("llama")
    assert fit(model, rows(), recipe, 3, seen.append, Checkpoint(tmp_path / "run")) == losses
    assert len(seen) == 2  # steps 7 and 8 alone
    for mine, theirs in zip(model.parameters(), whole.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_short_trainings_leave_no_checkpoint(tmp_path: Path) -> None:
    fit(tiny.model("llama"), rows(), tiny.recipe(), 0, tiny.silent, Checkpoint(tmp_path / "run"))
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "run")
    checkpoint.save({"losses": [1.0]})
    path = checkpoint.folder / FILE
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=r"is damaged .*: delete .*run\.checkpoint and run"):
        checkpoint.load()


def test_a_checkpoint_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A full disk, as torch tells it; the last checkpoint is whole."""
    checkpoint = Checkpoint(tmp_path / "run")
    checkpoint.save({"losses": [1.0]})
    with (
        mock.patch.object(torch, "save", side_effect=RuntimeError("unexpected pos 576 vs 534")),
        pytest.raises(CheckpointError, match=r"cannot be written .unexpected pos .* space"),
    ):
        checkpoint.save({"losses": [1.0, 2.0]})
    assert checkpoint.load() == {"losses": [1.0]}


def test_a_checkpoint_holds_no_code(tmp_path: Path) -> None:
    """Only tensors and plain values are read back; an object of another kind is refused."""
    checkpoint = Checkpoint(tmp_path / "run")
    checkpoint.save({"losses": InterruptionError()})
    with pytest.raises(CheckpointError, match="is damaged"):
        checkpoint.load()


@pytest.mark.filterwarnings("ignore:out of memory")
def test_too_little_memory_halves_the_micro_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The result is that of micro-batches that fitted from the start, and a warning says so."""
    real = packing.loss_sum

    def small(model: PreTrainedModel, packed: Packed, index: torch.Tensor) -> torch.Tensor:
        if len(index) > 1:
            raise torch.OutOfMemoryError
        return real(model, packed, index)

    recipe = tiny.recipe(steps=2)
    whole = fit(tiny.model("llama"), rows(), recipe, 0, tiny.silent)
    monkeypatch.setattr(training, "loss_sum", small)
    with pytest.warns(UserWarning, match="out of memory: going on with 1 rows"):
        halved = fit(tiny.model("llama"), rows(), recipe, 0, tiny.silent)
    assert halved == pytest.approx(whole, rel=1e-5)


@pytest.mark.filterwarnings("ignore:out of memory")
def test_one_row_that_does_not_fit_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> torch.Tensor:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(training, "loss_sum", never)
    with pytest.raises(packing.TrainingError, match="a single row of 48 tokens does not fit"):
        fit(tiny.model("llama"), rows(), tiny.recipe(), 0, tiny.silent)


# ---------------------------------------------------------------- kill -9, through the store

STEPS = 30
SCRIPT = """
import sys, pathlib, test_checkpoint as t
t.kill_me(pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3])
"""


def self_train(folder: str, method: str) -> tuple[Run, Run, Run]:
    """A student, its own corpus, and the run that trains it on that."""
    lora = Lora(rank=2, alpha=4, learning_rate=0.01) if method == "lora" else None
    recipe = tiny.recipe(steps=STEPS, tokens_per_step=96)
    trained = {"method": method, "recipe": recipe, "lora": lora, "seed": 3}
    fetched = {"origin": f"folder:{folder}"}
    sampled = {"tokens": 400, "max_tokens": 40, "batch_size": 8}
    student = Run("fetch_model", "student", FetchModel.model_validate(fetched))
    source = {"source": student}
    corpus = Run("sample_corpus", "corpus", SampleCorpus.model_validate(sampled), source)
    inputs = {"student": student, "corpus": corpus}
    return student, corpus, Run("self_train", "it", SelfTrain.model_validate(trained), inputs)


def compute(root: Path, folder: str, method: str, progress: Callable[[float], None]) -> Manifest:
    """Execute the three runs in a store; return what the last one left."""
    for run in self_train(folder, method):
        done = open_store(root).execute(run, real.compute, 1, progress)
    return done


def kill_me(root: Path, folder: str, method: str) -> None:
    """Train with a checkpoint at every step, slowly enough to be killed on the way."""
    runs_checkpoint.SECONDS = 0.0
    compute(root, folder, method, lambda share: time.sleep(0.05))


@pytest.mark.parametrize("method", slow.but(["full"], ["full", "lora"]))
def test_after_kill_9_a_run_is_completed_to_the_same_bits(
    method: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    """Killed somewhere between or within two steps, and until then not read as a run."""
    folder = str(folders["llama"])
    whole = compute(tmp_path / "whole", folder, method, tiny.silent)
    root = tmp_path / "killed"
    command = [sys.executable, "-c", SCRIPT, str(root), folder, method]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])
    }
    process = subprocess.Popen(command, env=environment)
    saved = open_store(root).root / "partial" / f"{whole.key}.checkpoint" / FILE
    while not saved.exists():
        assert process.poll() is None, "it ended before it was killed"
        time.sleep(0.01)
    time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    *inputs, run = self_train(folder, method)
    assert (saved.parents[1] / whole.key).is_dir()
    assert open_store(root).finished(run) is None
    assert {m.stage for m in open_store(root).all()} == {r.stage for r in inputs}
    seen: list[float] = []
    done = compute(root, folder, method, seen.append)
    assert seen[0] > 1 / STEPS  # it went on where it was
    weights = "model.safetensors" if method == "full" else "adapter_model.safetensors"
    assert done.outputs[weights] == whole.outputs[weights]
    assert done.outputs == whole.outputs
    assert not saved.parent.exists()
