"""The stream: verdicts while a tier is computed, and tables of its finished part."""

import shutil
import time
from pathlib import Path

import pandas as pd
import pytest

from nbutils.config import design
from nbutils.notebooks import execute
from nbutils.protocol import schedule
from nbutils.results import collect, layout, tables
from nbutils.results.project import Project
from nbutils.results.stream import Stream
from nbutils.runs.types import Run
from support import slow
from support.project import new_project


class Growing:
    """A project with as many of a finished tier's runs as one lets it have."""

    def __init__(self, whole: Path, root: Path) -> None:
        self.whole, self.project = Project(whole), Project(new_project(root))
        self.plan = self.project.plan("smoke")
        self.runs = schedule.of_tier(self.plan)
        self.said: list[str] = []
        self.stream = Stream("smoke", self.runs, self.project, self.said.append)

    def finish(self, runs: list[Run]) -> None:
        for run in runs:
            source = self.whole.store.path(run)
            target = self.project.store.root / source.relative_to(self.whole.store.root)
            shutil.copytree(source, target, dirs_exist_ok=True)
        self.stream.finished()

    def up_to(self, source: str) -> list[Run]:
        """The runs up to the measured pairing of the first student with a source."""
        pairing = design.Pairing(source, "neox-small", 1.0)
        last = self.plan.extraction("neox-small", pairing)
        return self.runs[: self.runs.index(last) + 1]


@pytest.fixture
def growing(smoke: Path, tmp_path: Path) -> Growing:
    return Growing(smoke, tmp_path / "growing")


SELF = "Self is no worse than lineage, and both are better than cross-family: undecided"


def test_the_first_verdict_comes_after_self_and_one_stranger(growing: Growing) -> None:
    """More than a hundred of the tier's runs are missing then."""
    growing.finish(growing.up_to("neox-small"))
    growing.stream.update()
    assert growing.said == []
    growing.finish(growing.up_to("llama-small"))
    growing.stream.rebuild()
    (said,) = growing.said
    assert said.startswith(f"verdict on 2 of 8 pairings: {SELF} (1 undecided, of 1); neox-small ")
    assert len(growing.up_to("llama-small")) < len(growing.runs) / 8


def test_a_verdict_is_said_again_only_when_it_has_changed(growing: Growing) -> None:
    growing.finish(growing.up_to("llama-small"))
    assert growing.stream.rebuild()
    assert len(growing.said) == 1
    growing.said.clear()
    growing.finish([])
    assert not growing.stream.rebuild()
    frames = tables.read(growing.project.root / layout.LOCAL / "smoke")
    growing.stream.judge(frames)
    assert growing.said == []
    contrasts = frames["contrasts"]
    growing.stream.judge(frames | {"contrasts": contrasts.assign(value=contrasts["value"] + 1e-6)})
    assert growing.said == []
    growing.stream.judge(frames | {"contrasts": contrasts.assign(value=contrasts["value"] + 0.01)})
    assert len(growing.said) == 1


def test_the_last_verdicts_stand_on_all_pairings(growing: Growing) -> None:
    growing.finish(growing.up_to("llama-small"))
    growing.stream.rebuild()
    growing.said.clear()
    growing.finish(growing.runs)
    assert collect.collect("smoke", growing.runs, growing.project)
    growing.stream.judge(tables.read(growing.project.root / layout.LOCAL / "smoke"))
    assert len(growing.said) >= 3
    for said in growing.said:
        count, _, asked, *_ = said.removeprefix("verdict on ").split()
        assert count == asked


def test_tables_take_a_small_share_of_the_time(
    growing: Growing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An update of two seconds is followed by none for 200 seconds, whatever is finished."""
    now, updates = 1000.0, []

    def rebuild() -> bool:
        nonlocal now
        now += 2.0
        updates.append(now)
        return True

    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(growing.stream, "rebuild", rebuild)
    for _ in range(500):
        growing.stream.finished()
        growing.stream.update()
        now += 1.0
    assert updates == [1002.0, 1202.0, 1402.0]


def test_a_part_of_a_tier_has_the_rows_of_the_whole(growing: Growing, smoke: Path) -> None:
    """The same numbers in the same types, for those pairings that are measured already."""
    growing.finish(growing.up_to("qwen-small"))
    growing.stream.rebuild()
    (mine,) = tables.available(growing.project.root)
    assert mine.label == "smoke · your run so far"
    part, whole = (tables.read(root / layout.LOCAL / "smoke")
                   for root in (growing.project.root, smoke))  # fmt: skip
    assert set(part["states"]["source"].dropna()) == {"neox-small", "llama-small", "qwen-small"}
    assert part["proxies"].empty
    for name in ("proxies", "falls", "gains", "extraction"):
        assert list(part[name].dtypes) == list(whole[name].dtypes), name
    keys = ["student", "source", "task"]
    both = part["gains"].merge(whole["gains"].drop_duplicates(keys), on=keys, how="left")
    pd.testing.assert_series_equal(both["gain_x"], both["gain_y"], check_names=False)
    assert not tables.without_manifest(mine.folder)


def test_a_finished_tier_is_no_longer_marked(growing: Growing) -> None:
    growing.finish(growing.up_to("llama-small"))
    growing.stream.rebuild()
    growing.finish(growing.runs)
    collect.collect("smoke", growing.runs, growing.project)
    (mine,) = tables.available(growing.project.root)
    assert mine.label == "smoke · your run"
    assert not collect.collect("smoke", growing.runs, growing.project)


def test_a_student_waits_for_all_its_measurements_and_its_untouched_self(
    growing: Growing,
) -> None:
    runs = growing.up_to("llama-small")
    untouched = growing.plan.utility("neox-small")
    growing.finish([run for run in runs if run != untouched])
    assert not growing.stream.rebuild()
    growing.finish([untouched])
    assert growing.stream.rebuild()


PAGES = ["opening", "proxies_fail", "compatibility_diagnostics"]


@pytest.mark.parametrize("name", slow.but(["opening"], PAGES))
def test_pages_are_made_of_a_part(name: str, growing: Growing) -> None:
    """Three pairings, and neither proxies nor diagnostics: the pages that miss most."""
    growing.finish(growing.up_to("qwen-small"))
    growing.stream.rebuild()
    root = growing.project.root
    page = root / "runs" / "pages" / f"{name}.ipynb"
    execute.execute(name, {}, page, root)
    assert "your run so far" in page.read_text("utf-8")
