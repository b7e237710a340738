"""From notebook sources to executed notebooks: jupytext percent scripts, run by Papermill.

A source is ``notebooks/<name>.py``. It is converted to ``runs/notebooks/<name>.ipynb``, which raw
Papermill can execute, and executed in a kernel whose working directory is the project's root.
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
    """A notebook does not exist, was given an unknown parameter, or failed."""


class OwnKernel(AsyncKernelManager):
    """A kernel of this interpreter, independent of the user's kernels and profiles."""

    profile = Unicode(help="folder of IPython, instead of that in the user's home").tag(config=True)

    @property
    def kernel_spec(self) -> KernelSpec:
        """The command and the environment of the kernel."""
        return KernelSpec(**get_kernel_dict(), env={"IPYTHONDIR": self.profile})


def sources(root: Path) -> dict[str, Path]:
    """The notebook sources under the project's root, by name, in alphabetical order.

    The name of a source in a folder begins with the folder, such as ``workshop/1_sample``.
    """
    folder = root / SOURCES
    paths = sorted(folder.rglob("*.py"))
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in paths}


def source_digest(path: Path) -> str:
    """The SHA-256 of a source's text, which executed notebooks record.

    Line ends, which git may change, do not count.
    """
    return files.sha256(path.read_text("utf-8"))


def convert(name: str, root: Path) -> Path:
    """Write the notebook of one source, with reproducible cell ids, and return its path.

    Raises:
        NotebookError: There is no source of that name.
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
    """Convert one source, execute it with ``parameters``, and return ``output``.

    The names of the parameters and the output are checked before a kernel starts. The kernel does
    not read the user's profile, so it works without a home folder. After a failure the partly
    executed notebook stays at ``output``.

    Raises:
        NotebookError: The notebook or a parameter is unknown, the output cannot be written, a cell
            failed, or the kernel died; the message is one line.
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
                # Papermill reads a brace as the beginning of a parameter's name
                str(output).replace("{", "{{").replace("}", "}}"),
                parameters=dict(parameters),
                kernel_name=KERNEL,
                kernel_manager_class=OwnKernel,
                config=Config(OwnKernel={"profile": profile}),
                cwd=str(root),
                progress_bar=False,
                log_output=False,
                start_timeout=START_SECONDS,
                # A kernel logs its start and stop; errors of cells are raised here.
                extra_arguments=["--IPKernelApp.log_level=50"],
            )
    except PapermillExecutionError as error:
        failure = error
    except RuntimeError as error:  # the kernel did not start, or died
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
        output.open("ab").close()  # the only reliable test; an existing file keeps its content
        if not was_there:
            output.unlink()
    except OSError as error:
        raise NotebookError(
            f"{output} cannot be written ({error.strerror}): give another place with --output"
        ) from None


def clean(path: Path, root: Path) -> None:
    """Remove from an executed notebook what differs between machines.

    This removes the metadata of Papermill, the times of cells, the output to stderr, and the
    widgets of progress bars, for which a page would load scripts from another host. Paths of the
    project's root, of the interpreter and of the home folder are replaced.
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
