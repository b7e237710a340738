"""Our scores against lm-eval's own command line, on the same weights and task files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from nbutils import cells, plans
from nbutils.runs import Store
from tiny import REPOSITORY


def documented() -> str:
    """The command that *Re-execute* gives, without the lines that say which model and suite."""
    page = (REPOSITORY / "book/re-execute.md").read_text("utf-8")
    block = page.split("## The same items by lm-eval", 1)[1].split("```")[1]
    return block.split("suite=runs/store/prepare_suite/KEY\n", 1)[1]


def test_scores_agree_with_lm_evals_command_line_item_by_item(smoke: Path, tmp_path: Path) -> None:
    plan, store = plans.of("smoke", smoke), Store(smoke)
    cell = cells.Cell("llama-small", "neox-small", cells.TEMPERATURE, "full", 0)
    ours = pd.read_parquet(store.path(plan.utility("neox-small", cell)) / "utility.parquet")
    weights = store.path(plan.self_train(cell))
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    offline["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    told = documented().replace("max_length=128", f"max_length={plan.tier.context}")
    given = f"model={weights}\nsuite={store.path(plan.suite())}\n{told}"
    command = ["bash", "-euc", given]
    subprocess.run(command, check=True, capture_output=True, env=os.environ | offline, cwd=tmp_path)
    theirs = {}
    for path in tmp_path.glob("**/samples_*.jsonl"):
        for line in path.read_text("utf-8").splitlines():
            record = json.loads(line)
            scores = [float(response[0]) for response in record["filtered_resps"]]
            right = scores.pop(record["doc"]["gold"])
            theirs[record["doc"]["item"]] = (bool(record["acc"]), right - max(scores))
    assert theirs.keys() == set(ours.item)
    for row in ours.itertuples():
        correct, margin = theirs[str(row.item)]
        assert correct == row.correct
        assert margin == pytest.approx(row.margin, abs=1e-3)
