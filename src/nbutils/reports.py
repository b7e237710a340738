"""Reports: the tables and sentences that a page prints, computed from judged rows."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from nbutils.cells import TEMPERATURE
from nbutils.runs import Manifest
from nbutils.stats import exact_interval
from nbutils.summaries import MEASURED, NORM, SUITE
from nbutils.verdicts import (
    FALL,
    LEVEL,
    NOT_TOLD,
    TOLERANCE,
    combine,
    estimate,
    groups_of,
    points,
    reading,
    side,
)


def percent(values: Iterable[float], low: Iterable[float], high: Iterable[float]) -> list[str]:
    """Shares with their limits for people."""
    return [
        f"{100 * v:.0f} % [{100 * a:.0f}, {100 * b:.0f}]"
        for v, a, b in zip(values, low, high, strict=True)
    ]


def with_limits(rows: pd.DataFrame, value: str = "gain") -> list[str]:
    """A column and its limits in percentage points for people."""
    limits = rows[[value, "low", "high"]].to_numpy(dtype=float)
    return [points(*row) for row in limits]


def runs(states: pd.DataFrame, *experiments: str) -> list[str]:
    """Keys of the runs behind the states of some experiments."""
    part = states[states["experiment"].isin(experiments)]
    keys = [*(state.partition("@")[0] for state in part["state"]), *part["extraction_run"].dropna()]
    return list(dict.fromkeys(keys))


# ---------------------------------------------------------------- models

_PLAIN = {
    "packed": "one document per row in training",
    "tree": "one request at a time in scoring",
    "memory": "every token read again for each one sampled",
    "shrunk": "finished documents stay in the batch",
}
"""What the plain way means where a shortcut is not right."""


def read_as(name: str, folder: Path) -> list[str]:
    """Sentences on how a model of the store is read: what begins with BOS, and which shortcuts."""
    policy = json.loads((folder / "bos.json").read_text("utf-8"))
    parts = ("scoring", "contexts of benchmark items"), ("extraction", "prompts of passages")
    begin = [what for key, what in parts if policy[key]]
    bare = [what for key, what in parts if not policy[key]]
    told = f"{name}: documents begin with {policy['token']}"
    told += f"; so do {' and '.join(begin)}" if begin else ""
    told += f"; {' and '.join(bare)} do not" if bare else ""
    plain = plain_ways(name, folder)
    return [f"{told}.", plain or f"{name}: every shortcut gives what the plain way gives."]


def plain_ways(name: str, folder: Path) -> str:
    """A sentence on where a model of the store is read the plain way; empty where it never is."""
    facts = json.loads((folder / "facts.json").read_text("utf-8"))
    wrong = {key: check for key, check in facts["shortcuts"].items() if not check["right"]}
    ways = [f"{_PLAIN[key]} ({_apart(check)})" for key, check in wrong.items()]
    if not ways:
        return ""
    tried = f"tried with transformers {facts['tried']['transformers']}, {facts['tried']['device']}"
    return f"{name} is read the plain way, which takes longer: {'; '.join(ways)}; {tried}."


def _apart(check: dict[str, Any]) -> str:
    """How far a shortcut is from the plain way, or why that could not be measured."""
    for which in ("copy", "model"):
        if check[which] is not None and check[which] > check[f"{which}_bound"]:
            differ = f"else logits differ by {check[which]:.2g} of the largest"
            return f"{differ}, {check[f'{which}_bound']:.0e} is allowed"
    return f"the shortcut could not be tried: {check['why'] or 'logits are not finite'}"


# ---------------------------------------------------------------- utility


def by_metric(gains: pd.DataFrame) -> pd.DataFrame:
    """The rows of gains, and one more of every task that defines both metrics of lm-eval.

    ``metric`` tells the two rows of a task apart, and is empty elsewhere. They stand together,
    first the metric that published tables use.
    """
    from nbutils.benchmarks import FIRST  # imports lm-eval, which takes seconds

    gains = gains.reset_index(drop=True)
    both = gains["gain" + NORM].notna()
    normed = gains.assign(metric="acc_norm", **{name: gains[name + NORM] for name in MEASURED})
    rows = pd.concat([gains.assign(metric=both.map({True: "acc", False: ""})), normed[both]])
    second = rows["metric"].ne("") & rows["metric"].ne(rows["task"].map(FIRST).fillna("acc"))
    return pd.concat([rows[~second], rows[second]]).sort_index(kind="stable", ignore_index=True)


def _tasks(rows: pd.DataFrame) -> pd.Series:
    """The names of tasks for people, with the metric where there are two."""
    return rows["task"] + rows["metric"].map(lambda metric: metric and f", {metric}")


def starts(gains: pd.DataFrame) -> pd.DataFrame:
    """Untouched students: accuracy on the suite, and on tasks by both metrics that define both."""
    own = gains[gains["experiment"].eq("pairings") & gains["relation"].eq("self")]
    rows = by_metric(own)
    rows = rows[rows["task"].eq(SUITE) | rows["metric"].ne("")]
    columns = ["results", "student", "task", "items", "chance", "base_accuracy"]
    return rows.assign(task=_tasks(rows))[columns].drop_duplicates()


def by_domain(gains: pd.DataFrame, models: pd.DataFrame) -> pd.DataFrame:
    """Mean gain in points by relation or control: the suite, the own domain, the other domains."""
    kinds = gains["experiment"].isin(["pairings", "controls"])
    rows = gains[kinds & gains["temperature"].eq(TEMPERATURE)]
    # the same students behind every row: those that were given the text of others
    foreign = rows.loc[rows["relation"].eq("cross-family"), ["results", "student"]]
    rows = rows.merge(foreign.drop_duplicates(), on=["results", "student"])
    rows["relation"] = rows["relation"].where(rows["relation"].ne("control"), rows["source"])
    domain = models[["results", "model", "domain"]].rename(columns={"model": "student"})
    rows = rows.merge(domain, on=["results", "student"])
    own = rows["task"].str.split("_").str[0].eq(rows["domain"])
    rows = rows.assign(tasks=own.map({True: "own domain", False: "other domains"}))
    rows.loc[rows["task"].eq(SUITE), "tasks"] = SUITE
    keys = ["results", "method", "relation"]
    table = 100 * rows.pivot_table(index=keys, columns="tasks", values="gain", sort=False)
    return table.reset_index()


def seeds(gains: pd.DataFrame) -> list[str]:
    """One sentence a result label: over how many seeds its intervals speak."""
    pairings = gains[gains["experiment"].eq("pairings")]
    found = []
    for (results,), part in groups_of(pairings, ["results"]):
        least, most = int(part["seeds"].min()), int(part["seeds"].max())
        number = f"{least} to {most}" if most > least else f"{most}"
        told = f"{number} seeds a pairing, so intervals speak of other items and other seeds"
        if most == 1:
            told = "1 seed a pairing, so intervals speak of other items alone"
            told += ": seeds may differ by more"
        elif least == 1:
            told += ", where there is one seed of other items alone"
        found.append(f"{results}: {told}")
    return found


# ---------------------------------------------------------------- memorization


def decoupling(judged: pd.DataFrame) -> pd.DataFrame:
    """Every judged pairing: its change of utility, its fall, and both verdicts."""
    falls = percent(judged["fall"], judged["fall_low"], judged["fall_high"])
    table = judged[["results", "student", "source", "relation", "verdict"]].copy()
    table["change of utility"] = with_limits(judged)
    table["fall"] = falls
    table[["kept", "forgotten", "method"]] = judged[["kept", "forgotten", "method"]]
    table[["before", "after"]] = judged[["before", "after"]]
    return table


def controls(implied: pd.DataFrame) -> pd.DataFrame:
    """Every control beside the student's self pairing."""
    columns = ["results", "student", "source"]
    own = implied[["value", "self_low", "self_high"]].to_numpy(dtype=float)
    own_falls = percent(implied["fall_self"], implied["fall_low_self"], implied["fall_high_self"])
    table = implied[columns].rename(columns={"source": "control"})
    table["self minus control"] = [points(*row) for row in own]
    table["utility"] = implied["utility"]
    table["control's fall"] = percent(implied["fall"], implied["fall_low"], implied["fall_high"])
    table["self's fall"] = own_falls
    table["it forgets"] = implied["forgets"]
    return table


