"""The rows of states that share a run; what is counted in a corpus, by hand."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from nbutils.analysis import gains
from nbutils.config.schema import MeasureExtraction, MeasureUtility
from nbutils.results import corpora, rows
from nbutils.results.corpora import distinct, passage_hits, vocabulary_coverage
from nbutils.results.measurements import InStore
from nbutils.runs.store import Store
from nbutils.runs.types import Run


class _Shared(Store):
    """A store in which runs with the same source lie in one folder."""

    def path(self, run: Run) -> Path:
        return self.root / run.stage / str(run.labels["source"])


def _measured(store: _Shared, experiment: str, source: str | None, right: bool) -> list[Run]:
    """The two runs that measure a state, with one item and one passage."""
    labels: dict[str, Any] = {"experiment": experiment, "student": "s", "source": source}
    labels |= {"relation": "self", "method": "full", "temperature": 1.0, "seed": 0}
    item = {"task": "t", "item": "i", "document": "d", "chance": 0.5, "correct": right}
    item["correct_norm"] = None
    passage = {"passage": 0, "split": "held_out", "exact": not right}
    made = []
    for params, file, row in (
        (MeasureUtility(items=None), "utility", item),
        (MeasureExtraction(), "extraction", passage),
    ):
        made.append(Run(f"measure_{file}", f"{source} {experiment}", params, labels=labels))
        store.path(made[-1]).mkdir(parents=True, exist_ok=True)
        pd.DataFrame([row]).to_parquet(store.path(made[-1]) / f"{file}.parquet")
    return made


def test_two_cells_that_are_one_run_are_counted_once(tmp_path: Path) -> None:
    """A recipe that is the tier's own is the self pairing again: two labels, one measurement."""
    store = _Shared(tmp_path, {})
    runs = _measured(store, "untouched", None, right=False)
    runs += _measured(store, "pairings", "s", right=True)
    runs += _measured(store, "recipes", "s", right=True)
    states, answers, prompted = rows.of_states(runs, InStore(store, runs))
    assert states["experiment"].tolist() == ["untouched", "pairings", "recipes"]
    assert states["state"].nunique() == len(answers) == len(prompted) == 2
    extraction = pd.concat(part.assign(state=state) for state, part in prompted.items())
    falls = gains.falls(extraction, states)
    assert falls["passages"].tolist() == [1, 1, 1]
    assert falls["fall"].tolist() == [0, 1, 1]


def test_a_source_may_have_no_passages(tmp_path: Path) -> None:
    """It is measured on the suite alone, and no fall is told of it."""
    store = _Shared(tmp_path, {})
    runs = _measured(store, "untouched", None, right=False)
    bare = _measured(store, "untouched", "other", right=True)[:1]
    bare[0].labels["student"] = "other"
    states, answers, prompted = rows.of_states([*runs, *bare], InStore(store, runs))
    assert len(answers) == 2
    assert len(prompted) == 1
    assert states["extraction_run"].isna().tolist() == [False, True]
    extraction = pd.concat(part.assign(state=state) for state, part in prompted.items())
    assert gains.falls(extraction, states)["student"].tolist() == ["s"]


def test_distinct_by_hand() -> None:
    """Six words, four of them different; four bigrams within documents, three different."""
    texts = ["The cat, the dog.", "the CAT"]
    assert distinct(texts, 1) == pytest.approx(3 / 6)
    assert distinct(texts, 2) == pytest.approx(3 / 4)
    assert distinct(texts, 3) == 1
    assert distinct(texts, 5) == 0
    assert distinct([], 1) == 0


def test_distinct_reads_equal_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpora, "DIVERSITY_WORDS", 3)
    assert distinct(["a b", "a c d e f"], 1) == pytest.approx(2 / 3)
    assert distinct(["a b", "a c d e f"], 2) == 1


def test_passage_hits_counts_documents() -> None:
    suffixes = [" of the realm", "and so on"]
    texts = [
        "the lord of the realm, of the realm and so on",
        "and so forth",
        "Of the realm",
        "the end and so on.",
    ]
    assert passage_hits(texts, suffixes) == 2
    assert passage_hits(texts, []) == 0


def test_covered_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of the three words are there, whatever their case; one within the first two words."""
    texts = ["The cat, a dog.", "CAT"]
    assert vocabulary_coverage(texts, {"cat", "dog", "bird"}) == pytest.approx(2 / 3)
    monkeypatch.setattr(corpora, "DIVERSITY_WORDS", 2)
    assert vocabulary_coverage(texts, {"cat", "dog", "bird"}) == pytest.approx(1 / 3)
