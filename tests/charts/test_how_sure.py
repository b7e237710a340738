"""How sure: the power curve, and the detectable gains."""

import pandas as pd
import pytest

from nbutils.analysis import power
from nbutils.charts import how_sure


def test_the_power_curve_is_a_chart_with_a_description() -> None:
    rows = pd.DataFrame({"multiple": [0, 1], "power": [0.05, 0.8], "low": 0.0, "high": 1.0})
    assert list(rows) == list(power.power([1], worlds=2, items=30))
    assert "Power against the true gain" in how_sure.power_curve(rows).to_dict()["description"]


def test_detectable_gains_are_those_of_the_suite(tables: dict[str, pd.DataFrame]) -> None:
    of = "results == 'tiny · published' and experiment == 'pairings'"
    rows = tables["gains"].query(f"task == 'suite' and error > 0 and {of}")
    found = how_sure.detectable(tables["gains"]).query(of)
    assert found["median"].tolist() == pytest.approx([100 * rows["detectable"].median()])
    assert found["max"].tolist() == pytest.approx([100 * rows["detectable"].max()])
