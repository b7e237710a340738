"""Measurements: what the runs of each stage measured, in their types, read from a store.

Rows of tables are made from these and from the labels that a plan gives its runs. Measurements come
from a store (``InStore``), or from an archive of somebody else (``InMemory``).
"""

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Protocol

import numpy as np
import pandas as pd
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from nbutils.escaping import visible
from nbutils.protocol import prepare_suite
from nbutils.protocol.text import words
from nbutils.results.corpora import distinct, passage_hits, vocabulary_coverage
from nbutils.runs.store import Store
from nbutils.runs.types import Manifest, Run

MODEL_STAGES = ("prepare_model", "fetch_model")
SUITE_STAGES = ("prepare_suite", "prepare_benchmarks")
TABLES = {
    "measure_utility": "utility",
    "measure_extraction": "extraction",
    "self_train": "curve",
    "measure_proxies": "proxies",
    "diagnose": "diagnostics",
    "measure_fidelity": "fidelity",
}
"""Maps a stage to the table that its runs write. Of other stages, there are single values."""
FACTS = ("parameters", "training_tokens", "planted_share", "exposures")
"""The values of a model that its ``facts.json`` holds."""


class Measurements(Protocol):
    """What finished runs measured."""

    def key_of(self, run: Run) -> str:
        """The key of a run."""

    def frame(self, run: Run, name: str) -> pd.DataFrame:
        """A table that a run wrote."""

    def facts(self, run: Run) -> dict[str, Any]:
        """The values of a corpus or of a model; None where one is unknown."""


class InStore:
    """The measurements of finished runs in a store.

    Every method raises ``RunError`` for a run that is not finished.
    """

    def __init__(self, store: Store, runs: list[Run]) -> None:
        """``runs`` are those of a tier; among them is its suite."""
        self._store, self._runs = store, runs
        self._facts: dict[str, dict[str, Any]] = {}  # a corpus takes some tenths of a second

    def key_of(self, run: Run) -> str:
        """The key of a run."""
        return self._store.path(run).name

    def frame(self, run: Run, name: str) -> pd.DataFrame:
        """A table that a run wrote."""
        return pd.read_parquet(self._store.path(run) / f"{name}.parquet")

    def facts(self, run: Run) -> dict[str, Any]:
        """The values of a corpus or of a model; None where one is unknown.

        ``passage_hits`` counts passages of the pre-trained model that the source was trained from.
        """
        key = self.key_of(run)
        if key not in self._facts:
            self._facts[key] = self._read_facts(run)
        return self._facts[key]

    def _read_facts(self, run: Run) -> dict[str, Any]:
        if run.stage in MODEL_STAGES:
            folder = self._store.path(run)
            facts = json.loads((folder / "facts.json").read_text("utf-8"))
            config = json.loads((folder / "config.json").read_text("utf-8"))
            return {"architecture": config["model_type"], **{name: facts[name] for name in FACTS}}
        corpus = self.frame(run, "corpus")
        passages = self._store.path(_base(run.inputs["source"])) / "passages.parquet"
        suffixes = list(pd.read_parquet(passages).suffix_text) if passages.is_file() else None
        texts = list(corpus.text)
        return {
            "documents": len(corpus),
            "tokens": int(corpus.n_tokens.sum()),
            "finished": float(corpus.finished.mean()),
            **{f"distinct_{n}": distinct(texts, n) for n in (1, 2, 3)},
            "benchmark_words": vocabulary_coverage(texts, self._vocabulary),
            "passage_hits": None if suffixes is None else passage_hits(texts, suffixes),
            "mean_log_prob": float(np.average(corpus.mean_log_prob, weights=corpus.n_tokens)),
            "read_otherwise": float(corpus.read_otherwise.sum() / corpus.n_tokens.sum()),
        }

    @cached_property
    def _vocabulary(self) -> set[str]:
        """All words of the benchmark's items."""
        folder = self._store.path(next(r for r in self._runs if r.stage in SUITE_STAGES))
        texts = (text for items in prepare_suite.texts(folder).values() for text in items)
        return {word for text in texts for word in words(text)}


