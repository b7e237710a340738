"""The folder of a project, found from where a person stands."""

from pathlib import Path

import pytest

from nbutils.config import tiers
from nbutils.errors import ParameterError


def test_project_root_is_the_nearest_folder_with_tiers(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = project / "a" / "b"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    assert tiers.project_root() == project.resolve()


def test_no_project_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tiers, "__file__", str(tmp_path / "a" / "b" / "c" / "d.py"))
    with pytest.raises(ParameterError, match="no folder notebooks/tiers"):
        tiers.project_root()
