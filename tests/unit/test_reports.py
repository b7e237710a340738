"""The tables that pages print of a benchmark's scores: by both metrics, the known one first."""

import numpy as np
import pandas as pd

from nbutils import reports
from nbutils.summaries import MEASURED, NORM


def gains() -> pd.DataFrame:
    """A cell's gains on two benchmarks, a task made here and the suite."""
    tasks = ["piqa", "hellaswag", "speeches_cloze", "suite"]
    frame = pd.DataFrame({"task": tasks, "items": 9, "chance": 0.25})
    frame = frame.assign(results="r", student="s", experiment="pairings", relation="self")
    frame = frame.assign(**dict.fromkeys(MEASURED, 0.25))
    return frame.assign(**{name + NORM: [0.5, 0.5, np.nan, np.nan] for name in MEASURED})


def test_both_metrics_stand_together_and_the_published_one_first() -> None:
    table = reports.gain_table(gains())
    assert table["task"].tolist() == [
        "piqa, acc", "piqa, acc_norm", "hellaswag, acc_norm", "hellaswag, acc",
        "speeches_cloze", "suite",
    ]  # fmt: skip
    assert table["base_accuracy"].tolist() == [0.25, 0.5, 0.5, 0.25, 0.25, 0.25]
    assert table["gain (points)"].str.startswith(("+25", "+50")).all()


def test_a_table_without_acc_norm_is_as_it_was() -> None:
    plain = gains().assign(**{name + NORM: np.nan for name in MEASURED})
    assert reports.gain_table(plain)["task"].tolist() == plain["task"].tolist()


def test_students_start_on_the_suite_and_on_what_has_two_metrics() -> None:
    """A row comes once, however many cells begin there."""
    table = reports.starts(pd.concat([gains(), gains()]))
    assert table["task"].tolist() == [
        "piqa, acc", "piqa, acc_norm", "hellaswag, acc_norm", "hellaswag, acc", "suite",
    ]  # fmt: skip
    assert table["items"].eq(9).all()
