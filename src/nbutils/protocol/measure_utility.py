"""Utility: accuracy on the benchmark suite, scored by lm-eval and stored per item."""

import contextlib
import io
import logging
import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nbutils.config.schema import MeasureUtility
from nbutils.protocol import models
from nbutils.runs.types import Progress

Samples = dict[str, list[dict[str, Any]]]


def rows(samples: Samples) -> pd.DataFrame:
    """One row per item, sorted by task and item.

    Columns: ``task``, ``item``, ``document`` (from which the item is cut), ``chance``, ``correct``,
    ``correct_norm`` and ``margin``. ``correct_norm`` is lm-eval's own ``acc_norm``, missing where a
    task has none. ``margin`` is the log-likelihood of the right choice minus that of the best wrong
    one, in nats; it is missing where a task has no choices or does not number them. Where a task
    has several filters, the first one counts.
    """
    items = []
    for task, records in samples.items():
        for record in records:
            if record.get("filter") != records[0].get("filter"):
                continue
            name = f"{task}-{record.get('doc_id', 0):05d}"
            items.append(
                {
                    "task": task,
                    "item": record["doc"].get("item", name),
                    "document": record["doc"].get("document", name),
                    "correct": bool(record["acc"] if "acc" in record else record["exact_match"]),
                    "correct_norm": bool(record["acc_norm"]) if "acc_norm" in record else None,
                    **_choices(record),
                }
            )
    table = pd.DataFrame(items).astype({"correct_norm": "boolean"})
    return table.sort_values(["task", "item"], ignore_index=True)


def _choices(record: dict[str, Any]) -> dict[str, float]:
    """Chance and margin of a record; chance is 0 where there are no choices."""
    responses = record["filtered_resps"]
    if len(responses) < 2:
        return {"chance": 0.0, "margin": float("nan")}
    scores = [float(response[0]) for response in responses]
    chance, target = 1 / len(scores), str(record["target"])
    if not target.isdigit():  # some tasks give the text of the right choice
        return {"chance": chance, "margin": float("nan")}
    right_score = scores.pop(int(target))
    return {"chance": chance, "margin": right_score - max(scores)}


# --- Supporting code -------------------------------------------------------------------------


# lm-eval warns whenever it gets a model that is already in memory, as here at every call.
logging.getLogger("lm_eval").setLevel(logging.ERROR)


def evaluate(model: Any, suite: Path, limit: int | None = None) -> Samples:
    """lm-eval's sample records by task, for a prepared suite or prepared benchmarks.

    With ``limit``, only the first items of each task are scored.
    """
    import lm_eval  # takes seconds to import, and only this stage needs it
    from lm_eval import defaults

    from nbutils.protocol import prepare_benchmarks

    with tempfile.TemporaryDirectory() as scratch:
        if (suite / prepare_benchmarks.TASKS).is_file():
            names = prepare_benchmarks.task_files(suite, Path(scratch))
            tasks = prepare_benchmarks.manager(Path(scratch))
        else:
            names = sorted(path.stem for path in suite.glob("*.yaml"))
            tasks = prepare_benchmarks.manager(suite)
        # lm-eval's progress bars cannot be turned off, and the caller shows progress
        with contextlib.redirect_stderr(io.StringIO()):
            # as lm-eval's ``simple_evaluate``, which also describes the machine and lists its
            # packages: a second for each model
            random.seed(defaults.DEFAULT_RANDOM_SEED)  # some tasks shuffle their choices
            np.random.seed(defaults.DEFAULT_OTHER_SEED)
            loaded = tasks.load(names)
            for task in loaded["tasks"].values():
                task.set_fewshot_seed(seed=defaults.DEFAULT_OTHER_SEED)
            results = lm_eval.evaluate(model, loaded, limit=limit, bootstrap_iters=0)
    return dict(results["samples"])


def score(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    suite: Path,
    limit: int | None,
    begin: bool = True,
) -> pd.DataFrame:
    """Score a model in memory on a prepared suite; return the table of ``rows``.

    With ``limit``, only the first items of each task are scored. With ``begin``, contexts begin
    with BOS.
    """
    from nbutils.protocol.tree_scorer import scorer  # imports lm-eval

    return rows(evaluate(scorer(model, tokenizer, begin), suite, limit))


def run(p: MeasureUtility, inputs: dict[str, Path], out: Path, progress: Progress) -> None:
    """Stage *measure utility*; writes ``utility.parquet``, one row per item (see ``rows``)."""
    model, tokenizer = models.load(inputs["model"], inputs["base"])
    begin = models.bos_policy(inputs["base"]).scoring
    table = score(model, tokenizer, inputs["suite"], p.items, begin)
    table.to_parquet(out / "utility.parquet", index=False)
    progress(1.0)
