"""Cloud: the notebooks that Colab and Binder open, and the links to them on the pages.

Colab opens a notebook from the branch with the published book, Binder from an image that it builds
from the repository. Each notebook is the source of a page with a cell before it, which changes to
the project's folder and, on Colab, first installs the project and its packages.
"""

import os
import re
from html import escape
from pathlib import Path
from urllib.parse import quote

import nbformat
from nbformat import NotebookNode

from nbutils.config import yaml_text
from nbutils.config.notebook_parameters import NOTEBOOKS
from nbutils.errors import UserError
from nbutils.notebooks import execute

SITE_BRANCH = "gh-pages"  # where the workflow publishes the book
ON_SITE = Path("launch")  # folder of the published book
ON_BINDER = Path("runs/launch")

BRING = """\
# Colab has neither the project nor its packages. This cell installs both, the packages in the
# versions that the book was tested with. It takes some minutes, once per session.
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

above = (Path.cwd(), *Path.cwd().parents)
project = next((p for p in above if (p / "notebooks" / "tiers").is_dir()), Path.cwd() / "book")
if not project.is_dir():
    clone = ["git", "clone", "--quiet", "--depth", "1", "--branch", "{branch}", "{repository}"]
    subprocess.run([*clone, str(project)], check=True)
if find_spec("nbutils") is None:
    packages = project.with_name("packages")  # beside Colab's own, which stay as they are
    if not packages.is_dir():
        partial = str(packages.with_suffix(".partial"))  # an interrupted installation is repeated
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--upgrade", "--target", partial]
        lock = str(project / "requirements.lock")
        subprocess.run([*pip, "--requirement", lock, str(project)], check=True)
        os.rename(partial, packages)
    sys.path[:0] = [str(project / "src"), str(packages)]
os.chdir(project)
"""
GO = """\
# Notebooks read tiers and results from the project's folder.
import os

from nbutils.config import tiers

os.chdir(tiers.project_root())
"""
DRAW = """\
# Colab draws a chart from HTML, not from its data alone.
import sys

import altair

if "google.colab" in sys.modules:
    altair.renderers.enable("html")
"""


class LaunchError(UserError):
    """The repository's address is not one that Colab and Binder can open."""


def repository(root: Path) -> tuple[str, str] | None:
    """Owner/name and branch of the repository on GitHub, or None if it is unknown.

    The address is that of ``repository`` in ``_config.yml``, else that of the repository whose
    GitHub workflow is running, so the pages of a fork open the fork.

    Raises:
        LaunchError: The address is not a repository on GitHub.
    """
    config = (
        yaml_text.read((root / "_config.yml").read_text("utf-8"), "_config.yml").get("repository")
        or {}
    )
    branch = str(config.get("branch") or "main")
    address = config.get("url")
    if not address:
        name = os.environ.get("GITHUB_REPOSITORY")
        return (name, branch) if name else None
    match = re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+?)(\.git)?/?", str(address))
    if not match:
        raise LaunchError(
            f"repository.url in {root / '_config.yml'} is {address!r}: write "
            "https://github.com/OWNER/NAME, or leave it empty for a book without buttons"
        )
    return match[1], branch


def buttons(name: str, root: Path) -> str:
    """Links to a page's notebook on Colab and Binder, as HTML; empty without a repository."""
    known = repository(root)
    if known is None:
        return ""
    place, branch = known
    file = f"{name}.ipynb"
    path = quote(f"lab/tree/{ON_BINDER / file}", safe="")
    colab = f"https://colab.research.google.com/github/{place}/blob/{SITE_BRANCH}/{ON_SITE / file}"
    binder = f"https://mybinder.org/v2/gh/{place}/{quote(branch, safe='')}?urlpath={path}"
    links = "".join(
        f'<a href="{escape(url)}">Open in {where}</a>'
        for where, url in (("Colab", colab), ("Binder", binder))
    )
    return f'<p class="nbutils-launch">{links}</p>'


def introduce(notebook: NotebookNode, buttons: str) -> None:
    """Put the links, if there are any, below the title of a page."""
    if buttons:
        title, _, rest = notebook.cells[0].source.partition("\n")
        notebook.cells[0].source = f"{title}\n\n{buttons}\n{rest}"


def write(folder: Path, root: Path) -> None:
    """Write the notebooks of all pages, ready for Colab and Binder, into a folder."""
    known = repository(root)
    first = GO
    if known is not None:
        place, branch = known
        first = BRING.format(repository=f"https://github.com/{place}.git", branch=branch)
    folder.mkdir(parents=True, exist_ok=True)
    for name in NOTEBOOKS:
        notebook = nbformat.read(execute.convert(name, root), as_version=4)
        # opening a session chooses a renderer, which must not be the last one to be chosen
        at = next(i for i, cell in enumerate(notebook.cells) if "session.open(" in cell.source)
        notebook.cells.insert(at + 1, nbformat.v4.new_code_cell(DRAW, id="launch-draw"))
        notebook.cells.insert(0, nbformat.v4.new_code_cell(first, id="launch-first"))
        nbformat.write(notebook, folder / f"{name}.ipynb")