_MEANING = {
    "real text": "text that a model wrote",
    "shuffled self": "the order of its words",
    "noise": "the direction of the update",
    "rate zero": "training at all",
}


def special(implied: pd.DataFrame) -> pd.DataFrame:
    """For every control a sentence: is what it takes away needed for forgetting?"""
    rows = []
    for (results, control), part in groups_of(implied, ["results", "source"]):
        forgets = ", ".join(f"{kind} for {n}" for kind, n in part["forgets"].value_counts().items())
        utility = ", ".join(f"{kind} for {n}" for kind, n in part["utility"].value_counts().items())
        what = _MEANING[str(control)]
        said = f"it is not settled whether forgetting needs {what}"
        if not part["forgot"].any():
            said = "self-training itself is not seen to forget, so there is nothing to explain"
        elif part["enough"].all():
            said = f"forgetting does not need {what}: this control does as much at no higher cost"
        elif part["forgets"].eq("less").all():
            said = f"this forgetting needs {what}"
        reason = f"beside self-training it forgets: {forgets} of the students; utility: {utility}"
        rows.append((results, control, f"{reason}; {said}"))
    return pd.DataFrame(rows, columns=["results", "control", "reason"])


def stops(chosen: pd.DataFrame) -> pd.DataFrame:
    """Where every trajectory stops by its dev passages, and what that brings on held-out ones."""
    limits = chosen[["low", "high", "fall_low", "fall_high"]].to_numpy(dtype=float)
    kinds = [
        combine((side(low, high, -TOLERANCE), side(fall_low, fall_high, FALL)))
        for low, high, fall_low, fall_high in limits
    ]
    table = chosen[["results", "student", "source", "relation"]].copy()
    table["verdict"] = kinds
    table["stop at"] = chosen["step"]
    table["dev all gone"] = chosen["all_gone"].map({True: "yes", False: "no"})
    table["held-out fall"] = percent(chosen["fall"], chosen["fall_low"], chosen["fall_high"])
    table["change of utility"] = with_limits(chosen)
    table["dev before"] = chosen["dev_before"]
    return table


