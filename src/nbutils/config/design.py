"""Design: every fine-tune that a tier asks for.

With S sources and T students, a tier has S x T pairings per seed. Further methods, controls,
temperatures, rounds and recipes are for self pairings only.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from nbutils.config.schema import Control, Method
from nbutils.config.tiers import Tier

LABELS = (
    *("experiment", "student", "source", "relation", "method", "temperature"),
    *("round", "learning_rate", "steps", "rank", "step"),
)
"""Columns that identify a measured state in the tables, except for its seed."""
TEMPERATURE = 1.0
"""The temperature at which pairings are compared: that of the model's own distribution."""
CONTROL_NAMES: dict[Control, str] = {
    "real": "real text",
    "shuffled": "shuffled self",
    "noise": "noise",
    "frozen": "rate zero",
}
"""Names that tables show instead of the source where a pairing is a control."""


@dataclass(frozen=True)
class RecipeChange:
    """A change of the tier's recipe: a multiple of its learning rate, other steps or rank."""

    learning_rate: float
    steps: int
    rank: int | None


@dataclass(frozen=True)
class Pairing:
    """One trained student: source, student, temperature, method and seed; or a control.

    The source of a control is the student itself. In round 2 and later, source and student are the
    model that the round before trained.
    """

    source: str
    student: str
    temperature: float
    method: Method = "full"
    seed: int = 0
    control: Control | None = None
    round: int = 1
    variation: RecipeChange | None = None

    @property
    def source_name(self) -> str:
        """The name of the source, or of the control."""
        return CONTROL_NAMES[self.control] if self.control else self.source

    def __str__(self) -> str:
        """Name for people, for instance ``neox-small ← llama-large T=1 full s0``."""
        name = f"{self.student} ← {self.source_name} T={self.temperature:g} {self.method}"
        if self.variation:
            v = self.variation
            name += f" lr x{v.learning_rate:g} {v.steps} steps"
            name += f" rank {v.rank}" if v.rank else ""
        if self.round > 1:
            name += f" round {self.round}"
        return f"{name} s{self.seed}"


def pairings(tier: Tier) -> Iterator[Pairing]:
    """Per seed and student: a pairing with each source.

    Sources come in this order: the student itself, the other students, and then the others.
    """
    grid = tier.grid
    for seed in grid.seeds:
        for student in grid.students:
            for source in dict.fromkeys([student, *grid.students, *tier.models]):
                yield Pairing(source, student, TEMPERATURE, "full", seed)


def other_methods(tier: Tier) -> Iterator[Pairing]:
    """Self pairings by each further method."""
    grid = tier.grid
    for seed in grid.seeds:
        for student in grid.students:
            for method in grid.self_methods:
                yield Pairing(student, student, TEMPERATURE, method, seed)


def over_temperatures(tier: Tier) -> Iterator[Pairing]:
    """Self pairings at each of the tier's temperatures."""
    plan = tier.grid.temperatures
    for seed in tier.grid.seeds:
        for student in plan.students if plan else ():
            for temperature in plan.values if plan else ():
                yield Pairing(student, student, temperature, "full", seed)


def controls(tier: Tier) -> Iterator[Pairing]:
    """Every control of every student; one seed at learning rate zero, where seeds do not differ."""
    grid = tier.grid
    for seed in grid.seeds:
        for student in grid.students:
            for control in grid.controls:
                if control != "frozen" or seed == grid.seeds[0]:
                    yield Pairing(student, student, TEMPERATURE, "full", seed, control)


def later_rounds(tier: Tier) -> Iterator[Pairing]:
    """Round 2 and later of every self pairing."""
    grid = tier.grid
    for seed in grid.seeds:
        for student in grid.students:
            for number in range(2, grid.rounds + 1):
                yield Pairing(student, student, TEMPERATURE, "full", seed, round=number)


def recipes(tier: Tier) -> Iterator[Pairing]:
    """Self pairings by each of the tier's recipes, with the first seed."""
    grid = tier.grid
    plan = grid.recipes
    if plan is None:
        return
    for student in grid.students:
        for rank in (None, *plan.ranks):
            for rate in plan.learning_rates:
                for steps in plan.steps:
                    yield Pairing(
                        student,
                        student,
                        TEMPERATURE,
                        "lora" if rank else "full",
                        grid.seeds[0],
                        variation=RecipeChange(rate, steps, rank),
                    )


def traced(tier: Tier) -> Iterator[Pairing]:
    """Pairings whose trajectory is measured: one source per student and relation, first seed."""
    grid = tier.grid
    for student in grid.students if grid.trajectory else ():
        relations = set()
        for source in tier.models:
            relation = tier.relation(source, student)
            if relation not in relations:
                relations.add(relation)
                yield Pairing(source, student, TEMPERATURE, "full", grid.seeds[0])


def every(tier: Tier) -> Iterator[Pairing]:
    """Every pairing and control of the tier, each once, the most important experiments first."""
    experiments = (
        *(pairings, other_methods, controls),
        *(over_temperatures, later_rounds, recipes),
    )
    yield from dict.fromkeys(pairing for part in experiments for pairing in part(tier))
