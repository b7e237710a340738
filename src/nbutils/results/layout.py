"""Layout: where the tables of a tier lie, and what lies beside them.

They are ``book/results/<tier>/`` if they were published with the book, ``runs/tables/<tier>/`` if
they were computed here (*your run*). No table is read here, so a command that shows none imports
no pandas, which takes longer than all the rest.
"""

from pathlib import Path

from pydantic import ValidationError

from nbutils.runs.types import Manifest, RunError

PUBLISHED = Path("book/results")
LOCAL = Path("runs/tables")
MANIFESTS = "manifests.jsonl"
UNFINISHED = "unfinished.txt"  # marks tables of the finished part of a tier
SUMS = "SHA256SUMS"  # digest of every file of a published tier, as sha256sum writes it
CONTRIBUTED = "contributions.jsonl"  # one line per contribution: its archive and its runs


def read_manifests(folder: Path) -> list[Manifest]:
    """The manifests of a folder of tables, in their order; none if there is no file.

    Raises:
        RunError: The file is damaged.
    """
    path = folder / MANIFESTS
    if not path.is_file():
        return []
    # split bytes, since Python ends a line of text at characters that JSON allows in a string
    try:
        return [Manifest.model_validate_json(line) for line in path.read_bytes().splitlines()]
    except ValidationError:
        raise damaged(path) from None


def damaged(path: Path) -> RunError:
    """The error of a file of JSON that cannot be read."""
    return RunError(f"{path} is damaged: restore it from git, or run its tier again")
