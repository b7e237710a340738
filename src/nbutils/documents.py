"""Documents: a few of every corpus, kept with a tier's tables, and text that hides nothing."""

import unicodedata

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


def visible(text: str) -> str:
    """The text with a name in place of every character that is not seen or hides others.

    Those are the control and format characters of Unicode, such as escape and the overrides of
    direction, but for the ends of lines and tabulators.
    """
    return "".join(
        f"⟨U+{ord(c):04X}⟩"
        if c not in "\n\t" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
        else c
        for c in text
    )
