"""A project: its folder, store, tiers and published results, opened once per command."""

from collections.abc import Callable, Iterable
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from nbutils.config.tiers import project_root
from nbutils.protocol import plan, schedule, stages
from nbutils.protocol.compute import compute
from nbutils.protocol.plan import Plan
from nbutils.results import layout
from nbutils.runs import executor
from nbutils.runs.dag import each_once
from nbutils.runs.executor import Report
from nbutils.runs.store import Store
from nbutils.runs.types import Manifest, Run

if TYPE_CHECKING:
    from nbutils.protocol.cost_card import Card


class Project:
    """The store, the tiers and the published results of a project's folder."""

    def __init__(self, root: Path) -> None:
        """Open a project; creates nothing."""
        self.root = root
        self.store = Store(root, stages.versions())
        self.plan = cache(self._plan)

    @classmethod
    def here(cls) -> "Project":
        """The project that contains the working directory, else the one that contains the package.

        Raises:
            ParameterError: There is no project.
        """
        return cls(project_root())

    def tiers(self) -> list[str]:
        """The names of all tier files."""
        return sorted(path.stem for path in (self.root / "notebooks" / "tiers").glob("*.yml"))

    def _plan(self, tier: str) -> Plan:
        """The runs of a tier.

        Raises:
            ParameterError: There is no such tier, or its file is wrong.
        """
        return plan.load_plan(tier, self.root)

    def wanted(self) -> set[str]:
        """Keys of the runs that present tier files need, by the current versions of the stages."""
        keys = (
            self.store.key(run)
            for tier in self.tiers()
            for run in schedule.of_tier(self.plan(tier))
        )
        return {key for key in keys if key is not None}

    @cached_property
    def published(self) -> dict[str, list[Manifest]]:
        """Maps each published tier to the manifests of its runs."""
        folders = sorted((self.root / layout.PUBLISHED).glob("*/"))
        return {folder.name: layout.read_manifests(folder) for folder in folders}

    def recorded(self, runs: Iterable[Run]) -> list[Manifest]:
        """Manifests of runs with the same stages and names, published ones before local ones."""
        names = {(run.stage, run.name) for run in runs}
        tiers = sorted({name.partition(":")[0] for _, name in names})
        known = [m for tier in tiers for m in self.published.get(tier, [])] + self.store.all()
        return [m for m in known if (m.stage, m.name) in names]

    def execute(
        self,
        runs: list[Run],
        threads: int,
        report: Report,
        retry_failed: bool = False,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> int:
        """Compute missing runs in parallel; see ``executor.execute``."""
        recorded = self.recorded(runs)
        return executor.execute(
            runs, self.store, compute, threads, recorded, report, retry_failed, meanwhile
        )

    def compute(self, run: Run, threads: int) -> Path:
        """Compute one run in this process, after its inputs; return its folder."""
        return executor.compute_one(run, self.store, compute, threads)

    def compute_all(self, runs: Iterable[Run], threads: int) -> None:
        """Compute several runs in parallel, each after its inputs, and print a line for each.

        Runs that failed before are tried again.

        Raises:
            RunError: Some run failed; the others are finished.
        """

        def report(done: Run, seconds: float, count: int, total: int, left: float | None) -> None:
            print(f"{count}/{total} {done.stage} · {done.name} ({seconds:.0f} s)")

        self.execute(each_once(list(runs)), threads, report, retry_failed=True)

    def card(self, runs: Iterable[Run], plan: Plan, workers: int) -> "Card":
        """What those of some runs that are missing will cost on this machine."""
        from nbutils.protocol import cost_card  # slow to import, by pandas

        missing = [run for run in runs if self.store.finished(run) is None]
        published = [m for part in self.published.values() for m in part]
        return cost_card.card(missing, plan, self.store, published, workers)
