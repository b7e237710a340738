"""Stages: what computes each one, and the version of its results.

A stage's version enters the key of its runs. Raise it when the stage's results change, and only
then: a function that moves, a name, a comment or a faster way to the same numbers changes no key.
Golden tests (``tests/protocol``) turn red when results change and the version must be raised. The
digest of the code is kept in the manifest, for whoever looks for a cause, and decides nothing.
"""

from dataclasses import dataclass

from nbutils.digests import module_digest


@dataclass(frozen=True)
class Stage:
    """A stage, the function that computes it, ``function`` of ``nbutils.<module>``, its version."""

    name: str
    module: str
    function: str
    version: int


STAGES = {
    stage.name: stage
    for stage in (
        Stage("prepare_model", "lineages", "prepare", 1),
        Stage("fetch_model", "registry", "fetch", 1),
        Stage("prepare_suite", "suite", "prepare", 1),
        Stage("prepare_benchmarks", "benchmarks", "prepare", 1),
        Stage("sample_corpus", "sampling", "sample", 1),
        Stage("real_corpus", "controls", "real", 1),
        Stage("shuffle_corpus", "controls", "shuffle", 1),
        Stage("self_train", "finetune", "train", 1),
        Stage("perturb_weights", "controls", "perturb", 1),
        Stage("trace", "trajectory", "trace", 1),
        Stage("measure_utility", "utility", "measure", 1),
        Stage("measure_extraction", "extraction", "measure", 1),
        Stage("embed_texts", "proxies", "embed", 1),
        Stage("measure_proxies", "proxies", "measure", 1),
        Stage("measure_fidelity", "proxies", "fidelity", 1),
        Stage("diagnose", "diagnostics", "measure", 1),
    )
}
BEFORE_VERSIONS = 0
"""The version of runs whose keys came from their code, before stages had versions."""


def version(stage: str) -> int:
    """The version of a stage's results that the code computes now."""
    return STAGES[stage].version


def code_digest(stage: str) -> str:
    """Hash of the code that computes a stage."""
    return module_digest(STAGES[stage].module)
