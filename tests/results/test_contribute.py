"""Contributions: from one project's store to another's published tables, and what is refused."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nbutils import cli
from nbutils.analysis import gains as analysis_gains
from nbutils.analysis.gains import NORM, SUITE
from nbutils.book import publish
from nbutils.protocol import pairing, stages
from nbutils.protocol.plan import load_plan
from nbutils.results import contribute
from nbutils.results.layout import LOCAL, SUMS, read_manifests
from nbutils.results.project import Project
from nbutils.results.tables import available, load, manifests, read, without_manifest
from nbutils.runs import dag
from support import contributed
from support.contributed import (
    HUB,
    RECIPE,
    TASKS,
    TIER,
    compute,
    content,
    form,
    opened,
    packed,
    place,
    project,
    refused,
)
from support.project import open_store

pytestmark = pytest.mark.usefixtures("stages")


# --- What is accepted -----------------------------------------------------------------------


def test_a_round_trip_adds_the_cell(theirs: Path, ours: Path) -> None:
    before = read(place(ours))
    contribution, added = publish.accept(theirs, Project(ours))
    assert added
    assert publish.verify(TIER, ours)
    after = read(place(ours))
    for name, column in (("states", "state"), ("curves", "run"), ("corpora", "run")):
        kept = after[name][after[name][column].isin(before[name][column])]
        pd.testing.assert_frame_equal(kept, before[name])
        assert list(after[name].dtypes) == list(before[name].dtypes)
    new = after["states"][~after["states"]["state"].isin(before["states"]["state"])]
    assert new[["student", "source", "seed"]].to_numpy().tolist() == [
        ["neox-small", "llama-small", 1]
    ]
    assert contribution.trained in read_manifests(place(ours))
    shutil.rmtree(ours / LOCAL)
    labels = manifests(ours).set_index("key")["results"]
    assert labels[contribution.trained.key] == "small · published · contributed"
    shared = read_manifests(place(ours))[0].key
    assert labels[shared] == "small · published"


def test_gains_of_a_contributed_cell_are_those_of_its_rows(tmp_path: Path, ours: Path) -> None:
    root = project(tmp_path / "theirs")
    asked = form(temperature=0.7, source="neox-small", seed=0)
    publish.accept(packed(root, **asked.model_dump(exclude_unset=True)), Project(ours))
    plan, cell = pairing.from_parameters(asked, load_plan(asked.tier, root))
    both = [plan.utility(cell.student), plan.utility(cell.student, cell)]
    direct = analysis_gains.paired(
        *(pd.read_parquet(open_store(root).path(run) / "utility.parquet") for run in both)
    )
    found = read(place(ours))["gains"]
    found = found[found["temperature"].eq(0.7)]
    assert set(found["relation"]) == {"self"}
    columns = ["task", "items", "base_accuracy", "accuracy", "gain"]
    columns += ["base_accuracy_norm", "accuracy_norm", "gain_norm"]
    pd.testing.assert_frame_equal(
        found[columns].reset_index(drop=True), direct[columns], check_dtype=False
    )


def without_acc_norm(root: Path) -> None:
    """Make the published tier one of a time when only acc was kept."""
    for name, table in read(place(root)).items():
        kept = [column for column in table if not str(column).endswith(NORM)]
        table[kept].to_parquet(place(root) / f"{name}.parquet", index=False)
    (place(root) / SUMS).write_text(publish.sums(place(root)), "utf-8")


def test_a_tier_that_was_published_without_acc_norm(theirs: Path, ours: Path) -> None:
    """It takes another seed of a cell, which has no gain by acc_norm: one seed's answers lack."""
    without_acc_norm(ours)
    assert publish.verify(TIER, ours)
    assert publish.accept(theirs, Project(ours))[1] is True
    assert publish.verify(TIER, ours)
    assert read(place(ours))["gains"]["gain_norm"].isna().all()


def test_a_cell_of_its_own_brings_acc_norm_to_such_a_tier(tmp_path: Path, ours: Path) -> None:
    without_acc_norm(ours)
    publish.accept(packed(project(tmp_path / "theirs"), source=HUB), Project(ours))
    assert publish.verify(TIER, ours)
    gains = read(place(ours))["gains"]
    told = gains[gains["gain_norm"].notna()]
    assert told["task"].tolist() == ["cloze"]
    assert told["source"].str.startswith("owner-name-").all()


