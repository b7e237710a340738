"""The benchmark: every way does the same work, and what is written has a ratio for each stage."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import Trainer, default_data_collator

from nbutils.charts import speed
from nbutils.protocol import packing
from nbutils.results.project import Project
from support import bench, peers
from support.peers import Contest, Material

ROWS, STEPS, ITEMS = 96, 2, 3


@pytest.fixture(scope="module")
def of(smoke: Path) -> Material:
    return peers.material(Project(smoke), "smoke")


@pytest.fixture(autouse=True)
def _no_list_of_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """lm-eval asks pip for one at each call, which takes longer than a few items do."""
    monkeypatch.setattr("lm_eval.evaluator.add_env_info", lambda results: None)


def work(contest: Contest) -> dict[str, int]:
    return {way.name: way.work() for way in contest.ways}


def test_all_ways_of_sampling_write_documents_of_one_length(of: Material) -> None:
    """Each draws its own numbers: the means differ by chance alone."""
    means = {name: tokens / ROWS for name, tokens in work(peers.sampled(of, ROWS)).items()}
    assert means["ours"] > 5
    for name, mean in means.items():
        assert mean == pytest.approx(means["ours"], rel=0.3), name


def test_where_bfloat16_is_faster_both_sides_have_it(of: Material) -> None:
    with_it = replace(of, in_bfloat16=copy.deepcopy(of.model).bfloat16())
    contests = [peers.sampled(with_it, 4), peers.trained(with_it, 1, lora=True)]
    for contest in contests:
        ways = [way for way in contest.ways if way.precision == "bfloat16"]
        assert {way.ours for way in ways} == {False, True}
        assert all(way.work() > 0 for way in ways)


@pytest.mark.parametrize("lora", [False, True])
def test_all_ways_of_training_predict_about_as_many_tokens(of: Material, lora: bool) -> None:
    predicted = work(peers.trained(of, STEPS, lora))
    for name, tokens in predicted.items():
        assert tokens == pytest.approx(predicted["ours"], rel=0.2), name


def test_trainer_on_packed_rows_learns_what_our_loop_learns(
    of: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same rows, labels and positions: the first loss is that of our own loop."""
    losses: dict[str, float] = {}

    class Watched(Trainer):
        def train(self) -> None:
            rows = default_data_collator([self.train_dataset[i] for i in range(2)])
            with torch.no_grad():
                losses["theirs"] = self.model(**rows).loss.item()

    monkeypatch.setattr(peers, "Trainer", Watched)
    contest = peers.trained(of, STEPS, lora=False)
    packed = next(way for way in contest.ways if way.name == "Trainer, packed rows")
    packed.work()
    rows = packed.work.__self__.rows  # type: ignore[attr-defined]
    index = torch.arange(2)
    labels = int((rows.labels[index] != packing.IGNORED).sum())
    ours = packing.loss_sum(of.model, rows, index).item() / labels
    assert losses["theirs"] == pytest.approx(ours, rel=1e-4)


def test_lm_eval_answers_as_our_scorer_does(of: Material) -> None:
    ours = peers.score(of, ITEMS)
    theirs = peers.lm_eval_score(of, ITEMS, 16, cache=False)
    assert theirs["item"].tolist() == ours["item"].tolist()
    assert theirs["margin"].tolist() == pytest.approx(ours["margin"].tolist(), abs=1e-3)
    assert len(ours) == 9 * ITEMS


def test_what_a_model_reads_and_multiplies_is_counted() -> None:
    model = nn.Sequential(nn.Embedding(8, 4), nn.Linear(4, 3))
    model.get_input_embeddings = lambda: model[0]
    with bench.counted(model) as count:
        model(torch.zeros(2, 5, dtype=torch.int64))
    model(torch.zeros(2, 5, dtype=torch.int64))  # after the count
    assert (count.tokens, count.operations) == (10, 2 * 10 * 4 * 3)


@pytest.mark.parametrize("passes", [1, 3])
def test_the_ceiling_counts_the_products_that_it_times(
    passes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At one second a time, the rate is the number of operations."""
    done = []

    def clocked(work: object) -> bench.Spent:
        done.append(work)
        return bench.Spent(1.0, 1.0, None)

    monkeypatch.setattr(bench, "clocked", clocked)
    rate = bench.products(nn.Linear(4, 3), 10, passes, torch.float32)
    assert rate == 2 * 10 * 4 * 3 * passes
    assert done


def test_a_contest_that_takes_long_has_two_turns(of: Material) -> None:
    ways = [
        peers.Way("ours", lambda: 1, of.model, ours=True),
        peers.Way("peer", lambda: 2, of.model),
    ]
    contest = Contest("sampling", "documents", 4, ways)
    assert len(bench.turns(contest, bench.Size())) == 3
    assert len(bench.turns(contest, bench.Size(patience=0.0))) == 2


def test_a_small_benchmark_writes_a_ratio_for_each_stage(
    of: Material, smoke: Path, tmp_path: Path
) -> None:
    size = bench.Size("smoke", batches=(8,), steps=1, items=1, turns=1)
    threads = torch.get_num_threads()
    place = bench.write(bench.measure(Project(smoke), size), tmp_path)
    assert torch.get_num_threads() == threads
    found = json.loads(place.read_text("utf-8"))
    measured = speed.rows(found)
    assert list(measured["stage"].unique()) == ["sampling", "training", "scoring"]
    assert sorted(measured.loc[measured["stage"].eq("sampling"), "batch"].unique()) == [8, 32]
    for stage, headline in speed.of_stages(measured).items():
        assert found[stage] == pytest.approx(headline.ratio, abs=0.01)
    assert measured[["rate", "wall_rate", "read", "of_ceiling"]].gt(0).all(axis=None)
    bench.show(measured)
