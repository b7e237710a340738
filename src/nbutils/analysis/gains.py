"""Gains, contrasts and falls: the summaries of the rows of items and passages.

``nbutils verify`` computes them again.

A *state* is a model that was measured: an untouched student, or what a fine-tune made of it. The
states of one *pairing* differ only in their seed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nbutils.analysis import inference
from nbutils.analysis.bootstrap import Estimate, Resampled, estimate
from nbutils.config.design import CONTROL_NAMES, LABELS, TEMPERATURE

FIRST = {
    "arc_challenge": "acc_norm",
    "arc_easy": "acc",
    "hellaswag": "acc_norm",
    "openbookqa": "acc_norm",
    "piqa": "acc",
    "sciq": "acc",
}
"""The metric that published tables use for a task that defines both; for other tasks, ``acc``."""

ITEM = ("task", "item", "document", "chance")
NORM = "_norm"
"""Suffix of columns by lm-eval's ``acc_norm``; the column without it is the same by ``acc``."""
MEASURED = (
    *("base_accuracy", "accuracy", "gain"),
    *("low", "high", "error", "degrees", "detectable"),
)
"""Columns of a gain; they have twins by ``acc_norm`` where a task defines it."""
SUITE = "suite"  # the task of rows about the whole suite
STRONGER = 1.25
"""A source is stronger than another when it has at least this many times the parameters."""
Array = NDArray[Any]
Rows = dict[str, pd.DataFrame]
"""Maps a state to the rows of its items or passages."""


def wide(answers: Rows) -> pd.DataFrame:
    """One row per item, one column of nullable booleans per state.

    A state with answers by ``acc_norm`` has a second column, whose name ends in ``NORM``.
    """
    items = pd.concat(rows[list(ITEM)] for rows in answers.values()).drop_duplicates(
        ["task", "item"]
    )
    items = items.sort_values(["task", "item"], ignore_index=True)
    index = pd.MultiIndex.from_frame(items[["task", "item"]])
    columns = {}
    for state, rows in answers.items():
        correct = rows.set_index(["task", "item"])[["correct", "correct_norm"]]
        correct = correct.astype("boolean").reindex(index)
        columns[state] = correct["correct"].array
        if correct["correct_norm"].notna().any():
            columns[state + NORM] = correct["correct_norm"].array
    return pd.concat([items, pd.DataFrame(columns)], axis=1)


@dataclass(frozen=True)
class _Part:
    """The states that answered the same items, together with the untouched students.

    ``place`` maps a state to its position among the models of ``resampled``; ``facts`` maps a task
    to its number of items and their mean chance level.
    """

    place: dict[str, int]
    resampled: Resampled
    facts: dict[str, tuple[int, float]]


class Accuracy:
    """Accuracy of every state on every task, as measured and on resampled documents."""

    def __init__(self, utility: pd.DataFrame, states: pd.DataFrame) -> None:
        """Resample the documents of a utility table, which has one column per state (see ``wide``).

        States that answered only some of the items are resampled on those, and so are the
        untouched students, which answered all items, for comparison.
        """
        untouched = list(states.loc[states["experiment"].eq("untouched"), "state"])
        groups: dict[bytes, list[str]] = {}
        for name in states["state"]:
            groups.setdefault(utility[name].notna().to_numpy().tobytes(), []).append(name)
        self._parts: dict[str, _Part] = {}
        for group in groups.values():
            members = list(dict.fromkeys([*group, *untouched]))
            part = utility[utility[group[0]].notna()].reset_index(drop=True)
            place = {name: index for index, name in enumerate(members)}
            facts = {
                str(task): (len(items), float(items["chance"].mean()))
                for task, items in part.groupby("task")
            }
            resampled = Resampled(part, part[members].to_numpy(dtype=bool))
            self._parts |= dict.fromkeys(group, _Part(place, resampled, facts))
        columns = {s + NORM: s for s in states["state"] if s + NORM in utility}
        normed = states[states["state"].isin(columns.values())]
        self._normed: Accuracy | None = None
        if len(normed):
            answers = utility[[*ITEM, *columns]].rename(columns=columns)
            self._normed = Accuracy(answers, normed)

    def by_norm(self, states: Sequence[str]) -> "Accuracy | None":
        """The same by ``acc_norm``, for the tasks that define it; None where a state lacks it."""
        normed = self._normed
        return normed if normed and set(states) <= normed._parts.keys() else None

    def facts(self, state: str) -> dict[str, tuple[int, float]]:
        """Maps each task, and the suite, to the number of items answered and their mean chance."""
        facts = self._parts[state].facts
        items, chances = zip(*facts.values(), strict=True)
        return facts | {SUITE: (sum(items), float(np.mean(chances)))}

    def of(self, states: Sequence[str], task: str = SUITE, like: str = "") -> tuple[float, Array]:
        """Mean accuracy of some states on a task, and its draws, shape ``[resamples]``.

        Items are those that the state ``like`` answered, by default the first of ``states``.
        """
        part = self._parts[like or states[0]]
        places = [part.place[s] for s in states]
        point, draws = part.resampled.suite
        if task != SUITE:
            point, draws = part.resampled.point[task], part.resampled.draws[task]
        return float(point[places].mean()), draws[places].mean(axis=0)


