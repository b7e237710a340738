"""Scoring: prefix trees of hand-made requests and of any; how contexts begin."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lm_eval.api.instance import Instance
from tokenizers import normalizers, processors
from transformers import PreTrainedTokenizerFast

from nbutils.protocol import forward, tree_scorer
from nbutils.protocol.tree_scorer import Reading, ScoringError
from support import tiny, zoo


def test_a_tree_by_hand() -> None:
    """5 6 7 and 5 6 8 9 share two tokens; 6 shares none and begins anew at position 0."""
    (tree,) = forward.trees([[5, 6, 7], [5, 6, 8, 9], [6]], limit=12)
    assert tree.ids.tolist() == [5, 6, 7, 8, 9, 6]
    assert tree.positions.tolist() == [0, 1, 2, 2, 3, 0]
    assert tree.paths == [[0, 1, 2], [0, 1, 3, 4], [5]]
    seen = [set(torch.nonzero(row)[:, 0].tolist()) for row in tree.mask]
    assert seen == [{0}, {0, 1}, {0, 1, 2}, {0, 1, 3}, {0, 1, 3, 4}, {5}]


def test_a_sequence_that_ends_within_the_one_before_cuts_no_descendant_off() -> None:
    """Requests are sorted with their last token, which is not in the tree."""
    (tree,) = forward.trees([[5, 6, 7], [5, 6], [5, 6, 8]], limit=9)
    assert tree.paths == [[0, 1, 2], [0, 1], [0, 1, 3]]
    assert tree.mask.tolist() == [
        [True, False, False, False],
        [True, True, False, False],
        [True, True, True, False],
        [True, True, False, True],
    ]


def test_a_tree_that_is_half_full_ends_where_another_document_begins() -> None:
    """To fill it would split the next document, whose prefix is then read twice."""
    trunk = list(range(20, 40))
    requests = [[5, 6, 7, 8], [*trunk, 1], [*trunk, 2]]
    assert [len(t.ids) for t in forward.trees(requests, limit=6)] == [4, 21, 21]
    assert [len(t.ids) for t in forward.trees(requests, limit=48)] == [26]
    long = [[*range(20)], [*trunk, 1]]
    assert [len(t.ids) for t in forward.trees(long, limit=64)] == [41]
    assert [len(t.ids) for t in forward.trees(long, limit=39)] == [20, 21]


def test_a_full_tree_is_closed_and_the_next_reads_its_prefix_again() -> None:
    first, second = forward.trees([[5, 6, 7], [5, 6, 8, 9]], limit=4)
    assert (first.paths, second.paths) == ([[0, 1, 2]], [[0, 1, 2, 3]])
    assert second.ids.tolist() == [5, 6, 8, 9]


SEQUENCES = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), max_size=12)


@given(SEQUENCES, st.integers(1, 20))
def test_paths_spell_the_sequences_and_nodes_see_their_ancestors(
    sequences: list[list[int]], limit: int
) -> None:
    ordered = sorted(sequences)
    trees = forward.trees(ordered, limit)
    spelled = [[int(t.ids[n]) for n in path] for t in trees for path in t.paths]
    assert spelled == ordered
    for tree in trees:
        assert len(tree.ids) <= max(limit, max(map(len, tree.paths)))
        for path in tree.paths:
            assert tree.positions[path].tolist() == list(range(len(path)))
            for depth, node in enumerate(path):
                assert set(torch.nonzero(tree.mask[node])[:, 0].tolist()) == set(path[: depth + 1])


def _without_bos() -> PreTrainedTokenizerFast:
    """A tokenizer that has a BOS and adds none, as that of GPT-2, Pythia or Qwen."""
    tokenizer = tiny.tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel()
    return tokenizer


@pytest.mark.parametrize("architecture", ["llama", "mistral"])
@pytest.mark.parametrize("begin", [True, False])
@torch.no_grad()
def test_contexts_begin_with_bos_where_they_are_to(architecture: str, begin: bool) -> None:
    model, tokenizer = zoo.make(architecture), _without_bos()
    context, end = "the people of the state", " know it"
    requests = [Instance("loglikelihood", {}, (context, end), 0, ("task", 0, 1))]
    ((found, _),) = tree_scorer.scorer(model, tokenizer, begin).loglikelihood(requests)
    before, whole = (tokenizer(text).input_ids for text in (context, context + end))
    first = [tokenizer.bos_token_id] if begin else []
    scores = model(torch.tensor([first + whole])).logits[0].log_softmax(-1)
    places = range(len(first) + len(before), len(first) + len(whole))
    expected = sum(scores[at - 1, (first + whole)[at]].item() for at in places)
    assert found == pytest.approx(expected, abs=1e-3)


def test_a_prompt_whose_answer_is_generated_begins_with_bos_too() -> None:
    scorer = tree_scorer.scorer(zoo.make("llama"), _without_bos(), begin=True)
    ids, _ = scorer.tok_batch_encode(["the people"])
    assert ids[0, 0] == 0
    assert (ids[0, 1:] != 0).all()


def test_another_bos_than_the_tokenizers_own_stands_alone() -> None:
    """The tier names another token than the one that the tokenizer adds by itself."""
    tokenizer = tiny.tokenizer()
    own = tokenizer("the people").input_ids
    tokenizer.bos_token = tokenizer.eos_token
    scorer = tree_scorer.scorer(zoo.make("llama"), tokenizer, begin=True)
    assert scorer.tok_encode("the people") == [tokenizer.eos_token_id, *own[1:]]


def test_a_text_that_spells_a_token_without_embedding_is_named() -> None:
    tokenizer = tiny.tokenizer()
    model = zoo.make("llama", vocab_size=len(tokenizer))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    requests = [Instance("loglikelihood", {}, ("the <image> people", " know"), 0, ("task", 0, 1))]
    with pytest.raises(ScoringError, match="spells '<image>'"):
        tree_scorer.scorer(model, tokenizer).loglikelihood(requests)
    with pytest.raises(ScoringError, match="spells '<image>'"):
        tree_scorer.scorer(model, tokenizer).tok_batch_encode(["the <image> people"])


ASKED = [("the people of the state", " know it"), ("the people of the state", " are many")]


def _requests(texts: list[tuple[str, str]]) -> list[Instance]:
    return [Instance("loglikelihood", {}, t, i, ("task", i, 1)) for i, t in enumerate(texts)]


def _counting_plans(patch: pytest.MonkeyPatch) -> list[int]:
    """The number of requests of every plan that is made from now on, with none kept."""
    planned: list[int] = []
    plan = tree_scorer.plan

    def counted(requests: list[tuple[list[int], list[int]]], context: int) -> list[Reading]:
        planned.append(len(requests))
        return plan(requests, context)

    patch.setattr(tree_scorer, "_PLANNED", {})
    patch.setattr(tree_scorer, "plan", counted)
    return planned


def test_models_that_read_alike_share_a_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each model has a tokenizer of its own, read from its folder; the two are equal."""
    planned = _counting_plans(monkeypatch)
    models = [zoo.make("llama"), zoo.make("mistral")]
    scorers = [tree_scorer.scorer(model, _without_bos()) for model in models]
    found = [scorer.loglikelihood(_requests(ASKED)) for scorer in scorers]
    assert planned == [2]
    monkeypatch.setattr(tree_scorer, "_PLANNED", {})
    assert found == [scorer.loglikelihood(_requests(ASKED)) for scorer in scorers]
    assert found[0] != found[1]


def test_what_is_read_otherwise_is_planned_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    planned = _counting_plans(monkeypatch)
    model, other_bos = zoo.make("llama"), _without_bos()
    other_bos.bos_token = other_bos.eos_token
    upper = _without_bos()
    upper.backend_tokenizer.normalizer = normalizers.Lowercase()
    shorter = zoo.make("llama", max_position_embeddings=8)
    for scorer, texts in (
        (tree_scorer.scorer(model, _without_bos()), ASKED),
        (tree_scorer.scorer(model, _without_bos()), ASKED[::-1]),
        (tree_scorer.scorer(model, _without_bos(), begin=False), ASKED),
        (tree_scorer.scorer(model, other_bos), ASKED),
        (tree_scorer.scorer(model, upper), ASKED),
        (tree_scorer.scorer(shorter, _without_bos()), ASKED),
    ):
        scorer.loglikelihood(_requests(texts))
    assert planned == [2] * 6
    assert len(tree_scorer._PLANNED) == tree_scorer.KEPT
