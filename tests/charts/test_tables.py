"""What pages print of a benchmark's scores, by both metrics, and of how a model is read."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import transformers

from nbutils.analysis.gains import MEASURED, NORM
from nbutils.charts import pairing, relational_utility
from nbutils.config.schema import FetchModel
from nbutils.protocol import fetch_model, models, reading
from support import tiny, zoo


def gains() -> pd.DataFrame:
    """A cell's gains on two benchmarks, a task made here and the suite."""
    tasks = ["piqa", "hellaswag", "speeches_cloze", "suite"]
    frame = pd.DataFrame({"task": tasks, "items": 9, "chance": 0.25})
    frame = frame.assign(results="r", student="s", experiment="pairings", relation="self")
    frame = frame.assign(**dict.fromkeys(MEASURED, 0.25))
    return frame.assign(**{name + NORM: [0.5, 0.5, np.nan, np.nan] for name in MEASURED})


def test_both_metrics_stand_together_and_the_published_one_first() -> None:
    table = pairing.gain_table(gains())
    assert table["task"].tolist() == [
        "piqa, acc", "piqa, acc_norm", "hellaswag, acc_norm", "hellaswag, acc",
        "speeches_cloze", "suite",
    ]  # fmt: skip
    assert table["base_accuracy"].tolist() == [0.25, 0.5, 0.5, 0.25, 0.25, 0.25]
    assert table["gain (points)"].str.startswith(("+25", "+50")).all()


def test_a_table_without_acc_norm_is_as_it_was() -> None:
    plain = gains().assign(**{name + NORM: np.nan for name in MEASURED})
    assert pairing.gain_table(plain)["task"].tolist() == plain["task"].tolist()


def test_students_start_on_the_suite_and_on_what_has_two_metrics() -> None:
    """A row comes once, however many cells begin there."""
    table = relational_utility.starts(pd.concat([gains(), gains()]))
    assert table["task"].tolist() == [
        "piqa, acc", "piqa, acc_norm", "hellaswag, acc_norm", "hellaswag, acc", "suite",
    ]  # fmt: skip
    assert table["items"].eq(9).all()


def fetched(tmp_path: Path, architecture: str) -> Path:
    """A model of somebody's in a store, as its stage writes it."""
    theirs, out = tmp_path / "theirs", tmp_path / "ours"
    theirs.mkdir()
    out.mkdir()
    models.save(zoo.make(architecture), tiny.tokenizer(), theirs)
    p = FetchModel.model_validate({"origin": f"folder:{theirs}", "extraction_bos": False})
    fetch_model.run(p, {}, out, tiny.silent)
    return out


def test_a_model_that_takes_every_shortcut_is_told_so(tmp_path: Path) -> None:
    begin = "mine: documents begin with <|bos|>; so do contexts of benchmark items; "
    assert reading.read_as("mine", fetched(tmp_path, "llama")) == [
        begin + "prompts of passages do not.",
        "mine: every shortcut gives what the plain way gives.",
    ]


def test_where_a_model_takes_the_plain_way_is_told_with_the_difference(tmp_path: Path) -> None:
    told = reading.plain_ways("mine", fetched(tmp_path, "lfm2"))
    assert told.startswith("mine is read the plain way, which takes longer: one document per row")
    differ = r"\(otherwise logits differ by [\d.]+ of the largest, 1e-04 is allowed\)"
    assert re.search(f"one document per row in training {differ}; one request at a time", told)
    assert "finished documents stay in the batch (the shortcut could not be tried: Attr" in told
    assert told.endswith(f"; tried with transformers {transformers.__version__}, cpu.")
    assert "read again" not in told  # it has a memory
