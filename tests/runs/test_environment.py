"""What is written down of the machine: the memory of one run, and what a container may use."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from nbutils.runs import environment

MIB = 2**20
WATCHED = """
import json
import numpy as np
from nbutils.runs.environment import PeakMemory
first = PeakMemory()
start = first.mib()
much = np.ones(300 * 2**20, dtype=np.uint8)
held = first.mib()
del much
print(json.dumps([first.exact, start, held, PeakMemory().mib()]))
"""


def test_the_peak_is_that_of_what_was_watched() -> None:
    """A process that once held much does not lend that to what it computes next."""
    # in a process of its own: this one may hold free memory that it takes up again
    done = subprocess.run(
        [sys.executable, "-c", WATCHED], capture_output=True, text=True, check=True
    )
    exact, start, held, later = json.loads(done.stdout)
    if not exact:
        pytest.skip("this system does not set the peak back")
    assert held == pytest.approx(start + 300, abs=30)
    assert later < start + 100


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of 64 cores and 100 GiB, and the folder where its container's limits stand."""
    monkeypatch.setattr(environment, "CONTROL_GROUP", tmp_path)
    free = SimpleNamespace(available=100 * 1024 * MIB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    return tmp_path


@pytest.mark.parametrize(
    ("most", "used", "free"),
    [(4096, 1024, 3072), (512, 600, 0), (10**6, 0, 100 * 1024), (None, 10, 100 * 1024)],
)
def test_memory_is_that_of_the_container(
    most: int | None, used: int, free: int, container: Path
) -> None:
    (container / "memory.max").write_text("max\n" if most is None else f"{most * MIB}\n")
    (container / "memory.current").write_text(f"{used * MIB}\n")
    assert environment.free_memory_mib() == free


def test_files_kept_in_memory_are_free(container: Path) -> None:
    (container / "memory.max").write_text(f"{4096 * MIB}\n")
    (container / "memory.current").write_text(f"{4000 * MIB}\n")
    (container / "memory.stat").write_text(f"anon {1000 * MIB}\ninactive_file {3000 * MIB}\n")
    assert environment.free_memory_mib() == 3096


def test_a_machine_without_control_groups_has_no_limits(container: Path) -> None:
    assert environment.free_memory_mib() == 100 * 1024
