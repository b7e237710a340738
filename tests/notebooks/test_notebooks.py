"""Every notebook: its form, and its execution by Papermill at the smoke tier."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from nbutils.config import notebook_parameters
from nbutils.notebooks import execute
from nbutils.protocol import stages
from support import slow
from support.project import nbutils
from support.tiny import REPOSITORY

OF_PRETRAINED = {"fetch_model", "prepare_benchmarks"}
"""Notebooks that no tier has whose models are made here; see ``test_pretrained``."""


def test_every_stage_with_a_module_of_its_own_has_a_notebook() -> None:
    pages = [stage.name for stage in stages.STAGES.values() if stage.name == stage.module]
    assert len(pages) == 11
    assert set(pages) | {notebook_parameters.REPORT} == set(notebook_parameters.STAGES)
    assert set(pages) <= execute.sources(REPOSITORY).keys()


MADE = [name for name in notebook_parameters.STAGES if name not in OF_PRETRAINED]


@pytest.mark.parametrize("name", slow.but(["pairing"], MADE))
def test_a_stage_notebook_runs_and_reuses_the_tier(name: str, smoke: Path) -> None:
    stores = sorted((smoke / "runs/store").glob("*/*/manifest.json"))
    output = smoke / "executed" / f"{name}.ipynb"
    execute.execute(name, {"tier": "smoke"}, output, smoke)
    executed = nbformat.read(output, as_version=4)
    assert all(c.execution_count for c in executed.cells if c.cell_type == "code")
    assert sorted((smoke / "runs/store").glob("*/*/manifest.json")) == stores
    assert str(smoke) not in output.read_text("utf-8")


# the book's tests execute each of them, too
@pytest.mark.parametrize("name", slow.but(["opening"], notebook_parameters.FINDINGS))
def test_a_findings_notebook_reads_your_run(name: str, smoke: Path) -> None:
    """All but one: that of the benchmark, which was not run there."""
    output = smoke / "executed" / f"{name}.ipynb"
    execute.execute(name, {"root": "."}, output, smoke)
    expected = "No results yet: make bench" if name == "speed" else "smoke · your run"
    assert expected in output.read_text("utf-8")


@pytest.mark.slow
def test_raw_papermill_runs_a_converted_notebook(smoke: Path) -> None:
    converted = nbutils(smoke, "convert", "sample_corpus")
    assert converted.returncode == 0, converted.stderr
    output = smoke / "raw.ipynb"
    command = [sys.executable, "-m", "papermill", converted.stdout.strip(), str(output)]
    command += ["-p", "tier", "smoke", "-p", "source", "llama-small", "--cwd", str(smoke)]
    done = subprocess.run(command, cwd=smoke, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "documents" in output.read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sampel_corpus"], "did you mean 'sample_corpus'?"),
        slow.later(["sample_corpus", "-p", "temprature", "1"], "did you mean 'temperature'?"),
        slow.later(["sample_corpus", "-p", "temperature", "hot"], "'temperature' is 'hot'"),
        slow.later(["sample_corpus", "-p", "temperature", "-1"], "greater than or equal to 0.01"),
        slow.later(["sample_corpus", "-p", "tier", "huge"], "unknown tier 'huge'"),
        slow.later(
            ["sample_corpus", "-p", "tier", "smoke", "-p", "source", "neox-smal"], "'neox-small'"
        ),
        (
            ["fetch_model", "-p", "tier", "smoke", "-p", "model", "neox-small"],
            "smoke: neox-small is a run of prepare_model: open the notebook prepare_model",
        ),
    ],
)
def test_a_wrong_parameter_is_one_clear_error(
    arguments: list[str], message: str, smoke: Path
) -> None:
    done = nbutils(smoke, "notebook", *arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
