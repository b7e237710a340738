"""Checks of the answers in the gaps of the workshop, one function per gap.

A check computes the right answer from what the notebook has measured, so this module contains no
answers. It returns a sentence that says why an answer is right, or raises ``gaps.GapError``, whose
message names the mistake if it is a common one.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from nbutils.analysis import inference, verdicts
from nbutils.analysis.gains import SUITE
from nbutils.config.design import Pairing
from nbutils.config.tiers import Tier
from nbutils.notebooks import gaps
from nbutils.notebooks.gaps import GapError
from nbutils.results.corpora import distinct


def _weighted(corpus: pd.DataFrame) -> float:
    """Mean log-probability of a corpus over its tokens."""
    return float(np.average(corpus["mean_log_prob"], weights=corpus["n_tokens"]))


# ---------------------------------------------------------------- 1: sample from BOS


def corpora(given: Any, temperatures: Sequence[float]) -> str:
    """Maps each temperature to documents, with the columns of ``corpus.parquet``."""
    expected = "a dictionary from each temperature to its table of documents"
    answers = gaps.keyed(given, "corpora", temperatures, expected)
    for temperature, corpus in answers.items():
        if not isinstance(corpus, pd.DataFrame) or "mean_log_prob" not in corpus:
            raise GapError(
                f"`corpora[{temperature}]` is not the table of documents: `s.compute(run)` returns "
                "a folder, and `s.frame(run, 'corpus')` the table in it"
            )
    means = [_weighted(answers[t]) for t in sorted(temperatures)]
    if means[0] == means[-1]:
        raise GapError(
            "all corpora hold the same documents: give the temperature to `s.plan.corpus`"
        )
    if means[0] < means[-1]:
        raise GapError(
            "the coldest corpus is the least likely text, so the corpora seem to be swapped: "
            "cold sampling prefers likely tokens"
        )
    number = sum(len(corpus) for corpus in answers.values())
    return f"Right: {number} documents, each sampled from BOS alone."


def variety(given: Any, corpora: Mapping[float, pd.DataFrame]) -> str:
    """Maps each temperature to the share of distinct bigrams."""
    expected = "a dictionary from each temperature to a share of distinct bigrams"
    answers = gaps.keyed(given, "variety", list(corpora), expected)
    for t, corpus in corpora.items():
        texts = list(corpus["text"])
        right = distinct(texts, 2)
        mistakes = {
            "that is the share of distinct words; bigrams have size 2": distinct(texts, 1),
            "that is the share of distinct trigrams; bigrams have size 2": distinct(texts, 3),
            "that is the share that is repeated: subtract it from one": 1 - right,
        }
        gaps.number(answers[t], f"variety[{t}]", right, mistakes)
    low, high = (answers[t] for t in (min(corpora), max(corpora)))
    more = "more" if low < high else "not more"
    return f"Right: the hotter corpus is {more} varied than the colder one."


def fidelity(given: Any, corpora: Mapping[float, pd.DataFrame]) -> str:
    """Maps each temperature to the mean log-probability per token, nats."""
    expected = "a dictionary from each temperature to a mean over tokens"
    answers = gaps.keyed(given, "fidelity", list(corpora), expected)
    for t, corpus in corpora.items():
        mistakes = _wrong_means(corpus, 1)
        gaps.number(answers[t], f"fidelity[{t}]", _weighted(corpus), mistakes)
    low, high = (answers[t] for t in (min(corpora), max(corpora)))
    more = "likelier" if low > high else "no likelier"
    return f"Right: to the source itself the colder text is {more} than the hotter one."


def _wrong_means(corpus: pd.DataFrame, sign: int) -> gaps.Mistakes:
    """Values that ignore the length of documents, omit the division, or have the wrong sign."""
    per_document = sign * float(corpus["mean_log_prob"].mean())
    total = sign * float((corpus["mean_log_prob"] * corpus["n_tokens"]).sum())
    weight = "weight each by its `n_tokens`"
    signs = "its sign is wrong: log-probabilities are negative, losses are positive"
    return {
        f"that is the mean over documents: {weight}": per_document,
        "that is a sum: divide by the number of all tokens": total,
        "that is the sum divided by the number of documents: divide by the number of all tokens": (
            total / len(corpus)
        ),
        signs: -sign * _weighted(corpus),
        f"{signs}; and it is the mean over documents: {weight}": -per_document,
    }


# ---------------------------------------------------------------- 2: train on your own text


def self_pairing(given: Any, student: str, seed: int) -> str:
    """The self pairing of a student."""
    gaps.filled(given, "pairing", "the self pairing, `Pairing(...)`,")
    right = Pairing(student, student, 1.0, "full", seed)
    reason = "in a self pairing source and student are the same model"
    wrong = {"source": reason, "student": "the notebook's parameters name it"}
    gaps.pairing_like(given, "pairing", right, wrong)
    return f"Right: {given}."


def first_loss(given: Any, corpus: pd.DataFrame) -> str:
    """The loss of the source on its own corpus, nats per token."""
    gaps.filled(given, "expected", "the loss at the first step, a number,")
    right = -_weighted(corpus)
    gaps.number(given, "expected", right, _wrong_means(corpus, -1))
    return f"Right: {right:.2f} nats per token is what the source's own text costs the source."


def gain(given: Any, before: pd.DataFrame, after: pd.DataFrame) -> str:
    """The suite's gain, a fraction."""
    gaps.filled(given, "gain", "the suite's accuracy after training minus that before, a number,")
    change = after["correct"].astype(int) - before["correct"].astype(int)
    right = float(change.groupby(before["task"]).mean().mean())
    accuracy = after["correct"].groupby(after["task"]).mean().mean()
    mistakes = {
        "that is the loss from after to before: subtract before from after": -right,
        "that is in points: give a fraction": 100 * right,
        "that is the accuracy after training: subtract the accuracy before training": float(
            accuracy
        ),
        "that is the mean over all items, where large tasks count for more: take the mean of "
        "each task first": float(change.mean()),
        "that is a sum over items: take means": float(change.sum()),
    }
    gaps.number(given, "gain", right, mistakes)
    changed = int(change.ne(0).sum())
    return f"Right: {changed} of {len(change)} items changed, and only these decide the gain."


