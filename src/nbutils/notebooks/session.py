"""The one call that a notebook opens with: parameters checked, project, plan and tables at hand."""

import json
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from altair.typing import ChartType
from IPython.display import HTML, Markdown

from nbutils.analysis.gains import paired
from nbutils.charts import losses, pairing, parts, provenance, tables
from nbutils.config.design import Pairing
from nbutils.config.notebook_parameters import (
    EXERCISES,
    NOTEBOOKS,
    ProjectNotebook,
    ReportNotebook,
    TablesNotebook,
    given,
)
from nbutils.config.schema import Parameters
from nbutils.errors import ParameterError
from nbutils.protocol import cost_card, reading, schedule
from nbutils.protocol.pairing import from_parameters
from nbutils.protocol.plan import Plan
from nbutils.results import tables as results
from nbutils.results.project import Project
from nbutils.runs import source_code
from nbutils.runs.types import Run


class Session:
    """What a notebook works with: a project, the runs it asks for, and ways to show things.

    ``plan`` holds the runs of the tier that its parameters name, ``pairing`` their source and their
    student with the settings. A page of tables has neither.
    """

    plan: Plan
    pairing: Pairing

    def __init__(self, name: str, values: Parameters, project: Project) -> None:
        """Open a notebook; ``values`` are its checked parameters.

        Raises:
            ParameterError: There is no such tier or model, or the tier cannot take what was given.
        """
        self.name, self.project = name, project
        chosen: dict[str, Any] = values.model_dump()
        if "tier" not in chosen:  # a page of tables
            return
        self.plan = project.plan(chosen["tier"])
        models = [chosen[role] for role in ("source", "student", "model") if role in chosen]
        if isinstance(values, ReportNotebook):
            self.plan, self.pairing = from_parameters(values, self.plan)
        elif models:  # a page of one model pairs it with itself
            settings = {"temperature": 1.0} | {
                key: chosen[key] for key in ("temperature", "method", "seed") if key in chosen
            }
            self.pairing = Pairing(models[0], models[-1], **settings)

    # --- Runs of a tier

    def own(self, run: Run) -> Run:
        """The run itself, where this notebook is the page of its stage.

        Raises:
            ParameterError: In this tier another stage makes it, and another notebook shows it.
        """
        if run.stage != self.name:
            raise ParameterError(
                f"{run.name} is a run of {run.stage}: open the notebook {run.stage}, or give this "
                "one another tier or model"
            )
        return run

    def compute(self, run: Run) -> Path:
        """Compute a run, and first whatever it needs; return its folder. What exists is reused."""
        return self.project.compute(run, self.plan.tier.threads)

    def compute_all(self, runs: Iterable[Run]) -> None:
        """Compute several runs, and first whatever they need, side by side."""
        self.project.compute_all(runs, self.plan.tier.threads)

    def frame(self, run: Run, name: str) -> pd.DataFrame:
        """A table that a run writes, which is computed where it does not exist."""
        return pd.read_parquet(self.compute(run) / f"{name}.parquet")

    def record(self, run: Run, name: str) -> dict[str, Any]:
        """A JSON file that a run writes, which is computed where it does not exist."""
        return dict(json.loads((self.compute(run) / f"{name}.json").read_text("utf-8")))

    def over_sources(self, make: Callable[[str, str, float, int], Run], name: str) -> pd.DataFrame:
        """A table that runs of the same student write, for every source of the tier.

        ``make`` is a method of the plan, such as ``plan.proxies``. The tables stand one below the
        other, behind the columns ``source`` and ``relation``.
        """
        asked, tier = self.pairing, self.plan.tier
        parts = []
        for source in tier.models:
            rows = self.frame(make(source, asked.student, asked.temperature, asked.seed), name)
            rows.insert(0, "source", source)
            rows.insert(1, "relation", tier.relation(source, asked.student))
            parts.append(rows)
        return pd.concat(parts, ignore_index=True)

    def gains(self, pairing: Pairing) -> pd.DataFrame:
        """The gain of a student by one pairing, on every task and on the suite, with intervals."""
        runs = (self.plan.utility(pairing.student, after) for after in (None, pairing))
        return paired(*(self.frame(run, "utility") for run in runs))

    def report_runs(self) -> list[Run]:
        """The runs that the report of this pairing needs, each after its inputs."""
        return schedule.of_report(self.plan, self.pairing)

    def cost(self, runs: Iterable[Run]) -> HTML:
        """What some runs will take on this machine; those that exist cost nothing."""
        card = self.project.card(runs, self.plan, workers=1)
        said = tables.sentences(cost_card.sentences(card)).data
        empty = card.stages.empty
        return HTML(said if empty else tables.table(cost_card.rows(card)).data + said)

    def read_as(self, *models: str) -> HTML:
        """How models of the tier are read: what begins with BOS, which shortcuts are right."""
        folders = {name: self.compute(self.plan.model(name)) for name in models}
        lines = (line for item in folders.items() for line in reading.read_as(*item))
        return tables.sentences(lines)

    def method(self, *modules: str) -> Markdown:
        """The core of some modules' code, as it runs: of this notebook's own stage unless named.

        A module is named ``room.module``, such as ``analysis.bootstrap``.
        """
        return Markdown(source_code.printed(*(modules or (f"protocol.{self.name}",))))

    # --- One pairing, measured

    def paired(self, before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
        """The gain from one table of answers to another, paired per item: each task, the suite."""
        return paired(before, after)

    def gain_table(self, gains: pd.DataFrame) -> HTML:
        """The gains of ``paired`` for the page, in points."""
        return tables.table(pairing.gain_table(gains))

    def gain_chart(self, gains: pd.DataFrame) -> ChartType:
        """The gain of one student from each of several sources: a row per source."""
        return pairing.gains(gains)

    def loss_curve(self, curve: pd.DataFrame) -> ChartType:
        """The training loss of one run over its steps."""
        return losses.loss_curve(curve)

    # --- Tables of finished tiers

    def table(self, name: str) -> pd.DataFrame:
        """A table over all tiers with results; ``results`` names the tier and whose run it is."""
        return results.load(name, self.project.root)

    @cached_property
    def manifests(self) -> pd.DataFrame:
        """One row per run behind the tables."""
        return results.manifests(self.project.root)

    def measured(self, name: str) -> dict[str, Any] | None:
        """What a measurement wrote here, else what is published of it, else None."""
        return results.measured(name, self.project.root)

    # --- Showing

    def show(self, frame: pd.DataFrame, digits: int = 3) -> HTML:
        """A table for the page."""
        return tables.table(frame, digits)

    def settings(self, run: Run) -> HTML:
        """The parameters of a run, one row each."""
        return tables.table(tables.settings(run.params.model_dump()))

    def say(self, lines: Iterable[str]) -> HTML:
        """Computed sentences for the page."""
        return tables.sentences(lines)

    def contrasts(self, judged: pd.DataFrame) -> HTML:
        """Judged contrasts for the page: the difference in points, and what it had to exceed."""
        return tables.table(tables.contrast_table(judged), digits=4)

    def footer(self, *runs: Run) -> HTML:
        """What stands under this page's charts: the finished runs that they show."""
        return provenance.footer_of_runs(runs, self.plan.name, self.project.store)

    def footer_of(
        self, *experiments: str, also: Iterable[str] = (), states: pd.DataFrame | None = None
    ) -> HTML:
        """The same for a page of tables: runs of some experiments, and ``also`` some keys.

        ``states`` are the states among which the experiments' are looked for; all unless given.
        """
        among = self.table("states") if states is None else states
        return provenance.footer(self.manifests, [*provenance.keys_of(among, *experiments), *also])

    def note(self, text: str) -> HTML:
        """The same for a page whose charts no run is behind: what they were made from instead."""
        return provenance.note(text)


def open(name: str, names: Mapping[str, Any]) -> Session:
    """Open a notebook by its name; ``names`` are its globals, which hold its parameters.

    Raises:
        ParameterError: One line per wrong value, and per name that is no parameter.
    """
    values = given((NOTEBOOKS | EXERCISES)[name], names)
    parts.enable()
    project = Project(values.root) if isinstance(values, ProjectNotebook) else Project.here()
    if isinstance(values, TablesNotebook):
        print(results.labels(project.root))
    return Session(name, values, project)
