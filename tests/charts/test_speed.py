"""Speed: which measurement is shown, and what the page says of it."""

import json
from pathlib import Path

import pandas as pd
import pytest

from nbutils.charts import speed
from nbutils.results import tables
from support.synthetic import measurement


@pytest.fixture
def measured() -> pd.DataFrame:
    return speed.rows(measurement("here"))


def faster(measured: pd.DataFrame, way: str, batch: int, rate: float) -> pd.DataFrame:
    """The same with another rate of one way, at one batch, with its range."""
    row = measured["way"].eq(way) & measured["batch"].eq(batch)
    rows = measured.to_dict("records")
    for record in (r for r, chosen in zip(rows, row, strict=True) if chosen):
        record |= {"rate": rate, "low": 0.9 * rate, "high": 1.2 * rate}
    return speed.rows({"rows": rows})


def test_your_measurement_stands_before_the_published_one(tmp_path: Path) -> None:
    assert tables.measured(speed.MEASURED, tmp_path) is None
    for folder, device in (("book/results", "theirs"), ("runs", "yours")):
        place = tmp_path / folder
        place.mkdir(parents=True)
        (place / speed.MEASURED).write_text(json.dumps(measurement(device)), "utf-8")
        found = tables.measured(speed.MEASURED, tmp_path)
        assert found is not None
        assert found["device"] == device
    assert speed.machine(found)["model"].item() == "neox-small of tiny"


def test_without_a_measurement_the_page_says_so() -> None:
    nothing = speed.rows(None)
    assert nothing.empty
    for table in (speed.speed_table, speed.corrected, speed.ceilings):
        assert table(nothing).empty
    assert speed.machine(None).empty
    assert list(speed.sentences(nothing)) == []
    assert "make bench" in speed.answer(nothing)
    assert "make bench" in json.dumps(speed.throughput(nothing).to_dict())


def test_the_ratio_is_to_the_best_peer_of_the_contest(measured: pd.DataFrame) -> None:
    ratios = measured.groupby("way")["ratio"].unique()
    assert ratios["ours"].tolist() == [3.0]
    assert ratios["generate, static cache"].tolist() == [1.0]
    assert ratios["generate"].tolist() == [0.5]


def test_a_headline_is_our_own_batch_against_the_peers_best_one(measured: pd.DataFrame) -> None:
    """A better cell of ours elsewhere does not count; a better one of a peer does."""
    elsewhere = faster(measured, "ours", 64, rate=900.0)
    assert speed.of_stages(elsewhere)["sampling"].ratio == pytest.approx(3.0)
    theirs = speed.of_stages(faster(measured, "generate", 64, rate=200.0))["sampling"]
    assert (theirs.peer, theirs.peer_batch, theirs.batch) == ("generate", 64, 1024)
    assert theirs.ratio == pytest.approx(1.5)


def test_the_limits_of_a_ratio_take_the_turns_that_suit_it_least(measured: pd.DataFrame) -> None:
    found = speed.of_stages(measured)["scoring"]
    assert (found.low, found.high) == pytest.approx((270 / 120, 360 / 90))


def test_the_first_task_of_a_stage_is_its_headline(measured: pd.DataFrame) -> None:
    tasks = {stage: found.task for stage, found in speed.of_stages(measured).items()}
    assert tasks == {"sampling": "documents", "training": "all weights", "scoring": "suite"}


@pytest.mark.parametrize(
    ("rate", "said"),
    [(300.0, "faster, 3.00 times"), (105.0, "as fast (0.79 to 1.40 times)"), (40.0, "slower")],
)
def test_the_answer_calls_nothing_faster_within_its_range(
    measured: pd.DataFrame, rate: float, said: str
) -> None:
    answer = speed.answer(faster(measured, "ours", 384, rate))
    assert f"scoring is {said}" in answer


def test_a_sentence_per_task_says_what_was_read(measured: pd.DataFrame) -> None:
    said = list(speed.sentences(measured))
    assert len(said) == 4
    assert all("3.00 times" in line and "reads 2.00 tokens" in line for line in said)


def test_corrections_repeat_the_claim_beside_both_ratios(measured: pd.DataFrame) -> None:
    table = speed.corrected(measured).set_index("stage")
    row = table.loc["training"]
    assert row["claimed"] == "2.4 ×"
    assert row["the same today"] == "6.0 ×"
    assert row["against the best peer"] == "3.00 × Trainer, packed rows"
    assert list(table.index) == list(speed.CLAIMED)


def test_the_chart_has_a_panel_for_each_contest_and_every_way(measured: pd.DataFrame) -> None:
    spec = speed.throughput(measured).to_dict()
    titles = [panel["title"] for panel in spec["vconcat"]]
    assert len(titles) == len(set(titles)) == 5
    drawn = json.dumps(spec)
    assert all(f'"{way}"' in drawn for way in measured["way"].unique())


def test_the_table_says_ratio_range_and_share(measured: pd.DataFrame) -> None:
    shown = speed.speed_table(measured)
    ours = shown[shown["way"].eq("ours")].iloc[0]
    assert (ours["per CPU second"], ours["ratio"]) == ("300 [270, 360]", "3.00")
    assert (ours["of the ceiling"], ours["per second"]) == ("25%", "150")


def test_an_accelerator_is_compared_with_the_best_peer_of_each_contest() -> None:
    def row(way: str, rate: float) -> dict[str, object]:
        return {"stage": "training", "way": way, "rate": rate, "memory_mib": 2048.0}

    found = {
        "machine": [{"device": "a card"}],
        "a model": [{"weights": 2e6}, row("ours", 30.0), row("Trainer", 60.0), row("slow", 6.0)],
        "another": [{"weights": 3e6}, {"stage": "training", "way": "ours", "error": "no memory"}],
        "created": "2026-01-02",
        "commit": "abc",
        "tests": {"passed": 3, "failed": 1, "cut": ["a tier"]},
    }
    table = speed.on_accelerator(found)
    assert table["model"].unique().tolist() == ["a model (2 M)"]
    assert table["to the best peer"].tolist() == ["0.50", "1.00", "0.10"]
    assert table["memory (GiB)"].tolist() == [2.0] * 3
    text = speed.tested_on(found)
    assert "a card (2026-01-02, commit abc)" in text
    assert "3 passed and 1 failed; cut before it ended: a tier." in text
    assert speed.on_accelerator(None).empty
    assert speed.tested_on(None) == "Nothing was measured on an accelerator yet."
