"""One pairing: its gains by both metrics of a benchmark."""

import numpy as np

from nbutils.analysis.gains import MEASURED, NORM
from nbutils.charts import pairing
from support.synthetic import both_metrics


def test_both_metrics_stand_together_and_the_published_one_first() -> None:
    table = pairing.gain_table(both_metrics())
    assert table["task"].tolist() == [
        "piqa, acc", "piqa, acc_norm", "hellaswag, acc_norm", "hellaswag, acc",
        "speeches_cloze", "suite",
    ]  # fmt: skip
    assert table["base_accuracy"].tolist() == [0.25, 0.5, 0.5, 0.25, 0.25, 0.25]
    assert table["gain (points)"].str.startswith(("+25", "+50")).all()


def test_a_table_without_acc_norm_is_as_it_was() -> None:
    plain = both_metrics().assign(**{name + NORM: np.nan for name in MEASURED})
    assert pairing.gain_table(plain)["task"].tolist() == plain["task"].tolist()
