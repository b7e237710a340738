"""Upkeep: what is listed, deleted and found damaged, and what is left alone."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from nbutils.config.schema import EmbedTexts
from nbutils.protocol import plan
from nbutils.protocol.compute import compute
from nbutils.results.project import Project
from nbutils.runs import garbage
from nbutils.runs.store import MANIFEST, Store
from nbutils.runs.types import SCHEMA, Run, RunError
from support.project import Answer, open_store

STRAY = Run("embed_texts", "gone: a corpus", EmbedTexts(texts=3))


@pytest.fixture
def store(project: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A project's store with one run that no tier asks for."""

    def write(p: object, inputs: object, out: Path, progress: object) -> None:
        (out / "folder").mkdir()
        (out / "folder" / "file").write_text("content")

    monkeypatch.setattr("nbutils.protocol.measure_proxies.run_embed_texts", write)
    monkeypatch.chdir(project)
    open_store(project).execute(STRAY, compute, 1, lambda share: None)
    return open_store(project)


def test_what_no_tier_asks_for_is_listed_and_only_then_deleted(
    store: Store, project: Path, run: Callable[..., Answer]
) -> None:
    done = store.finished(STRAY)
    assert done is not None
    assert garbage.unneeded(store, Project(project).wanted()) == [done]
    status, said, _ = run("gc")
    assert (status, "1 runs" in said) == (0, True)
    assert store.path(STRAY).is_dir()
    assert run("gc", "--delete")[0] == 0
    assert open_store(project).finished(STRAY) is None
    assert garbage.unneeded(open_store(project), Project(project).wanted()) == []


def test_leftovers_are_those_that_nobody_computes(store: Store, project: Path) -> None:
    """The checkpoint of a run that a tier still waits for is what that run goes on from."""
    partial = store.root / "partial"
    key = store.key(plan.load_plan("smoke", project).model("neox-small"))
    done = store.key(STRAY)
    names = ["dead", "dead.checkpoint", "live", "live.checkpoint", f"{key}", f"{key}.checkpoint"]
    names.append(f"{done}.checkpoint")
    for name in names:
        (partial / name).mkdir(parents=True)
    wanted = Project(project).wanted()
    with FileLock(partial / "live.lock"):
        found = {p.name for p in garbage.leftovers(store, wanted)}
        garbage.clear(store, partial / "live")  # one that somebody took up since they were listed
    assert found == {"dead", "dead.checkpoint", f"{done}.checkpoint", key}
    garbage.clear(store, partial / "dead.checkpoint")
    assert {p.name for p in partial.glob("*/")} == {*names} - {"dead.checkpoint"}


def changed(folder: Path) -> None:
    (folder / "folder" / "file").write_text("contend")


def removed(folder: Path) -> None:
    (folder / "folder" / "file").unlink()


def added(folder: Path) -> None:
    (folder / "another").write_text("")


@pytest.mark.parametrize("harm", [changed, removed, added])
def test_a_file_that_is_not_as_it_was_written_is_named(
    harm: Callable[[Path], None], store: Store, run: Callable[..., Answer]
) -> None:
    status, said, _ = run("verify")
    assert (status, "1 runs are as they were written" in said) == (0, True)
    harm(store.path(STRAY))
    status, _, told = run("verify")
    assert status == 1
    assert "embed_texts of gone: a corpus" in told
    assert ("another" if harm is added else "folder/file") in told


@pytest.mark.parametrize("name", ["stage", "key"])
def test_a_manifest_never_leads_out_of_its_folder(
    name: str, store: Store, project: Path, run: Callable[..., Answer]
) -> None:
    """Or `nbutils gc --delete` would delete whatever a manifest of somebody else names."""
    path = store.path(STRAY) / MANIFEST
    values = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(values | {name: "../../../precious"}), "utf-8")
    (project / "precious").mkdir()
    status, _, errors = run("gc", "--delete")
    assert (status, "is of another run" in errors) == (1, True)
    assert (project / "precious").is_dir()
    assert path.is_file()


def test_a_manifest_of_a_later_version_is_refused_as_that(store: Store, project: Path) -> None:
    path = store.path(STRAY) / MANIFEST
    text = path.read_text("utf-8")
    path.write_text(text.replace(f'"schema_version": {SCHEMA}', '"schema_version": 99, "new": 1'))
    with pytest.raises(RunError, match=f"schema version 99 and this package reads {SCHEMA}"):
        open_store(project).finished(STRAY)
