"""Tiers: the scales at which the protocol runs, each a file under ``notebooks/tiers/``.

A tier is also the registry of its models, from which relations are computed.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from nbutils.config import yaml_text
from nbutils.config.schema import (
    ORIGIN,
    Architecture,
    Benchmarks,
    Control,
    Count,
    Dtype,
    Lora,
    Method,
    Mixture,
    Parameters,
    Passages,
    Planting,
    Precision,
    Recipe,
    Seed,
    Slug,
    SuiteSize,
    Temperature,
)
from nbutils.config.validation import check
from nbutils.errors import ParameterError, unknown


class Family(Parameters):
    """Models that share tokenizer, architecture and pre-training data, pre-trained here."""

    architecture: Architecture
    mixture: Mixture
    planting: Planting | None = Field(None, description="replaces the tier's planting")


class Pretrained(Parameters):
    """A model that others have trained."""

    family: Slug
    size: Slug
    origin: str = Field(
        pattern=ORIGIN, description="hub:OWNER/NAME@REVISION, folder:, gguf:, wheel:"
    )
    licence: str = Field(description="licence of the weights")
    bos: str | None = Field(None, description="token that begins a document; its own BOS if null")
    scoring_bos: bool | None = Field(None, description="whether contexts of items begin with it")
    extraction_bos: bool | None = Field(None, description="whether prompts of passages do")
    dtype: Dtype | None = Field(None, description="type of the weights; as published if null")
    parameters: int | None = Field(None, ge=1, description="number of weights, to compare sizes")
    passages: Passages | None = Field(None, description="replaces the tier's passages")


class Member(Parameters):
    """One member of a lineage, pre-trained here."""

    family: Slug
    size: Slug
    layers: Count
    hidden: int = Field(ge=8)
    heads: Count
    recipe: Recipe
    seed: Seed = 0

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> "Member":
        if self.hidden % (2 * self.heads):
            raise ValueError(
                f"hidden is {self.hidden} and heads is {self.heads}: allowed are multiples of "
                f"{2 * self.heads}, since all heads have the same even number of dimensions"
            )
        return self


def _kind(values: Any) -> str:
    """Whether a model is pretrained or made here: only a pretrained one has an origin."""
    if isinstance(values, dict):
        return "pretrained" if "origin" in values else "made"
    return "pretrained" if isinstance(values, Pretrained) else "made"


AnyMember = Annotated[
    Annotated[Member, Tag("made")] | Annotated[Pretrained, Tag("pretrained")],
    Discriminator(_kind),
]


class CorpusSize(Parameters):
    """How much text every source writes."""

    tokens: int = Field(ge=1, description="token budget, source tokens")
    batch_size: int = Field(ge=1, description="documents sampled in one batch")


class ProxySize(Parameters):
    """How much text proxies and diagnostics read."""

    documents: int = Field(ge=1, description="documents per corpus")
    items: int = Field(ge=1, description="items per task")


class Temperatures(Parameters):
    """Self pairings at several sampling temperatures."""

    students: list[Slug] = Field(min_length=1, description="models whose family has a larger one")
    values: list[Temperature] = Field(min_length=2)


class Trajectory(Parameters):
    """When to measure during training, for one pairing per student and relation."""

    points: list[Count] = Field(min_length=1, description="steps after which to measure")
    items: int | None = Field(
        default=None, ge=1, description="first items of each task; all if null"
    )


Multiple = Annotated[float, Field(gt=0)]
Rank = Annotated[int, Field(ge=1, le=1024)]


class RecipeMap(Parameters):
    """Self pairings by every combination of these recipes."""

    learning_rates: list[Multiple] = Field(min_length=1, description="multiples of the tier's rate")
    steps: list[Count] = Field(min_length=1)
    ranks: list[Rank] = Field(default=[], description="LoRA ranks, beside full fine-tuning")
    items: int | None = Field(
        default=None, ge=1, description="first items of each task; all if null"
    )


class Grid(Parameters):
    """Which pairings, controls and further experiments a tier runs."""

    students: list[Slug] = Field(min_length=1, description="models that are fine-tuned")
    seeds: list[Seed] = Field(default=[0], min_length=1)
    self_methods: list[Method] = Field(
        default=[], description="further fine-tuning methods, for the self pairings"
    )
    temperatures: Temperatures | None = None
    controls: list[Control] = Field(default=[], description="controls of every student")
    rounds: int = Field(1, ge=1, description="how often a student trains on its own text")
    trajectory: Trajectory | None = None
    recipes: RecipeMap | None = None
    diagnostics: bool = Field(False, description="compute the compatibility diagnostics")


class Tier(Parameters):
    """A scale: models, recipes and sizes for the same code."""

    title: str = Field(description="title of the tier, one line")
    threads: int = Field(ge=1, description="CPU threads per run")
    context: int = Field(ge=16, description="longest sampled document, tokens")
    processes: int = Field(1, ge=1, le=64, description="processes per fine-tune, one per device")
    precision: Precision | Literal["auto"] = Field(
        "auto",
        description="type in which models are trained and sampled from; auto: bfloat16 where "
        "this machine multiplies faster in it, so name one where different machines share a store",
    )
    models: dict[Slug, AnyMember] = Field(min_length=1)
    suite: SuiteSize | None = Field(None, description="items made here, for models made here")
    benchmarks: Benchmarks | None = Field(
        None, description="tasks of lm-eval, for pretrained models"
    )
    passages: Passages | None = Field(None, description="passages for pretrained models")
    # shared by the models made here
    vocab_size: int = Field(4096, ge=300)
    max_chars: int = Field(1200, ge=40)
    families: dict[Slug, Family] = Field({}, description="families of the models made here")
    planting: Planting | None = None
    corpus: CorpusSize
    self_train: Recipe
    lora: Lora
    proxies: ProxySize
    grid: Grid

    @model_validator(mode="after")
    def _names_exist(self) -> "Tier":
        for name, member in self.models.items():
            made = isinstance(member, Member)
            if made and member.family not in self.families:
                raise ValueError(unknown("family", member.family, self.families, f"model {name}"))
            if made and self.planting is None:
                raise ValueError(f"model {name!r} is made here and needs `planting`")
        if (self.suite is None) == (self.benchmarks is None):
            raise ValueError("a tier has either `suite` or `benchmarks`")
        for student in self.grid.students:
            if student not in self.models:
                raise ValueError(unknown("model", student, self.models, "grid.students"))
        for student in self.grid.temperatures.students if self.grid.temperatures else ():
            if student not in self.models:
                raise ValueError(unknown("model", student, self.models, "grid.temperatures"))
        for student in self.grid.students:
            model = self.models[student]
            if isinstance(model, Pretrained) and not (model.passages or self.passages):
                raise ValueError(
                    f"student {student!r} needs `passages` to extract: speeches, scripture or "
                    "pythia, in its entry or for the whole tier"
                )
        return self

    @model_validator(mode="after")
    def _sizes_fit(self) -> "Tier":
        plantings = {f"families.{name}.planting": f.planting for name, f in self.families.items()}
        for name, planting in ({"planting": self.planting} | plantings).items():
            if planting and planting.prefix + planting.suffix + 2 >= self.context:
                raise ValueError(
                    f"{name}: prefix {planting.prefix} and suffix {planting.suffix} make a passage "
                    f"that no document holds: together with BOS and EOS they must have fewer "
                    f"tokens than context, {self.context}"
                )
        steps, trajectory, recipes = self.self_train.steps, self.grid.trajectory, self.grid.recipes
        if trajectory and max(trajectory.points) > steps:
            raise ValueError(
                f"grid.trajectory.points: {max(trajectory.points)} lies beyond the last of the "
                f"{steps} steps of self_train"
            )
        for name, recipe in (("self_train", self.self_train), ("lora", self.lora)):
            highest = max(recipes.learning_rates) if recipes else 1
            if highest * recipe.learning_rate > 1:
                raise ValueError(
                    f"grid.recipes.learning_rates: {highest:g} times that of {name} is "
                    f"{highest * recipe.learning_rate:g}; allowed are learning rates up to 1"
                )
        return self

    @model_validator(mode="after")
    def _steps_hold_documents(self) -> "Tier":
        members = {n: m for n, m in self.models.items() if isinstance(m, Member)}
        recipes = {f"models.{name}.recipe": member.recipe for name, member in members.items()}
        for name, recipe in ({"self_train": self.self_train} | recipes).items():
            if recipe.tokens_per_step < self.context:
                raise ValueError(
                    f"{name}.tokens_per_step is {recipe.tokens_per_step}: a step holds whole "
                    f"documents, so allowed are {self.context}, the tier's context, and more"
                )
        return self

    def judge(self, source: str) -> str | None:
        """The largest model of a source's family, or None where none is larger than the source."""

        def size(name: str) -> int:
            member = self.models[name]
            if isinstance(member, Pretrained):
                return member.parameters or 0
            return member.layers * member.hidden**2

        family = self.models[source].family
        largest = max((n for n, m in self.models.items() if m.family == family), key=size)
        return largest if size(largest) > size(source) else None

    def relation(self, source: str, student: str) -> str:
        """How a source is related to a student: ``self``, ``lineage`` or ``cross-family``."""
        if source == student:
            return "self"
        same = self.models[source].family == self.models[student].family
        return "lineage" if same else "cross-family"


