"""The parameters of notebooks, set in the parameters cell or by ``nbutils notebook NAME -p``.

They name a tier and the members of a pairing, or the project whose results are read. Paths become
absolute when they are checked, so that they do not depend on a later working directory.
"""

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, DirectoryPath, Field

from nbutils.config import tiers
from nbutils.config.schema import Method, Parameters, Seed, Slug, Temperature
from nbutils.config.validation import Schema, check

INJECTED = "# Parameters"
"""The first line of the cell that Papermill inserts after the parameters cell."""


def _project(root: Path) -> Path:
    """The absolute path of a project; by default, of the one that holds the working directory."""
    if root == Path():
        return tiers.project_root()
    if not tiers.is_project(root):
        raise ValueError(
            f"{root} holds no project: give the folder that holds notebooks/tiers, or leave root "
            "out to search the working directory and the folders above it"
        )
    return root.absolute()


def _located(reference: str) -> str:
    """A reference to a model with its path, if it has one, made absolute."""
    kind, _, place = reference.partition(":")
    if kind not in ("folder", "gguf") or not place:
        return reference
    try:
        return f"{kind}:{Path(place).expanduser().absolute()}"
    except RuntimeError as error:  # the home folder does not exist
        raise ValueError(f"{place} cannot be read: {error}") from None


TierName = Annotated[Slug, Field(description="scale: a file under notebooks/tiers/")]
SourceName = Annotated[Slug, Field(description="model that writes the corpus")]
StudentName = Annotated[Slug, Field(description="model that is fine-tuned on the corpus")]
SamplingTemperature = Annotated[Temperature, Field(description="sampling temperature")]
MethodName = Annotated[Method, Field(description="full (every weight) or lora (an adapter)")]
SeedNumber = Annotated[Seed, Field(description="seed of sampling and of fine-tuning")]
ProjectFolder = Annotated[
    DirectoryPath,
    Field(strict=False, description="project folder; if '.', the nearest one upwards"),
    AfterValidator(_project),
]


class ModelNotebook(Parameters):
    """Prepare one model."""

    tier: TierName = "tiny"
    model: Annotated[Slug, Field(description="a model of the tier")] = "neox-small"


class FetchNotebook(Parameters):
    """Fetch one pretrained model."""

    tier: TierName = "smol"
    model: Annotated[Slug, Field(description="a pretrained model of the tier")] = "smollm2-135m"


class SuiteNotebook(Parameters):
    """Build the suite of a tier whose models are pre-trained here."""

    tier: TierName = "tiny"


class BenchmarksNotebook(Parameters):
    """Prepare the benchmarks of a tier of pretrained models."""

    tier: TierName = "smol"


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
    AfterValidator(_located),
]


class ReportNotebook(Parameters):
    """Compute and report one pairing, from its models to its measurements."""

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


class TraceNotebook(ProxyNotebook):
    """Fine-tune one student again, and measure it during training."""

    points: list[Annotated[int, Field(ge=1)]] = Field(
        [], description="steps after which to measure; the tier's own if empty"
    )


class ProjectNotebook(Parameters):
    """Read what was measured in a project."""

    root: ProjectFolder = Field(default=Path(), validate_default=True)


class TablesNotebook(ProjectNotebook):
    """Read the tables of every tier."""


class FindingNotebook(TablesNotebook):
    """Read the tables of every tier, and compute bootstrap intervals."""

    seed: Annotated[Seed, Field(description="seed of the bootstrap")] = 0


class SimulationNotebook(TablesNotebook):
    """Read the tables of every tier, and simulate."""

    worlds: Annotated[int, Field(ge=20, le=100_000, description="simulated data sets")] = 200


class SampleExercise(Parameters):
    """Sample two corpora in the workshop."""

    tier: TierName
    source: SourceName
    other: Annotated[Slug, Field(description="another source, for comparison")]
    seed: SeedNumber


class StudentExercise(Parameters):
    """Train and measure one student in the workshop."""

    tier: TierName
    student: StudentName
    seed: SeedNumber


NOTEBOOKS: dict[str, type[Parameters]] = {
    "prepare_model": ModelNotebook,
    "fetch_model": FetchNotebook,
    "prepare_suite": SuiteNotebook,
    "prepare_benchmarks": BenchmarksNotebook,
    "sample_corpus": CorpusNotebook,
    "self_train": PairingNotebook,
    "measure_utility": PairingNotebook,
    "measure_extraction": PairingNotebook,
    "measure_proxies": ProxyNotebook,
    "diagnose": ProxyNotebook,
    "trace": TraceNotebook,
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
    "speed": ProjectNotebook,
    "status": TablesNotebook,
}
EXERCISES: dict[str, type[Parameters]] = {
    "workshop/1_sample": SampleExercise,
    "workshop/2_train": StudentExercise,
    "workshop/3_relations": StudentExercise,
    "workshop/4_extraction": StudentExercise,
    "workshop/5_predict": StudentExercise,
}
STAGES = [name for name, form in NOTEBOOKS.items() if "tier" in form.model_fields]
"""Notebooks that compute or reuse runs of a tier."""
FINDINGS = [name for name in NOTEBOOKS if name not in STAGES]
"""Notebooks that read the tables of every tier."""
REPORT = "pairing"
"""The notebook that computes all stages of a pairing."""


def given(form: type[Schema], names: Mapping[str, Any]) -> Schema:
    """Check the parameters of a notebook, from its parameters cell or from Papermill.

    ``names`` are the notebook's globals. They include the source of every executed cell, which
    IPython stores, so that misspelt parameters are detected however the notebook is run.

    Raises:
        ParameterError: One line for each wrong value, and for each name that is no parameter.
    """
    assigned = _assigned_last(names.get("In", ()), set(form.model_fields))
    parameters = [*form.model_fields, *assigned]
    return check(form, {name: names[name] for name in parameters if name in names})


def _assigned_last(cells: Sequence[str], fields: set[str]) -> list[str]:
    """Names assigned by the last executed parameters cell, and by the injected cell after it.

    An injected cell that was executed before the parameters cell no longer has an effect.
    """
    injected: list[str] | None = None
    for source in reversed(cells[:-1]):  # the last cell is the one that calls ``given``
        assigned = _assigned(source)
        if source.partition("\n")[0] == INJECTED:
            injected = assigned if injected is None else injected
        elif fields.intersection(assigned):
            return [*assigned, *(injected or [])]
    return injected or []


def _assigned(source: str) -> list[str]:
    """The names that a cell assigns at top level, outside of functions and loops."""
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError):  # such a cell could not be executed either
        return []
    targets: list[ast.expr] = []
    for line in body:
        if isinstance(line, ast.Assign):
            targets += line.targets
        elif isinstance(line, ast.AnnAssign):
            targets.append(line.target)
    return [target.id for target in targets if isinstance(target, ast.Name)]
