"""The explore page's data: what a cell's file says, and that nothing in it is markup."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from nbutils.analysis.gains import MEASURED, NORM
from nbutils.book import explore
from nbutils.config import notebook_parameters, validation
from nbutils.config.design import CONTROL_NAMES
from nbutils.protocol import pairing
from nbutils.protocol.plan import load_plan
from nbutils.results import layout, tables
from support.many import SEEDS, told
from support.synthetic import write_tables
from support.tiny import REPOSITORY


def read(path: Path) -> Any:
    """The value that a script hands to the page."""
    text = path.read_text("utf-8").removeprefix("nbutilsExplore.take(").removesuffix(");\n")
    name, _, value = text.partition(",")
    assert json.loads(name) == f"{path.parent.name}/{path.stem}".removeprefix("explore/")
    return json.loads(value)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a synthetic tier, and the data of its page."""
    root: Path = tmp_path_factory.mktemp("project")
    write_tables(root / layout.PUBLISHED / "lab")
    assert explore.write(root, root / "explore") == 39
    return root


@pytest.fixture(scope="module")
def lab(root: Path) -> dict[str, Any]:
    """The synthetic tier's entry in the index."""
    entry: dict[str, Any] = read(root / "explore" / "index.js")["results"][0]
    return entry


def cell_of(root: Path, lab: dict[str, Any], source: str, student: str, setting: str) -> Any:
    at = [lab["sources"].index(source), lab["students"].index(student)]
    at.append(lab["settings"].index(setting))
    found = [cell for cell in lab["cells"] if cell[1:4] == at]
    assert len(found) == 1
    return found[0], read(root / "explore" / "cells" / f"{found[0][0]}.js")


def test_the_matrix_has_every_pairing_and_control(lab: dict[str, Any]) -> None:
    assert lab["label"] == "lab · published"
    assert lab["seeds"] == ["all", "0", "1", "2"]
    assert lab["settings"] == ["full, T = 1", "lora, T = 1", "full, T = 0.7", "full, T = 1.3"]
    assert lab["sources"][-4:] == sorted(CONTROL_NAMES.values())


def test_a_cell_says_what_the_tables_say(root: Path, lab: dict[str, Any]) -> None:
    place, cell = cell_of(root, lab, "neox-large", "neox-small", "full, T = 1")
    gains = tables.load("gains", root).query(
        "experiment == 'pairings' and source == 'neox-large' and student == 'neox-small'"
    )
    suite = gains[gains["task"].eq("suite")].iloc[0]
    assert place[4] == cell["relation"] == "lineage"
    assert place[5][0] == pytest.approx([100 * suite[c] for c in ("gain", "low", "high")], abs=1e-3)
    told_tasks = {row[0]: row[5] for row in cell["measured"]["all"]["tasks"]}
    assert told_tasks == pytest.approx(
        dict(zip(gains["task"], 100 * gains["gain"], strict=True)), abs=1e-3
    )
    # seeds differ, and their mean is the gain of all
    seeds = [place[5][1 + number][0] for number in SEEDS]
    assert len(set(seeds)) == 3
    assert sum(seeds) / 3 == pytest.approx(place[5][0][0], abs=2e-3)
    assert len(cell["seeds"]["1"]["curve"]) == 12
    assert {name for _, name, _ in cell["seeds"]["1"]["scores"]} >= {"log_likelihood"}
    assert [row[0] for row in cell["along"]] == [0, 20, 60]
    assert "lab · published: " in cell["footer"]


def test_what_is_missing_is_missing_and_not_invented(root: Path, lab: dict[str, Any]) -> None:
    _, frozen = cell_of(root, lab, "rate zero", "neox-small", "full, T = 1")
    assert list(frozen["seeds"]) == ["0", "1", "2"]
    assert frozen["seeds"]["0"]["curve"] == []
    assert frozen["seeds"]["0"]["corpus"] is None
    assert frozen["along"] == []
    own = read(root / "explore" / "corpora" / f"{frozen['seeds']['0']['own']}.js")
    assert own["texts"] is None  # published without documents


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_command_makes_the_very_cell(root: Path, lab: dict[str, Any], method: str) -> None:
    """What Papermill is given names one cell of the plan, with the labels of the tables."""
    source = {"full": "llama-large", "lora": "neox-small"}[method]
    _, cell = cell_of(root, lab, source, "neox-small", f"{method}, T = 1")
    convert, command = cell["seeds"]["2"]["commands"]
    assert convert == "nbutils convert pairing"
    words = shlex.split(command)
    assert words[:2] == ["papermill", "runs/notebooks/pairing.ipynb"]
    given = dict(zip(words[4::3], words[5::3], strict=True))
    assert set(words[3::3]) == {"-p"}
    values: dict[str, Any] = given | {"temperature": float(given["temperature"])}
    form = validation.check(
        notebook_parameters.ReportNotebook, values | {"seed": int(given["seed"])}
    )
    plan, asked = pairing.from_parameters(form, load_plan(form.tier, REPOSITORY))
    labels = plan.self_train(asked).labels
    assert (labels["source"], labels["student"], labels["seed"]) == (source, "neox-small", 2)
    assert (labels["method"], labels["temperature"]) == (method, 1.0)


def test_a_task_that_defines_two_metrics_has_two_rows() -> None:
    known = told(students=1)
    gains, falls = known.choices[explore.ALL]
    both = gains["task"].eq("scripture_cloze")
    gains = gains.assign(**{name + NORM: gains[name].where(both) for name in MEASURED})
    given = explore.TierData(**(vars(known) | {"choices": {explore.ALL: (gains, falls)}}))
    _, files = explore.of_tier(given)
    cell = next(file for name, file in files.items() if name.startswith("cells/"))
    assert [(row[0], row[-1]) for row in cell["measured"][explore.ALL]["tasks"]] == [
        ("speeches_cloze", ""), ("scripture_cloze", "acc"), ("scripture_cloze", "acc_norm"),
        ("encyclopedia_cloze", ""), ("suite", ""),
    ]  # fmt: skip


def test_a_control_is_made_with_its_tier(root: Path, lab: dict[str, Any]) -> None:
    _, cell = cell_of(root, lab, "noise", "neox-small", "full, T = 1")
    assert cell["seeds"]["0"]["commands"] == ["nbutils run lab"]


def test_a_model_that_the_tier_does_not_name_is_asked_for_by_its_origin() -> None:
    known = told(students=1)
    stranger = explore.TierData(**(vars(known) | {"origins": {"family00-member1": "hub:a/b@c d"}}))
    details = explore.Details(stranger)
    command = details.of(("family00-member1", "family00-member0", "full", 1.0))["seeds"]["0"]
    assert "-p source 'hub:a/b@c d' -p student family00-member0" in command["commands"][1]


def test_hostile_text_is_named_and_escaped(tmp_path: Path) -> None:
    explore.write_tiers([told(students=1)], tmp_path / "explore")
    path = next((tmp_path / "explore" / "corpora").iterdir())
    raw = path.read_text("utf-8")
    assert "<" not in raw
    assert raw.isascii()
    (text, more), second = read(path)["texts"]
    assert "<script>window.planted = true</script>" in text
    assert "\\x1b[31mred\\x1b[0m \\u202eesrever\\u202c" in text
    assert (more, second[1]) == (0, 1)
