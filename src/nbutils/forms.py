"""Forms: what a person types into a notebook's parameters cell or ``nbutils notebook NAME -p``.

They name a tier and the members of a pairing, or the project whose results are read.
"""

from pathlib import Path
from typing import Annotated

from pydantic import DirectoryPath, Field

from nbutils.params import Method, Parameters, Seed, Slug, Temperature

TierName = Annotated[Slug, Field(description="scale: a file under notebooks/tiers/")]
SourceName = Annotated[Slug, Field(description="model that writes the corpus")]
StudentName = Annotated[Slug, Field(description="model that is fine-tuned on the corpus")]
SamplingTemperature = Annotated[Temperature, Field(description="sampling temperature")]
MethodName = Annotated[Method, Field(description="full (every weight) or lora (an adapter)")]
SeedNumber = Annotated[Seed, Field(description="seed of sampling and of fine-tuning")]
ProjectFolder = Annotated[
    DirectoryPath, Field(strict=False, description="project folder that holds book/ and runs/")
]


class ModelNotebook(Parameters):
    """Prepare one model."""

    tier: TierName = "tiny"
    model: Annotated[Slug, Field(description="a model of the tier")] = "neox-small"


class CorpusNotebook(Parameters):
    """Sample one corpus."""

    tier: TierName = "tiny"
    source: SourceName = "neox-small"
    temperature: SamplingTemperature = 1.0
    seed: SeedNumber = 0


class PairingNotebook(CorpusNotebook):
    """Fine-tune and measure one pairing."""

    student: StudentName = "neox-small"
    method: MethodName = "full"


ModelReference = Annotated[
    str,
    Field(description="a model of the tier, or hub:OWNER/NAME@REVISION, folder:PATH, ..."),
]


class ReportNotebook(Parameters):
    """The whole chain of one pairing."""

    tier: TierName = "tiny"
    source: ModelReference = "neox-small"
    student: ModelReference = "neox-small"
    temperature: SamplingTemperature = 1.0
    method: MethodName = "full"
    seed: SeedNumber = 0
    tokens: int = Field(0, ge=0, description="corpus tokens; the tier's own if 0")
    steps: int = Field(0, ge=0, description="fine-tuning steps; the tier's own if 0")
    tasks: list[str] = Field([], description="lm-eval tasks; the tier's own if empty")


class ProxyNotebook(CorpusNotebook):
    """Score one corpus for one student."""

    student: StudentName = "neox-small"


class TablesNotebook(Parameters):
    """Read the tables of every tier."""

    root: ProjectFolder = Path()


class FindingNotebook(TablesNotebook):
    """Read the tables of every tier, and bootstrap."""

    seed: Annotated[Seed, Field(description="seed of the bootstrap")] = 0


class SimulationNotebook(TablesNotebook):
    """Read the tables of every tier, and simulate."""

    worlds: Annotated[int, Field(ge=20, le=100_000, description="made-up worlds")] = 200


NOTEBOOKS: dict[str, type[Parameters]] = {
    "prepare_model": ModelNotebook,
    "sample_corpus": CorpusNotebook,
    "self_train": PairingNotebook,
    "measure_utility": PairingNotebook,
    "measure_extraction": PairingNotebook,
    "measure_proxies": ProxyNotebook,
    "pairing": ReportNotebook,
    "opening": TablesNotebook,
    "relational_utility": TablesNotebook,
    "proxies_fail": FindingNotebook,
    "memorization_decoupling": TablesNotebook,
    "temperature": TablesNotebook,
    "trajectories": TablesNotebook,
    "compatibility_diagnostics": FindingNotebook,
    "rounds": TablesNotebook,
    "recipe_map": TablesNotebook,
    "how_sure": SimulationNotebook,
    "speed": TablesNotebook,
    "status": TablesNotebook,
}
STAGES = [name for name, form in NOTEBOOKS.items() if "tier" in form.model_fields]
"""Notebooks that compute, or reuse, runs of a tier."""
FINDINGS = [name for name in NOTEBOOKS if name not in STAGES]
"""Notebooks that read the tables of every tier."""
REPORT = "pairing"
"""The stage notebook that is a whole chain."""