READINGS = ("a gain", "a loss", verdicts.NOT_DISTINGUISHED)


def reading(given: Any, gains: pd.DataFrame) -> str:
    """The reading of the suite's interval, one of ``READINGS``."""
    gaps.filled(given, "reading", "one of " + gaps.listed(READINGS))
    if not isinstance(given, str) or given not in READINGS:
        raise GapError(f"`reading` is {given!r}: it must be one of {gaps.listed(READINGS)}")
    low, high = gains.loc[gains["task"].eq(SUITE), ["low", "high"]].iloc[0]
    right = verdicts.reading(low, high)
    if given == right:
        return f"Right: [{100 * low:+.2f}, {100 * high:+.2f}] points on the suite: {right}."
    if right == verdicts.NOT_DISTINGUISHED:
        raise GapError(
            f"`reading` is {given!r}, but zero lies inside [{low:.4f}, {high:.4f}]: with other "
            "items the sign could differ"
        )
    side = "above" if low > 0 else "below"
    raise GapError(f"`reading` is {given!r}, but the whole interval lies {side} zero")


# ---------------------------------------------------------------- 3: whose text?


def relations(given: Any, tier: Tier, student: str) -> str:
    """Maps each source to its relation to the student."""
    expected = "a dictionary from each model to 'self', 'lineage' or 'cross-family'"
    answers = gaps.keyed(given, "relations", list(tier.models), expected)
    family = tier.models[student].family
    for source, value in answers.items():
        right = tier.relation(source, student)
        if value != right:
            raise GapError(
                f"`relations[{source!r}]` is {value!r}: {source} is of family "
                f"{tier.models[source].family!r}, the student {student} of {family!r}, and they "
                f"are {'the same model' if source == student else 'two models'}"
            )
    return "Right: computed from the families, so a new model cannot be put in the wrong place."


def pairings(given: Any, tier: Tier, student: str, seed: int) -> str:
    """Maps each source to its pairing; the pairings differ only in their source."""
    expected = "a dictionary from each source to its pairing"
    answers = gaps.keyed(given, "pairings", list(tier.models), expected)
    wrong = {
        "source": "the key names the source, and the source comes first in `Pairing(...)`",
        "student": "all pairings have the same student",
    }
    for source, pairing in answers.items():
        right = Pairing(source, student, 1.0, "full", seed)
        gaps.pairing_like(pairing, f"pairings[{source!r}]", right, wrong)
    return f"Right: {len(answers)} pairings that differ only in their source."


