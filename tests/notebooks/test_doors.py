"""Every way to run a notebook finds the project, checks the same, and says what it refuses."""

import json
import subprocess
import sys
from pathlib import Path

import nbformat
import papermill
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from nbutils.notebooks import execute
from nbutils.results import layout
from support.project import new_project
from support.synthetic import write_tables


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project that has published results, and no runs."""
    found = new_project(tmp_path / "project")
    write_tables(found / layout.PUBLISHED / "lab")
    return found


def raw_papermill(
    name: str, root: Path, *arguments: str
) -> tuple[subprocess.CompletedProcess[str], Path]:
    """Papermill's own command, started beside the sources, as Jupyter starts a kernel there."""
    output = root / "out.ipynb"
    command = [sys.executable, "-m", "papermill", str(execute.convert(name, root)), str(output)]
    here = root / "notebooks"
    done = subprocess.run([*command, *arguments], cwd=here, capture_output=True, text=True)
    return done, output


@pytest.mark.slow
def test_a_finding_that_starts_elsewhere_finds_the_results(root: Path) -> None:
    done, output = raw_papermill("rounds", root)
    assert done.returncode == 0, done.stderr
    assert "lab · published" in output.read_text("utf-8")


def test_a_misspelt_name_stops_raw_papermill(root: Path) -> None:
    done, _ = raw_papermill("sample_corpus", root, "-p", "tier", "smoke", "-p", "sorce", "x")
    assert done.returncode == 1
    assert "unknown parameter 'sorce'" in done.stderr
    assert "did you mean 'source'?" in done.stderr


@pytest.mark.slow
def test_a_name_misspelt_by_hand_stops_a_kernel_of_jupyter(root: Path) -> None:
    notebook = nbformat.read(execute.convert("sample_corpus", root), as_version=4)
    for cell in notebook.cells:
        cell.source = cell.source.replace("source: str =", "sorce: str =")
    resources = {"metadata": {"path": str(root / "notebooks")}}
    client = NotebookClient(notebook, kernel_name=execute.KERNEL, resources=resources)
    with pytest.raises(CellExecutionError, match="did you mean 'source'"):
        client.execute()


@pytest.mark.slow
def test_neither_a_wrong_kernel_nor_a_missing_home_is_in_the_way(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a relative output lies where the command was given."""
    kernel = tmp_path / "kernels" / "python3" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    wrong = {"argv": ["/no/such", "{connection_file}"], "display_name": "x", "language": "python"}
    kernel.write_text(json.dumps(wrong))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("HOME", "/proc")
    monkeypatch.setenv("IPYTHONDIR", "/proc/nothing")
    monkeypatch.chdir(tmp_path)
    execute.execute("status", {}, Path("here") / "{x}.ipynb", root)
    assert "lab · published" in (tmp_path / "here" / "{x}.ipynb").read_text("utf-8")
    assert not (root / "here").exists()


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (".", "is a folder: give the name of a notebook"),
        (
            "file/x.ipynb",
            r"file/x.ipynb cannot be written \(.*\): give another place with --output",
        ),
        ("/proc/x/y.ipynb", r"/proc/x/y.ipynb cannot be written \(.*\)"),
    ],
)
def test_an_output_that_cannot_be_written_starts_no_kernel(
    output: str, message: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(papermill, "execute_notebook", lambda *_, **__: pytest.fail("it ran"))
    with pytest.raises(execute.NotebookError, match=message):
        execute.execute("status", {}, tmp_path / output, root)
