"""Which runs are computed, and in which order: for a tier, a pairing, a report.

Pairings share runs wherever they can: with S sources and T students, they need S corpora and
S x T fine-tunes per seed.
"""

from nbutils import errors
from nbutils.config import design
from nbutils.config.design import Pairing
from nbutils.errors import ParameterError
from nbutils.protocol.plan import Plan
from nbutils.runs.dag import each_once
from nbutils.runs.types import Run


def of_tier(plan: Plan) -> list[Run]:
    """Every run of a tier, each once, and after its inputs.

    They are in the order in which claims can be judged: first the pairings, one student after
    another, with small sources before large ones; then their proxies; then all else.
    """
    pairings = list(design.pairings(plan.tier))
    runs = [plan.suite()]
    for pairing in pairings:
        runs += [*_untouched(plan, pairing.student), *_measurements(plan, pairing)]
    for pairing in pairings:
        runs += _comparisons(plan, pairing)
    for pairing in design.every(plan.tier):
        runs += _measurements(plan, pairing)
        if not (pairing.control or pairing.variation or pairing.round > 1):
            runs += _comparisons(plan, pairing)
    for pairing in design.over_temperatures(plan.tier):
        runs += _fidelity(plan, pairing)
    runs += [plan.trace(pairing) for pairing in design.traced(plan.tier)]
    for model in plan.tier.models:
        runs += _untouched(plan, model)
    return each_once(runs)


def of_pairing(plan: Plan, pairing: Pairing) -> list[Run]:
    """Every run that the table rows of one pairing need, each after its inputs."""
    runs = [plan.model(pairing.source), plan.proxies(*_compared(pairing))]
    return each_once([*runs, *_untouched(plan, pairing.student), *_measurements(plan, pairing)])


def of_report(plan: Plan, pairing: Pairing) -> list[Run]:
    """Every run that the report of one pairing needs: those of its rows, and diagnostics."""
    return each_once([*of_pairing(plan, pairing), plan.diagnose(*_compared(pairing))])


def beside(plan: Plan, pairing: Pairing) -> list[Run]:
    """Runs that a tier may have beside these: diagnostics, and the fidelity of the corpus."""
    return [plan.diagnose(*_compared(pairing)), *_fidelity(plan, pairing)]


def named(plan: Plan, stage: str, name: str) -> Run:
    """The run of a tier with this stage and name; the name may begin with the tier's.

    Raises:
        ParameterError: The tier has no such run.
    """
    full_name = f"{plan.name}: {name.removeprefix(f'{plan.name}: ')}"
    runs = {(run.stage, run.name): run for run in of_tier(plan)}
    if (stage, full_name) not in runs:
        where, stages = f"tier {plan.name}", {run.stage for run in runs.values()}
        if stage not in stages:
            raise ParameterError(errors.unknown("stage", stage, stages, where))
        names = {run.name for run in runs.values() if run.stage == stage}
        raise ParameterError(errors.unknown(f"run of {stage}", full_name, names, where))
    return runs[stage, full_name]


def _compared(pairing: Pairing) -> tuple[str, str, float, int]:
    return pairing.source, pairing.student, pairing.temperature, pairing.seed


def _untouched(plan: Plan, model: str) -> list[Run]:
    """Measure a model before it is trained."""
    extraction = [plan.extraction(model)] if plan.has_passages(model) else []
    return [plan.utility(model), *extraction]


def _measurements(plan: Plan, pairing: Pairing) -> list[Run]:
    """Measure the trained student of a pairing."""
    student = pairing.student
    extraction = [plan.extraction(student, pairing)] if plan.has_passages(student) else []
    return [plan.utility(student, pairing), *extraction]


def _comparisons(plan: Plan, pairing: Pairing) -> list[Run]:
    """Proxies of a pairing, and its diagnostics where the tier asks for them."""
    runs = [plan.proxies(*_compared(pairing))]
    if plan.tier.grid.diagnostics and pairing.temperature == design.TEMPERATURE:
        runs.append(plan.diagnose(*_compared(pairing)))
    return runs


def _fidelity(plan: Plan, pairing: Pairing) -> list[Run]:
    """The fidelity of a pairing's corpus, where its source's family has a larger model."""
    judge = plan.tier.judge(pairing.source)
    if not judge:
        return []
    return [plan.fidelity(pairing.source, judge, pairing.temperature, pairing.seed)]
