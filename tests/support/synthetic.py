"""Complete synthetic tables with a planted effect, to test charts and rules without a model.

The tables are shaped like a tier's and hold nothing measured. Their summaries are computed from
their rows, as those of a real tier are.
"""

import hashlib
import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nbutils.analysis.gains import MEASURED, NORM, summarize, typed
from nbutils.config.design import CONTROL_NAMES
from nbutils.results.tables import COLUMNS

Row = dict[str, Any]

FAMILIES = {"neox": "speeches", "llama": "encyclopedia", "qwen": "scripture"}
ARCHITECTURES = {"neox": "GPT-NeoX", "llama": "Llama", "qwen": "Qwen"}
STUDENTS = [f"{family}-small" for family in FAMILIES]
SOURCES = [f"{family}-{size}" for family in FAMILIES for size in ("small", "large")]
TASKS = [f"{d}_{k}" for d in FAMILIES.values() for k in ("cloze", "agreement", "preposition")]
ITEMS, PASSAGES, SEEDS = 300, 200, (0, 1, 2)
EXTRACTED = 150  # passages, dev and held out, that an untouched student gives away
# Change of the chance that an item is right, by relation, for each planted effect.
SHIFTS = {
    "supported": {"self": 0.06, "lineage": 0.02, "cross-family": -0.06, "control": -0.04},
    "contradicted": {"self": -0.07, "lineage": -0.06, "cross-family": 0.03, "control": 0.0},
    "undecided": {"self": 0.0, "lineage": 0.0, "cross-family": 0.0, "control": 0.0},
}
LEFT = {"supported": 0.0, "contradicted": 0.6, "undecided": 0.05}
"""Share of the extracted passages that a student still extracts after training."""


def key(*parts: object) -> str:
    """A run key made of its parts."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def relation(source: str, student: str) -> str:
    """The relation by the synthetic models' names."""
    if source == student:
        return "self"
    return "lineage" if source.split("-")[0] == student.split("-")[0] else "cross-family"


def _cell(experiment: str, student: str, source: str, seed: int, **other: Any) -> Row:
    plain = {"method": "full", "temperature": 1.0, "round": 1, "learning_rate": 1.0, "steps": 60}
    row = {"experiment": experiment, "student": student, "source": source, "seed": seed}
    kind = "control" if experiment == "controls" else relation(source, student)
    return row | {"relation": kind, "rank": None, "step": None} | plain | other


def cells() -> list[Row]:
    """Every trained state of a tier like tiny, with every experiment."""
    found = []
    for seed, student in product(SEEDS, STUDENTS):
        found += [_cell("pairings", student, source, seed) for source in SOURCES]
        found += [_cell("pairings", student, student, seed, method="lora", rank=8)]
        for temperature in (0.7, 1.3):
            found.append(_cell("pairings", student, student, seed, temperature=temperature))
        found += [_cell("controls", student, name, seed) for name in CONTROL_NAMES.values()]
        found.append(_cell("rounds", student, student, seed, round=2))
    for student in STUDENTS:
        for rate, rank in product((0.3, 1.0, 3.0), (None, 8)):
            method = "lora" if rank else "full"
            recipe = {"method": method, "learning_rate": rate, "steps": 20, "rank": rank}
            found.append(_cell("recipes", student, student, 0, **recipe))
        for source, step in product((student, SOURCES[1], SOURCES[3]), (0, 20, 60)):
            found.append(_cell("trajectories", student, source, 0, step=step))
    return found


def _answers(rng: np.random.Generator, before: Any, shift: float) -> Any:
    """Right or wrong an item; a few items change, more of them up or more of them down."""
    after, noise = before.copy(), rng.random(before.shape)
    ability = before.mean()
    after[(noise < 0.03 + max(-shift, 0.0)) & before] = False
    after[(noise < 0.03 * ability / (1 - ability) + max(shift, 0.0)) & ~before] = True
    return after


