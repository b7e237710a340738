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


def test_scores_agree_with_lm_evals_command_line_item_by_item(smoke: Path, tmp_path: Path) -> None:
    plan, store = plans.of("smoke", smoke), Store(smoke)
    cell = cells.Cell("llama-small", "neox-small", cells.TEMPERATURE, "full", 0)
    ours = pd.read_parquet(store.path(plan.utility("neox-small", cell)) / "utility.parquet")
    weights = store.path(plan.self_train(cell))
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--device", "cpu"]
    # Its cache of logits confuses items of one document that end at the same token: see scoring.
    settings = f"pretrained={weights},add_bos_token=True,max_length={plan.tier.context}"
    command += ["--model_args", f"{settings},logits_cache=False"]
    command += ["--tasks", ",".join(sorted(ours.task.unique()))]
    command += ["--include_path", str(store.path(plan.suite()))]
    command += ["--batch_size", "32", "--log_samples"]
    command += ["--output_path", str(tmp_path)]
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    subprocess.run(command, check=True, capture_output=True, env=os.environ | offline)
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