def test_acc_norm_of_other_items(
    tmp_path: Path, ours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers to other items than the tier's could not be paired."""
    known = contributed.rows

    def fewer(stage: str, rng: np.random.Generator) -> dict[str, pd.DataFrame]:
        frames = known(stage, rng)
        if stage == "measure_utility":
            frames["utility"].loc[0, "correct_norm"] = pd.NA
        return frames

    with monkeypatch.context() as patch:
        patch.setattr(contributed, "rows", fewer)
        archive = packed(project(tmp_path / "theirs"))
    refused(ours, archive.read_bytes(), "its items or passages are not those of the published tier")


def test_a_kill_between_two_renames_loses_nothing(theirs: Path, ours: Path) -> None:
    """What was published lay aside when the process died."""
    before = read(place(ours))["states"]
    place(ours).rename(place(ours).with_name(f".{TIER}.old"))
    publish.accept(theirs, Project(ours))
    after = read(place(ours))["states"]
    assert set(before["state"]) < set(after["state"])


def test_a_second_seed_joins_the_cell(theirs: Path, ours: Path) -> None:
    publish.accept(theirs, Project(ours))
    gains = read(place(ours))["gains"]
    suite = gains[gains["task"].eq(SUITE)].set_index("source")["seeds"]
    assert suite.to_dict() == {"neox-small": 1, "llama-small": 2}


def test_accepting_twice_changes_nothing(theirs: Path, ours: Path) -> None:
    publish.accept(theirs, Project(ours))
    before = content(ours)
    assert publish.accept(theirs, Project(ours))[1] is False
    assert content(ours) == before


def test_a_cell_of_the_tier_itself_changes_nothing(tmp_path: Path, ours: Path) -> None:
    before = content(ours)
    assert publish.accept(packed(project(tmp_path / "theirs"), seed=0), Project(ours))[1] is False
    assert content(ours) == before


def test_a_tier_that_is_not_published_gets_a_folder(theirs: Path, tmp_path: Path) -> None:
    root = project(tmp_path / "fresh")
    assert publish.accept(theirs, Project(root))[1] is True
    assert publish.verify(TIER, root)
    assert [t.label for t in available(root)] == ["small · published"]
    assert without_manifest(place(root)) == set()
    assert len(load("gains", root)) == len(TASKS) + 1


def test_a_model_from_the_hub_is_accepted(tmp_path: Path, ours: Path) -> None:
    publish.accept(packed(project(tmp_path / "theirs"), source=HUB), Project(ours))
    tables = read(place(ours))
    (stranger,) = set(tables["models"]["model"]) - {"neox-small", "llama-small"}
    assert stranger.startswith("owner-name-")
    assert stranger in set(tables["gains"]["source"])
    assert publish.verify(TIER, ours)


def test_what_is_kept_is_what_was_sent(theirs: Path, ours: Path) -> None:
    publish.accept(theirs, Project(ours))
    kept = place(ours) / publish.ARCHIVES / theirs.name
    assert kept.read_bytes() == theirs.read_bytes()


def test_publishing_again_keeps_contributions(theirs: Path, ours: Path) -> None:
    publish.accept(theirs, Project(ours))
    before = content(ours)
    publish.publish(TIER, Project(ours))
    assert content(ours) == before


def test_publishing_refuses_to_lose_a_contribution(theirs: Path, ours: Path) -> None:
    publish.accept(theirs, Project(ours))
    (place(ours) / publish.ARCHIVES / theirs.name).write_bytes(b"")
    before = content(ours)
    with pytest.raises(publish.PublishError, match=r"no longer fits.*not an archive"):
        publish.publish(TIER, Project(ours))
    assert content(ours) == before


def test_no_text_of_a_corpus_is_packed(theirs: Path) -> None:
    assert "the king" not in str(opened(theirs))


def test_the_command_line(
    theirs: Path, ours: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def call(*arguments: str) -> str:
        with pytest.raises(SystemExit) as stop:
            raise SystemExit(cli.main(list(arguments)))
        said = capsys.readouterr()
        return f"{stop.value.code} {said.out}{said.err}"

    monkeypatch.chdir(theirs.parents[2])
    name = "neox-small ← llama-small T=1 full s1"
    pairing = ["-p", "tier", TIER, "-p", "source=llama-small", "-p", "student", "neox-small"]
    packed = call("contribute", *pairing, "-p", "seed", "1")
    assert packed.startswith(f"0 Packed: runs/contributions/{theirs.name} (")
    monkeypatch.chdir(ours)
    accepted = f"0 Accepted: small: {name}; now in book/results/small/\n"
    assert call("accept", str(theirs)) == accepted
    assert call("accept", str(theirs)).startswith("0 Nothing to do: tier small has small: ")
    assert call("accept", "no.zip").startswith("1 error: no.zip is not accepted: it cannot be")


# --- What cannot be contributed -------------------------------------------------------------


def test_a_missing_measurement_is_told_with_its_command(tmp_path: Path) -> None:
    root = project(tmp_path)
    plan, cell = pairing.from_parameters(form(), load_plan(TIER, root))
    compute(root, dag.each_once([plan.utility(cell.student, cell)]))
    with pytest.raises(contribute.ContributionError) as caught:
        contribute.contribute(form(), Project(root))
    assert "measure_extraction of small: neox-small ← llama-small" in str(caught.value)
    command = "nbutils notebook pairing -p tier small -p source llama-small -p student neox-small"
    assert command + " -p seed 1` computes it" in str(caught.value)


def test_a_student_without_passages(tmp_path: Path) -> None:
    """A tier whose models are made here knows none for a model of the hub."""
    with pytest.raises(contribute.ContributionError, match="no passages for owner-name"):
        packed(project(tmp_path), student=HUB)


@pytest.mark.parametrize("changes", [{"steps": 2}, {"tokens": 100}, {"tasks": ["sciq"]}])
def test_another_budget_is_not_the_tiers(changes: dict[str, Any], tmp_path: Path) -> None:
    root = project(tmp_path)
    with pytest.raises(contribute.ContributionError, match="out tokens, steps and tasks"):
        contribute.contribute(form(**changes), Project(root))


def test_a_model_that_others_cannot_fetch(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(contribute.ContributionError, match="others fetch"):
        packed(project(tmp_path / "theirs"), source=f"folder:{folder}")


# --- What is not accepted: a contribution that does not fit -----------------------------------


def test_another_version(tmp_path: Path, ours: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raised = replace(stages.STAGES["diagnose"], version=99)
    with monkeypatch.context() as patch:
        patch.setitem(stages.STAGES, "diagnose", raised)
        archive = packed(project(tmp_path / "theirs"))
    refused(ours, archive.read_bytes(), "runs that this pairing does not need")


def test_versions_are_compared_with_those_of_the_tier(
    theirs: Path, ours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tier and the contribution have one version; the checkout has raised it since."""
    for name, stage in stages.STAGES.items():
        monkeypatch.setitem(stages.STAGES, name, replace(stage, version=99))
    assert publish.accept(theirs, Project(ours))[1] is True


@pytest.mark.parametrize(
    "changes",
    [
        {"suite": {"cloze": 9, "agreement": 10, "preposition": 10}},
        {"corpus": {"tokens": 5000, "batch_size": 32}},
        {"context": 100},
    ],
)
def test_another_tier_of_the_same_name(changes: dict[str, Any], tmp_path: Path, ours: Path) -> None:
    """Another suite, budget or model."""
    archive = packed(project(tmp_path / "theirs", **changes))
    refused(ours, archive.read_bytes(), "it lacks runs that tier 'small' needs: .*changed: ")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"suite": {"cloze": 9, "agreement": 10, "preposition": 10}}, "size of prepare_suite"),
        ({"corpus": {"tokens": 5000, "batch_size": 32}}, "tokens of sample_corpus"),
        ({"self_train": RECIPE}, "recipe of self_train"),
    ],
)
def test_a_tier_whose_file_has_changed_since(
    changes: dict[str, Any], message: str, tmp_path: Path, ours: Path
) -> None:
    archive = packed(project(tmp_path / "theirs", **changes))
    project(ours, **changes)
    refused(ours, archive.read_bytes(), f"'small' was published with another {message}")


def test_another_arithmetic(tmp_path: Path, ours: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models and corpora must be the tier's; a few near ties may fall otherwise, and no more."""
    known = contributed.rows

    def with_other(stage: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> bytes:
        def made(asked: str, rng: np.random.Generator) -> dict[str, pd.DataFrame]:
            return {
                name: change(frame) if asked == stage else frame
                for name, frame in known(asked, rng).items()
            }

        with monkeypatch.context() as patch:
            patch.setattr(contributed, "rows", made)
            return packed(project(tmp_path / stage)).read_bytes()

    other_model = with_other("prepare_model", lambda f: f.assign(suffix_text="and so on"))
    refused(ours, other_model, "prepare_model of small: .* has other content")
    other_answers = with_other("measure_utility", lambda f: f.assign(correct=~f["correct"]))
    refused(ours, other_answers, "answers 60 of 102 items and passages otherwise")


def test_a_published_tier_that_was_changed(theirs: Path, ours: Path) -> None:
    with (place(ours) / "manifests.jsonl").open("a") as file:
        file.write("\n")
    refused(ours, theirs.read_bytes(), "is not as it was published")