def control(given: Any, student: str, seed: int) -> str:
    """The shuffled control of the self pairing."""
    gaps.filled(given, "control", "the shuffled control, `Pairing(...)`,")
    right = Pairing(student, student, 1.0, "full", seed, control="shuffled")
    wrong = {
        "source": "the source of a control is the student",
        "control": 'without `control="shuffled"` the tokens keep their order',
    }
    gaps.pairing_like(given, "control", right, wrong)
    return f"Right: {given} has the words of {replace(given, control=None)}, but not their order."


def contrast(given: Any, own: pd.DataFrame, stranger: pd.DataFrame, untouched: pd.DataFrame) -> str:
    """Gains by the student's own text over those by a stranger's text.

    ``own``, ``stranger`` and ``untouched`` are rows of items after own text, after the text of a
    cross-family source, and before training.
    """
    gaps.filled(given, "contrast", "the table that `s.paired` returns")
    if not isinstance(given, pd.DataFrame) or "gain" not in given:
        raise GapError("`contrast` is not a table of gains: `s.paired(first, second)` is")
    value = float(given.loc[given["task"].eq(SUITE), "gain"].iloc[0])

    def between(first: pd.DataFrame, second: pd.DataFrame) -> float:
        change = second["correct"].astype(int) - first["correct"].astype(int)
        return float(change.groupby(first["task"]).mean().mean())

    mistakes = {
        "that is the stranger's minus own: give own minus the stranger's": between(own, stranger),
        "that is the gain of own text over the untouched student: put the answers after the "
        "stranger's text first": between(untouched, own),
        "that is the gain of the stranger's text over the untouched student": between(
            untouched, stranger
        ),
    }
    gaps.number(value, "contrast", between(stranger, own), mistakes)
    return "Right: one contrast, paired on the same items, instead of two intervals side by side."


# ---------------------------------------------------------------- 4: what is still remembered?


def counts(given: Any, extraction: Mapping[str, pd.DataFrame]) -> str:
    """Maps each name to (number exact, number of passages), both of the held-out split."""
    expected = "a dictionary from each name to (number exact, number of passages)"
    answers = gaps.keyed(given, "counts", list(extraction), expected)
    for name, rows in extraction.items():
        answer = answers[name]
        if not isinstance(answer, tuple | list) or len(answer) != 2:
            raise GapError(f"`counts[{name!r}]` must be a pair: (number exact, number of passages)")
        held_out = rows[rows["split"].eq("held_out")]
        k, n = answer
        if n != len(held_out) and n in (len(rows), len(rows) - len(held_out)):
            raise GapError(
                f"`counts[{name!r}]` is about {n} passages: those of the split `dev` are for "
                f"choices, so report only the {len(held_out)} of `held_out`"
            )
        gaps.number(n, f"counts[{name!r}][1]", len(held_out), {})
        partial = int(held_out["matched_tokens"].gt(0).sum())
        mistakes = {
            "those are the passages with at least one matched token: `exact` requires all": partial,
            "that is a share: give the count": float(held_out["exact"].mean()),
        }
        gaps.number(k, f"counts[{name!r}][0]", int(held_out["exact"].sum()), mistakes)
    return "Right: held-out passages, reproduced to the last token."


def intervals(given: Any, counts: Mapping[str, tuple[int, int]]) -> str:
    """Maps each name to exact limits of its extraction, (low, high)."""
    expected = "a dictionary from each name to (low, high)"
    answers = gaps.keyed(given, "intervals", list(counts), expected)
    for name, (k, n) in counts.items():
        answer = answers[name]
        if not isinstance(answer, tuple | list) or len(answer) != 2:
            raise GapError(f"`intervals[{name!r}]` must be a pair: (low, high)")
        share, right = k / n, inference.exact_interval(k, n)
        for side, limit, exact, sign in zip(("low", "high"), answer, right, (-1, 1), strict=True):
            normal = share + sign * 1.96 * math.sqrt(share * (1 - share) / n)
            why = "that is the normal approximation, which is wrong for small counts"
            mistakes = {why: normal, "that is the share itself, without an interval": share}
            gaps.number(limit, f"intervals[{name!r}] ({side})", exact, mistakes)
    widest = max(high - low for low, high in answers.values())
    return f"Right: the widest covers {100 * widest:.0f} points, so few passages say little."


