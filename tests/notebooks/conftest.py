"""A project folder in which the smoke tier has run, shared by the tests of the whole chain."""

from pathlib import Path

import pytest

from project import nbutils, new_project


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder with a finished smoke tier."""
    root = new_project(tmp_path_factory.mktemp("smoke") / "project")
    done = nbutils(root, "run", "smoke")
    assert done.returncode == 0, done.stderr
    return root
