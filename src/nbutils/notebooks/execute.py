"""Notebook sources to executed notebooks: jupytext percent scripts, run by Papermill.

A source lives in ``notebooks/<name>.py``. It is converted to ``runs/notebooks/<name>.ipynb``,
which raw Papermill takes as it is, and executed in a kernel that works in the project's root.
"""

import ast
import os
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import papermill
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError
from traitlets import Unicode
from traitlets.config import Config

from nbutils import files
from nbutils.errors import UserError, unknown

SOURCES = Path("notebooks")
CONVERTED = Path("runs/notebooks")
KERNEL = "python3"
START_SECONDS = 300  # on a busy machine the libraries of a kernel take a minute to load
WIDGET = "application/vnd.jupyter.widget-view+json"


class NotebookError(UserError):
    """A notebook does not exist, was given a wrong parameter, or failed while it ran."""


class OwnKernel(AsyncKernelManager):
    """A kernel of this very interpreter, whichever kernels and profiles a person has."""

    profile = Unicode(help="folder of IPython, which else is in the person's home").tag(config=True)

    @property
    def kernel_spec(self) -> KernelSpec:
        """How the kernel is started."""
        return KernelSpec(**get_kernel_dict(), env={"IPYTHONDIR": self.profile})


def sources(root: Path) -> dict[str, Path]:
    """The notebook sources under the project's root, by name, in alphabetical order.

    The name of one in a folder begins with that folder: ``workshop/1_sample``.
    """
    folder = root / SOURCES
    found = sorted(folder.rglob("*.py"))
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in found}


def source_digest(path: Path) -> str:
    """The SHA-256 of a source: what an executed notebook's stamp is compared with.

    It is of the text, so that ends of lines, which git may change, make no other source.
    """
    return files.sha256(path.read_text("utf-8"))


def convert(name: str, root: Path) -> Path:
    """Write the notebook of one source, with cell ids that stay the same, and return its path.

    Raises ``NotebookError`` when there is no source of that name.
    """
    known = sources(root)
    if name not in known:
        raise NotebookError(unknown("notebook", name, known))
    notebook = jupytext.read(known[name])
    for index, cell in enumerate(notebook.cells):
        cell["id"] = files.sha256(f"{name}/{index}")[:12]
    notebook.metadata = NotebookNode(
        kernelspec={"name": KERNEL, "display_name": "Python 3", "language": "python"},
        language_info={"name": "python"},
        nbutils={"name": name, "source_sha256": source_digest(known[name])},
    )
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    path = root / CONVERTED / f"{name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path


def parameters_of(path: Path) -> dict[str, Any]:
    """The parameters of a converted notebook and their defaults, as Papermill finds them."""
    return {
        name: ast.literal_eval(info["default"])
        for name, info in papermill.inspect_notebook(str(path)).items()
    }


def execute(name: str, parameters: Mapping[str, Any], output: Path, root: Path) -> Path:
    """Convert one source, run it with ``parameters``, and return ``output``.

    The names of the parameters and the output are checked before a kernel starts. The kernel reads
    no profile of the person's, so it works where there is no home. On failure the partly executed
    notebook stays at ``output``. Raises ``NotebookError`` in one line for an unknown notebook, an
    unknown parameter, an output that cannot be written, a failing cell, or a kernel that dies.
    """
    converted = convert(name, root)
    known = parameters_of(converted)
    for parameter in parameters:
        if parameter not in known:
            raise NotebookError(unknown("parameter", parameter, known, f"of notebook {name}"))
    output = output.absolute()  # Papermill writes it from the root
    _check_output(output)
    failure = None
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
            papermill.execute_notebook(
                str(converted),
                # to Papermill, a brace would begin the name of a parameter
                str(output).replace("{", "{{").replace("}", "}}"),
                parameters=dict(parameters),
                kernel_name=KERNEL,
                kernel_manager_class=OwnKernel,
                config=Config(OwnKernel={"profile": profile}),
                cwd=str(root),
                progress_bar=False,
                log_output=False,
                start_timeout=START_SECONDS,
                # A kernel logs its own start and stop; what a cell does wrong arrives as an error.
                extra_arguments=["--IPKernelApp.log_level=50"],
            )
    except PapermillExecutionError as error:
        failure = error
    except RuntimeError as error:  # the kernel did not start, or died: no cell says why
        raise NotebookError(f"{name} failed: its kernel: {error}") from error
    clean(output, root)
    if failure is not None:
        message = " ".join(str(failure.evalue).split())
        raise NotebookError(f"{name} failed: {failure.ename}: {message} (see {output})")
    return output


def _check_output(output: Path) -> None:
    """Raise ``NotebookError`` unless a file can be written there."""
    if output.is_dir():
        raise NotebookError(f"{output} is a folder: give the name of a notebook, such as out.ipynb")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        was_there = output.exists()
        output.open("ab").close()  # only the system knows, and it leaves what is there
        if not was_there:
            output.unlink()
    except OSError as error:
        raise NotebookError(
            f"{output} cannot be written ({error.strerror}): give another place with --output"
        ) from None


def clean(path: Path, root: Path) -> None:
    """Drop from an executed notebook what differs from machine to machine.

    Papermill's own metadata and the times of the cells go; so do the widgets of progress bars,
    whose pages would load scripts from another host. Addresses of the project's root and of the
    interpreter become relative. What libraries write to stderr is for a terminal.
    """
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata.pop("papermill", None)
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if "outputs" in cell:
            cell.outputs = [
                output
                for output in cell.outputs
                if WIDGET not in output.get("data", {}) and output.get("name") != "stderr"
            ]
        for field in ("papermill", "execution", "jp-MarkdownHeadingCollapsed"):
            cell.metadata.pop(field, None)
    text = nbformat.writes(notebook)
    places = {str(root.resolve()): ".", sys.prefix: "<environment>", os.path.expanduser("~"): "~"}
    for place, name in sorted(places.items(), key=lambda item: -len(item[0])):
        if len(place) > 1:
            text = re.sub(re.escape(place) + r"(?![\w.-])", name, text)
    text = re.sub(r"ipykernel_\d+[/\\\\]+\d+\.py", "ipykernel.py", text)
    path.write_text(text + "\n", "utf-8")
