"""Stages: what computes each one, and the version of its results.

A stage's version enters the key of its runs. Raise it when the stage's results change, and only
then: a function that moves, a name, a comment or a faster way to the same numbers changes no key.
Golden tests (``tests/protocol``) turn red when results change and the version must be raised. The
digest of the code is kept in the manifest, for whoever looks for a cause, and decides nothing.
"""

from dataclasses import dataclass

from nbutils.runs.fingerprint import module_digest


@dataclass(frozen=True)
class Stage:
    """A stage, ``function`` of ``nbutils.protocol.<module>`` that computes it, and its version."""

    name: str
    module: str
    function: str
    version: int


STAGES = {
    stage.name: stage
    for stage in (
        Stage("prepare_model", "prepare_model", "prepare", 1),
        Stage("fetch_model", "fetch_model", "fetch", 1),
        Stage("prepare_suite", "prepare_suite", "prepare", 1),
        Stage("prepare_benchmarks", "prepare_benchmarks", "prepare", 1),
        Stage("sample_corpus", "sample_corpus", "sample", 1),
        Stage("real_corpus", "controls", "real", 1),
        Stage("shuffle_corpus", "controls", "shuffle", 1),
        Stage("self_train", "self_train", "train", 1),
        Stage("perturb_weights", "controls", "perturb", 1),
        Stage("trace", "trace", "trace", 1),
        Stage("measure_utility", "measure_utility", "measure", 1),
        Stage("measure_extraction", "measure_extraction", "measure", 1),
        Stage("embed_texts", "measure_proxies", "embed", 1),
        Stage("measure_proxies", "measure_proxies", "measure", 1),
        Stage("measure_fidelity", "measure_proxies", "fidelity", 1),
        Stage("diagnose", "diagnose", "measure", 1),
    )
}
BEFORE_VERSIONS = 0
"""The version of runs whose keys came from their code, before stages had versions."""


def version(stage: str) -> int:
    """The version of a stage's results that the code computes now."""
    return STAGES[stage].version


def code_digest(stage: str) -> str:
    """Hash of the code that computes a stage."""
    return module_digest(f"protocol.{STAGES[stage].module}")
