"""Buttons for Colab and Binder, and the notebooks that they open."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from nbutils.config import notebook_parameters
from nbutils.notebooks import cloud, execute
from nbutils.results import layout
from support.project import nbutils, new_project
from support.synthetic import write_tables

ADDRESS = "https://github.com/someone/a-book"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    return new_project(tmp_path / "project")


def configure(root: Path, url: str) -> None:
    text = f'repository: {{url: "{url}", branch: main}}\n'
    (root / "_config.yml").write_text(text, "utf-8")


def test_buttons_open_the_repository_that_the_configuration_names(root: Path) -> None:
    configure(root, ADDRESS)
    found = cloud.buttons("self_train", root)
    colab = "https://colab.research.google.com/github/someone/a-book/blob/gh-pages/launch/"
    binder = "https://mybinder.org/v2/gh/someone/a-book/main?urlpath=lab%2Ftree%2Fruns%2Flaunch%2F"
    assert f'<a href="{colab}self_train.ipynb">' in found
    assert f'<a href="{binder}self_train.ipynb">' in found


def test_without_an_address_the_workflow_names_it(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(root, "")
    assert cloud.buttons("self_train", root) == ""
    monkeypatch.setenv("GITHUB_REPOSITORY", "fork/book")
    assert "/gh/fork/book/main?" in cloud.buttons("self_train", root)


@pytest.mark.parametrize("url", ["git@github.com:a/b.git", "https://example.org/a/b", "a/b"])
def test_an_address_that_nobody_can_open_is_refused(root: Path, url: str) -> None:
    configure(root, url)
    with pytest.raises(cloud.LaunchError, match=r"write https://github\.com/OWNER/NAME, or leave"):
        cloud.buttons("self_train", root)


def test_buttons_stand_below_the_title_and_nothing_is_lost() -> None:
    cell = nbformat.v4.new_markdown_cell("# Title\n\nThe claim.")
    notebook = nbformat.v4.new_notebook(cells=[cell])
    cloud.introduce(notebook, "")
    assert notebook.cells[0].source == "# Title\n\nThe claim."
    cloud.introduce(notebook, "<p>Open</p>")
    assert notebook.cells[0].source == "# Title\n\n<p>Open</p>\n\nThe claim."


def test_every_page_has_a_notebook_that_gets_ready_first(root: Path) -> None:
    configure(root, ADDRESS)
    cloud.write(root / "site", root)
    assert {path.stem for path in (root / "site").iterdir()} == set(notebook_parameters.NOTEBOOKS)
    for path in (root / "site").iterdir():
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
        assert f'"--branch", "main", "{ADDRESS}.git"]' in notebook.cells[0].source
        before = code[code.index(cloud.DRAW) - 1]
        assert "session.open(" in before  # which a renderer chosen before would not outlive
        source = nbformat.read(execute.convert(path.stem, root), as_version=4)
        assert [c.source for c in source.cells] == [
            c.source for c in notebook.cells if not c.id.startswith("launch-")
        ]


@pytest.mark.slow
def test_binders_notebook_finds_what_is_published(root: Path) -> None:
    """It lies elsewhere than its source, where a relative folder would find nothing."""
    configure(root, "")
    write_tables(root / layout.PUBLISHED / "lab", "supported")
    done = nbutils(root, "launch", str(cloud.ON_BINDER))
    assert done.returncode == 0, done.stderr
    notebook = nbformat.read(root / cloud.ON_BINDER / "rounds.ipynb", as_version=4)
    resources = {"metadata": {"path": str(root / cloud.ON_BINDER)}}
    NotebookClient(notebook, kernel_name=execute.KERNEL, resources=resources).execute()
    assert "lab · published" in nbformat.writes(notebook)


def test_colab_gets_the_project_and_its_packages_once(root: Path, tmp_path: Path) -> None:
    """In a Python that has neither, with a pip that only writes down what it is asked."""
    (root / "requirements.lock").write_text("", "utf-8")
    git = ["git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@b"]
    for arguments in (["init", "-qb", "main"], ["add", "-A"], ["commit", "-qm", "all"]):
        subprocess.run([*git, *arguments], check=True)
    pip = tmp_path / "pip"
    pip.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\nmkdir -p "$7"\n')
    pip.chmod(0o755)
    first = cloud.BRING.format(repository=str(root), branch="main")
    content = tmp_path / "content"
    content.mkdir()
    program = f"import sys; sys.executable = {str(pip)!r}\n" + 2 * first + "print(Path.cwd())\n"
    program += "print(sys.path[:2])"
    command = [sys.executable, "-I", "-S", "-c", program]
    clean = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    done = subprocess.run(command, cwd=content, capture_output=True, text=True, env=clean)
    assert done.returncode == 0, done.stderr
    here, path = done.stdout.splitlines()
    assert here == str(content / "book")
    assert path == str([str(content / "book/src"), str(content / "packages")])
    lock, project = content / "book/requirements.lock", content / "book"
    assert (tmp_path / "asked").read_text("utf-8").splitlines() == [
        f"-m pip install --quiet --upgrade --target {content / 'packages.partial'} "
        f"--requirement {lock} {project}"
    ]
