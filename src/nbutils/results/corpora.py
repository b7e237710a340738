"""Corpora: their variety, the passages that they contain, and the first documents of each."""

from collections.abc import Iterable

import pandas as pd

from nbutils.protocol.text import words
from nbutils.runs.store import Store
from nbutils.runs.types import Run

DIVERSITY_WORDS = 20_000  # equal lengths: the share of distinct n-grams falls with length


def distinct(texts: list[str], size: int) -> float:
    """Share of distinct n-grams among those of the first ``DIVERSITY_WORDS`` words.

    ``size`` is n. No n-gram crosses a document boundary. The share is 0 without any n-gram.
    """
    grams: list[tuple[str, ...]] = []
    for tokens in _first_words(texts):
        grams += zip(*(tokens[i:] for i in range(size)), strict=False)
    return len(set(grams)) / len(grams) if grams else 0.0


def _first_words(texts: list[str]) -> Iterable[list[str]]:
    """The words of each text, cut after ``DIVERSITY_WORDS`` words of all texts together."""
    budget = DIVERSITY_WORDS
    for text in texts:
        tokens = words(text)[:budget]
        budget -= len(tokens)
        yield tokens


def passage_hits(texts: list[str], suffixes: list[str]) -> int:
    """Number of documents that contain the suffix of at least one passage."""
    return sum(any(suffix in text for suffix in suffixes) for text in texts)


def vocabulary_coverage(texts: list[str], vocabulary: set[str]) -> float:
    """Share of a vocabulary that occurs in the first ``DIVERSITY_WORDS`` words of the texts."""
    occurring = {word for tokens in _first_words(texts) for word in tokens}
    return len(occurring & vocabulary) / len(vocabulary)


CORPORA = ("sample_corpus", "real_corpus", "shuffle_corpus")
DOCUMENTS_PER_CORPUS = 5  # the first documents, without selection
CHARACTERS = 1_000  # of each document
COLUMNS = ("run", "document", "text", "characters")


def first_documents(runs: list[Run], store: Store) -> pd.DataFrame:
    """One row for each of the first documents of every corpus among finished runs.

    ``text`` is the beginning of the document, ``characters`` the length of the whole document.

    Raises:
        RunError: A corpus is not finished.
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
