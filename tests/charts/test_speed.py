"""Speed: which measurement is shown, and what a chart says of it."""

import json
from pathlib import Path

import pandas as pd
import pytest

from nbutils.charts import speed
from nbutils.results import tables
from support.synthetic import measurement


def test_your_measurement_stands_before_the_published_one(tmp_path: Path) -> None:
    assert tables.measured(speed.MEASURED, tmp_path) is None
    for folder, device in (("book/results", "theirs"), ("runs", "yours")):
        place = tmp_path / folder
        place.mkdir(parents=True)
        (place / speed.MEASURED).write_text(json.dumps(measurement(device)), "utf-8")
        found = tables.measured(speed.MEASURED, tmp_path)
        assert found is not None
        assert found["device"] == device
    machine = speed.machine(found)
    assert machine["matrix product (GFLOP/s)"].item() == 150


def test_without_a_measurement_the_page_says_so() -> None:
    assert speed.rows(None).empty
    assert speed.machine(None).empty
    assert speed.speed_table(speed.rows(None)).empty
    assert "make bench" in json.dumps(speed.throughput(speed.rows(None)).to_dict())


def test_the_chart_has_a_panel_for_each_question_and_every_way() -> None:
    measured = speed.rows(measurement("here"))
    spec = speed.throughput(measured).to_dict()
    titles = [panel["title"] for panel in spec["vconcat"]]
    assert len(titles) == len(set(titles)) == 4
    drawn = json.dumps(spec)
    assert all(f'"{way}"' in drawn for way in measured["way"].unique())


def test_the_table_says_ratio_and_range() -> None:
    shown = speed.speed_table(pd.DataFrame(measurement("here")["rows"]))
    ours = shown[shown["way"].eq("ours")].iloc[0]
    assert (ours["rate"], ours["ratio"]) == ("300 [90, 120]", "3.00")
    assert ours["of the ceiling"] == "25%"


@pytest.mark.parametrize("column", ["stage", "way", "rate", "ratio", "memory_mib"])
def test_rows_keep_what_the_benchmark_wrote(column: str) -> None:
    assert column in speed.rows(measurement("here"))


def test_exponents_say_how_time_grows() -> None:
    """Seconds grow with the work in the synthetic measurement; the rate is the same for all."""
    found = speed.exponents(measurement("here")).set_index("stage")
    assert list(found.index) == ["sampling", "training", "scoring"]
    assert found["over work"].tolist() == pytest.approx([1, 1, 1])
    assert found["over weights"].tolist() == pytest.approx([0, 0, 0])
    assert speed.exponents(None).empty


def test_the_exponent_over_batches_is_of_the_time_of_one_batch() -> None:
    """Four times the rows at twice the rate take twice as long: a slope of one half."""
    measured = measurement("here")
    first = next(row for row in measured["rows"] if row["way"] == "ours")
    measured["rows"].append(first | {"batch": 256, "rate": 600.0})
    found = speed.exponents(measured).set_index("stage")
    assert found.loc["sampling", "over batch"] == pytest.approx(0.5)
