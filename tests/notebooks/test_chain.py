"""The smoke tier, end to end: plan, run, rerun, tables, kill, publish."""

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from nbutils.book import publish
from nbutils.config import design
from nbutils.protocol.plan import load_plan
from nbutils.results import corpora
from nbutils.results.layout import LOCAL, PUBLISHED, SUMS
from nbutils.results.tables import COLUMNS, read_documents, without_manifest
from support.project import NBUTILS, nbutils, new_project, open_store


def tables(root: Path, tier: str) -> dict[str, pd.DataFrame]:
    folder = root / LOCAL / tier
    return {name: pd.read_parquet(folder / f"{name}.parquet") for name in COLUMNS}


def test_a_second_run_does_nothing_and_says_so(smoke: Path) -> None:
    def written() -> dict[Path, int]:
        kept = [*(smoke / "runs/store").rglob("*"), *(smoke / LOCAL).rglob("*")]
        return {path: path.stat().st_mtime_ns for path in kept if path.is_file()}

    before = written()
    again = nbutils(smoke, "run", "smoke")
    assert again.returncode == 0
    assert "Nothing to do" in again.stdout
    assert written() == before


def test_every_table_has_its_columns_and_rows(smoke: Path) -> None:
    found = tables(smoke, "smoke")
    for name, columns in COLUMNS.items():
        assert tuple(found[name].columns)[: len(columns)] == columns
        assert len(found[name])
    tier = load_plan("smoke", smoke).tier
    # two further temperatures, a second corpus of each student for its diagnostics, and round 2
    assert len(found["corpora"]) == len(tier.models) + 2 + 2 * len(tier.grid.students)
    states = found["states"].set_index("state")
    assert list(found["utility"].columns[4:]) == list(states.index)
    trained = states[~states.experiment.isin(["untouched", "trajectories"])]
    assert len(trained) == len(list(design.every(tier)))
    untouched = states[states.experiment == "untouched"]
    assert untouched.source.isna().all()
    assert set(untouched.student) == set(tier.models)
    assert found["proxies"].groupby("kind").proxy.nunique().to_dict() == {
        "diagnostic": 6,
        "proxy": 3,
    }


def test_every_corpus_keeps_a_few_documents(smoke: Path) -> None:
    found = read_documents(smoke / LOCAL / "smoke")
    assert found is not None
    assert set(tables(smoke, "smoke")["corpora"]["run"]) <= set(found["run"])
    assert found.groupby("run").size().le(corpora.DOCUMENTS_PER_CORPUS).all()


def test_every_row_has_a_manifest(smoke: Path) -> None:
    assert without_manifest(smoke / LOCAL / "smoke") == set()


def test_learning_rate_zero_changes_nothing_at_all(smoke: Path) -> None:
    found = tables(smoke, "smoke")
    frozen = found["gains"][found["gains"].source == "rate zero"]
    assert len(frozen)
    assert frozen[["gain", "low", "high"]].eq(0).all(axis=None)


def test_gains_follow_from_the_item_rows(smoke: Path) -> None:
    found = tables(smoke, "smoke")
    states = found["states"]
    lora = states[(states.method == "lora") & (states.experiment == "pairings")].iloc[0]
    base = states[(states.experiment == "untouched") & (states.student == lora.student)].iloc[0]
    items = found["utility"].groupby("task")
    change = items[lora.state].mean() - items[base.state].mean()
    gains = found["gains"]
    mine = gains[(gains.method == "lora") & (gains.experiment == "pairings")]
    mine = mine[mine.student == lora.student].set_index("task")
    assert mine.gain.drop("suite").to_dict() == pytest.approx(change.to_dict())
    assert mine.gain["suite"] == pytest.approx(change.mean())


def test_status_and_plan_agree_that_all_is_done(smoke: Path) -> None:
    plan = nbutils(smoke, "plan", "smoke").stdout
    assert re.search(r"(\d+) runs: \1 done", plan)
    smoke_rows = [x.split() for x in nbutils(smoke, "status").stdout.splitlines() if "smoke" in x]
    assert smoke_rows
    assert all(row[3] == "0" for row in smoke_rows)


