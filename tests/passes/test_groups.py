"""Groups: whatever is joined, the groups can still run one after the other."""

import networkx as nx
from hypothesis import given
from hypothesis import strategies as st

from graphnn.passes.groups import SEARCH_LIMIT, Groups


@st.composite
def graphs(draw, most=30):
    """For each instruction the earlier ones that it reads."""
    size = draw(st.integers(1, most))
    return [draw(st.sets(st.integers(0, max(0, n - 1)), max_size=3)) if n else set() for n in range(size)]


def quotient(groups, reads):
    graph = nx.DiGraph()
    graph.add_nodes_from(groups.members)
    edges = ((groups.of(before), groups.of(n)) for n, earlier in enumerate(reads) for before in earlier)
    graph.add_edges_from((a, b) for a, b in edges if a != b)
    return graph


@given(graphs(), st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29)), max_size=40))
def test_joining_never_makes_a_cycle_and_is_refused_only_where_it_would(reads, pairs):
    groups = Groups()
    for number, before in enumerate(reads):
        groups.add(number, before)
    for a, b in pairs:
        a, b = (groups.of(number % len(reads)) for number in (a, b))
        if a == b:
            continue
        graph = quotient(groups, reads)
        if graph.has_edge(a, b):
            graph.remove_edge(a, b)
        elif graph.has_edge(b, a):
            graph.remove_edge(b, a)
        apart = not nx.has_path(graph, a, b) and not nx.has_path(graph, b, a)
        assert groups.can_join(a, b) == apart
        if apart:
            name = groups.join(a, b)
            assert groups.of(a) == groups.of(b) == name
        assert nx.is_directed_acyclic_graph(quotient(groups, reads))
    assert sorted(n for members in groups.members.values() for n in members) == list(range(len(reads)))


def test_a_long_way_is_not_walked_to_its_end():
    groups = Groups()
    groups.add(0, [])
    for number in range(1, 3 * SEARCH_LIMIT):
        groups.add(number, [number - 1])
    groups.add(3 * SEARCH_LIMIT, [0])
    assert not groups.can_join(0, 3 * SEARCH_LIMIT - 1)  # a path, though perhaps not found
    assert groups.can_join(1, 3 * SEARCH_LIMIT)
