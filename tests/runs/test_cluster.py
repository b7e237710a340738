"""A tier under Snakemake: the same runs, keys and failures as with `nbutils run`.

The tests that call Snakemake need its environment, `make cluster-env`; without it they are skipped,
and what Snakemake is told is tested all the same.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml

from nbutils.protocol import plan, schedule, stages
from nbutils.protocol.compute import compute
from nbutils.runs import dag
from nbutils.runs.types import Run
from support import pods, pretend, slurm
from support.project import Answer, open_store
from support.tiny import REPOSITORY, silent

SNAKEMAKE = REPOSITORY / ".venv-cluster" / "bin" / "snakemake"
needs_snakemake = pytest.mark.skipif(
    not SNAKEMAKE.is_file(), reason="Snakemake is not installed: make cluster-env"
)
PROFILES = Path("src/nbutils/runs/cluster")


@pytest.fixture
def project(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the real tiers, one more of few runs, and a command that pretends."""
    shutil.copytree(REPOSITORY / PROFILES, project / PROFILES)
    tiers = project / "notebooks" / "tiers"
    few = yaml.safe_load((tiers / "smoke.yml").read_text("utf-8"))
    few["models"] = {"neox-small": few["models"]["neox-small"]}
    few["grid"] = {"students": ["neox-small"]}
    (tiers / "few.yml").write_text(yaml.safe_dump(few), "utf-8")
    pretend.command(project)
    monkeypatch.setenv("XDG_CACHE_HOME", str(project / "cache"))
    return project


@pytest.mark.parametrize("profile", sorted((REPOSITORY / PROFILES).glob("*/config.yaml")))
def test_a_profile_names_a_snakefile_that_is_there(profile: Path) -> None:
    snakefile = yaml.safe_load(profile.read_text("utf-8"))["snakefile"]
    assert (REPOSITORY / snakefile).is_file()


