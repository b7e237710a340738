"""Tables: where they are found, written once, and repaired."""

import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from nbutils.analysis import gains as analysis_gains
from nbutils.config.design import LABELS
from nbutils.config.schema import PrepareSuite, SuiteSize
from nbutils.protocol import prepare_suite, schedule
from nbutils.protocol.compute import compute
from nbutils.protocol.plan import load_plan
from nbutils.results import collect, layout, rows, tables
from nbutils.results.project import Project
from nbutils.results.tables import COLUMNS
from nbutils.runs.types import Run, RunError
from support.project import open_store
from support.tiny import REPOSITORY, silent


def write(folder: Path, value: float, without: str = "") -> None:
    """A folder of tables of one row each, with one table left out."""
    folder.mkdir(parents=True)
    for name, columns in COLUMNS.items():
        if name != without:
            pd.DataFrame([dict.fromkeys(columns, value)]).to_parquet(folder / f"{name}.parquet")
    (folder / "manifests.jsonl").write_text('{"key": "k"}\n', "utf-8")


def test_load_reads_every_tier_published_first(tmp_path: Path) -> None:
    write(tmp_path / "book" / "results" / "tiny", 1.0)
    write(tmp_path / "book" / "results" / "lab", 2.0)
    write(tmp_path / "runs" / "tables" / "tiny", 3.0)
    write(tmp_path / "runs" / "tables" / "smoke", 4.0, without="corpora")
    labels = ["lab · published", "tiny · published", "tiny · your run"]
    assert [t.label for t in tables.available(tmp_path)] == labels
    found = tables.load("proxies", tmp_path)
    assert list(found.results) == labels
    assert list(found.value) == [2.0, 1.0, 3.0]
    assert list(found.tier) == ["lab", "tiny", "tiny"]
    assert list(found.origin) == ["published", "published", "your run"]
    assert list(found.columns) == [*COLUMNS["proxies"], "tier", "origin", "results"]
    assert list(tables.manifests(tmp_path).results) == labels


def test_a_half_written_folder_is_not_read(tmp_path: Path) -> None:
    write(tmp_path / "runs" / "tables" / ".tiny.partial", 1.0)
    write(tmp_path / "book" / "results" / ".tiny.partial", 1.0)
    assert tables.available(tmp_path) == []


def test_without_tables_there_are_columns_and_no_rows(tmp_path: Path) -> None:
    assert tables.available(tmp_path) == []
    found = tables.load("gains", tmp_path)
    assert len(found) == 0
    assert list(found.columns) == [*COLUMNS["gains"], "tier", "origin", "results"]
    assert len(tables.manifests(tmp_path)) == 0
    assert layout.read_manifests(tmp_path) == []


@pytest.fixture
def one_run(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Run]:
    """Maker of a run of one small file, and tables that need no more than it."""

    def prepare(p: PrepareSuite, inputs: object, out: Path, progress: object) -> None:
        (out / "file").write_text(str(p.max_chars))

    def make(max_chars: int) -> Run:
        size = SuiteSize(cloze=1, agreement=1, preposition=1)
        return Run("prepare_suite", "suite", PrepareSuite(size=size, max_chars=max_chars))

    monkeypatch.setattr(prepare_suite, "run", prepare)
    frames = {name: pd.DataFrame(columns=list(columns)) for name, columns in COLUMNS.items()}
    monkeypatch.setattr(rows, "of_tier", lambda tier, runs, store: frames)
    monkeypatch.setattr(analysis_gains, "summarize", lambda frames: {})
    return make


def test_collect_writes_once_and_again_when_a_run_changes(
    project: Path, one_run: Callable[[int], Run]
) -> None:
    for max_chars in (50, 60):
        run = one_run(max_chars)
        done = open_store(project).execute(run, compute, 1, silent)
        assert collect.collect("smoke", [run], Project(project)) is True
        assert collect.collect("smoke", [run], Project(project)) is False
        assert layout.read_manifests(project / "runs" / "tables" / "smoke") == [done]
        assert [t.label for t in tables.available(project)] == ["smoke · your run"]
    assert [p.name for p in (project / "runs" / "tables").iterdir()] == ["smoke"]


def test_collect_repairs_a_folder_that_misses_a_table(
    project: Path, one_run: Callable[[int], Run]
) -> None:
    run = one_run(50)
    open_store(project).execute(run, compute, 1, silent)
    collect.collect("smoke", [run], Project(project))
    (project / "runs" / "tables" / "smoke" / "gains.parquet").unlink()
    assert collect.collect("smoke", [run], Project(project)) is True
    assert len(tables.available(project)) == 1


def test_collecting_an_unfinished_tier_is_an_error_and_keeps_the_tables(project: Path) -> None:
    standing = project / "runs" / "tables" / "smoke"
    write(standing, 1.0)
    plan = load_plan("smoke", project)
    with pytest.raises(RunError, match="is not finished"):
        collect.collect("smoke", schedule.of_tier(plan), Project(project))
    assert len(tables.load("gains", project)) == 1


def test_tables_of_another_version_say_what_to_do(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "tables" / "tiny"
    write(folder, 3.0)
    pd.DataFrame({"value": [1.0]}).to_parquet(folder / "proxies.parquet")
    with pytest.raises(RunError, match="is damaged, or of another version"):
        tables.load("proxies", tmp_path)


def test_a_tier_without_later_columns_is_read_as_missing_them(tmp_path: Path) -> None:
    old = tmp_path / "book" / "results" / "old"
    write(old, 1.0)
    write(tmp_path / "runs" / "tables" / "new", 2.0)
    later = list(tables.LATER["gains"])
    gains = pd.read_parquet(old / "gains.parquet")
    gains.drop(columns=later).to_parquet(old / "gains.parquet")
    found = tables.load("gains", tmp_path)
    assert found["gain"].tolist() == [1.0, 2.0]
    assert found[later].isna().all(axis=1).tolist() == [True, False]
    assert list(tables.read(old)["gains"]) == list(COLUMNS["gains"])


def test_every_column_is_documented() -> None:
    """*Re-execute* names the columns of every table; those of a cell stand once, above them."""
    page = (REPOSITORY / "book/re-execute.md").read_text("utf-8")
    above, below = page.split("A **state** is", 1)[1].split("| table |", 1)
    known = set(re.findall(r"`(\w+)`", above))
    assert known >= set(LABELS)
    found = dict[str, set[str]]()
    for line in re.findall(r"^\| `.*$", below, re.MULTILINE):
        name, _, columns = (cell.strip() for cell in line.strip("|").split("|"))
        named = re.sub(r"`(\w+_)1` to `\w+_3`", r"`\g<1>1`, `\g<1>2`, `\g<1>3`", columns)
        found[name.strip("`")] = set(re.findall(r"`(\w+)`", re.sub(r"\(.*?\)", "", named)))
    assert found.keys() == COLUMNS.keys()
    for name, columns in COLUMNS.items():
        assert found[name] <= set(columns), name
        assert set(columns) - set(LABELS) <= found[name], name
