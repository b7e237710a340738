"""Charts are valid specs within bounds, and nothing untrusted reaches the page unescaped."""

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbutils.analysis import experiments, predictors
from nbutils.charts import (
    compatibility_diagnostics,
    losses,
    memorization_decoupling,
    parts,
    provenance,
    proxies_fail,
    recipe_map,
    relational_utility,
    rounds,
    temperature,
    trajectories,
)
from nbutils.charts.tables import table
from nbutils.results.tables import COLUMNS, load, manifests
from support.synthetic import write_tables


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    """Tables of a published tier and of your run."""
    root: Path = tmp_path_factory.mktemp("project")
    write_tables(root / "book/results/tiny", "supported")
    write_tables(root / "runs/tables/tiny", "undecided", seed=1)
    loaded = {name: load(name, root) for name in COLUMNS}
    return loaded | {"manifests": manifests(root)}


@pytest.fixture(scope="module")
def specs(tables: dict[str, pd.DataFrame]) -> dict[str, dict[str, Any]]:
    """The spec of every chart."""
    parts.enable()
    gains, falls, corpora = tables["gains"], tables["falls"], tables["corpora"]
    points = predictors.pairing_points(tables["proxies"], gains)
    cells = experiments.decoupling_pairings(gains, falls)
    stops = experiments.stopping_rule(falls, gains)
    recipes = experiments.recipe_gains(experiments.with_memory(gains, falls))
    drawn = {
        "matrix": relational_utility.relational_matrix(gains),
        "proxies": proxies_fail.proxy_scatter(points, predictors.proxy_correlations(points)),
        "decoupling": memorization_decoupling.decoupling(cells),
        "temperatures": temperature.temperatures(
            experiments.temperature_rows(corpora, gains, falls)
        ),
        "losses": losses.loss_curves(tables["curves"]),
        "frontier": trajectories.frontier(experiments.trajectories(gains, falls), stops),
        "rounds": rounds.rounds(experiments.round_rows(gains, falls, corpora)),
        "recipes": recipe_map.recipe_map(recipes),
        "predictors": compatibility_diagnostics.predictors(
            predictors.useful(predictors.left_out(points))
        ),
    }
    return {name: chart.to_dict() for name, chart in drawn.items()}


CHARTS = [
    *("matrix", "proxies", "decoupling", "temperatures", "losses"),
    *("frontier", "rounds", "recipes", "predictors"),
]


@pytest.mark.parametrize("name", CHARTS)
def test_every_chart_offers_every_result_and_says_what_it_is(
    specs: dict[str, dict[str, Any]], name: str
) -> None:
    """The selector lists both labels; there is a description and a bounded number of rows."""
    spec = specs[name]
    choice = next(p for p in spec["params"] if p["name"] == "results_choice")
    assert choice["bind"]["options"] == ["tiny · published", "tiny · your run"]
    assert choice["value"] == "tiny · published"
    assert spec["description"]
    assert all(len(rows) <= parts.MAX_ROWS for rows in spec["datasets"].values())
    assert '"width": "container"' not in json.dumps(spec)


def test_intervals_at_one_place_stand_beside_one_another() -> None:
    """Around where they belong, within each result label; a single one stays."""
    rows = pd.DataFrame(
        {
            "results": ["a", "a", "a", "a", "b", "b"],
            "student": ["x", "y", "x", "y", "z", "z"],
            "round": [1, 1, 2, 2, 1, 2],
        }
    )
    place = parts.aside(rows, "round", "student")
    assert place.is_unique
    assert place.groupby([rows["results"], rows["round"]]).mean().tolist() == [1, 2, 1, 2]
    assert (place - rows["round"]).abs().max() < 0.05


def test_the_legend_names_relations_that_are_there(specs: dict[str, dict[str, Any]]) -> None:
    """No control has a loss curve or a trajectory; the plane of the decoupling shows them."""
    legend = '"legend": {"values": ["self", "lineage", "cross-family"]}'
    assert legend in json.dumps(specs["losses"])
    assert legend in json.dumps(specs["frontier"])
    assert '"cross-family", "control"]}' in json.dumps(specs["decoupling"])