def untouched_of(states: pd.DataFrame) -> dict[str, str]:
    """Maps each student to its state before any training."""
    plain = states[states["experiment"].eq("untouched")]
    return dict(zip(plain["student"], plain["state"], strict=True))


def trained_pairings(states: pd.DataFrame) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Every pairing and control: its labels and its states, in the order of the table."""
    trained = states[states["experiment"].ne("untouched")]
    for labels, part in trained.groupby(list(LABELS), dropna=False, sort=False):
        yield dict(zip(LABELS, labels, strict=True)), part


# ---------------------------------------------------------------- utility


def gains(measured: Accuracy, states: pd.DataFrame) -> pd.DataFrame:
    """Gain of every pairing and control on every task and on the suite, paired per item.

    Gains are fractions. The suite's accuracy is the unweighted mean over its tasks. ``low`` and
    ``high`` limit the 95 % interval over documents and seeds, ``detectable`` is the smallest true
    gain that a test at 5 % detects with 80 % power (see ``bootstrap``). Columns whose names end in
    ``NORM`` have the same by ``acc_norm`` for tasks that define it; the suite has ``acc`` only.
    """
    before = untouched_of(states)
    rows = []
    for labels, part in trained_pairings(states):
        trained = list(part["state"])
        base = before[labels["student"]]
        normed = measured.by_norm([base, *trained])
        for task, (items, chance) in measured.facts(trained[0]).items():
            row = labels | {"task": task, "items": items, "seeds": len(trained), "chance": chance}
            row |= _gain(measured, base, trained, task)
            by_norm = dict.fromkeys(MEASURED, np.nan)
            if normed and task != SUITE and task in normed.facts(trained[0]):
                by_norm = _gain(normed, base, trained, task)
            rows.append(row | {name + NORM: value for name, value in by_norm.items()})
    return typed(pd.DataFrame(rows))


def _gain(measured: Accuracy, base: str, trained: list[str], task: str) -> dict[str, float]:
    """The columns ``MEASURED`` for one pairing and task: its states against the untouched one."""
    before, before_draws = measured.of([base], task, trained[0])
    after = [measured.of([state], task) for state in trained]
    draws = np.array([d - before_draws for _, d in after])
    gain = estimate([value - before for value, _ in after], draws)
    limits = (gain.low, gain.high, gain.error, gain.degrees, gain.detectable)
    numbers = (before, before + gain.value, gain.value, *limits)
    return dict(zip(MEASURED, numbers, strict=True))


def paired(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """Gain on every task and on the suite from one model to another, both on the same items.

    ``before`` and ``after`` are rows of ``measure_utility``.
    """
    states = pd.DataFrame({"state": ["before", "after"], "experiment": ["untouched", "pairings"]})
    for label in LABELS[1:]:
        states[label] = "student" if label == "student" else pd.NA
    return gains(Accuracy(wide({"before": before, "after": after}), states), states)


def contrast(measured: Accuracy, first: pd.DataFrame, second: pd.DataFrame) -> Estimate | None:
    """Suite accuracy of the first states minus that of the second, within each shared seed.

    Several states of one seed count as their mean. None where the two share no seed.
    """
    points, draws = [], []
    for seed in sorted(set(first["seed"]) & set(second["seed"])):
        sides = [measured.of(list(p.loc[p["seed"].eq(seed), "state"])) for p in (first, second)]
        points.append(sides[0][0] - sides[1][0])
        draws.append(sides[0][1] - sides[1][1])
    return estimate(points, np.array(draws)) if points else None


def contrasts(measured: Accuracy, states: pd.DataFrame, models: pd.DataFrame) -> pd.DataFrame:
    """Every contrast of two groups of states that a decision rule needs, on the suite.

    One row per claim, method, student and pair of groups: ``value`` is the accuracy after ``first``
    minus that after ``second``, with its 95 % interval, standard error and degrees of freedom.
    """
    rows = []
    for method, student, claim, first, second, a, b in _compared(states, models):
        difference = contrast(measured, a, b)
        if difference is not None:
            seeds = len(set(a["seed"]) & set(b["seed"]))
            labels = (claim, method, student, first, second)
            rows.append((*labels, *vars(difference).values(), seeds))
    columns = ["claim", "method", "student", "first", "second"]
    numbers = ["value", "low", "high", "error", "degrees", "seeds"]
    return pd.DataFrame(rows, columns=[*columns, *numbers])


Compared = tuple[str, str, str, str, str, pd.DataFrame, pd.DataFrame]


def _compared(states: pd.DataFrame, models: pd.DataFrame) -> Iterator[Compared]:
    """Method, student, claim, names of the two groups, and the states of each."""
    parameters = models.set_index("model")["parameters"].astype(float)
    trained = states[states["experiment"].isin(["pairings", "controls", "rounds"])]
    for (method, student), part in trained.groupby(["method", "student"], sort=False):
        keys = (str(method), str(student))
        pairings = part[part["experiment"].eq("pairings")]
        at_one = pairings[pairings["temperature"].eq(TEMPERATURE)]
        own, lineage, foreign = (
            at_one[at_one["relation"].eq(r)] for r in ("self", "lineage", "cross-family")
        )
        yield *keys, "ordering", "self", "lineage", own, lineage
        yield *keys, "ordering", "lineage", "cross-family", lineage, foreign
        yield *keys, "ordering", "self", "cross-family", own, foreign
        for compatible in (lineage, own):
            sources = compatible["source"].unique()
            strength = parameters[sources].max() if len(compatible) else np.inf
            stronger = foreign[foreign["source"].map(parameters) >= STRONGER * strength]
            if len(stronger):
                relation = str(compatible["relation"].iloc[0])
                yield *keys, "stranger", relation, "stronger cross-family", compatible, stronger
        for value, other in pairings[pairings["relation"].eq("self")].groupby("temperature"):
            if value != TEMPERATURE:
                yield *keys, "temperature", f"T = {TEMPERATURE:g}", f"T = {value:g}", own, other
        for name, control in part[part["experiment"].eq("controls")].groupby("source", sort=False):
            if name == CONTROL_NAMES["frozen"]:  # the same for every seed: one serves them all
                seeds = own[["seed"]].drop_duplicates()
                control = control.drop(columns="seed").merge(seeds, how="cross")
            yield *keys, "controls", "self", str(name), own, control
        for number, later in part[part["experiment"].eq("rounds")].groupby("round"):
            yield *keys, "rounds", f"round {number}", "round 1", later, own


# ---------------------------------------------------------------- memorization


def falls(extraction: pd.DataFrame, states: pd.DataFrame) -> pd.DataFrame:
    """Extraction and its fall: one row per split and pairing, control or untouched student.

    ``before`` and ``after`` count passages extracted exactly, ``survivors`` those extracted both
    before and after; the last two are means over seeds. The fall is ``1 - survivors / before``. Its
    limits ``low`` and ``high`` are exact (Clopper and Pearson, 1934) at 90 %, so each is a
    one-sided 95 % limit. They are the widest over seeds, since all seeds are measured on the same
    passages. The fall is missing where nothing was extracted before. ``share`` is the extracted
    share of all passages after training, with its exact 95 % interval, the widest over seeds.
    """
    extracted = {
        key: set(part.loc[part["exact"], "passage"])
        for key, part in extraction.groupby(["state", "split"])
    }
    passages = extraction.groupby(["state", "split"])["passage"].size()
    before = untouched_of(states)
    rows = []
    states = states[states["state"].isin(extraction["state"])]
    for values, part in states.groupby(list(LABELS), dropna=False, sort=False):
        labels: dict[str, Any] = dict(zip(LABELS, values, strict=True))
        for split in sorted(extraction["split"].unique()):
            start = extracted[before[labels["student"]], split]
            after = [extracted[state, split] for state in part["state"]]
            number = int(passages.loc[(part["state"].iloc[0], split)])
            rows.append(labels | {"split": split} | _fall(start, after, number))
    return typed(pd.DataFrame(rows))


def _fall(start: set[Any], after: list[set[Any]], passages: int) -> dict[str, float]:
    """The columns of one pairing and split.

    Args:
        start: Passages that the untouched student extracts.
        after: Passages that are extracted after training, one set per seed.
        passages: Number of passages of the split.
    """
    limits = [inference.exact_interval(len(extracted), passages) for extracted in after]
    survivors = [len(extracted & start) for extracted in after]
    mean = float(np.mean([len(extracted) for extracted in after]))
    row = {"passages": passages, "seeds": len(after), "before": len(start), "after": mean}
    row |= {"survivors": float(np.mean(survivors)), "share": mean / passages}
    row |= {"share_low": min(a for a, _ in limits), "share_high": max(b for _, b in limits)}
    if not start:
        return row | dict.fromkeys(("fall", "low", "high"), np.nan)
    surviving = [inference.exact_interval(k, len(start), 0.90) for k in survivors]
    row |= {"fall": 1 - row["survivors"] / len(start)}
    return row | {"low": 1 - max(b for _, b in surviving), "high": 1 - min(a for a, _ in surviving)}


KINDS = {
    **dict.fromkeys(("source", "method"), "string"),
    **dict.fromkeys(("temperature", "learning_rate"), "Float64"),
    **dict.fromkeys(("seed", "round", "steps", "rank", "step"), "Int64"),
}
"""Types of the labels that are missing for untouched students or for some methods."""


def typed(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with each label in its nullable type, whether or not a value is missing."""
    return frame.astype({c: kind for c, kind in KINDS.items() if c in frame})


