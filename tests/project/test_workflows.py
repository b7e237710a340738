"""Workflows: what runs in them is pinned, may only read, and takes no input into a shell."""

import re
import subprocess
from typing import Any

import pytest
import yaml

from support.tiny import REPOSITORY

FILES = sorted((REPOSITORY / ".github/workflows").glob("*.yml"))
# YAML 1.1 reads the key `on` as true
WORKFLOWS: dict[str, dict[Any, Any]] = {f.stem: yaml.safe_load(f.read_text("utf-8")) for f in FILES}
JOBS = [(name, job) for name, flow in WORKFLOWS.items() for job in flow["jobs"]]


def steps(name: str, job: str) -> list[dict[str, Any]]:
    return list(WORKFLOWS[name]["jobs"][job]["steps"])


def test_there_is_one_for_each_occasion() -> None:
    occasions = {name: set(flow[True]) for name, flow in WORKFLOWS.items()}
    assert occasions == {
        "check": {"push", "pull_request"},
        "pages": {"push", "workflow_dispatch"},
        "gpu": {"workflow_dispatch"},
    }


def test_every_test_runs_with_all_that_any_of_them_needs() -> None:
    """Nothing is skipped: neither for Chromium, nor for Snakemake, nor for SLURM."""
    script = (REPOSITORY / ".ci/run").read_text("utf-8")
    assert script.endswith("\nmake cluster-env test-all\n")
    (packages,) = re.findall(r"^packages=\((.*)\)$", script, re.MULTILINE)
    assert {"chromium", "munge", "slurmctld", "slurmd", "rsync"} <= set(packages.split())
    assert ".ci/run" in [step.get("run") for step in steps("check", "test")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_actions_are_pinned_to_commits_with_their_version_beside(path: Any) -> None:
    used = re.findall(r"uses: (.*)", path.read_text("utf-8"))
    assert used
    for action in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action)


def test_only_the_job_that_publishes_may_write_and_it_runs_nothing_of_the_project() -> None:
    assert all(flow["permissions"] == {"contents": "read"} for flow in WORKFLOWS.values())
    writing = [(n, j) for n, j in JOBS if "permissions" in WORKFLOWS[n]["jobs"][j]]
    assert writing == [("pages", "publish")]
    assert not any("checkout" in step.get("uses", "") for step in steps("pages", "publish"))


@pytest.mark.parametrize(("name", "job"), JOBS)
def test_scripts_parse_and_hold_no_expression(name: str, job: str) -> None:
    """GitHub puts an expression into a script as it is, whatever somebody wrote there."""
    scripts = [step["run"] for step in steps(name, job) if "run" in step]
    assert scripts
    for script in scripts:
        assert "${{" not in script
        assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0


def test_the_book_is_built_and_tested_before_it_is_published() -> None:
    jobs = WORKFLOWS["pages"]["jobs"]
    assert jobs["publish"]["needs"] == "build"
    scripts = [step.get("run", "") for step in steps("pages", "build")]
    wanted = ["make html tools", "nbutils verify", "pytest tests/book", "nbutils launch"]
    places = [next(i for i, s in enumerate(scripts) if w in s) for w in wanted]
    assert places == sorted(places)
    assert "upload-artifact" in steps("pages", "build")[-1]["uses"]
