"""Stages: the module that computes each one, and the version of its results.

A stage's version enters the key of its runs. Raise it when the stage's results change, and only
then: moved functions, new names, comments or a faster way to the same numbers change no key.
Golden tests (``tests/protocol``) fail when results change and the version must be raised. The
manifest also records the digest of the code; it helps to find a cause, and enters no key.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbutils.runs.source_code import module_digest
from nbutils.runs.types import Progress

StageFunction = Callable[[Any, dict[str, Path], Path, Progress], None]
"""Computes a stage from its parameters and its input folders by role, into a folder."""


@dataclass(frozen=True)
class Stage:
    """A stage, the module in ``protocol`` that computes it, and the version of its results."""

    name: str
    module: str
    version: int


STAGES = {
    stage.name: stage
    for stage in (
        Stage("prepare_model", "prepare_model", version=2),
        Stage("fetch_model", "fetch_model", version=2),
        Stage("prepare_suite", "prepare_suite", version=1),
        Stage("prepare_benchmarks", "prepare_benchmarks", version=1),
        Stage("sample_corpus", "sample_corpus", version=2),
        Stage("real_corpus", "controls", version=1),
        Stage("shuffle_corpus", "controls", version=1),
        Stage("self_train", "self_train", version=2),
        Stage("perturb_weights", "controls", version=1),
        Stage("trace", "trace", version=2),
        Stage("measure_utility", "measure_utility", version=2),
        Stage("measure_extraction", "measure_extraction", version=1),
        Stage("embed_texts", "measure_proxies", version=1),
        Stage("measure_proxies", "measure_proxies", version=2),
        Stage("measure_fidelity", "measure_proxies", version=2),
        Stage("diagnose", "diagnose", version=3),
    )
}


def versions() -> dict[str, int]:
    """The current version of each stage's results."""
    return {stage.name: stage.version for stage in STAGES.values()}


def code_digest(stage: str) -> str:
    """Hash of the code that computes a stage."""
    return module_digest(f"protocol.{STAGES[stage].module}")


def stage_function(stage: str) -> StageFunction:
    """The function that computes a stage, whose module is imported only now.

    Raises:
        KeyError: There is no such stage.
    """
    match stage:
        case "prepare_model":
            from nbutils.protocol import prepare_model

            return prepare_model.run
        case "fetch_model":
            from nbutils.protocol import fetch_model

            return fetch_model.run
        case "prepare_suite":
            from nbutils.protocol import prepare_suite

            return prepare_suite.run
        case "prepare_benchmarks":
            from nbutils.protocol import prepare_benchmarks

            return prepare_benchmarks.run
        case "sample_corpus":
            from nbutils.protocol import sample_corpus

            return sample_corpus.run
        case "real_corpus":
            from nbutils.protocol import controls

            return controls.run_real_corpus
        case "shuffle_corpus":
            from nbutils.protocol import controls

            return controls.run_shuffle_corpus
        case "self_train":
            from nbutils.protocol import self_train

            return self_train.run
        case "perturb_weights":
            from nbutils.protocol import controls

            return controls.run_perturb_weights
        case "trace":
            from nbutils.protocol import trace

            return trace.run
        case "measure_utility":
            from nbutils.protocol import measure_utility

            return measure_utility.run
        case "measure_extraction":
            from nbutils.protocol import measure_extraction

            return measure_extraction.run
        case "embed_texts":
            from nbutils.protocol import measure_proxies

            return measure_proxies.run_embed_texts
        case "measure_proxies":
            from nbutils.protocol import measure_proxies

            return measure_proxies.run
        case "measure_fidelity":
            from nbutils.protocol import measure_proxies

            return measure_proxies.run_measure_fidelity
        case "diagnose":
            from nbutils.protocol import diagnose

            return diagnose.run
    raise KeyError(stage)