@given(st.integers(0, 2000), st.integers(1, 100))
def test_thinned_rows_are_few_in_order_and_keep_the_end(count: int, most: int) -> None:
    """Of a curve the last point matters most, and one that is short enough stays whole."""
    places = losses.thinned(count, most)
    assert len(places) == min(count, most) or most / 2 < len(places) < most
    assert places == sorted(set(places))
    assert places[-1:] == list(range(count))[-1:]
    assert len({b - a for a, b in pairwise(places)}) <= 1


def test_many_loss_curves_fit_one_chart(tables: dict[str, pd.DataFrame]) -> None:
    """Each keeps its last step."""
    steps = range(parts.MAX_ROWS)
    one = tables["curves"].head(1).drop(columns=["run", "step"])
    curves = [one.merge(pd.DataFrame({"run": run, "step": steps}), how="cross") for run in "ab"]
    spec = losses.loss_curves(pd.concat(curves)).to_dict()
    (rows,) = spec["datasets"].values()
    assert len(rows) <= parts.MAX_ROWS
    assert [row["run"] for row in rows if row["step"] == steps[-1]] == ["a", "b"]


def test_one_loss_curve_is_thinned() -> None:
    """A long run keeps its shape in fewer rows."""
    steps = range(3 * parts.MAX_ROWS)
    spec = losses.loss_curve(pd.DataFrame({"step": steps, "loss": 1.0})).to_dict()
    assert all(100 < len(rows) <= parts.MAX_ROWS for rows in spec["datasets"].values())


def test_too_many_rows_are_refused() -> None:
    """A spec never holds more than a chart can."""
    with pytest.raises(ValueError, match="aggregate"):
        parts.checked(pd.DataFrame({"x": range(parts.MAX_ROWS + 1)}))


def test_charts_without_results_say_so(tmp_path: Path) -> None:
    """An empty table gives a chart with a sentence."""
    spec = relational_utility.relational_matrix(load("gains", tmp_path)).to_dict()
    assert "nbutils run tiny" in spec["description"]


def test_the_renderer_stores_the_spec_alone() -> None:
    """No script and no address of another host lies in the notebook."""
    bundle = parts._spec_only({"mark": "bar"})
    assert set(bundle) == {parts.MIME, "text/plain"}


def test_tables_escape_every_cell_and_badge_verdicts() -> None:
    """Names, text and headings are escaped; numbers are formatted."""
    frame = pd.DataFrame({"a<b": ["<i>x</i>"], "verdict": ["supported"], "n": [0.12345]})
    page = str(table(frame).data)
    assert "<i>" not in page
    assert "&lt;i&gt;x&lt;/i&gt;" in page
    assert "a&lt;b" in page
    assert 'class="nbutils-badge supported"' in page
    assert "0.123" in page


def test_provenance_names_runs_devices_and_versions(tables: dict[str, pd.DataFrame]) -> None:
    """The footer is computed from the manifests of the runs that a page used."""
    runs = tables["corpora"]["run"].unique().tolist()
    page = str(provenance.footer(tables["manifests"], runs).data)
    assert "tiny · published" in page
    assert "tiny · your run" in page
    assert runs[0][:10] in page
    assert "torch 2.13.0" in page
    assert "2026-01-02" in page
    evil = tables["manifests"].assign(device="<b>gpu</b>")
    assert "<b>" not in str(provenance.footer(evil, runs).data)
    assert "No runs" in str(provenance.footer(pd.DataFrame(), []).data)


def test_numbers_of_a_table_have_the_digits_that_they_need() -> None:
    frame = pd.DataFrame(
        {
            "temperature": [0.7, 1.0], "documents": [2018.3, 900.0], "passages": [1234, 5],
            "share": [0.25, float("nan")], "useful": [True, False],
        }
    )  # fmt: skip
    shown = str(table(frame, digits=2).data)
    cells = re.findall(r"<td>(.*?)</td>", shown)
    some = pd.DataFrame({"planted": pd.Series([0.12345, None], dtype=object), "who": ["a", None]})
    assert re.findall(r"<td>(.*?)</td>", str(table(some).data)) == ["0.123", "a", "–", "–"]
    assert cells == ["0.7", "2,018", "1,234", "0.25", "True", "1", "900", "5", "–", "False"]
