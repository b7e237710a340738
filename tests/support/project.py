"""A project folder of its own, and the command line in it."""

import shutil
import subprocess
import sys
from pathlib import Path

from nbutils.protocol import stages
from nbutils.runs.store import Store
from support.tiny import REPOSITORY

Answer = tuple[int, str, str]
"""Exit status, output and errors of a command."""
NBUTILS = [sys.executable, "-c", "from nbutils.cli import entry; entry()"]


def nbutils(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a project folder."""
    command = [*NBUTILS, *arguments]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


def new_project(root: Path) -> Path:
    """A project folder with the real notebooks and tiers, and no runs."""
    shutil.copytree(REPOSITORY / "notebooks", root / "notebooks")
    return root


def open_store(root: Path) -> Store:
    """The store of a project as it is now: nothing of it is remembered."""
    return Store(root, stages.versions())
