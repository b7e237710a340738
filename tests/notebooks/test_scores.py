"""Our scores against lm-eval's own command line, on the same weights and task files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from nbutils.config import design
from nbutils.notebooks import execute
from nbutils.protocol import models, reading, schedule
from nbutils.protocol.plan import load_plan
from nbutils.runs.types import Run
from support import tiny, zoo
from support.project import new_project, open_store
from support.tiny import REPOSITORY

TIER = """
title: A model with windows and one with convolutions, each a folder of somebody's
threads: 1
context: 64
max_chars: 200
models:
  windowed: {family: windowed, size: small, origin: "folder:FOLDER/mistral", licence: MIT}
  hybrid: {family: hybrid, size: small, origin: "folder:FOLDER/lfm2", licence: MIT}
suite: {cloze: 4, agreement: 4, preposition: 4}
passages: {source: scripture, held_out: 4, dev: 2, prefix: 8, suffix: 8}
corpus: {tokens: 1200, batch_size: 16}
self_train: {steps: 4, tokens_per_step: 256, learning_rate: 0.01}
lora: {rank: 2, alpha: 4, learning_rate: 0.001}
proxies: {documents: 8, items: 4}
grid: {students: [windowed, hybrid], seeds: [0]}
"""


def documented() -> str:
    """The command that *Re-execute* gives, without the lines that say which model and suite."""
    page = (REPOSITORY / "book/re-execute.md").read_text("utf-8")
    block = page.split("## The same items by lm-eval", 1)[1].split("```")[1]
    return block.split("suite=runs/store/prepare_suite/KEY\n", 1)[1]


def by_lm_eval(
    weights: Path, suite: Path, context: int, into: Path
) -> dict[str, tuple[bool, float]]:
    """Whether each item is answered right, and its margin, by the documented command."""
    into.mkdir(exist_ok=True)
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    offline["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    told = documented().replace("max_length=128", f"max_length={context}")
    command = ["bash", "-euc", f"model={weights}\nsuite={suite}\n{told}"]
    subprocess.run(command, check=True, capture_output=True, env=os.environ | offline, cwd=into)
    found = {}
    for path in into.glob("**/samples_*.jsonl"):
        for line in path.read_text("utf-8").splitlines():
            record = json.loads(line)
            scores = [float(response[0]) for response in record["filtered_resps"]]
            right = scores.pop(record["doc"]["gold"])
            found[record["doc"]["item"]] = (bool(record["acc"]), right - max(scores))
    return found


def same(ours: pd.DataFrame, theirs: dict[str, tuple[bool, float]]) -> None:
    """The same answer to every item, by the same margin."""
    assert theirs.keys() == set(ours.item)
    for row in ours.itertuples():
        correct, margin = theirs[str(row.item)]
        assert correct == row.correct
        assert margin == pytest.approx(row.margin, abs=1e-3)


@pytest.mark.slow
def test_scores_agree_with_lm_evals_command_line_item_by_item(smoke: Path, tmp_path: Path) -> None:
    plan, store = load_plan("smoke", smoke), open_store(smoke)
    cell = design.Pairing("llama-small", "neox-small", design.TEMPERATURE, "full", 0)
    ours = pd.read_parquet(store.path(plan.utility("neox-small", cell)) / "utility.parquet")
    weights, suite = store.path(plan.self_train(cell)), store.path(plan.suite())
    same(ours, by_lm_eval(weights, suite, plan.tier.context, tmp_path))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose tier ``others`` names a windowed and a hybrid model."""
    place = tmp_path_factory.mktemp("others")
    for architecture in ("mistral", "lfm2"):
        (place / architecture).mkdir()
        model = zoo.make(architecture, max_position_embeddings=256)
        models.save(model, tiny.tokenizer(), place / architecture)
    root = new_project(place / "project")
    (root / "notebooks/tiers/others.yml").write_text(TIER.replace("FOLDER", str(place)), "utf-8")
    return root


def test_a_dry_run_says_what_is_found_out_when_a_model_is_fetched(project: Path) -> None:
    plan = load_plan("others", project)
    cell = design.Pairing("hybrid", "windowed", design.TEMPERATURE)
    (told,) = reading.ways(schedule.of_report(plan, cell), open_store(project))
    assert told.startswith("Not fetched yet: hybrid, windowed. Which shortcuts are right is found")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("student", "source", "plain"),
    [
        ("windowed", "hybrid", "one request at a time"),
        ("hybrid", "windowed", "one document per row in training"),
    ],
)
def test_a_pairing_of_any_architecture_is_scored_as_by_lm_eval(
    student: str, source: str, plain: str, project: Path, tmp_path: Path
) -> None:
    """The whole notebook; before and after, and the report says what took the plain way."""
    given = {"tier": "others", "source": source, "student": student}
    report = execute.execute("pairing", given, tmp_path / "report.ipynb", project)
    assert f"{student} is read the plain way" in report.read_text("utf-8")
    assert plain in report.read_text("utf-8")
    plan, store = load_plan("others", project), open_store(project)
    cell = design.Pairing(source, student, design.TEMPERATURE, "full", 0)
    (told,) = [
        line
        for line in reading.ways(schedule.of_report(plan, cell), store)
        if line.startswith(student)
    ]
    assert plain in told
    states: list[tuple[Run, Run]] = [
        (plan.utility(student), plan.model(student)),
        (plan.utility(student, cell), plan.self_train(cell)),
    ]
    for number, (measured, model) in enumerate(states):
        ours = pd.read_parquet(store.path(measured) / "utility.parquet")
        theirs = by_lm_eval(
            store.path(model), store.path(plan.suite()), 256, tmp_path / str(number)
        )
        same(ours, theirs)
