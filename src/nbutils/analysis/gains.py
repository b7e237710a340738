"""Gains, contrasts and falls: what the rows of items and passages add up to.

``nbutils verify`` computes them again.

A *state* is a model that was measured: an untouched student, or what a fine-tune made of it. A
*cell* is the states that differ in their seed alone.
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
"""The metric that published tables use of a task that defines both; of others it is ``acc``."""

ITEM = ("task", "item", "document", "chance")
NORM = "_norm"
"""Ends the name of a column that tells by lm-eval's ``acc_norm`` what its twin tells by ``acc``."""
MEASURED = (
    *("base_accuracy", "accuracy", "gain"),
    *("low", "high", "error", "degrees", "detectable"),
)
"""What is told of a gain; by ``acc_norm`` too where a task defines it."""
SUITE = "suite"  # the task of rows that speak of the whole suite
STRONGER = 1.25
"""A source is stronger than another when it has at least so many times the parameters."""
Array = NDArray[Any]
Rows = dict[str, pd.DataFrame]
"""State to the rows of its items or passages."""


def wide(answers: Rows) -> pd.DataFrame:
    """One row per item, one column of nullable booleans per state.

    A state that has answers by ``acc_norm`` has a second column, named with ``NORM`` behind.
    """
    items = pd.concat(rows[list(ITEM)] for rows in answers.values()).drop_duplicates(
        ["task", "item"]
    )
    items = items.sort_values(["task", "item"], ignore_index=True)
    index = pd.MultiIndex.from_frame(items[["task", "item"]])
    columns = {}
    for state, rows in answers.items():
        found = rows.set_index(["task", "item"])[["correct", "correct_norm"]]
        found = found.astype("boolean").reindex(index)
        columns[state] = found["correct"].array
        if found["correct_norm"].notna().any():
            columns[state + NORM] = found["correct_norm"].array
    return pd.concat([items, pd.DataFrame(columns)], axis=1)


@dataclass(frozen=True)
class _Part:
    """The states that answered the same items, and the untouched ones beside them."""

    place: dict[str, int]
    resampled: Resampled
    facts: dict[str, tuple[int, float]]


class Accuracy:
    """Accuracy of every state on every task: as measured, and on resampled documents."""

    def __init__(self, utility: pd.DataFrame, states: pd.DataFrame) -> None:
        """Resample the documents of a utility table, which has one column a state (see ``wide``).

        States that answered a part of the items are resampled on that part, and the untouched
        ones, which answered all, with them.
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
        """The same by ``acc_norm``, of the tasks that define it; None where a state has none."""
        normed = self._normed
        return normed if normed and set(states) <= normed._parts.keys() else None

    def facts(self, state: str) -> dict[str, tuple[int, float]]:
        """Task, then the suite, to the number of items that a state answered and mean chance."""
        facts = self._parts[state].facts
        items, chances = zip(*facts.values(), strict=True)
        return facts | {SUITE: (sum(items), float(np.mean(chances)))}

    def of(self, states: Sequence[str], task: str = SUITE, like: str = "") -> tuple[float, Array]:
        """Mean accuracy of some states on a task, and its draws of shape ``[resamples]``.

        Asked on the items that the state ``like`` answered, by default the first one.
        """
        part = self._parts[like or states[0]]
        places = [part.place[s] for s in states]
        point, draws = part.resampled.suite
        if task != SUITE:
            point, draws = part.resampled.point[task], part.resampled.draws[task]
        return float(point[places].mean()), draws[places].mean(axis=0)


def untouched_of(states: pd.DataFrame) -> dict[str, str]:
    """Student to the state in which nothing was trained."""
    plain = states[states["experiment"].eq("untouched")]
    return dict(zip(plain["student"], plain["state"], strict=True))


def cells(states: pd.DataFrame) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Every trained cell: its labels and its states, in the order of the table."""
    trained = states[states["experiment"].ne("untouched")]
    for labels, part in trained.groupby(list(LABELS), dropna=False, sort=False):
        yield dict(zip(LABELS, labels, strict=True)), part


# ---------------------------------------------------------------- utility


