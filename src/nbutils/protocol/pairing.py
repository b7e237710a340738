"""Pairings: one source and one student as a person asks for them, with a budget of their own."""

import re
from dataclasses import replace
from typing import Any

from nbutils import files
from nbutils.config import notebook_parameters, validation
from nbutils.config.design import Pairing
from nbutils.config.tiers import Pretrained
from nbutils.errors import ParameterError
from nbutils.protocol import model_sources
from nbutils.protocol.plan import Plan


def named(plan: Plan, reference: str) -> tuple[Plan, str]:
    """A plan in whose tier a reference is a model, and that model's name there.

    An origin with the content of a model that the tier knows is that model. Another one becomes
    a model of a family of its own: nothing is known of what it shares with others. For a lineage,
    enter its members into a tier file.

    Raises:
        OriginError: There is no such folder or file, or what is there is not all and safe.
        ParameterError: The reference is no origin.
    """
    if ":" not in reference:
        return plan, reference
    values = {"family": "direct", "size": "direct", "origin": reference, "licence": "not stated"}
    model = validation.check(Pretrained, values, where=reference)
    content = model_sources.identity(reference)
    known = plan.names().get(content)
    if known:
        return plan, known
    kind, place, _ = model_sources.parts(reference)
    spelled = place if kind in ("hub", "wheel") else str(model_sources.path(place))
    # two revisions of a model, or two folders of one name, are two models
    plain = re.sub(r"[^a-z0-9]+", "-", spelled.lower())[-31:].strip("-")
    name = f"{plain}-{files.sha256(content)[:8]}".strip("-")
    model = model.model_copy(update={"family": name})
    models = plan.tier.models | {name: model}
    return replace(plan, tier=plan.tier.model_copy(update={"models": models})), name


def from_parameters(p: notebook_parameters.ReportNotebook, plan: Plan) -> tuple[Plan, Pairing]:
    """The plan and the cell of one pairing, its budget and tasks in place of the tier's own.

    ``plan`` is that of the tier that the parameters name.

    Raises:
        ParameterError: A model or task is unknown, or the tier cannot take what was given.
    """
    plan, source = named(plan, p.source)
    plan, student = named(plan, p.student)
    tier = plan.tier
    changes: dict[str, Any] = {}
    if p.tokens:
        changes["corpus"] = tier.corpus.model_copy(update={"tokens": p.tokens})
    if p.steps:
        changes["self_train"] = tier.self_train.model_copy(update={"steps": p.steps})
    if p.tasks:
        if tier.benchmarks is None:
            raise ParameterError(
                f"tier {p.tier!r} builds its own suite and takes no tasks: leave `tasks` out, or "
                "take a tier with `benchmarks`, such as smol"
            )
        changes["benchmarks"] = tier.benchmarks.model_copy(update={"tasks": p.tasks})
    plan = replace(plan, tier=tier.model_copy(update=changes))
    cell = Pairing(source, student, p.temperature, p.method, p.seed)
    plan.model(source), plan.model(student)  # an unknown name is told here
    return plan, cell
