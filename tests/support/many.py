"""A tier of a thousand made-up cells, told to the explore page as a real one is."""

from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from nbutils.analysis.gains import MEASURED, NORM, typed
from nbutils.book.explore import ALL, TierData
from nbutils.config.design import CONTROL_NAMES
from support.synthetic import key

SOURCES, STUDENTS, SEEDS = 40, 25, (0, 1, 2)
TASKS = ("speeches_cloze", "scripture_cloze", "encyclopedia_cloze", "suite")
HOSTILE = (
    "<script>window.planted = true</script><img src=x onerror='window.planted = true'> & "
    "\x1b[31mred\x1b[0m \u202eesrever\u202c \u2066isolated\u2069 a\u200bb \x00 end"
)
"""What a source might write to break a page: markup, ANSI colours, bidirectional overrides."""


def model(number: int) -> str:
    """The name of one of the models; three of them in a family."""
    return f"family{number // 3:02}-member{number % 3}"


def _relation(source: str, student: str) -> str:
    if source in CONTROL_NAMES.values():
        return "control"
    if source == student:
        return "self"
    return "lineage" if source.split("-")[0] == student.split("-")[0] else "cross-family"


def _cell(source: str, student: str) -> dict[str, Any]:
    return {
        "experiment": "pairings", "student": student, "source": source,
        "relation": _relation(source, student), "method": "full", "temperature": 1.0, "round": 1,
        "learning_rate": 1.0, "steps": 60, "rank": None, "step": None,
    }  # fmt: skip


def told(
    label: str = "many · published", students: int = STUDENTS, sampled: bool = True, seed: int = 0
) -> TierData:
    """A tier of so many students, each with every source; ``sampled``: with its documents."""
    rng = np.random.default_rng(seed)
    sources = [model(i) for i in range(SOURCES)]
    cells = [_cell(source, model(i)) for source, i in product(sources, range(students))]
    facts = {"items": 300, "seeds": 3, "chance": 0.25, "base_accuracy": 0.5, "error": 0.01}
    facts |= {name + NORM: np.nan for name in MEASURED}
    gains, falls, states, curves, scores = [], [], [], [], []
    for cell in cells:
        for task in TASKS:
            gain = float(rng.normal(0, 0.03))
            row = cell | facts | {"task": task, "gain": gain, "accuracy": 0.5 + gain}
            row |= {"low": gain - 0.02, "high": gain + 0.02, "detectable": 0.03, "degrees": 9.0}
            gains.append(row)
        row = {"split": "held_out", "passages": 150, "seeds": 3, "before": 100, "after": 4.0}
        row |= {"survivors": 4.0, "share": 0.03, "share_low": 0.01, "share_high": 0.08}
        falls.append(cell | row | {"fall": 0.96, "low": 0.9, "high": 0.99})
        for number in SEEDS:
            run = key(label, cell["source"], cell["student"], number)
            states.append(cell | {"state": run, "extraction_run": run, "seed": number})
            steps = zip(range(0, 60, 5), 4 - rng.random(12), strict=True)
            curves += [cell | {"run": run, "seed": number, "step": s, "loss": v} for s, v in steps]
            scores += [
                {"run": run, "seed": number, "kind": "proxy", "task": None, "proxy": name}
                | {"value": 0.4, **{c: cell[c] for c in ("source", "student", "temperature")}}
                for name in ("semantic_tfidf", "log_likelihood")
            ]
    corpora = [
        {"run": key(label, source, number), "source": source, "seed": number, "round": 1}
        | {"temperature": 1.0, "documents": 2000, "tokens": 130_000, "finished": 0.97}
        | {"distinct_2": 0.7, "benchmark_words": 0.3, "passage_hits": 3, "mean_log_prob": -3.9}
        | {"read_otherwise": 0.01}
        for source, number in product(sources, SEEDS)
    ]
    tables = {
        "gains": typed(pd.DataFrame(gains)), "falls": typed(pd.DataFrame(falls)),
        "states": typed(pd.DataFrame(states)), "curves": typed(pd.DataFrame(curves)),
        "proxies": typed(pd.DataFrame(scores)), "corpora": typed(pd.DataFrame(corpora)),
    }  # fmt: skip
    texts = pd.DataFrame(
        [
            {"run": corpus["run"], "document": n, "text": HOSTILE, "characters": len(HOSTILE) + n}
            for corpus in corpora
            for n in range(2)
        ]
    )
    made = {"stage": "sample_corpus", "labels": {}, "created": "2026-01-02T03:04:05+00:00"}
    made |= {"versions": {"torch": "2.13.0"}, "device": "a <processor>", "results": label}
    manifests = pd.DataFrame([made | {"key": corpus["run"]} for corpus in corpora])
    summaries = (tables["gains"], tables["falls"])
    choices = {ALL: summaries} | {str(number): summaries for number in SEEDS}
    tier = label.partition(" ")[0]
    return TierData(label, tier, tables, choices, manifests, texts if sampled else None)
