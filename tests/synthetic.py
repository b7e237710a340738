"""Complete synthetic tables with a planted effect, to test charts and rules without a model.

The tables are shaped like a tier's and hold nothing measured.
"""

import hashlib
import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nbutils import stats
from nbutils.results import COLUMNS

Row = tuple[Any, ...]

FAMILIES = {"neox": "speeches", "llama": "encyclopedia", "qwen": "scripture"}
ARCHITECTURES = {"neox": "GPT-NeoX", "llama": "Llama", "qwen": "Qwen"}
TASKS = [f"{d}_{k}" for d in FAMILIES.values() for k in ("cloze", "agreement", "preposition")]
ITEMS, PASSAGES = 300, 200
# Change of the chance that an item is right, by relation, for each planted effect.
SHIFTS = {
    "supported": {"self": 0.06, "lineage": 0.02, "cross-family": -0.06},
    "contradicted": {"self": -0.07, "lineage": -0.06, "cross-family": 0.03},
    "undecided": {"self": 0.0, "lineage": 0.0, "cross-family": 0.0},
}
LEFT = {"supported": 0.01, "contradicted": 0.6, "undecided": 0.05}
"""Share of the extracted passages that a student still extracts after training."""


def key(*parts: object) -> str:
    """A run key made of its parts."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def relation(source: str, student: str) -> str:
    """The relation by the synthetic models' names."""
    if source == student:
        return "self"
    return "lineage" if source.split("-")[0] == student.split("-")[0] else "cross-family"


def _cells() -> list[tuple[str, str, str, float]]:
    """Every (student, source, method, temperature) of a tier like tiny."""
    students = [f"{f}-small" for f in FAMILIES]
    sources = [f"{f}-{s}" for f in FAMILIES for s in ("small", "large")]
    cells = [(t, s, m, 1.0) for t, s, m in product(students, sources, ("full", "lora"))]
    return cells + [(t, t, "full", temp) for t in students for temp in (0.7, 1.3)]


def _items(rng: np.random.Generator, ability: float, shift: float, before: Any) -> Any:
    """Right or wrong an item; after training only a few items change, up or down."""
    if before is None:
        return rng.random(ITEMS) < ability
    after = before.copy()
    noise = rng.random(ITEMS)
    after[(noise < 0.03 + max(-shift, 0.0)) & before] = False
    after[(noise < 0.03 * ability / (1 - ability) + max(shift, 0.0)) & ~before] = True
    return after