def fall(given: Any, first: pd.DataFrame, after: pd.DataFrame) -> str:
    """One minus the share of extracted held-out passages that survive."""
    gaps.filled(given, "fall", "the fall of held-out extraction, a number from 0 to 1,")
    held_out = first["split"].eq("held_out")
    start = int((first["exact"] & held_out).sum())
    if start == 0:
        return "There is no fall: nothing was extracted before training."
    survivors = int((first["exact"] & after["exact"] & held_out).sum())
    later = int((after["exact"] & held_out).sum())
    everywhere = int((first["exact"] & after["exact"]).sum()) / int(first["exact"].sum())
    mistakes = {
        "that is the share that survives: the fall is one minus it": survivors / start,
        "it counts every passage extracted after training, but only those extracted before, too, "
        "survive": 1 - later / start,
        "it counts the passages of the split `dev`, too": 1 - everywhere,
        "divide by the number extracted before, not by that of all passages": (
            1 - survivors / int(held_out.sum())
        ),
    }
    gaps.number(given, "fall", 1 - survivors / start, mistakes)
    return f"Right: survivors are {survivors} of the {start} passages extracted before."


# ---------------------------------------------------------------- 5: predict, then measure


def predicted(given: Any, scores: pd.DataFrame) -> str:
    """Maps each proxy to the source that it chooses."""
    expected = "a dictionary from each proxy to a source"
    answers = gaps.keyed(given, "predicted", list(scores.columns), expected)
    for proxy, source in answers.items():
        if not isinstance(source, str) or source not in scores.index:
            raise GapError(
                f"`predicted[{proxy!r}]` is {source!r}: name a source, a row of `scores`"
            )
        if source != scores[proxy].idxmax():
            most = " (the lowest)" if source == scores[proxy].idxmin() else ""
            raise GapError(
                f"`predicted[{proxy!r}]` is {source!r}, which has the value "
                f"{scores.loc[source, proxy]:.3f}{most}: the proxy chooses the highest"
            )
    return (
        "Right: "
        + "; ".join(f"{proxy} chooses {source}" for proxy, source in answers.items())
        + "."
    )


RULE = (
    ((0.01, 0.03), "supported", "the whole interval lies above zero"),
    ((-0.03, -0.01), "contradicted", "the whole interval lies below zero"),
    ((-0.01, 0.03), "undecided", "zero lies inside the interval, if not in its middle"),
    ((-0.03, 0.01), "undecided", "zero lies inside the interval, if not in its middle"),
)
"""Intervals, the verdict of the rule on each, and the reason."""


def rule(given: Any) -> str:
    """A function from the limits of an interval to the verdict of the rule."""
    gaps.filled(given, "verdict", "a function of (low, high)")
    if not callable(given):
        raise GapError(f"`verdict` is a {type(given).__name__}: define a function of (low, high)")
    judge: Callable[[float, float], Any] = given
    for (low, high), right, why in RULE:
        verdict = judge(low, high)
        if not isinstance(verdict, str) or verdict != right:
            raise GapError(
                f"`verdict({low}, {high})` is {verdict!r}: {why}, so it must be {right!r}"
            )
    return "Right: and it was written before anything was measured."


def regret(given: Any, gains: Mapping[str, float], predicted: Mapping[str, str]) -> str:
    """Maps each proxy to the gain that its choice lost, a fraction.

    ``gains`` maps each source to its gain, ``predicted`` each proxy to the source that it chose.
    """
    expected = "a dictionary from each proxy to the gain lost"
    answers = gaps.keyed(given, "regret", list(predicted), expected)
    best = max(gains.values())
    for proxy, source in predicted.items():
        gained = gains[source]
        mistakes = {
            "its sign is wrong: take the best gain minus that of the chosen source": gained - best,
            "that is the gain of the chosen source: compare it with the best": gained,
            "that is in points: give a fraction": 100 * (best - gained),
        }
        gaps.number(answers[proxy], f"regret[{proxy!r}]", best - gained, mistakes)
    best_chosen = [proxy for proxy, source in predicted.items() if gains[source] == best]
    which = " and ".join(best_chosen) or "no proxy"
    return f"Right: {which} chose the best of {len(gains)} sources."