def write_tables(
    folder: Path, effect: str = "supported", seed: int = 0, shifts: dict[int, float] | None = None
) -> None:
    """Write every table of a tier and its manifests into ``folder``, with a planted effect.

    ``shifts`` maps a seed to a further change of all its self pairings.
    """
    rng = np.random.default_rng(seed)
    items = pd.DataFrame(
        [
            {
                "task": task,
                "item": f"{task}-{i}",
                "document": f"{task[:3]}-{i // 2}",
                "chance": 0.25,
            }
            for task in sorted(TASKS)
            for i in range(ITEMS)
        ]
    )
    domain = items["task"].str.split("_").str[0]
    states: list[Row] = []
    answers: dict[str, Any] = {}
    extraction: list[pd.DataFrame] = []
    curves: list[pd.DataFrame] = []
    for student in STUDENTS:
        own = domain.eq(FAMILIES[student.split("-")[0]])
        state = key(student, "utility")
        answers[state] = rng.random(len(items)) < np.where(own, 0.72, 0.5)
        plain = dict.fromkeys(_cell("", student, student, 0)) | {"student": student}
        plain |= {"experiment": "untouched", "relation": "untouched"}
        states.append({"state": state, "extraction_run": state} | plain)
        extraction.append(_passages(state, np.arange(PASSAGES) < EXTRACTED))
    for cell in cells():
        before = answers[key(cell["student"], "utility")]
        shift = SHIFTS[effect][cell["relation"]] + rng.normal(0, 0.002)
        shift -= 0.02 * abs(cell["temperature"] - 1) + 0.03 * (cell["round"] - 1)
        if cell["relation"] == "self" and shifts:
            shift += shifts.get(cell["seed"], 0.0)
        kept = rng.random(PASSAGES) < (0.5 if cell["relation"] == "control" else LEFT[effect])
        run = key(*cell.values(), "utility")
        if cell["experiment"] == "trajectories":
            trace = key(*(v for k, v in cell.items() if k != "step"))
            state, run, done = f"{trace}@{cell['step']}", trace, cell["step"] / 60
            after = _answers(rng, before, shift) if done else before
            kept = kept | (rng.random(PASSAGES) > done)
        elif cell["source"] == CONTROL_NAMES["frozen"]:
            state, after, kept = run, before, np.ones(PASSAGES, dtype=bool)
        else:
            state, after = run, _answers(rng, before, shift)
        few = cell["experiment"] in ("recipes", "trajectories")
        asked = items.groupby("task").cumcount().lt(100 if few else ITEMS)
        answers[state] = pd.array(after, dtype="boolean")
        answers[state][~asked.to_numpy()] = pd.NA
        states.append({"state": state, "extraction_run": run} | cell)
        extraction.append(_passages(state, kept & (np.arange(PASSAGES) < EXTRACTED)))
        if cell["experiment"] == "pairings":
            steps = np.arange(0, 60, 5)
            losses = 3.2 + 0.5 * np.exp(-steps / 20) + rng.normal(0, 0.02, len(steps))
            curve = pd.DataFrame({"run": run, "step": steps, "loss": losses})
            curves.append(curve.assign(**{k: v for k, v in cell.items() if k != "step"}))
    corpora = [
        _corpus(source, temperature, number, round_, rng)
        for number in SEEDS
        for source, temperature, round_ in [
            *((s, 1.0, 1) for s in SOURCES),
            *((s, t, 1) for s in STUDENTS for t in (0.7, 1.3)),
            *((s, 1.0, 2) for s in STUDENTS),
        ]
    ]
    tables = {
        "states": typed(pd.DataFrame(states)),
        "utility": pd.concat([items, pd.DataFrame(answers)], axis=1),
        "extraction": pd.concat(extraction, ignore_index=True),
        "curves": typed(pd.concat(curves, ignore_index=True)),
        "corpora": pd.DataFrame(corpora),
        "models": pd.DataFrame([_model(f, s) for f in FAMILIES for s in ("small", "large")]),
    }
    tables |= summarize(tables)
    tables["proxies"] = _proxies(tables["gains"], rng, effect)
    folder.mkdir(parents=True, exist_ok=True)
    for name, columns in COLUMNS.items():
        kept_columns = [*columns, *answers] if name == "utility" else list(columns)
        tables[name][kept_columns].to_parquet(folder / f"{name}.parquet", index=False)
    runs = {s.partition("@")[0] for s in answers} | {str(s["extraction_run"]) for s in states}
    for name in ("curves", "proxies", "corpora", "models"):
        runs |= set(tables[name]["run"])
    lines = [json.dumps(_manifest(run, seed), separators=(",", ":")) for run in sorted(runs)]
    (folder / "manifests.jsonl").write_text("\n".join(lines) + "\n", "utf-8")


def _passages(state: str, exact: Any) -> pd.DataFrame:
    splits = np.where(np.arange(PASSAGES) % 4 == 0, "dev", "held_out")
    passages = [f"p{i}" for i in range(PASSAGES)]
    matched = np.where(exact, 16, 3)
    frame = {"state": state, "passage": passages, "split": splits, "exact": exact}
    return pd.DataFrame(frame | {"matched_tokens": matched, "suffix_tokens": 16})


def _proxies(gains: pd.DataFrame, rng: np.random.Generator, effect: str) -> pd.DataFrame:
    """Noise, but for the effect "contradicted", where every proxy follows the gain."""
    rows = []
    at_one = gains["temperature"].eq(1.0) & gains["method"].eq("full")
    chosen = gains[gains["task"].eq("suite") & gains["experiment"].eq("pairings") & at_one]
    follows = 5.0 if effect == "contradicted" else 0.0
    kinds = [("proxy", p) for p in ("semantic_minilm", "semantic_tfidf", "log_likelihood")]
    kinds += [("diagnostic", d) for d in ("gradient_cosine", "perplexity_gap", "ngram_divergence")]
    for row in chosen.to_dict("records"):
        for number, (kind, proxy) in product(SEEDS, kinds):
            pairing = {c: row[c] for c in ("student", "source", "relation", "temperature")}
            run = key(row["student"], row["source"], number, kind)
            tasks = TASKS if proxy.startswith("semantic") else [None]
            value = float(rng.normal(0.4, 0.05) + follows * row["gain"])
            cell = {"run": run, **pairing, "seed": number, "kind": kind, "proxy": proxy}
            rows += [cell | {"task": task, "value": value} for task in tasks]
    return pd.DataFrame(rows)


