"""Utility: lm-eval's scores against log-likelihoods computed directly, item by item."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from lm_eval.api.instance import Instance
from torch.nn.functional import log_softmax

from nbutils.config.schema import MeasureUtility, PrepareSuite, SuiteSize
from nbutils.protocol import forward, measure_utility, models, prepare_suite, proofs, tree_scorer
from nbutils.protocol.prepare_suite import Item
from support import tiny

QUERIES = ("The house of the", "And the king said unto", "The people", "The state of the people is")
WORDS = ("people", "king", "street", "state", "house", "union", "end", "know")


def item(name: str, number: int, size: int) -> Item:
    """Choices of different lengths, so that a normalised score would rank them otherwise."""
    choices = [
        f" {WORDS[(number + 3 * i) % len(WORDS)]}" + " of the" * (i % 3) for i in range(size)
    ]
    query = QUERIES[number % len(QUERIES)]
    place = {"item": name, "document": f"d{number // 2}"}
    return {**place, "query": query, "choices": choices, "gold": number % size}


TASKS = {
    "speeches_cloze": [item(f"c{i}", i, 4) for i in range(9)],
    "speeches_agreement": [item(f"a{i}", i + 1, 2) for i in range(6)],
}


def record(name: str, gold: int, scores: list[float], right: float) -> dict[str, Any]:
    return {
        "filtered_resps": [(score, False) for score in scores],
        "doc": {"item": name, "document": f"d-{name}", "gold": gold},
        "target": gold,
        "acc": right,
    }


def test_rows_on_records_made_by_hand() -> None:
    """One task defines acc_norm, which need not be acc."""
    normed = record("c", 1, [-2.0, -2.25], 0.0) | {"acc_norm": 1.0}
    found = measure_utility.rows(
        {
            "speeches_cloze": [
                record("b", 1, [-4.0, -1.5, -2.0, -9.0], 1.0),
                record("a", 0, [-4.0, -1.5, -2.0, -9.0], 0.0),
            ],
            "scripture_agreement": [normed],
        }
    )
    assert found.to_dict("list") == {
        "task": ["scripture_agreement", "speeches_cloze", "speeches_cloze"],
        "item": ["c", "a", "b"],
        "document": ["d-c", "d-a", "d-b"],
        "chance": [0.5, 0.25, 0.25],
        "correct": [False, False, True],
        "correct_norm": [True, None, None],
        "margin": [-0.25, -2.5, 0.5],
    }


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("suite")
    size = SuiteSize(cloze=1, agreement=1, preposition=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare_suite, "build", lambda p: TASKS)
        prepare_suite.run(PrepareSuite(size=size, max_chars=240), {}, folder, tiny.silent)
    return folder


def directly(folder: Path) -> pd.DataFrame:
    """Correct and margin by plain forward passes over BOS, query and choice."""
    model, tokenizer = models.load(folder, folder)
    rows = []
    for task, items in TASKS.items():
        for each in items:
            choices, gold = each["choices"], each["gold"]
            assert isinstance(choices, list)
            assert isinstance(gold, int)
            context = tokenizer(each["query"]).input_ids
            assert context[0] == 0
            scores = []
            for choice in choices:
                ids = [*context, *tokenizer(choice, add_special_tokens=False).input_ids]
                with torch.no_grad():
                    table = log_softmax(model(input_ids=torch.tensor([ids])).logits[0], dim=-1)
                places = range(len(context), len(ids))
                scores.append(sum(table[i - 1, ids[i]].item() for i in places))
            others = [s for i, s in enumerate(scores) if i != gold]
            margin = scores[gold] - max(others)
            rows.append({"task": task, "item": each["item"], "margin": margin})
    return pd.DataFrame(rows).sort_values(["task", "item"], ignore_index=True)


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_scores_agree_with_direct_log_likelihoods(
    architecture: str, folders: dict[str, Path], tasks: Path, tmp_path: Path
) -> None:
    folder = folders[architecture]
    inputs = {"model": folder, "base": folder, "suite": tasks}
    measure_utility.run(MeasureUtility(), inputs, tmp_path, tiny.silent)
    found, expected = pd.read_parquet(tmp_path / "utility.parquet"), directly(folder)
    assert found[["task", "item"]].to_numpy().tolist() == (
        expected[["task", "item"]].to_numpy().tolist()
    )
    assert found.margin.to_numpy() == pytest.approx(expected.margin.to_numpy(), abs=1e-3)
    assert expected.margin.abs().min() > 1e-3, "a tie: its order is left to chance"
    assert list(found.correct) == list(expected.margin > 0)
    assert found.correct_norm.isna().all()
    assert 0 < found.correct.mean() < 1
    assert list(found.chance) == [0.5] * 6 + [0.25] * 9


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_scores_are_the_same_where_attention_adds_its_mask(
    architecture: str, folders: dict[str, Path], tasks: Path
) -> None:
    """Eager attention, all that some models have, takes no mask of booleans."""
    model, tokenizer = models.load(folders[architecture], folders[architecture])
    model.set_attn_implementation("eager")
    found = measure_utility.score(model, tokenizer, tasks, None)
    expected = directly(folders[architecture])
    assert found.margin.to_numpy() == pytest.approx(expected.margin.to_numpy(), abs=1e-3)


def test_requests_without_any_context_are_scored(folders: dict[str, Path]) -> None:
    model, tokenizer = models.load(folders["llama"], folders["llama"])
    ends = (" the people", " the king")
    requests = [Instance("loglikelihood", {}, ("", e), i, ("t", i, 1)) for i, e in enumerate(ends)]
    found = tree_scorer.scorer(model, tokenizer).loglikelihood(requests, disable_tqdm=True)
    for end, (value, _) in zip(ends, found, strict=True):
        ids = [0, *tokenizer(end, add_special_tokens=False).input_ids]
        with torch.no_grad():
            table = log_softmax(model(input_ids=torch.tensor([ids])).logits[0], dim=-1)
        expected = sum(table[i - 1, ids[i]].item() for i in range(1, len(ids)))
        assert value == pytest.approx(expected, abs=1e-3)


def test_scores_do_not_depend_on_the_size_of_a_tree(
    folders: dict[str, Path], tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = []
    for size in (1, 40, 1000):
        monkeypatch.setattr(forward, "TREE_TOKENS", size)
        inputs = {"model": folders["llama"], "base": folders["llama"], "suite": tasks}
        measure_utility.run(MeasureUtility(), inputs, tmp_path, tiny.silent)
        tables.append(pd.read_parquet(tmp_path / "utility.parquet"))
    pd.testing.assert_frame_equal(tables[0], tables[1], atol=1e-4)
    pd.testing.assert_frame_equal(tables[0], tables[2], atol=1e-4)


def test_the_first_items_of_each_task_alone(
    folders: dict[str, Path], tasks: Path, tmp_path: Path
) -> None:
    inputs = {"model": folders["llama"], "base": folders["llama"], "suite": tasks}
    measure_utility.run(MeasureUtility(items=2), inputs, tmp_path, tiny.silent)
    found = pd.read_parquet(tmp_path / "utility.parquet")
    assert list(found.item) == ["a0", "a1", "c0", "c1"]


def test_a_choice_longer_than_the_context_is_an_error(
    folders: dict[str, Path], tasks: Path
) -> None:
    model, tokenizer = models.load(folders["llama"], folders["llama"])
    assert proofs.shortcuts(model).tree
    model.config.max_position_embeddings = 1
    with pytest.raises(tree_scorer.ScoringError, match=r"tokens exceeds the model's context of 1:"):
        measure_utility.score(model, tokenizer, tasks, None)
