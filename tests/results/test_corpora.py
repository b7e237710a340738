"""Documents: the first ones of every corpus, kept beside a tier's tables."""

from pathlib import Path

import pandas as pd
import pytest

from nbutils.config import schema
from nbutils.results import tables
from nbutils.results.corpora import CHARACTERS, COLUMNS, DOCUMENTS_PER_CORPUS, first_documents
from nbutils.runs.store import Store
from nbutils.runs.types import Run
from support.project import open_store


@pytest.fixture
def corpora(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """Three finished runs: a sampled corpus, a shuffled one, and one that is no corpus."""
    plain = schema.SampleCorpus(temperature=1.0, tokens=10, max_tokens=5, batch_size=2, seed=0)
    runs = []
    for stage, texts in (
        ("sample_corpus", ["", "b" * (CHARACTERS + 7), *"cdefgh"]),
        ("shuffle_corpus", ["x"]),
        ("self_train", None),
    ):
        folder = tmp_path / stage / f"key-of-{stage}"
        folder.mkdir(parents=True)
        if texts:
            pd.DataFrame({"text": texts}).to_parquet(folder / "corpus.parquet")
        runs.append(Run(stage, stage, plain))
    monkeypatch.setattr(
        Store, "path", lambda store, run: tmp_path / run.stage / f"key-of-{run.stage}"
    )
    return runs


def test_the_first_documents_are_kept_and_long_ones_are_cut(
    corpora: list[Run], tmp_path: Path
) -> None:
    found = first_documents(corpora, open_store(tmp_path))
    assert tuple(found.columns) == COLUMNS
    sampled = found[found["run"].eq("key-of-sample_corpus")]
    assert list(sampled["document"]) == list(range(DOCUMENTS_PER_CORPUS))
    assert list(sampled["text"]) == ["", "b" * CHARACTERS, *"cde"]
    assert list(sampled["characters"]) == [0, CHARACTERS + 7, 1, 1, 1]
    assert list(found.loc[found["run"].eq("key-of-shuffle_corpus"), "text"]) == ["x"]
    assert set(found["run"]) == {"key-of-sample_corpus", "key-of-shuffle_corpus"}


def test_a_tier_without_documents_says_none(tmp_path: Path) -> None:
    assert tables.read_documents(tmp_path) is None
    first_documents([], open_store(tmp_path)).to_parquet(tmp_path / "documents.parquet")
    found = tables.read_documents(tmp_path)
    assert found is not None
    assert found.empty