def gains(measured: Accuracy, states: pd.DataFrame) -> pd.DataFrame:
    """Gain of every cell on every task and on the suite, paired item by item.

    The suite's accuracy is the unweighted mean over its tasks. ``low`` and ``high`` limit the
    95 % interval over documents and seeds, ``detectable`` is the smallest true gain that a test
    at 5 % finds with 80 % power (see ``bootstrap``). Of a task that defines ``acc_norm``, the same
    numbers by it stand in the columns named with ``NORM`` behind; the suite is of ``acc`` alone.
    """
    before = untouched_of(states)
    rows = []
    for labels, part in cells(states):
        trained = list(part["state"])
        base = before[labels["student"]]
        normed = measured.by_norm([base, *trained])
        for task, (items, chance) in measured.facts(trained[0]).items():
            row = labels | {"task": task, "items": items, "seeds": len(trained), "chance": chance}
            row |= _gain(measured, base, trained, task)
            also = dict.fromkeys(MEASURED, np.nan)
            if normed and task != SUITE and task in normed.facts(trained[0]):
                also = _gain(normed, base, trained, task)
            rows.append(row | {name + NORM: value for name, value in also.items()})
    return typed(pd.DataFrame(rows))


def _gain(measured: Accuracy, base: str, trained: list[str], task: str) -> dict[str, float]:
    """The columns ``MEASURED`` of one cell and task, from its states and the untouched one."""
    start, start_draws = measured.of([base], task, trained[0])
    ends = [measured.of([state], task) for state in trained]
    draws = np.array([d - start_draws for _, d in ends])
    found = estimate([end - start for end, _ in ends], draws)
    limits = (found.low, found.high, found.error, found.degrees, found.detectable)
    numbers = (start, start + found.value, found.value, *limits)
    return dict(zip(MEASURED, numbers, strict=True))


