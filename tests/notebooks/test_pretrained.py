"""Every stage notebook at a tier whose models come from elsewhere: nobody knows how they learnt."""

from pathlib import Path

import nbformat
import pytest

from nbutils.config import notebook_parameters
from nbutils.notebooks import execute
from nbutils.protocol import compute, prepare_benchmarks, wheels
from nbutils.protocol.plan import load_plan
from support import tiny
from support.project import new_project, open_store

TIER = """
title: Two models of one family, each a folder of somebody's
threads: 1
context: 256
max_chars: 200
models:
  mine-small: {family: mine, size: small, origin: "folder:FOLDER/qwen3", licence: MIT}
  mine-large: {family: mine, size: large, origin: "folder:FOLDER/llama", licence: MIT}
suite: {cloze: 4, agreement: 4, preposition: 4}
passages: {source: scripture, held_out: 4, dev: 2, prefix: 8, suffix: 8}
corpus: {tokens: 800, batch_size: 16}
self_train: {steps: 2, tokens_per_step: 512, learning_rate: 0.001}
lora: {rank: 2, alpha: 4, learning_rate: 0.001}
proxies: {documents: 8, items: 4}
grid: {students: [mine-small], seeds: [0]}
"""
NOT_HERE = {"prepare_model", "prepare_benchmarks"}
"""Its models are fetched, and its suite is made here."""
MODELS = {"model": "mine-small", "source": "mine-large", "student": "mine-small"}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose tier ``mine`` names two folders."""
    place = tmp_path_factory.mktemp("pretrained")
    for architecture in ("qwen3", "llama"):
        tiny.save(architecture, place / architecture, context=256)
    root = new_project(place / "project")
    (root / "notebooks/tiers/mine.yml").write_text(TIER.replace("FOLDER", str(place)), "utf-8")
    return root


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in notebook_parameters.STAGES if n not in NOT_HERE])
def test_a_stage_notebook_runs(name: str, project: Path) -> None:
    fields = notebook_parameters.NOTEBOOKS[name].model_fields
    values = {"tier": "mine"} | {field: MODELS[field] for field in MODELS if field in fields}
    assert executed(name, values, project)


def executed(name: str, values: dict[str, str], project: Path) -> str:
    """What a notebook shows, all of whose cells were executed."""
    output = execute.execute(name, values, project / f"{name}.ipynb", project)
    notebook = nbformat.read(output, as_version=4)
    assert all(c.execution_count for c in notebook.cells if c.cell_type == "code")
    return output.read_text("utf-8")


@pytest.mark.slow
def test_the_notebook_of_benchmarks_shows_what_was_prepared(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prepared here from made-up rows: the kernel asks no network for what exists."""
    tier = TIER.replace("FOLDER", str(project.parent))
    suite = "suite: {cloze: 4, agreement: 4, preposition: 4}"
    asked = "benchmarks: {tasks: [piqa], items: 2, data: wheel}"
    (project / "notebooks/tiers/asked.yml").write_text(tier.replace(suite, asked), "utf-8")
    rows = [{"goal": f"To see {i}", "sol1": "look", "sol2": "sleep", "label": 0} for i in range(3)]
    monkeypatch.setattr(prepare_benchmarks, "rows", lambda task: rows)
    run = load_plan("asked", project).suite()
    open_store(project).execute(run, compute.compute, 1, tiny.silent)
    shown = executed("prepare_benchmarks", {"tier": "asked"}, project)
    assert wheels.BENCHMARKS.version in shown
    assert "Question: To see" in shown
