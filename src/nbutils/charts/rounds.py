"""Rounds: utility, extraction and diversity when self-training is repeated."""

import altair as alt
import pandas as pd
from altair.typing import ChartType

from nbutils.analysis import experiments, verdicts
from nbutils.charts import parts
from nbutils.charts.tables import percent, with_limits


def rounds(gains: pd.DataFrame, falls: pd.DataFrame, corpora: pd.DataFrame) -> ChartType:
    """Utility, extraction and diversity over rounds of self-training, one line per student."""
    rows = experiments.round_rows(gains, falls, corpora)
    if rows.empty:
        return parts.nothing("nbutils run lab")
    keys = ["results", "student", "round"]
    numbers = ["gain", "low", "high", "share", "share_low", "share_high", "distinct_2"]
    rows = parts.in_points(parts.checked(rows[[*keys, *numbers]]))
    rows["aside"] = parts.aside(rows, "round", "student")
    choices, chosen = parts.selectors(rows)
    base = alt.Chart(rows).transform_filter(chosen).encode(
        color=alt.Color("student:N", title="student"),
        tooltip=parts.tooltips("student", "round", *parts.GAIN, "share", "distinct_2"),
    )  # fmt: skip
    over = alt.X("aside:Q", title="round").scale(zero=False, padding=16)
    over = over.axis(values=sorted(rows["round"].unique()), format="d")
    words = alt.Y("distinct_2:Q", title="distinct bigrams").scale(zero=False)
    read = "Diversity of the corpus that the round read"
    diversity = parts.line_panel(base, over, words, read)
    return (
        alt.vconcat(*parts.outcomes(base, over), diversity, spacing=24)
        .add_params(*choices)
        .properties(
            description="Change of utility, held-out extraction and diversity of the corpus over "
            "rounds of self-training, one line per student."
        )
    )


def rounds_table(gains: pd.DataFrame, falls: pd.DataFrame, corpora: pd.DataFrame) -> pd.DataFrame:
    """Every student and round: gain, extraction, and the corpus that was read."""
    rows = experiments.round_rows(gains, falls, corpora)
    rows = rows.sort_values(["results", "student", "round"])
    columns = ["results", "student", "round", "seeds"]
    table = rows[columns].copy()
    table["gain"] = with_limits(rows)
    table["extraction"] = percent(rows["share"], rows["share_low"], rows["share_high"])
    table["distinct bigrams"] = rows["distinct_2"]
    table["benchmark vocabulary"] = rows["benchmark_words"]
    table["documents with a passage"] = rows["passage_hits"]
    return table


def verdict(judged: pd.DataFrame) -> list[str]:
    """One sentence per result label and method: is utility kept in later rounds?"""
    return [
        f"{row.results}, {row.method}: that utility is kept is {row.verdict} "
        f"({row.reason} contrasts)"
        for row in verdicts.overall(judged).itertuples()
    ]