def call(project: Path, *arguments: str | Path, **environment: str) -> tuple[int, str]:
    """Run a command in a project; its status, and all that it said."""
    said = subprocess.run(
        arguments,
        cwd=project,
        env=os.environ | {"CALLS": str(project / "calls")} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return said.returncode, said.stdout


def snakemake(tier: str, *arguments: str, profile: str = "local") -> list[str | Path]:
    """The command that runs a tier under Snakemake; further words are further configuration."""
    config = ["--config", f"tier={tier}", "nbutils=nbutils"]
    return [SNAKEMAKE, "--profile", PROFILES / profile, *arguments, *config]


def calls(project: Path) -> Counter[str]:
    """How often each stage began to compute, by stage and key."""
    return Counter((project / "calls").read_text().splitlines())


def finished(project: Path, tier: str) -> dict[tuple[str, str], str]:
    """Stage and name of every finished run of a tier, to its key."""
    store = open_store(project)
    done = (store.finished(run) for run in schedule.of_tier(plan.load_plan(tier, project)))
    return {(m.stage, m.name): m.key for m in done if m is not None}


# --- What Snakemake is told


def told(project: Path, tier: str) -> dict[str, Any]:
    status, said = call(project, project / "nbutils", "plan", tier, "--json")
    assert status == 0, said
    return json.loads(said)


@pytest.mark.parametrize("tier", ["smoke", "tiny"])
def test_the_plan_for_others_is_the_plan(tier: str, project: Path) -> None:
    wanted = plan.load_plan(tier, project)
    data = told(project, tier)
    planned = dag.plan(schedule.of_tier(wanted), open_store(project))
    assert (data["tier"], data["threads"]) == (tier, wanted.tier.threads)
    assert [(d["stage"], d["name"], d["state"], d["key"], d["why"]) for d in data["runs"]] == [
        (p.run.stage, p.run.name, p.state, p.key, p.why) for p in planned
    ]
    named = {d["id"]: (d["stage"], d["name"]) for d in data["runs"]}
    assert len(named) == len(planned)
    for given, p in zip(data["runs"], planned, strict=True):
        needs = {(source.stage, source.name) for source in p.run.inputs.values()}
        assert {named[i] for i in given["needs"]} == needs
        assert all(re.fullmatch("[0-9a-f]{16}", i) for i in given["needs"])


@pytest.mark.slow
def test_an_id_stays_when_the_run_is_finished(project: Path) -> None:
    before = told(project, "few")["runs"]
    status, said = call(project, project / "nbutils", "run", "few")
    assert status == 0, said
    after = told(project, "few")["runs"]
    assert [r["id"] for r in before] == [r["id"] for r in after]
    assert {r["state"] for r in after} == {"done"}
    assert [r["key"] for r in after] == list(finished(project, "few").values())


@pytest.mark.slow
def test_one_run_alone(project: Path) -> None:
    """Each call computes one run; a run whose inputs are not finished is an error."""
    command = (project / "nbutils", "run", "few", "--only")
    suite, model, *_, last = told(project, "few")["runs"]
    status, said = call(project, *command, last["stage"], last["name"])
    assert status == 1
    assert said.startswith(f"error: {last['stage']} of {last['name']} needs unfinished inputs: ")
    for run in (suite, model):
        status, said = call(project, *command, run["stage"], run["name"].removeprefix("few: "))
        assert (status, f"1/1 {run['stage']} · {run['name']}" in said) == (0, True), said
    assert len(finished(project, "few")) == len(calls(project)) == 2
    status, said = call(project, *command, suite["stage"], suite["name"])
    assert (status, said) == (0, "Nothing to do: prepare_suite of few: suite exists.\n")
    assert calls(project).total() == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--only", "self_tran", "x"), "unknown stage 'self_tran' (tier few): allowed are "),
        (("--only", "self_tran", "x"), "did you mean 'self_train'?"),
        (
            ("--only", "sample_corpus", "neox-small T=2 s0"),
            "unknown run of sample_corpus 'few: neox-small T=2 s0' (tier few): allowed are "
            "few: neox-small T=1 s0",
        ),
        (("--hold", "2"), "2 accelerators are asked for, and 1 are here (0): ask for at most 1"),
    ],
)
def test_what_cannot_be_run_is_one_message(
    arguments: tuple[str, ...],
    message: str,
    project: Path,
    run: Callable[..., Answer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    status, said, errors = run("run", "few", *arguments)
    assert (status, said) == (1, "")
    assert errors.startswith("error: ")
    assert message in errors
    assert not (project / "runs").exists()


# --- Snakemake

LINE = re.compile(r"^Job \d+: (\w+) · (.+)$", re.MULTILINE)


def dry(project: Path, tier: str) -> list[tuple[str, str]]:
    """Stage and name of every run that Snakemake would start."""
    status, said = call(project, *snakemake(tier, "--dry-run"))
    assert status == 0, said
    return LINE.findall(said)


def missing(project: Path, tier: str) -> list[tuple[str, str]]:
    planned = dag.plan(schedule.of_tier(plan.load_plan(tier, project)), open_store(project))
    return [(p.run.stage, p.run.name) for p in planned if p.state != "done"]


@pytest.mark.slow
@needs_snakemake
@pytest.mark.parametrize("tier", ["smoke", "tiny"])
def test_snakemake_would_run_what_the_grid_would_run(
    tier: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On an empty store, and with a third of the tier finished but for one early run."""
    wanted = schedule.of_tier(plan.load_plan(tier, project))
    assert sorted(dry(project, tier)) == sorted(missing(project, tier))
    assert len(missing(project, tier)) == len(wanted)
    execute(project, wanted[: len(wanted) // 3], monkeypatch)
    shutil.rmtree(open_store(project).path(wanted[0]))
    assert sorted(dry(project, tier)) == sorted(missing(project, tier))
    assert 0 < len(missing(project, tier)) < len(wanted)


def execute(project: Path, runs: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute runs in this process, with the pretended stages."""
    monkeypatch.setenv("CALLS", os.devnull)
    monkeypatch.setattr(stages, "stage_function", pretend.stage)
    for run in runs:
        open_store(project).execute(run, compute, 1, silent)


@pytest.fixture
def elsewhere(tmp_path: Path, project: Path) -> Path:
    """The same project once more, for runs without Snakemake."""
    return Path(shutil.copytree(project, tmp_path / "elsewhere"))


@pytest.fixture
def expected(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], str]:
    """The keys that the runs of the tier of few have without Snakemake."""
    execute(elsewhere, schedule.of_tier(plan.load_plan("few", elsewhere)), monkeypatch)
    return finished(elsewhere, "few")


@pytest.mark.slow
@needs_snakemake
def test_a_killed_snakemake_goes_on_and_computes_the_same_runs_each_once(
    project: Path, expected: dict[tuple[str, str], str]
) -> None:
    with subprocess.Popen(
        snakemake("few", "--cores", "1"), cwd=project, start_new_session=True,
        env=os.environ | {"CALLS": str(project / "calls")},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as running:  # fmt: skip
        while len(finished(project, "few")) < 3:
            assert running.poll() is None
            time.sleep(0.2)
        os.killpg(running.pid, signal.SIGKILL)
    before = finished(project, "few")
    assert 3 <= len(before) < len(expected)
    status, said = call(project, *snakemake("few"))
    assert status == 0, said
    assert finished(project, "few") == expected
    again = [key for key, n in calls(project).items() if n > 1]
    assert len(again) <= 1  # the one that was killed
    assert not {key.split()[1] for key in again} & set(before.values())
    assert len(LINE.findall(said)) == len(expected) - len(before)
    assert list((project / "runs" / "cluster").glob("*/*/*/")) == []
    status, said = call(project, *snakemake("few"))
    assert (status, LINE.findall(said)) == (0, [])
    assert "Nothing to do: all" in said


@pytest.mark.slow
@needs_snakemake
def test_a_failure_leaves_the_same_runs_finished_and_is_tried_again_when_told(
    project: Path, elsewhere: Path
) -> None:
    stage = "sample_corpus"
    status, _ = call(elsewhere, elsewhere / "nbutils", "run", "few", FAILS=stage)
    assert status == 1
    status, said = call(project, *snakemake("few"), FAILS=stage)
    assert status == 1
    assert "sample_corpus of few: neox-small T=1 s0 failed: it was told to fail" in said
    assert finished(project, "few") == finished(elsewhere, "few")
    assert 0 < len(finished(project, "few")) < len(missing(project, "few"))
    assert calls(project) == calls(elsewhere)
    status, _ = call(project, *snakemake("few"))
    assert (status, calls(project)) == (1, calls(elsewhere))
    status, said = call(project, *snakemake("few"), "retry_failed=true")
    assert status == 0, said
    assert missing(project, "few") == []


@pytest.mark.slow
@needs_snakemake
def test_snakemake_and_the_grid_share_a_store(project: Path) -> None:
    """Both at once on one store: each run is computed once."""
    alone = os.environ | {"CALLS": str(project / "calls")}
    with subprocess.Popen([project / "nbutils", "run", "few"], cwd=project, env=alone) as other:
        status, said = call(project, *snakemake("few"))
        assert status == 0, said
        assert other.wait() == 0
    assert missing(project, "few") == []
    assert set(calls(project).values()) == {1}


@pytest.mark.slow
@needs_snakemake
@pytest.mark.parametrize(
    ("config", "message"),
    [
        (["tier=smokee"], "error: unknown tier 'smokee'"),
        (["other=1"], "error: no tier is given: add --config tier=tiny"),
        (["tier=few", "nbutils=none"], "error: no /"),
    ],
)
def test_a_wrong_tier_is_one_message(config: list[str], message: str, project: Path) -> None:
    profile = PROFILES / "local"
    command = (SNAKEMAKE, "--profile", profile, "-n", "--config", "nbutils=nbutils")
    status, said = call(project, *command, *config)
    assert status == 1
    assert message in said
    assert "Traceback" not in said


needs_slurm = pytest.mark.skipif(
    bool(slurm.missing()), reason=f"no SLURM cluster can be started: no {slurm.missing()}"
)


@pytest.mark.slow
@needs_snakemake
@needs_slurm
def test_slurm_computes_what_is_missing(
    project: Path, expected: dict[tuple[str, str], str]
) -> None:
    """Two nodes with one accelerator each take the runs that a failure left over, a job a run."""
    status, _ = call(project, project / "nbutils", "run", "few", FAILS="self_train")
    left = missing(project, "few")
    assert (status, len(left)) == (1, 3)
    quick = ("--slurm-init-seconds-before-status-checks", "2", "--slurm-status-command", "squeue")
    command = snakemake("few", *quick, profile="slurm")
    with TemporaryDirectory(prefix="slurm-") as folder, slurm.cluster(Path(folder, "c")) as where:
        status, said = call(project, *command, "retry_failed=true", **where)
        assert status == 0, said
        queue = [
            "squeue",
            "--states=all",
            "--noheader",
            "--Format=state:12,nodelist:6,tres-per-job:20",
        ]
        _, jobs = call(project, *queue, **where)
    assert finished(project, "few") == expected
    rows = [line.split() for line in jobs.splitlines()]
    assert [state for state, *_ in rows] == ["COMPLETED"] * (len(left) + 1)
    assert {node for _, node, _ in rows} == {"n0", "n1"}
    assert Counter(asked for *_, asked in rows) == {"gres:gpu:1": len(left), "N/A": 1}


@pytest.mark.slow
@needs_snakemake
@pytest.mark.skipif(shutil.which("rsync") is None, reason="no rsync, which the volume is read by")
def test_kubernetes_computes_what_is_missing(
    project: Path, expected: dict[tuple[str, str], str]
) -> None:
    """A stand-in for Kubernetes gets a job a run, each with an accelerator and its memory."""
    status, _ = call(project, project / "nbutils", "run", "few", FAILS="measure_proxies")
    left = missing(project, "few")
    assert (status, [stage for stage, _ in left]) == (1, ["measure_proxies"])
    path = f"{SNAKEMAKE.parent}:{os.environ['PATH']}"
    prefix = ("--default-storage-prefix", str(project / "runs" / "kubernetes"))
    volume = ("--kubernetes-persistent-volumes", f"claim:{project}")
    command = snakemake("few", *prefix, *volume, profile="kubernetes")
    (project / "pods").mkdir()
    with pods.cluster(project / "pods", path) as (where, jobs):
        further = (f"nbutils={project / 'nbutils'}", "retry_failed=true")
        status, said = call(project, *command, *further, **where)
    assert status == 0, said
    assert finished(project, "few") == expected
    asked = [job["spec"]["template"]["spec"] for job in jobs.values()]
    limits = [spec["containers"][0]["resources"]["limits"] for spec in asked]
    assert [each["nvidia.com/gpu"] for each in limits] == ["1", "0"]
    assert {each["memory"] for each in limits} == {"32000M"}
    claims = [v["persistentVolumeClaim"]["claimName"] for v in asked[0]["volumes"][1:]]
    assert claims == ["claim"]
