"""Temperature: coverage against fidelity of a corpus, and what training on it brings."""

import json

import altair as alt
import pandas as pd
from altair.typing import ChartType

from nbutils.analysis import experiments, verdicts
from nbutils.charts import parts
from nbutils.config.design import TEMPERATURE

COVERAGE = {
    "distinct bigrams": "distinct_2",
    "benchmark vocabulary": "benchmark_words",
    "documents that hold a passage": "passage_hits",
}
"""By what coverage may be measured, and its column."""
FIDELITY = {"a larger relative": "fidelity", "the source itself": "mean_log_prob"}
"""Who may judge fidelity, and its column."""


def temperatures(corpora: pd.DataFrame, gains: pd.DataFrame, falls: pd.DataFrame) -> ChartType:
    """Coverage against fidelity, then gain and extraction over temperature; a slider links them."""
    rows = experiments.temperature_rows(corpora, gains, falls)
    if rows.empty:
        return parts.nothing()
    numbers = ["gain", "low", "high", "share", "share_low", "share_high"]
    measures = [*COVERAGE.values(), *FIDELITY.values()]
    limits = [f"{measure}_{limit}" for measure in measures for limit in ("low", "high")]
    rows = rows[[*parts.KEYS, *numbers, *measures, *limits]]
    rows = parts.in_points(parts.checked(rows))
    steps = sorted(rows["temperature"].unique())
    slider = alt.binding_range(min=steps[0], max=steps[-1], step=0.1, name="Temperature")
    rows["aside"] = parts.aside(rows, "temperature", "student")
    choices, chosen = parts.selectors(rows, "method")
    choices += [
        parts.choice("coverage_choice", "Coverage by", COVERAGE),
        parts.choice("judge_choice", "Fidelity judged by", FIDELITY),
        alt.param(name="near", value=1.0, bind=slider),
    ]
    tip = parts.tooltips("student", "temperature", *measures, *parts.GAIN, "share")
    base = (
        alt.Chart(rows)
        .transform_filter(chosen)
        .transform_calculate(
            **{
                f"{name}{limit}": f"datum[({json.dumps(known)})[{choice}] + '{limit}']"
                for name, known, choice in (
                    ("coverage", COVERAGE, "coverage_choice"),
                    ("judged", FIDELITY, "judge_choice"),
                )
                for limit in ("", "_low", "_high")
            }
        )
        .encode(color=alt.Color("student:N", title="student"), order="temperature:Q", tooltip=tip)
    )
    size = alt.condition("abs(datum.temperature - near) < 0.05", alt.value(230), alt.value(60))
    coverage = alt.X("coverage:Q", title="coverage, as chosen above").scale(zero=False)
    fidelity = alt.Y("judged:Q", title="fidelity: mean log-likelihood a token").scale(zero=False)
    over = alt.X("aside:Q", title="temperature").scale(zero=False, padding=16)
    over = over.axis(values=steps, format=".2~f")
    title = "Coverage against fidelity"
    across = base.mark_rule(strokeWidth=1.4).encode(
        x="coverage_low:Q", x2="coverage_high:Q", y=fidelity
    )
    plane = across + parts.line_panel(base, coverage, fidelity, title, "judged_low", size)
    plane = plane.properties(width=parts.WIDTH, height=260, title=title)
    return (
        alt.vconcat(plane, *parts.outcomes(base, over, size), spacing=24)
        .add_params(*choices)
        .properties(
            description="Coverage against fidelity of each self corpus, and the gain and the "
            "extraction after training on it, over sampling temperatures."
        )
    )


def corpus_table(corpora: pd.DataFrame) -> pd.DataFrame:
    """What each source writes, as means over seeds: how much, how varied, how many passages."""
    corpora = corpora[corpora["round"].eq(1)]
    numbers = ["documents", "tokens", "finished", "distinct_2", "benchmark_words", "passage_hits"]
    numbers += ["mean_log_prob", "fidelity", "read_otherwise"]
    keys = ["results", "source", "temperature"]
    means = corpora.groupby(keys, as_index=False, sort=False)[numbers].mean()
    means = means.astype(dict.fromkeys(["documents", "tokens", "passage_hits"], "Float64"))
    means = means.round({"documents": 0, "tokens": 0, "passage_hits": 1})
    names = {"distinct_2": "distinct bigrams", "mean_log_prob": "mean log-probability"}
    names |= {"benchmark_words": "suite words", "read_otherwise": "re-read"}
    return means.rename(columns=names)


def trades(corpora: pd.DataFrame) -> pd.DataFrame:
    """Whether, for every source, coverage rises and fidelity falls at each step of temperature.

    Fidelity is judged by a larger relative where the source has one, else by the source itself.
    """
    rows = []
    base = corpora[corpora["round"].eq(1)]
    for keys, part in base.groupby(["results", "source"], sort=False):
        judge = "fidelity" if part["fidelity"].notna().any() else "mean_log_prob"
        steps = part.groupby("temperature")[["distinct_2", "benchmark_words", judge]].mean()
        steps = steps.dropna().sort_index()
        if len(steps) < 2:
            continue
        grows = bool((steps["distinct_2"].diff().dropna() > 0).all())
        falls = bool((steps[judge].diff().dropna() < 0).all())
        reason = (
            f"coverage {'rises' if grows else 'does not always rise'}, "
            f"fidelity {'falls' if falls else 'does not always fall'}"
        )
        rows.append((*keys, len(steps), "yes" if grows and falls else "no", reason))
    return pd.DataFrame(rows, columns=["results", "source", "temperatures", "trade", "reason"])


def verdict(judged: pd.DataFrame) -> list[str]:
    """One sentence per result label and method: does temperature 1 serve as well as any other?"""
    return [
        f"{row.results}, {row.method}: that a temperature of {TEMPERATURE:g} serves as well as "
        f"any other is {row.verdict} ({row.reason} contrasts)"
        for row in verdicts.overall(judged).itertuples()
    ]


def trades_seen(trade: pd.DataFrame) -> list[str]:
    """One sentence per result label: for how many sources coverage is traded for fidelity."""
    return [
        f"{label}: the trade of coverage for fidelity is seen for {part['trade'].eq('yes').sum()} "
        f"of {len(part)} sources"
        for label, part in trade.groupby("results", sort=False)
    ]
