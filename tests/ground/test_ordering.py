"""Every order respects the edges; what goes round is named, once around."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poeflow.ordering import CycleError, ordered

NODES = st.sampled_from("abcdefgh")
GRAPHS = st.dictionaries(NODES, st.lists(NODES, max_size=4), max_size=8)


def test_each_step_comes_after_what_it_needs():
    assert ordered({"c": ["b"], "b": ["a"], "a": []}) == ("a", "b", "c")


def test_what_is_not_in_the_mapping_is_ignored():
    assert ordered({"a": ["elsewhere"]}) == ("a",)


@pytest.mark.parametrize(
    ("edges", "path"),
    [
        ({"a": ["a"]}, ("a", "a")),
        ({"x": [], "a": ["b"], "b": ["a"]}, ("a", "b", "a")),
        ({"b": ["a"], "a": ["c"], "c": ["b"], "d": ["a"]}, ("b", "a", "c", "b")),
    ],
)
def test_a_cycle_is_named_from_its_first_step_on(edges, path):
    with pytest.raises(CycleError, match=" -> ".join(path)) as caught:
        ordered(edges)
    assert caught.value.path == path


def order_or_cycle(edges):
    try:
        return ordered(edges), ()
    except CycleError as error:
        return (), error.path


@given(GRAPHS)
def test_every_order_respects_the_edges_or_there_is_a_cycle(edges):
    order, cycle = order_or_cycle(edges)
    if cycle:
        assert cycle[0] == cycle[-1]
        assert len(set(cycle)) == len(cycle) - 1
        assert all(need in edges[node] for node, need in itertools.pairwise(cycle))
        return
    assert sorted(order) == sorted(edges)
    for node, needs in edges.items():
        for need in set(needs) & edges.keys():
            assert order.index(need) < order.index(node)


def test_a_chain_as_long_as_a_flow_can_hold_is_ordered():
    edges = {str(i): [str(i + 1)] for i in range(50_000)}
    assert ordered(edges)[0] == "49999"
