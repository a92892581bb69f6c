"""The tree of prefixes against sets of tuples, and its promises on order."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from toys import phrase_ids

from phrase_scorer.scoring.prefix_tree import PrefixTree

PHRASES = st.lists(st.lists(st.integers(0, 3), max_size=5), max_size=30)


def path(tree: PrefixTree, node: int) -> tuple[int, tuple[int, ...]]:
    """(root, words) of a node, read upwards."""
    words: list[int] = []
    while node >= tree.roots:
        words.append(int(tree.words[node - tree.roots]))
        node = int(tree.parents[node - tree.roots])
    return node, tuple(reversed(words))


@given(phrases=PHRASES, data=st.data())
def test_the_nodes_are_the_distinct_prefixes(phrases, data):
    roots = data.draw(st.integers(1, 4))
    root_of = [data.draw(st.integers(0, roots - 1)) for _ in phrases]
    tree = PrefixTree.of(phrase_ids(phrases), np.array(root_of, np.int64), roots)
    wanted = {(root, ()) for root in range(roots)} | {
        (root, tuple(phrase[:end]))
        for root, phrase in zip(root_of, phrases, strict=True)
        for end in range(len(phrase) + 1)
    }
    paths = [path(tree, node) for node in range(len(tree))]
    assert len(paths) == len(wanted)
    assert set(paths) == wanted
    assert [tree.root_of[node] for node in range(len(tree))] == [root for root, _ in paths]
    ends = [paths[node] for node in tree.node_of]
    assert ends == [(root, tuple(phrase)) for root, phrase in zip(root_of, phrases, strict=True)]


@given(phrases=PHRASES)
def test_children_of_a_parent_stand_side_by_side(phrases):
    tree = PrefixTree.of(phrase_ids(phrases))
    first = tree.roots
    for level in tree.levels:
        assert level.first == first
        assert len(level) > 0
        assert (np.diff(level.parents) >= 0).all()
        first += len(level)
    assert first == len(tree)


def test_no_phrase_at_all():
    tree = PrefixTree.of(phrase_ids([]), np.zeros(0, np.int64), 0)
    assert len(tree) == 0
    assert tree.levels == []
    assert tree.words.tolist() == tree.parents.tolist() == []