def paired(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """Gain on every task and the suite between two models' rows of the same items."""
    states = pd.DataFrame({"state": ["before", "after"], "experiment": ["untouched", "pairings"]})
    for label in LABELS[1:]:
        states[label] = "student" if label == "student" else pd.NA
    return gains(Accuracy(wide({"before": before, "after": after}), states), states)


def contrast(measured: Accuracy, first: pd.DataFrame, second: pd.DataFrame) -> Estimate | None:
    """Suite accuracy of the first states less that of the second, within each seed they share.

    Several states of one seed count with their mean. None where they share no seed.
    """
    points, draws = [], []
    for seed in sorted(set(first["seed"]) & set(second["seed"])):
        sides = [measured.of(list(p.loc[p["seed"].eq(seed), "state"])) for p in (first, second)]
        points.append(sides[0][0] - sides[1][0])
        draws.append(sides[0][1] - sides[1][1])
    return estimate(points, np.array(draws)) if points else None


def contrasts(measured: Accuracy, states: pd.DataFrame, models: pd.DataFrame) -> pd.DataFrame:
    """Every contrast of two groups of states that a decision rule asks for, on the suite.

    One row a claim, method, student and pair of groups: ``value`` is the accuracy after ``first``
    less that after ``second``, with its 95 % interval, standard error and degrees of freedom.
    """
    rows = []
    for method, student, claim, first, second, a, b in _compared(states, models):
        found = contrast(measured, a, b)
        if found is not None:
            seeds = len(set(a["seed"]) & set(b["seed"]))
            labels = (claim, method, student, first, second)
            rows.append((*labels, *vars(found).values(), seeds))
    columns = ["claim", "method", "student", "first", "second"]
    numbers = ["value", "low", "high", "error", "degrees", "seeds"]
    return pd.DataFrame(rows, columns=[*columns, *numbers])


Compared = tuple[str, str, str, str, str, pd.DataFrame, pd.DataFrame]


def _compared(states: pd.DataFrame, models: pd.DataFrame) -> Iterator[Compared]:
    """Method, student, claim, names of the two groups, and their states."""
    parameters = models.set_index("model")["parameters"].astype(float)
    trained = states[states["experiment"].isin(["pairings", "controls", "rounds"])]
    for (method, student), mine in trained.groupby(["method", "student"], sort=False):
        here = (str(method), str(student))
        pairings = mine[mine["experiment"].eq("pairings")]
        at_one = pairings[pairings["temperature"].eq(TEMPERATURE)]
        own, lineage, foreign = (
            at_one[at_one["relation"].eq(r)] for r in ("self", "lineage", "cross-family")
        )
        yield *here, "ordering", "self", "lineage", own, lineage
        yield *here, "ordering", "lineage", "cross-family", lineage, foreign
        yield *here, "ordering", "self", "cross-family", own, foreign
        for kin in (lineage, own):
            strength = parameters[kin["source"].unique()].max() if len(kin) else np.inf
            stronger = foreign[foreign["source"].map(parameters) >= STRONGER * strength]
            if len(stronger):
                relation = str(kin["relation"].iloc[0])
                yield *here, "stranger", relation, "stronger cross-family", kin, stronger
        for value, other in pairings[pairings["relation"].eq("self")].groupby("temperature"):
            if value != TEMPERATURE:
                yield *here, "temperature", f"T = {TEMPERATURE:g}", f"T = {value:g}", own, other
        for name, control in mine[mine["experiment"].eq("controls")].groupby("source", sort=False):
            if name == CONTROL_NAMES["frozen"]:  # no seed can change it, so one stands for all
                every = own[["seed"]].drop_duplicates()
                control = control.drop(columns="seed").merge(every, how="cross")
            yield *here, "controls", "self", str(name), own, control
        for number, later in mine[mine["experiment"].eq("rounds")].groupby("round"):
            yield *here, "rounds", f"round {number}", "round 1", later, own


# ---------------------------------------------------------------- memorization


def falls(extraction: pd.DataFrame, states: pd.DataFrame) -> pd.DataFrame:
    """Extraction of every cell, untouched students included, and its fall, for each split.

    ``before`` and ``after`` count passages extracted exactly, ``survivors`` those extracted both
    before and after; after training they are means over seeds. The fall is
    ``1 - survivors / before``. ``low`` and ``high`` are its exact limits (Clopper and Pearson,
    1934) at 90 %, so each is a one-sided 95 % limit; of several seeds the widest, since all seeds
    are asked for the same passages. The fall is missing where nothing was extracted before.
    ``share`` is that of all passages, with its exact 95 % interval, the widest over seeds.
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
    """What one cell extracts, seed by seed, of so many passages, beside what it did before."""
    limits = [inference.exact_interval(len(found), passages) for found in after]
    survivors = [len(found & start) for found in after]
    mean = float(np.mean([len(found) for found in after]))
    row = {"passages": passages, "seeds": len(after), "before": len(start), "after": mean}
    row |= {"survivors": float(np.mean(survivors)), "share": mean / passages}
    row |= {"share_low": min(a for a, _ in limits), "share_high": max(b for _, b in limits)}
    if not start:
        return row | dict.fromkeys(("fall", "low", "high"), np.nan)
    kept = [inference.exact_interval(k, len(start), 0.90) for k in survivors]
    row |= {"fall": 1 - row["survivors"] / len(start)}
    return row | {"low": 1 - max(b for _, b in kept), "high": 1 - min(a for a, _ in kept)}


KINDS = {
    **dict.fromkeys(("source", "method"), "string"),
    **dict.fromkeys(("temperature", "learning_rate"), "Float64"),
    **dict.fromkeys(("seed", "round", "steps", "rank", "step"), "Int64"),
}
"""Types of the labels that an untouched student, or another method, has not."""


def typed(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with labels of one type, whether or not some are missing."""
    return frame.astype({c: kind for c, kind in KINDS.items() if c in frame})


def summarize(tables: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The summary tables, from the rows of states, items, passages and models."""
    states = tables["states"]
    measured = Accuracy(tables["utility"], states)
    return {
        "gains": gains(measured, states),
        "contrasts": contrasts(measured, states, tables["models"]),
        "falls": falls(tables["extraction"], states),
    }


def with_memory(gains: pd.DataFrame, falls: pd.DataFrame) -> pd.DataFrame:
    """One row per trained pairing: its suite gain beside its held-out extraction.

    ``before_share`` and its limits are those of the untouched student.
    """
    suite = gains[gains["task"].eq(SUITE)]
    held_out = falls[falls["split"].eq("held_out")]
    columns = ["share", "share_low", "share_high"]
    plain = held_out[held_out["experiment"].eq("untouched")].set_index(["results", "student"])
    memory = held_out.rename(columns={"low": "fall_low", "high": "fall_high"})
    counts = ["passages", "before", "after", *columns, "fall", "fall_low", "fall_high"]
    keys = ["results", *LABELS]
    rows = suite.merge(memory[[*keys, *counts]], on=keys)
    return rows.join(plain[columns].add_prefix("before_"), on=["results", "student"])
