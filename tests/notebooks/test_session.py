"""A session: what one call opens, and what a page of tables is shown by it."""

from pathlib import Path
from typing import Any

import pytest

from nbutils.analysis import verdicts
from nbutils.errors import ParameterError
from nbutils.notebooks import session
from nbutils.results import layout
from support.synthetic import write_tables


@pytest.fixture
def published(project: Path) -> Path:
    """A project with one published tier, and no runs."""
    write_tables(project / layout.PUBLISHED / "tiny")
    return project


def test_a_page_of_tables_says_which_results_it_reads(
    published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    s = session.open("rounds", {"root": "."})
    assert capsys.readouterr().out == "Results: tiny · published\n"
    assert s.project.root == published
    assert set(s.table("gains")["results"]) == {"tiny · published"}


def test_a_page_of_a_measurement_reads_no_results(
    published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    s = session.open("speed", {"root": "."})
    assert capsys.readouterr().out == ""
    assert s.measured("bench.json") is None


def test_the_footer_names_the_runs_of_some_experiments_and_further_keys(published: Path) -> None:
    s = session.open("rounds", {"root": "."})
    states, corpora = s.table("states"), s.table("corpora")
    rounds = states.loc[states["experiment"].eq("rounds"), "state"].iloc[0].partition("@")[0]
    pairing = states.loc[states["experiment"].eq("pairings"), "state"].iloc[0].partition("@")[0]
    page = str(s.footer_of("rounds", also=corpora["run"]).data)
    assert rounds[:10] in page
    assert corpora["run"].iloc[0][:10] in page
    assert pairing[:10] not in page
    assert "No runs" in str(s.footer_of("rounds", states=states.head(0)).data)


def test_contrasts_show_verdicts_and_what_had_to_be_exceeded(published: Path) -> None:
    s = session.open("rounds", {"root": "."})
    judged = verdicts.judged(s.table("contrasts"), "rounds")
    page = str(s.contrasts(judged).data)
    assert page.count('class="nbutils-badge') == len(judged)
    assert "<th>to exceed</th>" in page
    assert "<th>corrected p</th>" not in str(s.contrasts(verdicts.across_students(judged)).data)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("rounds", {"root": "nowhere"}, "'root'"),
        ("proxies_fail", {"root": ".", "seed": -1}, "'seed' is -1"),
        ("workshop/2_train", {"tier": "workshop", "student": 3, "seed": 0}, "'student' is 3"),
        ("self_train", {"tier": "tinny"}, "'tinny'.*'tiny'\\?"),
        ("pairing", {"tier": "smoke", "source": "neo-small"}, "'neo-small'.*'neox-small'\\?"),
    ],
)
def test_a_wrong_parameter_opens_nothing(
    name: str, given: dict[str, Any], message: str, published: Path
) -> None:
    with pytest.raises(ParameterError, match=message):
        session.open(name, given)


def test_an_exercise_names_its_tier_and_its_students_self_pairing(published: Path) -> None:
    given = {"tier": "workshop", "student": "qwen-small", "seed": 3}
    s = session.open("workshop/4_extraction", given)
    assert s.plan.name == "workshop"
    assert str(s.pairing) == "qwen-small ← qwen-small T=1 full s3"


def test_a_page_of_one_model_pairs_it_with_itself(published: Path) -> None:
    s = session.open("prepare_model", {"tier": "smoke", "model": "llama-small"})
    assert str(s.pairing) == "llama-small ← llama-small T=1 full s0"


def test_an_exercise_of_two_sources_pairs_the_first_with_itself(published: Path) -> None:
    given = {"tier": "workshop", "source": "neox-small", "other": "llama-small", "seed": 0}
    assert session.open("workshop/1_sample", given).pairing.student == "neox-small"