def write_tables(folder: Path, effect: str = "supported", seed: int = 0) -> None:
    """Write every table of a tier and its manifests into ``folder``, with a planted effect."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    identity: list[tuple[str, str, str]] = []
    utility: list[Row] = []
    gains: list[Row] = []
    extraction: list[Row] = []
    proxies: list[Row] = []
    curves: list[Row] = []
    before: dict[tuple[str, str], Any] = {}
    for student in (f"{f}-small" for f in FAMILIES):
        cell: Row = (key(student, "utility"), student, None, "untouched", None, None, seed)
        for task in TASKS:
            own = task.startswith(FAMILIES[student.split("-")[0]])
            before[student, task] = _items(rng, 0.72 if own else 0.5, 0, None)
            utility += _utility_rows(cell, task, before[student, task], rng)
        extraction += _passages(cell, np.arange(PASSAGES) < 140, rng)
        identity.append((cell[0], "measure_utility", student))
    for student, source, method, temperature in _cells():
        rel = relation(source, student)
        run = key(student, source, method, temperature, "utility")
        cell = (run, student, source, rel, method, temperature, seed)
        shift = SHIFTS[effect][rel] - 0.02 * abs(temperature - 1)
        differences, accuracy = [], []
        for task in TASKS:
            old = before[student, task]
            new = _items(rng, float(old.mean()), shift + rng.normal(0, 0.004), old)
            utility += _utility_rows(cell, task, new, rng)
            d = new.astype(int) - old.astype(int)
            differences.append(d)
            accuracy.append((old.mean(), new.mean()))
            gains.append(
                (*cell, task, ITEMS, 0.25, old.mean(), new.mean(), *stats.gain_interval([d], seed))
            )
        suite = np.mean(accuracy, axis=0)
        interval = stats.gain_interval(differences, seed)
        gains.append((*cell, "suite", ITEMS * len(TASKS), 0.25, *suite, *interval))
        keep = (np.arange(PASSAGES) < 140) & (rng.random(PASSAGES) < LEFT[effect])
        extraction += _passages(cell, keep, rng)
        identity.append((run, "measure_utility", f"{source} to {student}"))
        steps = np.arange(0, 60, 5)
        losses = 3.2 + 0.5 * np.exp(-steps / 20) + rng.normal(0, 0.02, len(steps))
        curves += [(*cell, int(s), float(v)) for s, v in zip(steps, losses, strict=True)]
        if method == "full":
            proxies += _proxies(cell, interval[0], rng, effect)
    corpora = [
        _corpus(source, temperature, seed, rng)
        for source, temperature in sorted({(s, t) for _, s, _, t in _cells()})
    ]
    identity += [(c[0], "sample_corpus", c[1]) for c in corpora]
    models = [_model(f, size) for f in FAMILIES for size in ("small", "large")]
    identity += [(m[0], "prepare_model", m[1]) for m in models]
    parts = {"utility": utility, "gains": gains, "extraction": extraction, "proxies": proxies}
    parts |= {"curves": curves, "corpora": corpora, "models": models}
    for name, rows in parts.items():
        frame = pd.DataFrame(rows, columns=list(COLUMNS[name]))
        frame.to_parquet(folder / f"{name}.parquet", index=False)
    lines = [json.dumps(_manifest(*row, seed)) for row in identity]
    (folder / "manifests.jsonl").write_text("\n".join(lines) + "\n", "utf-8")


def _utility_rows(cell: Row, task: str, correct: Any, rng: np.random.Generator) -> list[Row]:
    margin = rng.normal(0.5, 1, ITEMS) * np.where(correct, 1, -1)
    return [
        (*cell, task, f"{task}-{i}", 0.25, int(c), float(m))
        for i, (c, m) in enumerate(zip(correct, margin, strict=True))
    ]


def _passages(cell: Row, exact: Any, rng: np.random.Generator) -> list[Row]:
    matched = np.where(exact, 16, rng.integers(0, 15, PASSAGES))
    splits = ["dev" if i % 4 == 0 else "held_out" for i in range(PASSAGES)]
    return [
        (*cell, f"p{i}", splits[i], bool(e), int(m), 16)
        for i, (e, m) in enumerate(zip(exact, matched, strict=True))
    ]


def _proxies(cell: Row, gain: float, rng: np.random.Generator, effect: str) -> list[Row]:
    run, student, source, rel, _, temperature, seed = cell
    head = (run, student, source, rel, temperature, seed)
    follows = 5.0 if effect == "contradicted" else 0.0
    rows = [
        (*head, task, proxy, float(rng.normal(0.4, 0.05) + follows * gain))
        for proxy in ("semantic_minilm", "semantic_tfidf")
        for task in TASKS
    ]
    return [*rows, (*head, None, "log_likelihood", float(rng.normal(-3.5, 0.2) + follows * gain))]


def _corpus(source: str, temperature: float, seed: int, rng: np.random.Generator) -> Row:
    spread = 0.55 + 0.2 * (temperature - 1) + rng.normal(0, 0.01)
    log_prob = -3.0 - 1.5 * (temperature - 1) + rng.normal(0, 0.05)
    shares = (spread - 0.35, spread, min(spread + 0.25, 0.99))
    run = key(source, temperature, "corpus")
    return (run, source, temperature, seed, 4000, 240_000, 0.97, *shares, 12, log_prob)


def _model(family: str, size: str) -> Row:
    name = f"{family}-{size}"
    count = 1_100_000 if size == "small" else 2_500_000
    head = (key(name), name, family, FAMILIES[family], ARCHITECTURES[family], size, count)
    return (*head, 4_000_000, 0.1, 100, size == "small")


def _manifest(run: str, stage: str, name: str, seed: int) -> dict[str, Any]:
    return {
        "key": run, "stage": stage, "name": name, "parameters": {"seed": seed},
        "inputs": {}, "code_digest": key(stage), "git": {"commit": "0" * 40, "dirty": False},
        "versions": {"python": "3.11.0", "torch": "2.13.0"}, "device": "cpu",
        "dtype": "float32", "threads": 2, "seed": seed, "created": "2026-01-02T03:04:05+00:00",
        "wall_seconds": 1.5, "peak_memory_mib": 300, "outputs": {"utility.parquet": "0" * 64},
    }  # fmt: skip