def _corpus(
    source: str, temperature: float, seed: int, round_: int, rng: np.random.Generator
) -> Row:
    spread = 0.55 + 0.2 * (temperature - 1) + rng.normal(0, 0.01)
    log_prob = -3.0 - 1.5 * (temperature - 1) + rng.normal(0, 0.05)
    shares = {"distinct_1": spread - 0.35, "distinct_2": spread, "distinct_3": spread + 0.2}
    return {
        "run": key(source, temperature, seed, round_, "corpus"), "source": source,
        "temperature": temperature, "seed": seed, "round": round_, "documents": 4000,
        "tokens": 240_000, "finished": 0.97, **shares, "benchmark_words": spread,
        "passage_hits": 12, "mean_log_prob": log_prob, "read_otherwise": 0.01,
        "fidelity": log_prob - 0.2 if source in STUDENTS else np.nan,
    }  # fmt: skip


def _model(family: str, size: str) -> Row:
    name = f"{family}-{size}"
    return {
        "run": key(name), "model": name, "family": family, "domain": FAMILIES[family],
        "architecture": ARCHITECTURES[family], "size": size,
        "parameters": 1_000_000 if size == "small" else 2_500_000, "training_tokens": 4_000_000,
        "planted_share": 0.1, "exposures": 100, "student": size == "small",
    }  # fmt: skip


def _manifest(run: str, seed: int) -> dict[str, Any]:
    return {
        "schema_version": 1, "labels": {}, "key": run,
        "stage": "measure_utility", "name": f"tiny: {run[:6]}",
        "parameters": {"seed": seed}, "inputs": {}, "code_digest": key("code"),
        "git": {"commit": "0" * 40, "dirty": False},
        "versions": {"python": "3.11.0", "torch": "2.13.0"}, "device": "cpu",
        "dtype": "float32", "threads": 2, "seed": seed, "created": "2026-01-02T03:04:05+00:00",
        "wall_seconds": 1.5, "peak_memory_mib": 300, "outputs": {"utility.parquet": "0" * 64},
    }  # fmt: skip


def measurement(device: str) -> dict[str, Any]:
    """What the benchmark might write: our way is three times as fast as the better of two peers."""
    row = {
        "precision": "float32", "turns": 3, "read": 2.0, "ceiling": 1e11, "of_ceiling": 0.25,
        "memory_mib": 512.0, "ours": False, "own": True,
    }  # fmt: skip
    contests = {
        ("sampling", "documents", 64): ["generate", "generate, static cache"],
        ("sampling", "documents", 1024): ["generate", "generate, static cache"],
        ("training", "all weights", 2048): ["Trainer", "Trainer, packed rows"],
        ("training", "LoRA", 2048): ["Trainer", "Trainer, packed rows"],
        ("scoring", "suite", 384): ["lm-eval, batch 1", "lm-eval, batch 16"],
    }
    rows = []
    for (stage, task, batch), peers in contests.items():
        contest = row | {"stage": stage, "task": task, "batch": batch, "own": batch != 64}
        for way, rate in zip([*peers, "ours"], (50.0, 100.0, 300.0), strict=True):
            rates = {"rate": rate, "low": 0.9 * rate, "high": 1.2 * rate, "wall_rate": 0.5 * rate}
            rows.append(contest | rates | {"way": way, "ours": way == "ours"})
    versions = {"python": "3.11.0", "torch": "2.13.0", "transformers": "5.23.0"}
    return {
        "sampling": 3.0, "training": 3.0, "scoring": 3.0,
        "created": "2026-01-01T00:00:00+00:00", "git": {"commit": "a" * 40, "dirty": False},
        "device": device, "threads": 1, "versions": versions, "model": "neox-small",
        "tier": "tiny", "weights": 1_000_000, "rows": rows,
    }  # fmt: skip


def both_metrics() -> pd.DataFrame:
    """A pairing's gains on two benchmarks, a task made here and the suite."""
    tasks = ["piqa", "hellaswag", "speeches_cloze", "suite"]
    frame = pd.DataFrame({"task": tasks, "items": 9, "chance": 0.25})
    frame = frame.assign(results="r", student="s", experiment="pairings", relation="self")
    frame = frame.assign(**dict.fromkeys(MEASURED, 0.25))
    return frame.assign(**{name + NORM: [0.5, 0.5, np.nan, np.nan] for name in MEASURED})
