"""The rules that judge the claims, fixed before any result: pure functions from tables to verdicts.

A rule looks at whole intervals: a claim is *supported* when the interval lies on its side of the
threshold, *contradicted* when it lies on the other side, *undecided* when it straddles.
Every function takes tables with a ``results`` column (which tier, and whose) and judges each
result label and each method by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from nbutils import stats

TOLERANCE = 0.005
"""A change of accuracy smaller than this (half a point) counts as no loss."""
FALL = 0.95
"""The fall of extraction that the decoupling claim promises."""
USEFUL_CORRELATION = 0.5
"""The rank correlation from which a proxy would be worth using to choose a corpus."""
TEMPERATURE = 1.0
"""The model's own distribution: the temperature at which pairings are compared."""


@dataclass(frozen=True)
class Verdict:
    """``supported``, ``contradicted`` or ``undecided``, and the computed sentence that says why."""

    verdict: str
    reason: str


def judge(name: str, interval: stats.Interval, threshold: float, unit: str = "pt") -> Verdict:
    """Judge the claim that a quantity exceeds ``threshold`` by its whole interval."""
    value, low, high = interval
    side = "supported" if low > threshold else "contradicted" if high < threshold else "undecided"
    shown = f"{100 * value:+.1f} {unit} [{100 * low:+.1f}, {100 * high:+.1f}]"
    reason = f"{name}: {shown}, to exceed {100 * threshold:+.1f}"
    return Verdict(side, reason)


def combine(verdicts: Sequence[Verdict]) -> Verdict:
    """All must hold: supported if every part is, contradicted if any is, undecided otherwise."""
    kinds = [v.verdict for v in verdicts]
    reason = "; ".join(v.reason for v in verdicts)
    if not kinds:
        return Verdict("undecided", "nothing was measured")
    if "contradicted" in kinds:
        return Verdict("contradicted", reason)
    return Verdict("supported" if set(kinds) == {"supported"} else "undecided", reason)


def overall(verdicts: pd.DataFrame) -> pd.DataFrame:
    """One row for each result label and method: the verdict on a claim over all its rows.

    A claim about every student is supported when it holds for every student, and contradicted
    by a single one for whom the opposite holds.
    """
    rows = []
    for keys, part in verdicts.groupby(["results", "method"], sort=False):
        counts = part["verdict"].value_counts()
        parts = [Verdict(v, "") for v in part["verdict"]]
        said = ", ".join(f"{n} {kind}" for kind, n in counts.items())
        rows.append((*keys, combine(parts).verdict, f"{said}, of {len(part)}"))
    return pd.DataFrame(rows, columns=["results", "method", "verdict", "reason"])


def _groups(table: pd.DataFrame, keys: list[str]) -> Any:
    return table.groupby(keys, sort=False)


def _rows(table: pd.DataFrame) -> Any:
    return table.itertuples()


