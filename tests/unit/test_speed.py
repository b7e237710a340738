"""Speed: which measurement is shown, and what a chart says of it."""

import json
from pathlib import Path

import pandas as pd
import pytest

from nbutils import speed
from synthetic import measurement


def test_your_measurement_stands_before_the_published_one(tmp_path: Path) -> None:
    assert speed.load(tmp_path) is None
    for folder, device in (("book/results", "theirs"), ("runs", "yours")):
        place = tmp_path / folder
        place.mkdir(parents=True)
        (place / speed.MEASURED).write_text(json.dumps(measurement(device)), "utf-8")
        found = speed.load(tmp_path)
        assert found is not None
        assert found["device"] == device
    machine = speed.machine(found)
    assert machine["matrix product (GFLOP/s)"].item() == 150


def test_without_a_measurement_the_page_says_so() -> None:
    assert speed.rows(None).empty
    assert speed.machine(None).empty
    assert speed.shown(speed.rows(None)).empty
    assert "make bench" in json.dumps(speed.throughput(speed.rows(None)).to_dict())


def test_the_chart_has_a_panel_for_each_question_and_every_way() -> None:
    measured = speed.rows(measurement("here"))
    spec = speed.throughput(measured).to_dict()
    titles = [panel["title"] for panel in spec["vconcat"]]
    assert len(titles) == len(set(titles)) == 4
    drawn = json.dumps(spec)
    assert all(f'"{way}"' in drawn for way in measured["way"].unique())


def test_the_table_says_ratio_and_range() -> None:
    shown = speed.shown(pd.DataFrame(measurement("here")["rows"]))
    ours = shown[shown["way"].eq("ours")].iloc[0]
    assert (ours["rate"], ours["ratio"]) == ("300 [90, 120]", "3.00")
    assert ours["of the ceiling"] == "25%"


@pytest.mark.parametrize("column", ["stage", "way", "rate", "ratio", "memory_mib"])
def test_rows_keep_what_the_benchmark_wrote(column: str) -> None:
    assert column in speed.rows(measurement("here"))
