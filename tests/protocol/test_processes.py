"""Several processes for one training: the curve of one, and one clear error."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from nbutils.config.schema import SelfTrain
from nbutils.protocol import models, processes, self_train
from support import tiny


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    pd.DataFrame({"text": tiny.SENTENCES * 8}).to_parquet(folder / "corpus.parquet")
    return folder


def plan(**changes: object) -> SelfTrain:
    values = {"recipe": tiny.recipe(steps=4, tokens_per_step=480), "processes": 2}
    return SelfTrain.model_validate(values | changes)


@pytest.mark.slow
def test_two_processes_make_the_curve_and_the_weights_of_one(
    folders: dict[str, Path], corpus: Path, tmp_path: Path
) -> None:
    """Five rows a step: three for one process, two for the other."""
    inputs = {"student": folders["llama"], "corpus": corpus}
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    self_train.run(plan(), inputs, one, tiny.silent)
    shares: list[float] = []
    processes.launch("self_train", plan(), inputs, two, shares.append)
    curves = [pd.read_parquet(folder / "curve.parquet").loss for folder in (one, two)]
    np.testing.assert_allclose(curves[1], curves[0], rtol=1e-5)
    expected, found = (load_file(folder / "model.safetensors") for folder in (one, two))
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=1e-3, atol=1e-4)
    assert shares == [0.25, 0.5, 0.75, 1.0]
    assert {f.name for f in two.iterdir()} == {f.name for f in one.iterdir()}


@pytest.mark.slow
def test_a_process_may_have_no_row(folders: dict[str, Path], corpus: Path, tmp_path: Path) -> None:
    """One row a step: the first process has it, the second none."""
    inputs = {"student": folders["qwen3"], "corpus": corpus}
    curves = []
    p = plan(recipe=tiny.recipe(steps=2, tokens_per_step=96))
    for name in ("one", "two"):
        out = tmp_path / name
        out.mkdir()
        if name == "one":
            self_train.run(p, inputs, out, tiny.silent)
        else:
            processes.launch("self_train", p, inputs, out, tiny.silent)
        curves.append(pd.read_parquet(out / "curve.parquet").loss)
    np.testing.assert_allclose(curves[1], curves[0], rtol=1e-5)


@pytest.mark.slow
def test_what_a_process_refuses_is_the_message(
    folders: dict[str, Path], corpus: Path, tmp_path: Path
) -> None:
    model, tokenizer = models.load(folders["llama"], folders["llama"])
    with torch.no_grad():
        model.get_input_embeddings().weight.fill_(torch.nan)
    damaged = tmp_path / "damaged"
    models.save(model, tokenizer, damaged)
    inputs = {"student": damaged, "corpus": corpus}
    with pytest.raises(processes.ProcessError, match="the loss is not finite at step 1 of 4"):
        processes.launch("self_train", plan(), inputs, tmp_path, tiny.silent)


def test_more_processes_than_accelerators_are_refused(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(processes.ProcessError, match=r"2 processes .* this machine has 1"):
        processes.launch("self_train", plan(), {"corpus": corpus}, tmp_path, tiny.silent)


WAITING = """
import time
from nbutils.protocol import processes
processes.end_with_launcher()
print(flush=True)
time.sleep(600)
"""


def test_a_process_ends_with_its_launcher() -> None:
    """Of one that is killed the system closes what it holds of the other's standard input."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", WAITING], stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"\n"
        process.stdin.close()
        assert process.wait(timeout=60) == 1
