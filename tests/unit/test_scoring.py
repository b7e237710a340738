"""Scoring: prefix trees of hand-made requests, and any requests."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from nbutils import passes


def test_a_tree_by_hand() -> None:
    """5 6 7 and 5 6 8 9 share two tokens; 6 shares none and begins anew at position 0."""
    (tree,) = passes.trees([[5, 6, 7], [5, 6, 8, 9], [6]], limit=6)
    assert tree.ids.tolist() == [5, 6, 7, 8, 9, 6]
    assert tree.positions.tolist() == [0, 1, 2, 2, 3, 0]
    assert tree.paths == [[0, 1, 2], [0, 1, 3, 4], [5]]
    seen = [set(torch.nonzero(row)[:, 0].tolist()) for row in tree.mask]
    assert seen == [{0}, {0, 1}, {0, 1, 2}, {0, 1, 3}, {0, 1, 3, 4}, {5}]


def test_a_full_tree_is_closed_and_the_next_reads_its_prefix_again() -> None:
    first, second = passes.trees([[5, 6, 7], [5, 6, 8, 9]], limit=4)
    assert (first.paths, second.paths) == ([[0, 1, 2]], [[0, 1, 2, 3]])
    assert second.ids.tolist() == [5, 6, 8, 9]


SEQUENCES = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), max_size=12)


@given(SEQUENCES, st.integers(1, 20))
def test_paths_spell_the_sequences_and_nodes_see_their_ancestors(
    sequences: list[list[int]], limit: int
) -> None:
    ordered = sorted(sequences)
    trees = passes.trees(ordered, limit)
    spelled = [[int(t.ids[n]) for n in path] for t in trees for path in t.paths]
    assert spelled == ordered
    for tree in trees:
        assert len(tree.ids) <= max(limit, max(map(len, tree.paths)))
        for path in tree.paths:
            assert tree.positions[path].tolist() == list(range(len(path)))
            for depth, node in enumerate(path):
                assert set(torch.nonzero(tree.mask[node])[:, 0].tolist()) == set(path[: depth + 1])