def small_tier(root: Path) -> None:
    """A tier of one pairing whose fine-tunes last long enough to be killed in the middle."""
    values = yaml.safe_load((root / "notebooks/tiers/smoke.yml").read_text("utf-8"))
    values["models"] = {k: values["models"][k] for k in ("neox-small", "llama-small")}
    values["grid"] = {"students": ["neox-small"]}
    values["self_train"]["steps"] = 150
    (root / "notebooks/tiers/killed.yml").write_text(yaml.safe_dump(values), "utf-8")


@pytest.mark.slow
def test_a_kill_in_the_middle_of_fine_tuning_loses_only_that_run(tmp_path: Path) -> None:
    undisturbed = new_project(tmp_path / "undisturbed")
    killed = new_project(tmp_path / "killed")
    for root in (undisturbed, killed):
        small_tier(root)
    assert nbutils(undisturbed, "run", "killed").returncode == 0

    runner = subprocess.Popen(
        [*NBUTILS, "run", "killed"],
        cwd=killed,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    partial, plan = killed / "runs/store/partial", load_plan("killed", killed)
    fine_tunes = [plan.self_train(cell) for cell in design.every(plan.tier)]
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        keys = [open_store(killed).key(run) for run in fine_tunes]
        if any(key and (partial / key).is_dir() for key in keys):
            break
        time.sleep(0.02)
    time.sleep(0.5)
    os.killpg(runner.pid, signal.SIGKILL)
    runner.wait()
    survivors = {m.key: m.created for m in open_store(killed).all()}
    store = open_store(killed)
    assert any(store.finished(run) is None for run in fine_tunes)

    assert nbutils(killed, "run", "killed").returncode == 0
    after = {m.key: m.created for m in open_store(killed).all()}
    assert survivors.items() <= after.items()
    for name, table in tables(killed, "killed").items():
        pd.testing.assert_frame_equal(table, tables(undisturbed, "killed")[name])


@pytest.mark.slow
def test_an_incomplete_tier_is_not_published(tmp_path: Path) -> None:
    root = new_project(tmp_path / "project")
    refused = nbutils(root, "publish", "smoke")
    assert refused.returncode == 1
    assert "runs are missing: run `nbutils run smoke`" in refused.stderr
    assert not (root / PUBLISHED).exists()


@pytest.fixture(scope="module")
def published(smoke: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the finished smoke tier, published."""
    root = tmp_path_factory.mktemp("published") / "project"
    shutil.copytree(smoke, root)
    done = nbutils(root, "publish", "smoke")
    assert done.returncode == 0, done.stderr
    return root


@pytest.mark.slow
def test_a_published_tier_verifies(published: Path) -> None:
    done = nbutils(published, "verify", "smoke")
    assert done.returncode == 0, done.stderr
    assert "files are as published" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("file", ["gains.parquet", "manifests.jsonl", "pages/self_train.ipynb"])
def test_one_changed_byte_is_found(published: Path, file: str, tmp_path: Path) -> None:
    root = tmp_path / "project"
    shutil.copytree(published / "book", root / "book")
    shutil.copytree(published / "notebooks", root / "notebooks")
    path = root / PUBLISHED / "smoke" / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    done = nbutils(root, "verify", "smoke")
    assert done.returncode == 1
    assert f"files differ: {file}" in done.stderr


@pytest.mark.slow
def test_a_summary_that_does_not_follow_is_found(published: Path, tmp_path: Path) -> None:
    """The digests are made to fit; the summaries are computed again all the same."""
    folder = tmp_path / "project" / PUBLISHED / "smoke"
    shutil.copytree(published / PUBLISHED / "smoke", folder)
    shutil.copytree(published / "notebooks", tmp_path / "project" / "notebooks")
    gains = pd.read_parquet(folder / "gains.parquet")
    gains["gain"] = gains["gain"].where(gains.index != 3, gains["gain"] + 0.001)
    gains.to_parquet(folder / "gains.parquet", index=False)
    (folder / SUMS).write_text(publish.sums(folder))
    done = nbutils(tmp_path / "project", "verify", "smoke")
    assert done.returncode == 1
    assert "gains.parquet does not follow from the rows" in done.stderr


@pytest.mark.slow
def test_verify_names_the_published_tiers(published: Path) -> None:
    done = nbutils(published, "verify", "smok")
    assert done.returncode == 1
    assert "unknown published tier 'smok': allowed are smoke" in done.stderr
