"""Documents: a few of every corpus, kept with a tier's tables."""

import pandas as pd

from nbutils.runs import Run, Store

CORPORA = ("sample_corpus", "real_corpus", "shuffle_corpus")
KEPT = 5  # documents of a corpus: the first ones, as they came
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
        texts = pd.read_parquet(folder / "corpus.parquet", columns=["text"])["text"].head(KEPT)
        values = (folder.name, range(len(texts)), texts.str.slice(0, CHARACTERS), texts.str.len())
        parts.append(pd.DataFrame(dict(zip(COLUMNS, values, strict=True))))
    return pd.concat([p for p in parts if len(p)] or parts, ignore_index=True)
