"""Published files keep their bytes in a checkout of any system's git."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from nbutils.book import publish
from nbutils.results import layout
from support.synthetic import write_tables
from support.tiny import REPOSITORY


def git(folder: Path, *arguments: str) -> None:
    """Run git as Git for Windows is set up."""
    settings = ["core.autocrlf=true", "core.safecrlf=false", "user.name=a", "user.email=a@b"]
    options = [word for setting in settings for word in ("-c", setting)]
    clean = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    subprocess.run(["git", *options, *arguments], cwd=folder, check=True, env=clean)


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """A repository with a published tier, from before ends of lines were kept."""
    root = tmp_path / "origin"
    place = root / layout.PUBLISHED / "lab"
    write_tables(place)
    (place / layout.SUMS).write_text(publish.sums(place), "utf-8")
    git(root, "init", "-qb", "main")
    git(root, "-c", "core.autocrlf=false", "add", "-A")
    git(root, "commit", "-qm", "first")
    return root


def keep_bytes(origin: Path) -> None:
    shutil.copy(REPOSITORY / ".gitattributes", origin)
    git(origin, "add", "-A")
    git(origin, "commit", "-qm", "second")


def test_a_new_checkout_verifies(origin: Path, tmp_path: Path) -> None:
    keep_bytes(origin)
    git(tmp_path, "clone", "-q", str(origin), "new")
    assert publish.verify("lab", tmp_path / "new")


def test_an_older_checkout_is_told_what_mends_it(origin: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    git(tmp_path, "clone", "-q", str(origin), "old")
    keep_bytes(origin)
    git(old, "pull", "-q")
    with pytest.raises(publish.PublishError, match="Only the ends of lines differ") as caught:
        publish.verify("lab", old)
    (told,) = re.findall("`(git rm .*?)`", str(caught.value))
    for command in told.split(" && "):
        git(old, *command.split()[1:])
    assert publish.verify("lab", old)


def test_a_file_that_differs_otherwise_is_restored_from_git(origin: Path) -> None:
    (origin / layout.PUBLISHED / "lab" / layout.MANIFESTS).write_bytes(b"{}\r\n")
    with pytest.raises(publish.PublishError, match=r"Restore them from git or publish the tier"):
        publish.verify("lab", origin)
