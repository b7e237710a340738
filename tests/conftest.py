"""Fixtures shared by the tests."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from nbutils import cli
from nbutils.config import tiers
from nbutils.protocol import calibration, wheels
from nbutils.protocol.plan import Plan
from nbutils.runs import source_code
from support import tiny
from support.project import Answer, nbutils, new_project

pytest_plugins = ["support.built", "support.contributed", "support.small_runs", "support.specs"]


MADE_ONCE = ("built", "smoke")
"""Fixtures that take minutes to make, and that some tests change for a moment."""


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests of such a fixture run in one process, one after another."""
    for item in items:
        for name in MADE_ONCE:
            if isinstance(item, pytest.Function) and name in item.fixturenames:
                item.add_marker(pytest.mark.xdist_group(name))


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """One thread per process: as many tests as there are cores run at a time."""
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # of the commands that tests start


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A cache of its own for every process, with the wheels that this user has downloaded."""
    downloaded, own = wheels.cache(), tmp_path_factory.mktemp("cache")
    downloaded.mkdir(parents=True, exist_ok=True)
    os.environ["XDG_CACHE_HOME"] = str(own)
    if wheels.cache() != downloaded:  # elsewhere than on Linux it may be
        wheels.cache().parent.mkdir()
        wheels.cache().symlink_to(downloaded)


@pytest.fixture(autouse=True)
def _own_calibration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test measures is not kept for the user."""
    monkeypatch.setattr(calibration, "place", lambda: tmp_path / "calibration.json")


@pytest.fixture(autouse=True)
def _fresh_code_digest() -> Iterator[None]:
    yield
    source_code.module_digest.cache_clear()


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return tiny.tokenizer()


@pytest.fixture
def plan(project: Path) -> Plan:
    """The runs of the tier smoke, in a project of its own."""
    return Plan("smoke", tiers.load_tier("smoke", project), encoder=True)


@pytest.fixture(params=tiny.ARCHITECTURES)
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    """A fresh random model of every architecture."""
    return tiny.model(request.param)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Architecture to a saved random model; read only."""
    root = tmp_path_factory.mktemp("models")
    return {name: tiny.save(name, root / name) for name in tiny.ARCHITECTURES}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder of its own, with the real tiers, and the working directory."""
    root = tmp_path / "project"
    shutil.copytree(tiny.REPOSITORY / "notebooks" / "tiers", root / "notebooks" / "tiers")
    monkeypatch.chdir(root)
    return root


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder with a finished smoke tier."""
    root = new_project(tmp_path_factory.mktemp("smoke") / "project")
    done = nbutils(root, "run", "smoke")
    assert done.returncode == 0, done.stderr
    return root


@pytest.fixture
def run(project: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Runs the command line in a fresh project; returns status, output and errors."""

    def call(*arguments: str) -> Answer:
        try:
            status = cli.main(list(arguments))
        except SystemExit as stop:
            status = int(stop.code or 0)
        said = capsys.readouterr()
        return status, said.out, said.err

    return call
