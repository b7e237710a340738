"""Corpora: how varied they are, which passages they hold, and the first documents of each."""

from collections.abc import Iterable

import pandas as pd

from nbutils.protocol.text import words
from nbutils.runs.store import Store
from nbutils.runs.types import Run

DIVERSITY_WORDS = 20_000  # a share of distinct n-grams falls with length: compare equal lengths


def distinct(texts: list[str], size: int) -> float:
    """Share of distinct n-grams among the n-grams of the first ``DIVERSITY_WORDS`` words.

    N-grams do not run from one document into the next. Zero where there is no n-gram.
    """
    grams: list[tuple[str, ...]] = []
    for tokens in _first_words(texts):
        grams += zip(*(tokens[i:] for i in range(size)), strict=False)
    return len(set(grams)) / len(grams) if grams else 0.0


def _first_words(texts: list[str]) -> Iterable[list[str]]:
    budget = DIVERSITY_WORDS
    for text in texts:
        tokens = words(text)[:budget]
        budget -= len(tokens)
        yield tokens


def passage_hits(texts: list[str], suffixes: list[str]) -> int:
    """Documents that hold the suffix of at least one passage."""
    return sum(any(suffix in text for suffix in suffixes) for text in texts)


def covered(texts: list[str], vocabulary: set[str]) -> float:
    """Share of a vocabulary that the first ``DIVERSITY_WORDS`` words of the texts hold."""
    found = {word for tokens in _first_words(texts) for word in tokens}
    return len(found & vocabulary) / len(vocabulary)


CORPORA = ("sample_corpus", "real_corpus", "shuffle_corpus")
DOCUMENTS_PER_CORPUS = 5  # documents of a corpus: the first ones, as they came
CHARACTERS = 1_000  # of a document
COLUMNS = ("run", "document", "text", "characters")


def first(runs: list[Run], store: Store) -> pd.DataFrame:
    """The first documents of every corpus among finished runs, one row each.

    ``text`` is what the document begins with, ``characters`` the length of all of it.
    """
    parts = [pd.DataFrame(columns=list(COLUMNS))]
    for run in runs:
        if run.stage not in CORPORA:
            continue
        folder = store.path(run)
        texts = pd.read_parquet(folder / "corpus.parquet", columns=["text"])["text"].head(
            DOCUMENTS_PER_CORPUS
        )
        values = (folder.name, range(len(texts)), texts.str.slice(0, CHARACTERS), texts.str.len())
        parts.append(pd.DataFrame(dict(zip(COLUMNS, values, strict=True))))
    return pd.concat([p for p in parts if len(p)] or parts, ignore_index=True)