# ---------------------------------------------------------------- predictors, rounds, recipes


def predictors(judged: pd.DataFrame) -> pd.DataFrame:
    """Every predictor for students left out, the best first."""
    rows = judged.sort_values(["results", "method", "rho"], ascending=[True, True, False])
    limits = rows[["rho", "low", "high"]].to_numpy(dtype=float)
    table = rows[["results", "method", "kind", "proxy", "students"]].copy()
    table["rho"] = [estimate(*row) for row in limits]
    table["corrected p"] = rows["p_value"]
    table["regret"] = 100 * rows["regret"]
    table["regret at random"] = 100 * rows["regret_at_random"]
    table["useful"] = rows["useful"].map({True: "yes", False: "no"})
    return table


def best_predictors(judged: pd.DataFrame) -> pd.DataFrame:
    """One sentence for each result label and method: which diagnostics beat every proxy."""
    rows = []
    for keys, part in groups_of(judged, ["results", "method"]):
        useful = part[part["useful"]]
        named = {
            kind: ", ".join(useful.loc[useful["kind"].eq(kind), "proxy"]) or "none"
            for kind in ("diagnostic", "proxy")
        }
        top = part.loc[part["rho"].idxmax()]
        reason = (
            f"useful diagnostics: {named['diagnostic']}; useful proxies: {named['proxy']}; the "
            f"highest rho is that of {top['proxy']} ({top['rho']:+.2f}), tried on "
            f"{part['students'].iloc[0]} students"
        )
        rows.append((*keys, reason))
    return pd.DataFrame(rows, columns=["results", "method", "reason"])