def load_tier(name: str, root: Path) -> Tier:
    """Read and validate ``notebooks/tiers/<name>.yml``.

    Raises:
        ParameterError: The file does not exist, cannot be read, is no YAML, or violates the schema.
    """
    folder = root / "notebooks" / "tiers"
    names = [path.stem for path in folder.glob("*.yml")]
    if name not in names:
        raise ParameterError(unknown("tier", name, names, f"in {folder}"))
    path = folder / f"{name}.yml"
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ParameterError(f"{path} cannot be read: {error}") from None
    values = yaml_text.read(text, where=str(path))
    if not isinstance(values, dict):
        raise ParameterError(f"{path} must hold a mapping, not {type(values).__name__}")
    return check(Tier, values, where=str(path))


def is_project(folder: Path) -> bool:
    """Whether a folder is a project, which holds tiers."""
    return (folder / "notebooks" / "tiers").is_dir()


def project_root() -> Path:
    """The project's folder: the working directory or the nearest folder above that holds tiers.

    If there is none, it is the folder of the package's own checkout.

    Raises:
        ParameterError: None of these folders holds ``notebooks/tiers``.
    """
    here = Path.cwd().resolve()
    for folder in (here, *here.parents, Path(__file__).resolve().parents[3]):
        if is_project(folder):
            return folder
    raise ParameterError(
        f"no folder notebooks/tiers in {here} or above: change to the project's folder"
    )
