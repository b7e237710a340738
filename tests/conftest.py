"""Fixtures shared by the tests."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from nbutils import cli
from nbutils.config import tiers
from nbutils.protocol import calibration
from nbutils.protocol.plan import Plan
from nbutils.runs import source_code
from support import tiny
from support.project import Answer, nbutils, new_project

pytest_plugins = ["support.built", "support.contributed", "support.small_runs", "support.specs"]


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


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