def rounds(rows: pd.DataFrame) -> pd.DataFrame:
    """Every student and round: gain, extraction, and the corpus that was read."""
    rows = rows.sort_values(["results", "student", "round"])
    columns = ["results", "student", "round", "seeds"]
    table = rows[columns].copy()
    table["gain"] = with_limits(rows)
    table["extraction"] = percent(rows["share"], rows["share_low"], rows["share_high"])
    table["distinct bigrams"] = rows["distinct_2"]
    table["benchmark vocabulary"] = rows["benchmark_words"]
    table["documents with a passage"] = rows["passage_hits"]
    return table


def best_recipes(rows: pd.DataFrame) -> pd.DataFrame:
    """For every student the recipe with the highest gain."""
    best = rows.loc[rows.groupby(["results", "student"], sort=False)["gain"].idxmax()]
    columns = ["results", "student", "update", "learning_rate", "steps"]
    table = best[columns].rename(columns={"learning_rate": "learning rate"})
    table["gain"] = with_limits(best)
    table["corrected p"] = best["p_value"]
    table["effect"] = best["effect"]
    return table


def recipe_answer(rows: pd.DataFrame) -> pd.DataFrame:
    """One sentence a result label: how many recipes gain or lose."""
    found = []
    for (results,), part in groups_of(rows, ["results"]):
        count = part["effect"].value_counts()
        answer = (
            f"of {len(part)} recipes over {part['student'].nunique()} students "
            f"{count.get('gain', 0)} gain and {count.get('loss', 0)} lose after correction at "
            f"{LEVEL:g}; the highest gain is {100 * part['gain'].max():+.2f} points"
        )
        found.append((results, answer))
    return pd.DataFrame(found, columns=["results", "answer"])


# ---------------------------------------------------------------- one pairing


def gain_table(gains: pd.DataFrame) -> pd.DataFrame:
    """Every task's accuracy before and after, and the gain in points, by both metrics if it can."""
    rows = by_metric(gains)
    table = rows[["items", "chance", "base_accuracy", "accuracy"]].copy()
    table.insert(0, "task", _tasks(rows))
    table["gain (points)"] = with_limits(rows)
    table["detectable (points)"] = [f"{100 * d:.2f}" for d in rows["detectable"]]
    return table


def gain_sentence(gains: pd.DataFrame, name: str) -> str:
    """What the suite's interval says about a pairing."""
    suite = gains[gains["task"].eq(SUITE)]
    low, high = suite[["low", "high"]].iloc[0]
    told = reading(low, high)
    than = " from no change" if told == NOT_TOLD else ""
    return f"{name}: {with_limits(suite)[0]} points on the suite, {told}{than}"


def scores(proxies: pd.DataFrame, diagnostics: pd.DataFrame) -> pd.DataFrame:
    """Every proxy, as its mean over tasks, and every diagnostic."""
    means = proxies.groupby("proxy", as_index=False)["value"].mean().assign(kind="proxy")
    others = diagnostics.rename(columns={"diagnostic": "proxy"}).assign(kind="diagnostic")
    table = pd.concat([means, others], ignore_index=True)
    return table[["kind", "proxy", "value"]].rename(columns={"proxy": "score"})


def extraction(found: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Exact passages before and after, by split, with exact intervals."""
    rows = []
    for moment, passages in found.items():
        for split, part in passages.groupby("split"):
            hits, number = int(part["exact"].sum()), len(part)
            low, high = exact_interval(hits, number)
            rows.append((moment, split, number, hits, *percent([hits / number], [low], [high])))
    return pd.DataFrame(rows, columns=["", "split", "passages", "exact", "share"])


def cost(done: Iterable[Manifest]) -> pd.DataFrame:
    """Seconds and memory of every stage, each run counted once."""
    runs_ = {m.key: m for m in done}.values()
    rows = pd.DataFrame([(m.stage, m.wall_seconds, m.peak_memory_mib) for m in runs_])
    rows.columns = pd.Index(["stage", "seconds", "peak memory (MiB)"])
    rules = {"seconds": "sum", "peak memory (MiB)": "max"}
    return rows.groupby("stage", as_index=False, sort=False).agg(rules)
