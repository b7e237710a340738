"""Pairings that a user asks for: a source, a student, and a budget other than the tier's."""

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
    """A plan whose tier has the referenced model, and the model's name in that tier.

    A reference is a model's name or an origin. An origin with the same content as a model of the
    tier is that model. Any other is added as the only model of a new family, because nothing is
    known about its relations; the members of a lineage belong in a tier file.

    Raises:
        OriginError: The folder or file does not exist, is incomplete, or is not safe to read.
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
    # the hash separates revisions of one model, and folders of the same name
    slug = re.sub(r"[^a-z0-9]+", "-", spelled.lower())[-31:].strip("-")
    name = f"{slug}-{files.sha256(content)[:8]}".strip("-")
    model = model.model_copy(update={"family": name})
    models = plan.tier.models | {name: model}
    return replace(plan, tier=plan.tier.model_copy(update={"models": models})), name


def from_parameters(p: notebook_parameters.ReportNotebook, plan: Plan) -> tuple[Plan, Pairing]:
    """The plan and the pairing that a notebook's parameters describe.

    ``plan`` is that of the tier that the parameters name. In the plan returned, the budget and the
    tasks of the parameters, where given, replace those of the tier.

    Raises:
        OriginError: The files of a model are missing, incomplete, or not safe to read.
        ParameterError: A model is unknown, a reference is no origin, or the tier takes no tasks.
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
    pairing = Pairing(source, student, p.temperature, p.method, p.seed)
    plan.model(source), plan.model(student)  # raises where a name is unknown
    return plan, pairing
