"""The benchmark's contests: every way does the same work, on documents of the length it says."""

import pytest

from support import bench, peers


def test_documents_of_the_benchmark_have_the_length_that_it_says() -> None:
    """Sampled by generate and by us: of 50 tokens in the mean, cut at the context."""
    ways = peers.sampled(peers.model(32, layers=1), rows=200).ways
    expected = peers.LENGTH * (1 - (1 - 1 / peers.LENGTH) ** (peers.CONTEXT - 1))
    for name in ("generate", "ours"):
        assert ways[name]() / 200 == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("lora", [False, True])
def test_trainers_read_about_as_many_tokens(lora: bool) -> None:
    contest = peers.trained(peers.model(32, layers=1), 2, lora)
    theirs, ours = (way() for way in contest.ways.values())
    assert theirs == pytest.approx(2 * 2048, rel=0.2)
    assert ours == pytest.approx(2 * 2048, rel=0.2)


def test_scorers_score_every_item() -> None:
    contest = peers.scored(peers.model(32, layers=1), bench.tokenizer(), 3)
    assert [way() for way in contest.ways.values()] == [3, 3, 3]


def test_every_stage_has_a_headline() -> None:
    """The first contest of a stage is on the smallest model."""
    made = [make() for make in bench.contests()]
    first = {c.stage: c for c in reversed(made)}
    assert list(dict.fromkeys(c.stage for c in made)) == ["sampling", "training", "scoring"]
    smallest = min(c.parameters for c in made)
    assert all(c.parameters == smallest for c in first.values())
    assert all(next(reversed(c.ways)) == "ours" for c in made)
