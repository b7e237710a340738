"""A grid of runs that take no time: the stages only, everything around them is real."""

import hashlib
import os
import time
from pathlib import Path

import pandas as pd
import pytest

from nbutils import files
from nbutils.config.schema import (
    Mixture,
    Parameters,
    PrepareSuite,
    RealCorpus,
    SampleCorpus,
    ShuffleCorpus,
    SuiteSize,
)
from nbutils.protocol import stages
from nbutils.results import layout
from nbutils.runs import executor
from nbutils.runs.checkpoint import Checkpoint
from nbutils.runs.types import Progress, Run
from support.harness import Grid
from support.project import open_store

STEPS = 3
TABLE = "table.parquet"


def runs(copies: int) -> list[Run]:
    """Two runs without inputs, one of one input and one of two; all that some times."""
    found = []
    for seed in range(copies):
        size = SuiteSize(cloze=1, agreement=1, preposition=1, seed=seed)
        suite = Run("prepare_suite", f"suite {seed}", PrepareSuite(size=size, max_chars=240))
        mixture = Mixture.model_validate({"speeches": 1.0})
        text = RealCorpus(mixture=mixture, max_chars=240, tokens=10, seed=seed)
        real = Run("real_corpus", f"real {seed}", text)
        sample = SampleCorpus(temperature=1.0, tokens=10, max_tokens=5, batch_size=1, seed=seed)
        corpus = Run("sample_corpus", f"corpus {seed}", sample, {"source": real})
        inputs = {"corpus": corpus, "student": suite}
        shuffled = Run("shuffle_corpus", f"shuffled {seed}", ShuffleCorpus(seed=seed), inputs)
        found += [suite, real, corpus, shuffled]
    return found


def new(root: Path, monkeypatch: pytest.MonkeyPatch, copies: int = 1) -> Grid:
    """A grid of toys, two side by side: every stage is the toy's in the processes it forks."""
    monkeypatch.setattr(stages, "stage_function", lambda stage: compute)
    monkeypatch.setattr(executor, "jobs", lambda *_: 2)
    monkeypatch.setattr(executor, "POLL_SECONDS", 0.05)
    root.mkdir(exist_ok=True)
    wanted = runs(copies)
    return Grid(root, wanted, lambda: collect(wanted, root))


def compute(p: Parameters, inputs: dict[str, Path], out: Path, progress: Progress) -> None:
    """A stage that resumes, reads its inputs' tables and writes one that depends on them."""
    _note_and_hold(out)
    checkpoint = Checkpoint(out)
    state = checkpoint.load() or {"losses": []}
    losses = list(state["losses"])
    while len(losses) < STEPS:
        losses.append(float(len(losses)))
        checkpoint.save({"losses": losses})
        progress(len(losses) / STEPS)
    digest = hashlib.sha256(p.model_dump_json().encode())
    for role in sorted(inputs):
        digest.update(pd.read_parquet(inputs[role] / "deep" / TABLE).to_csv().encode())
    (out / "deep").mkdir()
    table = pd.DataFrame({"loss": losses, "digest": digest.hexdigest()})
    table.to_parquet(out / "deep" / TABLE, index=False)


def collect(wanted: list[Run], root: Path) -> None:
    """One table of all, swapped in as a tier's are."""
    store = open_store(root)
    parts = [pd.read_parquet(store.path(run) / "deep" / TABLE) for run in wanted]
    place = root / layout.LOCAL / "toy"
    with store.claim("tables-toy"), files.replacing(place) as scratch:
        pd.concat(parts).to_parquet(scratch / TABLE, index=False)


def _note_and_hold(out: Path) -> None:
    """Write down that this run is computed, and wait while ``hold`` tells to."""
    root = out.parents[3]
    handle = os.open(root / "computed", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(handle, f"{out.name}\n".encode())
    os.close(handle)
    while (root / f"hold-{out.name}").exists():
        time.sleep(0.01)


def computed(of: Grid) -> list[str]:
    """The key of every run whose computing began, in order."""
    path = of.root / "computed"
    return path.read_text().split() if path.exists() else []


def hold(of: Grid, run: Run) -> Path:
    """Let a run's computing wait until the file that this returns is gone."""
    path = of.root / f"hold-{of.store.key(run)}"
    path.touch()
    return path
