"""The command line: how it is read, what it says and its exit status."""

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nbutils.config.schema import Parameters
from nbutils.errors import ParameterError
from nbutils.notebooks import execute
from nbutils.protocol import plan, schedule, stages
from nbutils.protocol.compute import compute
from nbutils.results import collect
from nbutils.runs import eta, failures
from nbutils.runs.types import RunError
from support.project import Answer, nbutils, open_store
from support.tiny import REPOSITORY, save, silent


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.4, "0 s"), (59.4, "59 s"), (60, "1 min"), (100, "2 min"), (3600, "60 min"),
     (7200, "2.0 h"), (9000, "2.5 h")],
)  # fmt: skip
def test_duration(seconds: float, expected: str) -> None:
    assert eta.duration(seconds) == expected


@pytest.mark.parametrize("command", ["plan", "run", "publish"])
def test_an_unknown_tier_is_one_message_and_status_one(
    command: str, run: Callable[..., Answer]
) -> None:
    status, said, errors = run(command, "smokee")
    assert (status, said) == (1, "")
    assert errors.startswith("error: unknown tier 'smokee'")
    assert "did you mean 'smoke'?" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-p", "temperature", "9"], "parameter 'temperature' is 9: input should be less"),
        (["-p", "temprature", "1"], "did you mean 'temperature'?"),
        (["-p", "seed", "x"], "parameter 'seed' is 'x': input should be a valid integer"),
        (["-p", "seed"], "parameter 'seed' has no value: write -p seed VALUE"),
    ],
)
def test_a_wrong_notebook_parameter_starts_no_kernel(
    arguments: list[str],
    message: str,
    run: Callable[..., Answer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(execute, "execute", lambda *_: pytest.fail("it ran"))
    status, _, errors = run("notebook", "sample_corpus", *arguments)
    assert status == 1
    assert errors.startswith("error: ")
    assert message in errors


def test_an_unknown_notebook_names_the_nearest(run: Callable[..., Answer]) -> None:
    status, _, errors = run("notebook", "self_tran")
    assert status == 1
    assert "unknown notebook 'self_tran'" in errors
    assert "did you mean 'self_train'?" in errors


def test_a_notebook_gets_what_was_given_and_no_more(
    run: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch, project: Path
) -> None:
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(execute, "execute", lambda *arguments: calls.append(arguments))
    status, said, _ = run("notebook", "sample_corpus", "-p", "temperature", "0.5", "-p", "seed=2")
    place = project / "runs" / "executed" / "sample_corpus.ipynb"
    root = project.resolve()
    assert status == 0
    assert [(n, v, p.resolve(), r) for n, v, p, r in calls] == [
        ("sample_corpus", {"temperature": 0.5, "seed": 2}, place.resolve(), root)
    ]
    assert "Executed: " in said


def test_brackets_in_a_message_are_no_markup(
    run: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str, root: Path) -> None:
        raise ParameterError("[bold]value[/bold] [/]")

    monkeypatch.setattr(plan, "load_plan", fail)
    assert run("plan", "smoke") == (1, "", "error: [bold]value[/bold] [/]\n")


def test_a_place_that_the_system_refuses_is_one_message(
    run: Callable[..., Answer], project: Path
) -> None:
    (project / "runs").touch()
    (project / "notebooks" / "status.py").write_text("# %%\n1\n", "utf-8")
    status, _, errors = run("convert", "status")
    assert (status, errors.count("\n")) == (1, 1)
    assert re.match(r"error: .*/runs.*: (Not a directory|File exists): this place is", errors)


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_a_terminal_without_a_sign_shows_another(
    encoding: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    done = nbutils(project, "plan", "smoke")
    assert (done.returncode, done.stderr) == (0, "")
    assert "neox-small ? qwen-small T=1 full s0" in done.stdout
    planned = json.loads(nbutils(project, "plan", "smoke", "--json").stdout)
    assert "smoke: neox-small ← qwen-small T=1 full s0" in {r["name"] for r in planned["runs"]}


def test_a_path_on_the_command_line_is_of_where_it_is_given(
    run: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch, project: Path
) -> None:
    """A relative one in a tier file is of the project, wherever the command is given."""
    calls: list[Any] = []
    monkeypatch.setattr(execute, "execute", lambda name, values, *_: calls.append(values))
    save("llama", project / "models" / "m")
    place = project / "notebooks" / "tiers" / "mine.yml"
    entry = "  mine: {family: x, size: small, origin: 'folder:models/m', licence: MIT}\n"
    text = place.with_name("smoke.yml").read_text("utf-8")
    place.write_text(text.replace("models:\n", f"models:\n{entry}", 1), "utf-8")
    monkeypatch.chdir(project / "models")
    assert run("notebook", "pairing", "-p", "source", "folder:m")[0] == 0
    assert calls == [{"source": f"folder:{Path.cwd() / 'm'}"}]
    status, said, errors = run("plan", "mine")
    assert (status, errors, "fetch_model" in said) == (0, "", True)


@pytest.mark.parametrize(
    "arguments", [["plan"], ["no-such-command"], ["run", "tiny", "--hold", "-1"]]
)
def test_wrong_usage_is_status_two(arguments: list[str], run: Callable[..., Answer]) -> None:
    status, _, errors = run(*arguments)
    assert status == 2
    assert "Usage" in errors


def test_plan_of_a_fresh_tier(run: Callable[..., Answer], project: Path) -> None:
    status, said, _ = run("plan", "smoke")
    total = len(schedule.of_tier(plan.load_plan("smoke", project)))
    assert status == 0
    assert f"{total} runs: 5 ready, {total - 5} waiting" in said
    assert "neox-small ← qwen-small T=1 full s0" in said
    assert "never run" in said
    assert not (project / "runs").exists()


@pytest.fixture
def everything(project: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Every run of the smoke tier finished by stages that write one small file; their number."""

    def stage(p: Parameters, inputs: object, out: Path, progress: object) -> None:
        (out / "file").write_text("content")

    monkeypatch.setattr(stages, "stage_function", lambda name: stage)
    wanted = schedule.of_tier(plan.load_plan("smoke", project))
    for wanted_run in wanted:
        open_store(project).execute(wanted_run, compute, 1, silent)
    return len(wanted)


def test_a_second_run_does_nothing_and_says_so(
    everything: int, run: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect, "collect", lambda *_: False)
    status, said, _ = run("run", "smoke")
    assert status == 0
    assert said == f"Nothing to do: all {everything} runs of tier smoke and their tables exist.\n"


def test_a_run_that_only_writes_tables_says_so(
    everything: int, run: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nbutils.results.tables.read", lambda folder: {})
    monkeypatch.setattr("nbutils.results.stream.Stream.judge", lambda self, frames: None)
    monkeypatch.setattr(collect, "collect", lambda *_: True)
    status, said, _ = run("run", "smoke")
    assert status == 0
    assert said == f"0 runs computed, {everything} reused; tables in runs/tables/smoke/\n"


def test_plan_and_status_of_a_finished_tier(everything: int, run: Callable[..., Answer]) -> None:
    status, said, _ = run("plan", "smoke")
    assert (status, f"{everything} runs: {everything} done\n" in said) == (0, True)
    status, said, _ = run("status")
    lines = [line.split() for line in said.splitlines()]
    counts = {line[1]: line[2:6] for line in lines if line[:1] == ["smoke"]}
    assert status == 0
    assert counts["prepare_model"] == ["4", "0", "0", "0"]
    wanted = Counter(r.stage for r in schedule.of_tier(plan.load_plan("smoke", Path.cwd())))
    assert counts["self_train"] == [str(wanted["self_train"]), "0", "0", "0"]
    assert set(counts) == set(wanted)


def test_status_tells_running_failed_and_missing_runs_apart(
    everything: int, run: Callable[..., Answer], project: Path
) -> None:
    """A stage that was never timed has an unknown time left."""
    planned, store = plan.load_plan("smoke", project), open_store(project)
    claimed, failing, gone = (
        planned.model(name) for name in ("neox-small", "llama-small", "qwen-small")
    )
    suite = planned.suite()
    for each in (claimed, failing, gone, suite):
        shutil.rmtree(store.path(each))
    failures.record(store, failing, RunError("the loss is not finite"))
    key = store.key(claimed)
    assert key is not None
    with store.claim(key):
        status, said, _ = run("status")
    assert status == 0
    lines = [" ".join(line.split()) for line in said.splitlines()]
    assert "smoke prepare_model 1 1 1 1 0.0 MiB 0 s 0 s" in lines
    assert "smoke prepare_suite 0 0 0 1 0.0 MiB 0 s unknown" in lines
    assert "failed: prepare_model of smoke: llama-small: the loss is not finite" in said


def test_a_tier_that_cannot_be_planned_hides_no_other(
    everything: int, run: Callable[..., Answer], project: Path
) -> None:
    (project / "notebooks" / "tiers" / "broken.yml").write_text("title: 3\n", "utf-8")
    status, said, _ = run("status")
    assert status == 0
    assert "broken cannot be planned: " in said
    assert ["smoke", "prepare_model"] in [line.split()[:2] for line in said.splitlines()]


def test_publishing_an_incomplete_tier_is_an_error(
    run: Callable[..., Answer], project: Path
) -> None:
    status, _, errors = run("publish", "smoke")
    assert status == 1
    assert "tier 'smoke' is not complete" in errors
    assert "nbutils run smoke" in errors
    assert not (project / "book").exists()


def test_convert_writes_a_notebook(run: Callable[..., Answer], project: Path) -> None:
    source = REPOSITORY / "notebooks" / "sample_corpus.py"
    (project / "notebooks" / "sample_corpus.py").write_bytes(source.read_bytes())
    status, said, _ = run("convert", "sample_corpus")
    assert (status, said) == (0, "runs/notebooks/sample_corpus.ipynb\n")
    assert (project / "runs" / "notebooks" / "sample_corpus.ipynb").is_file()
    status, _, errors = run("convert", "sample_corpsu")
    assert status == 1
    assert re.search("did you mean .?sample_corpus", errors)
