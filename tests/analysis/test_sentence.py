"""The sentence on a judged claim: its verdict, and direction, size and certainty of its number."""

from pathlib import Path

import pandas as pd
import pytest

from nbutils.analysis import claims
from nbutils.analysis.verdicts import Judged, Number, sentence
from nbutils.results.tables import load
from support.synthetic import write_tables

Tables = dict[str, pd.DataFrame]


def judged(verdict: str, value: float, low: float, high: float) -> Judged:
    gain = Number("self gains {} more", "self gains {} less", value, low, high, threshold=-0.5)
    return Judged("ordering", "Self is no worse", verdict, "1 of 1", gain)


@pytest.mark.parametrize(
    ("verdict", "numbers", "said"),
    [
        ("supported", (2.31, 1.0, 3.6), "self gains 2.3 points more (95 % interval 1.0 to 3.6, "
         "all above -0.5)"),
        ("contradicted", (-2.0, -3.0, -1.0), "self gains 2.0 points less (95 % interval -3.0 to "
         "-1.0, all below -0.5)"),
        ("undecided", (-0.04, -1.0, 0.9), "self gains 0.0 points less (95 % interval -1.0 to 0.9, "
         "not clear of -0.5)"),
        ("contradicted", (0.1, -1.0, 1.2), "self gains 0.1 points more (95 % interval -1.0 to 1.2, "
         "not clear of -0.5)"),
    ],
)  # fmt: skip
def test_it_says_direction_size_and_certainty(
    verdict: str, numbers: tuple[float, float, float], said: str
) -> None:
    found = sentence(judged(verdict, *numbers))
    assert found == f"Self is no worse: {verdict} (1 of 1); {said}."


@pytest.fixture(scope="module", params=["supported", "contradicted", "undecided"])
def planted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tables:
    root: Path = tmp_path_factory.mktemp(request.param)
    write_tables(root / "book/results/tiny", request.param)
    return {name: load(name, root) for name in (*claims.TABLES, "states")}


def test_every_claim_has_a_sentence_with_its_verdict(planted: Tables) -> None:
    found = {j.claim: j for j in claims.judged(planted, "tiny · published")}
    assert list(found) == list(claims.SAID)
    for claim, one in found.items():
        said = sentence(one)
        assert said.startswith(f"{claims.SAID[claim]}: {one.verdict} ({one.reason}); ")
        assert said.count(".") == said.count(".", 0, -1) + 1
        assert f"{one.number.text(abs(one.number.value))}{one.number.unit}" in said
        assert "nan" not in said


def test_what_decides_decoupling_is_utility_where_only_that_was_lost(planted: Tables) -> None:
    row = claims.parts(planted, "tiny · published")["decoupling"].iloc[0].copy()
    row["kept"], row["forgotten"] = "contradicted", "supported"
    assert "utility of" in claims.number("decoupling", row).more
    row["kept"], row["forgotten"] = "supported", "contradicted"
    assert "extraction of" in claims.number("decoupling", row).more


def test_claims_count_the_pairings_that_they_are_about(planted: Tables) -> None:
    """Six sources and three students, each with three seeds; temperatures are of self only."""
    counts = {claim: len(claims.pairings(claim, planted["states"])) for claim in claims.SAID}
    assert counts == {
        **dict.fromkeys(("ordering", "stranger", "proxies"), 6 * 3 * 3),
        **{"decoupling": 2 * 3 * 3, "temperature": 3 * 3 * 3},
    }
    proxies = planted["proxies"]
    few = planted | {"proxies": proxies[proxies["student"].eq("neox-small")]}
    assert len(claims.behind("proxies", few)) == 6 * 3
    assert len(claims.behind("ordering", few)) == 6 * 3 * 3