def summarize(tables: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The summary tables ``gains``, ``contrasts`` and ``falls``.

    ``tables`` has the tables ``states``, ``utility``, ``extraction`` and ``models`` of a tier.
    """
    states = tables["states"]
    measured = Accuracy(tables["utility"], states)
    return {
        "gains": gains(measured, states),
        "contrasts": contrasts(measured, states, tables["models"]),
        "falls": falls(tables["extraction"], states),
    }


def with_memory(gains: pd.DataFrame, falls: pd.DataFrame) -> pd.DataFrame:
    """One row per pairing or control: the suite's gain, and held-out extraction before and after.

    The fall and its limits are ``fall``, ``fall_low`` and ``fall_high``. The extraction of the
    untouched student is ``before_share``, with limits ``before_share_low`` and ``_high``.
    """
    suite = gains[gains["task"].eq(SUITE)]
    held_out = falls[falls["split"].eq("held_out")]
    columns = ["share", "share_low", "share_high"]
    untouched = held_out[held_out["experiment"].eq("untouched")].set_index(["results", "student"])
    memory = held_out.rename(columns={"low": "fall_low", "high": "fall_high"})
    counts = ["passages", "before", "after", *columns, "fall", "fall_low", "fall_high"]
    keys = ["results", *LABELS]
    rows = suite.merge(memory[[*keys, *counts]], on=keys)
    return rows.join(untouched[columns].add_prefix("before_"), on=["results", "student"])
