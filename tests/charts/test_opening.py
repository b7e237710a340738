"""The first page: which results it speaks of, and what it says of each claim."""

from pathlib import Path

import pandas as pd
import pytest

from nbutils.analysis import claims, verdicts
from nbutils.charts import opening
from nbutils.results.tables import load
from support.synthetic import write_tables

NAMES = ("gains", "falls", "contrasts", "proxies")


def _tables(root: Path) -> dict[str, pd.DataFrame]:
    return {name: load(name, root) for name in NAMES}


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    """Two published tiers with opposite effects."""
    root = tmp_path_factory.mktemp("project")
    write_tables(root / "book/results/lab", "supported")
    write_tables(root / "book/results/tiny", "contradicted", seed=1)
    return _tables(root)


def test_every_claim_is_judged_and_told_with_an_interval(tables: dict[str, pd.DataFrame]) -> None:
    found = opening.answers(tables, "lab · published").set_index("claim")
    assert list(found.index) == list(claims.SAID)
    assert found.loc["ordering", "verdict"] == "supported"
    assert found.loc["decoupling", "verdict"] == "supported"
    assert found["number"].str.contains(r"[-+]\d+\.\d\d \[[-+]\d+\.\d\d, [-+]\d+\.\d\d\]").all()


def test_the_other_tier_says_the_opposite(tables: dict[str, pd.DataFrame]) -> None:
    """Nothing on the page is a constant: its words follow the tables."""
    found = opening.answers(tables, "tiny · published").set_index("claim")
    assert found.loc["ordering", "verdict"] == "contradicted"
    assert found.loc["decoupling", "verdict"] == "contradicted"
    page = str(opening.cards(found.reset_index(), "tiny · published").data)
    assert "judged on tiny · published" in page
    assert 'class="nbutils-badge contradicted"' in page


def test_the_number_is_the_one_that_speaks_most_against(tables: dict[str, pd.DataFrame]) -> None:
    """Of the falls the least, of the contrasts the one that lies furthest behind."""
    judged = verdicts.decoupling_verdicts(
        verdicts.decoupling_pairings(tables["gains"], tables["falls"])
    )
    own = judged[judged["results"].eq("tiny · published") & judged["method"].eq("full")]
    found = opening.answers(tables, "tiny · published").set_index("claim")
    assert f"fell by {100 * own['fall'].min():.0f} %" in str(found.loc["decoupling", "number"])


def test_the_strongest_results_can_see_the_smallest_gain(
    tables: dict[str, pd.DataFrame],
) -> None:
    gains = tables["gains"]
    halved = gains["results"].eq("tiny · published")
    finer = gains.assign(detectable=gains["detectable"].where(~halved, gains["detectable"] / 2))
    coarser = gains.assign(detectable=gains["detectable"].where(~halved, gains["detectable"] * 2))
    assert opening.strongest(finer) == "tiny · published"
    assert opening.strongest(coarser) == "lab · published"


def test_your_run_speaks_where_nothing_is_published(tables: dict[str, pd.DataFrame]) -> None:
    """And results without all relations, as a tier of one pairing has them, do not."""
    gains = tables["gains"]
    mine = gains["results"].eq("tiny · published")
    yours = gains.assign(origin=gains["origin"].where(~mine, "your run"))
    assert opening.strongest(yours) == "lab · published"
    assert opening.strongest(yours[mine]) == "tiny · published"
    assert opening.strongest(gains[gains["relation"].eq("self")]) == ""


def test_without_results_the_page_says_what_brings_some(tmp_path: Path) -> None:
    empty = _tables(tmp_path)
    found = opening.answers(empty, opening.strongest(empty["gains"]))
    assert found.empty
    assert "nbutils run tiny" in str(opening.cards(found, "").data)
    pairings = verdicts.decoupling_pairings(empty["gains"], empty["falls"])
    assert "nbutils run tiny" in opening.picture(pairings).to_dict()["description"]


def test_the_picture_starts_with_the_strongest_results(tables: dict[str, pd.DataFrame]) -> None:
    pairings = verdicts.decoupling_pairings(tables["gains"], tables["falls"])
    spec = opening.picture(pairings, "tiny · published").to_dict()
    choice = next(p for p in spec["params"] if p["name"] == "results_choice")
    assert choice["value"] == "tiny · published"
    assert choice["bind"]["options"] == ["tiny · published", "lab · published"]
