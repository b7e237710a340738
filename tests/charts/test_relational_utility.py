"""Relational utility: its matrix, its loss curves, and where students start."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nbutils.analysis.gains import NORM
from nbutils.charts import relational_utility
from nbutils.results.tables import load
from support.specs import offers_every_result
from support.synthetic import both_metrics

Tables = dict[str, pd.DataFrame]


def test_the_matrix_offers_every_result_and_says_what_it_is(tables: Tables) -> None:
    offers_every_result(relational_utility.relational_matrix(tables["gains"]))


def test_the_loss_curves_offer_every_result_at_temperature_one(tables: Tables) -> None:
    curves = tables["curves"]
    spec = offers_every_result(relational_utility.loss_curves(curves))
    (rows,) = spec["datasets"].values()
    at_one = curves[curves["temperature"].eq(1)]
    assert {row["run"] for row in rows} == set(at_one["run"].str[:8])


def test_without_results_the_matrix_says_so(tmp_path: Path) -> None:
    """An empty table gives a chart with a sentence."""
    spec = relational_utility.relational_matrix(load("gains", tmp_path)).to_dict()
    assert "nbutils run tiny" in spec["description"]


def test_students_start_on_the_suite_and_on_what_has_two_metrics() -> None:
    """A row comes once, however many pairings begin there."""
    table = relational_utility.starts(pd.concat([both_metrics(), both_metrics()]))
    assert table["task"].tolist() == [
        "piqa, acc", "piqa, acc_norm", "hellaswag, acc_norm", "hellaswag, acc", "suite",
    ]  # fmt: skip
    assert table["items"].eq(9).all()


def test_detectable_gains_are_of_the_suite_in_points(tables: Tables) -> None:
    of = "results == 'tiny · published' and method == 'full' and relation == 'self'"
    suite = tables["gains"].query(
        "task == 'suite' and experiment == 'pairings' and temperature == 1"
    )
    found, rows = relational_utility.detectable(tables["gains"]).query(of), suite.query(of)
    assert found["pairings"].item() == len(rows)
    assert found["detectable"].item() == pytest.approx(100 * rows["detectable"].max())


def test_at_rate_zero_every_student_gets_a_sentence(tables: Tables) -> None:
    sentences = relational_utility.at_rate_zero(tables["gains"])
    assert len(sentences) == 6
    assert all("gain at learning rate zero is 0 points" in sentence for sentence in sentences)


def test_tables_without_acc_norm_have_one_row_per_student(tables: Tables) -> None:
    plain = both_metrics().assign(**{"gain" + NORM: np.nan})
    assert relational_utility.starts(plain)["task"].tolist() == ["suite"]