class InMemory(Store):
    """Manifests and measurements without a folder, such as an archive's, read as a store's are."""

    def __init__(
        self,
        manifests: list[Manifest],
        measured: dict[str, dict[str, Any]],
        versions: Mapping[str, int],
    ) -> None:
        """``measured`` maps a key to columns or values; ``versions`` a stage to its version."""
        super().__init__(Path(), versions)
        self._manifests = {(m.stage, m.key): m for m in manifests}
        self._measured = measured

    def manifest(self, stage: str, key: str) -> Manifest | None:
        """The manifest of a run, or None where there is none."""
        return self._manifests.get((stage, key))

    def all(self) -> list[Manifest]:
        """Every manifest."""
        return list(self._manifests.values())

    def key_of(self, run: Run) -> str:
        """The key of a run."""
        return str(self.key(run))

    def frame(self, run: Run, _name: str) -> pd.DataFrame:
        """The table that a run wrote."""
        frame = pd.DataFrame(self.facts(run))
        return frame.astype({"correct_norm": "boolean"}) if "correct_norm" in frame else frame

    def facts(self, run: Run) -> dict[str, Any]:
        """The values of a corpus or of a model; None where one is unknown."""
        return dict(self._measured[self.key_of(run)])


def _base(run: Run) -> Run:
    """The run of the pre-trained model that a model was trained from."""
    while run.stage not in MODEL_STAGES:
        run = run.inputs["student"]
    return run


# --- Their types -----------------------------------------------------------------------------


def _plain(text: str) -> str:
    if visible(text) != text:
        raise ValueError("it has characters that cannot be seen")
    return text


Text = Annotated[str, Field(pattern=r"^[^<>&\n\t]{1,200}$"), AfterValidator(_plain)]
Count = Annotated[int, Field(ge=0, le=2**53)]


class Strict(BaseModel):
    """Base of what a run measured: exactly these fields, in their types, and finite numbers."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="after")
    def _has_even_columns(self) -> "Strict":
        if len({len(values) for _, values in self if isinstance(values, list)}) > 1:
            raise ValueError("its columns must have the same length")
        return self


class Utility(Strict):
    """The answers of one state: see ``measure_utility``."""

    task: list[Text]
    item: list[Text]
    document: list[Text]
    chance: list[float]
    correct: list[bool]
    correct_norm: list[bool | None]


class Extraction(Strict):
    """The passages that one state was prompted with: see ``measure_extraction``."""

    passage: list[Count]
    split: list[Text]
    exact: list[bool]
    matched_tokens: list[Count]
    suffix_tokens: list[Count]


class Curve(Strict):
    """The losses of a fine-tune."""

    step: list[Count]
    loss: list[float]


class Proxies(Strict):
    """The proxies of a corpus."""

    task: list[Text | None]
    proxy: list[Text]
    value: list[float]


class Diagnostics(Strict):
    """The diagnostics of a pairing."""

    diagnostic: list[Text]
    value: list[float]


class Fidelity(Strict):
    """The fidelity of a corpus."""

    log_likelihood: Annotated[list[float], Field(min_length=1, max_length=1)]


class Corpus(Strict):
    """The values of a corpus."""

    documents: Count
    tokens: Count
    finished: float
    distinct_1: float
    distinct_2: float
    distinct_3: float
    benchmark_words: float
    passage_hits: Count | None
    mean_log_prob: float
    read_otherwise: float


class Model(Strict):
    """The values of a model."""

    architecture: Text
    parameters: Count
    training_tokens: Count | None
    planted_share: float | None
    exposures: Count | None


MEASURED: dict[str, type[Strict]] = {
    **{"measure_utility": Utility, "measure_extraction": Extraction, "self_train": Curve},
    **{"measure_proxies": Proxies, "diagnose": Diagnostics, "measure_fidelity": Fidelity},
    **{"sample_corpus": Corpus, "prepare_model": Model, "fetch_model": Model},
}
"""What the runs of a stage measured. Other stages measure nothing."""
