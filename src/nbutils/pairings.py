"""Pairings: one source and one student as a person asks for them, with a budget of their own."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from nbutils import digests, forms, origins, params, plans
from nbutils.cells import Cell
from nbutils.params import ParameterError
from nbutils.plans import Plan
from nbutils.tiers import Pretrained, Tier


def named(tier: Tier, reference: str) -> tuple[Tier, str]:
    """A tier in which a reference is a model, and that model's name there.

    An origin that the tier does not know becomes a model of a family of its own: nothing is
    known of what it shares with others. For a lineage, enter its members into a tier file.
    """
    if ":" not in reference:
        return tier, reference
    known = {m.origin: n for n, m in tier.models.items() if isinstance(m, Pretrained)}
    if reference in known:
        return tier, known[reference]
    _, place, _ = origins.parts(reference)
    # two revisions of a model, or two folders of one name, are two models
    digest = digests.sha256(reference)[:8]
    name = f"{re.sub(r'[^a-z0-9]+', '-', place.lower())[-31:].strip('-')}-{digest}".strip("-")
    values = {"family": name, "size": "direct", "origin": reference, "licence": "not stated"}
    model = params.check(Pretrained, values, where=reference)
    return tier.model_copy(update={"models": tier.models | {name: model}}), name


def asked(p: forms.ReportNotebook, root: Path) -> tuple[Plan, Cell]:
    """The plan and the cell of one pairing, its budget and tasks in place of the tier's own.

    Raises:
        ParameterError: A tier, model or task is unknown, or the tier cannot take what was given.
    """
    plan = plans.of(p.tier, root)
    tier, source = named(plan.tier, p.source)
    tier, student = named(tier, p.student)
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
    cell = Cell(source, student, p.temperature, p.method, p.seed)
    plan.model(source), plan.model(student)  # an unknown name is told here
    return plan, cell