def relational_verdicts(utility: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Judge ``self >= lineage > cross-family`` for every result label, method and student.

    Three paired contrasts at temperature 1: self minus lineage above the tolerance's loss,
    lineage minus cross-family above zero, and self minus cross-family above zero.
    """
    rows = []
    trained = utility[utility["temperature"].eq(TEMPERATURE) & utility["source"].notna()]
    for keys, part in _groups(trained, ["results", "method", "student"]):
        of = dict(list(part.groupby("relation")))
        verdicts = [
            judge(f"{a} minus {b}", stats.paired_gain(of[a], of[b], seed), threshold)
            for a, b, threshold in (
                ("self", "lineage", -TOLERANCE),
                ("lineage", "cross-family", 0.0),
                ("self", "cross-family", 0.0),
            )
            if a in of and b in of
        ]
        verdict = combine(verdicts) if len(verdicts) == 3 else _incomplete(of)
        rows.append((*keys, verdict.verdict, verdict.reason))
    return pd.DataFrame(rows, columns=["results", "method", "student", "verdict", "reason"])


def _incomplete(of: dict[str, pd.DataFrame]) -> Verdict:
    missing = [r for r in ("self", "lineage", "cross-family") if r not in of]
    return Verdict("undecided", f"no corpus of relation {', '.join(missing)} was measured")


def stronger_verdicts(utility: pd.DataFrame, models: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Judge, for every student, its own corpus against the best stronger foreign corpus.

    A foreign source is stronger when it has more parameters than the student; of several, the
    one after which the student scores highest is taken, which favours the foreign side.
    """
    rows = []
    parameters = models.set_index(["results", "model"])["parameters"].astype(float)
    trained = utility[utility["temperature"].eq(TEMPERATURE) & utility["source"].notna()]
    for keys, part in _groups(trained, ["results", "method", "student"]):
        results, _, student = keys
        size = parameters.loc[results]
        foreign = part[part["relation"].eq("cross-family")]
        foreign = foreign[foreign["source"].map(size) > size[student]]
        own = part[part["relation"].eq("self")]
        if foreign.empty or own.empty:
            verdict = Verdict(
                "undecided", "no stronger foreign corpus, or no own one, was measured"
            )
        else:
            by_task = foreign.groupby(["source", "task"])["correct"].mean()
            best = by_task.groupby("source").mean().idxmax()
            gain = stats.paired_gain(own, foreign[foreign["source"].eq(best)], seed)
            verdict = judge(f"self minus {best}", gain, 0.0)
        rows.append((*keys, verdict.verdict, verdict.reason))
    return pd.DataFrame(rows, columns=["results", "method", "student", "verdict", "reason"])


# ---------------------------------------------------------------- proxies


def proxy_points(proxies: pd.DataFrame, gains: pd.DataFrame) -> pd.DataFrame:
    """One row a (pairing, proxy): the proxy's mean over tasks beside the suite's gain."""
    pairing = ["results", "student", "source", "relation", "temperature"]
    suite = gains[gains["task"].eq("suite") & gains["source"].notna()]
    suite = stats.over_seeds(suite, [*pairing, "method"])
    values = proxies.groupby([*pairing, "proxy"], as_index=False)["value"].mean()
    return suite.merge(values, on=pairing)


def proxy_correlations(points: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Rank correlations of proxy and gain at temperature 1: per student, and pooled.

    The pooled row, student ``all students``, correlates ranks taken within each student, so a
    student that gains more from everything does not count as agreement. Groups of fewer than
    four pairings are left out.
    """
    rows = []
    main = points[points["temperature"].eq(TEMPERATURE)]
    columns = ["results", "method", "proxy"]
    for keys, part in _groups(main, columns):
        ranks = part.groupby("student")[["value", "gain"]].rank(pct=True)
        groups = [(s, p["value"], p["gain"]) for s, p in part.groupby("student", sort=False)]
        for who, x, y in [*groups, ("all students", ranks["value"], ranks["gain"])]:
            if len(x) >= 4:
                rows.append((*keys, who, *vars(stats.rank_correlation(x, y, seed)).values()))
    return pd.DataFrame(
        rows, columns=[*columns, "student", "rho", "low", "high", "p_value", "points"]
    )


def proxy_verdicts(correlations: pd.DataFrame) -> pd.DataFrame:
    """Judge, for every result label, method and proxy, the claim that the proxy fails.

    Pooled over students, the proxy *fails* (claim supported) when the whole interval lies below
    ``USEFUL_CORRELATION``; it *predicts* (claim contradicted) when rho reaches it, the interval
    lies above zero and the permutation p-value is below 0.05.
    """
    rows = []
    for r in _rows(correlations[correlations["student"].eq("all students")]):
        predicts = r.rho >= USEFUL_CORRELATION and r.low > 0 and r.p_value < 0.05
        fails = r.high < USEFUL_CORRELATION
        kind = "supported" if fails else "contradicted" if predicts else "undecided"
        reason = (
            f"rho is {r.rho:+.2f} [{r.low:+.2f}, {r.high:+.2f}] over {r.points} pairings, "
            f"permutation p = {r.p_value:.3f}"
        )
        rows.append((r.results, r.method, r.proxy, kind, reason))
    return pd.DataFrame(rows, columns=["results", "method", "proxy", "verdict", "reason"])


# ---------------------------------------------------------------- memorization and temperature


def extraction_counts(extraction: pd.DataFrame, split: str = "held_out") -> pd.DataFrame:
    """One row a measured model: passages of the split, how many are exact, share and interval.

    Replicates are added up, so a count is over passages times seeds.
    """
    keys = ["results", "student", "source", "relation", "method", "temperature"]
    part = extraction[extraction["split"].eq(split)]
    counts = part.groupby(keys, dropna=False, as_index=False, sort=False).agg(
        passages=("exact", "size"), exact=("exact", "sum"), run=("run", "first")
    )
    counts["share"] = counts["exact"] / counts["passages"]
    limits = [
        stats.exact_interval(*n) for n in zip(counts["exact"], counts["passages"], strict=True)
    ]
    return counts.assign(
        share_low=[low for low, _ in limits], share_high=[high for _, high in limits]
    )


def decoupling_cells(gains: pd.DataFrame, extraction: pd.DataFrame) -> pd.DataFrame:
    """One row a trained pairing: its suite gain beside the fall of its held-out extraction.

    The fall is 1 - (exact after / exact before), never below 0, with the exact binomial
    interval of the survivors at 90 %, which is the two one-sided 95 % limits. Students that
    extract nothing before training cannot fall and are left out.
    """
    keys = ["results", "student", "source", "relation", "method", "temperature"]
    suite = stats.over_seeds(gains[gains["task"].eq("suite") & gains["source"].notna()], keys)
    counts = extraction_counts(extraction)
    before = counts[counts["source"].isna()].set_index(["results", "student"])
    after = counts[counts["source"].notna()].drop(columns="run")
    cells = suite.merge(after, on=keys)
    cells = cells.join(
        before[["exact", "passages", "share", "share_low", "share_high"]].add_prefix("before_"),
        on=["results", "student"],
    )
    cells = cells[cells["before_exact"] > 0].reset_index(drop=True)
    # Seeds multiply the passages after training, so the number before is scaled alike.
    base = (cells["before_exact"] * cells["passages"] / cells["before_passages"]).round()
    survivors = np.minimum(cells["exact"], base)
    limits = [stats.exact_interval(k, n, 0.90) for k, n in zip(survivors, base, strict=True)]
    return cells.assign(
        fall=1 - survivors / base,
        fall_low=[1 - high for _, high in limits],
        fall_high=[1 - low for low, _ in limits],
    )


def decoupling_verdicts(cells: pd.DataFrame) -> pd.DataFrame:
    """Judge every compatible pairing (self, lineage) at temperature 1: kept *and* forgotten.

    Kept: the gain exceeds the tolerance's loss. Forgotten: extraction fell by ``FALL`` or more.
    """
    rows = []
    main = cells[cells["temperature"].eq(TEMPERATURE) & cells["relation"].isin(["self", "lineage"])]
    for r in _rows(main):
        kept = judge("utility", (r.gain, r.low, r.high), -TOLERANCE)
        gone = judge("fall", (r.fall, r.fall_low, r.fall_high), FALL, "%")
        verdict = combine([kept, gone])
        rows.append(
            (r.results, r.method, r.student, r.source, r.relation, verdict.verdict, verdict.reason)
        )
    columns = ["results", "method", "student", "source", "relation", "verdict", "reason"]
    return pd.DataFrame(rows, columns=columns)


def temperature_rows(
    corpora: pd.DataFrame, gains: pd.DataFrame, extraction: pd.DataFrame
) -> pd.DataFrame:
    """One row a self pairing and temperature: coverage, fidelity, gain and extraction share."""
    keys = ["results", "method", "temperature", "student"]
    own = gains[gains["task"].eq("suite") & gains["relation"].eq("self")]
    rows = stats.over_seeds(own, keys)
    columns = [
        "distinct_1",
        "distinct_2",
        "distinct_3",
        "mean_log_prob",
        "passage_hits",
        "documents",
    ]
    corpus = corpora.groupby(["results", "source", "temperature"], as_index=False)[columns].mean()
    rows = rows.merge(
        corpus, left_on=["results", "student", "temperature"],
        right_on=["results", "source", "temperature"],
    )  # fmt: skip
    counts = extraction_counts(extraction)
    counts = counts[counts["relation"].eq("self")]
    columns = ["exact", "passages", "share", "share_low", "share_high"]
    return rows.merge(counts[[*keys, *columns]], on=keys, how="left")


def temperature_verdicts(utility: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Judge, for every student on its own corpus, temperature 1 against every other.

    Each contrast, paired per item, must exceed the tolerance's loss.
    """
    rows = []
    own = utility[utility["relation"].eq("self")]
    for keys, part in _groups(own, ["results", "method", "student"]):
        of = dict(list(part.groupby("temperature")))
        if TEMPERATURE not in of or len(of) < 2:
            continue
        verdict = combine(
            [
                judge(
                    f"gain at {TEMPERATURE:g} minus gain at {t:g}",
                    stats.paired_gain(of[TEMPERATURE], other, seed),
                    -TOLERANCE,
                )
                for t, other in of.items()
                if t != TEMPERATURE
            ]
        )
        rows.append((*keys, verdict.verdict, verdict.reason))
    return pd.DataFrame(rows, columns=["results", "method", "student", "verdict", "reason"])


def temperature_trades(corpora: pd.DataFrame) -> pd.DataFrame:
    """Whether, for every source, coverage rises and fidelity falls at each step of temperature."""
    rows = []
    by = ["results", "source"]
    for keys, part in corpora.groupby(by, sort=False):
        steps = part.groupby("temperature")[["distinct_2", "mean_log_prob"]].mean().sort_index()
        if len(steps) < 2:
            continue
        coverage = bool(steps["distinct_2"].is_monotonic_increasing)
        fidelity = bool(steps["mean_log_prob"].is_monotonic_decreasing)
        holds = "yes" if coverage and fidelity else "no"
        reason = (
            f"coverage {'rises' if coverage else 'does not always rise'}, "
            f"fidelity {'falls' if fidelity else 'does not always fall'}"
        )
        rows.append((*keys, len(steps), holds, reason))
    return pd.DataFrame(rows, columns=[*by, "temperatures", "trade", "reason"])
