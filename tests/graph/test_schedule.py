"""Orders of a graph, against brute force on random graphs."""

import itertools
import subprocess
import sys
from pathlib import Path

import networkx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnn import layers
from graphnn.errors import GraphError
from graphnn.graph.graph import Graph
from graphnn.graph.layer import Input
from graphnn.graph.schedule import topological_order
from random_graphs import graphs, leaves_that_a_gradient_visits

ROOT = Path(__file__).parents[2]


def order_by_hand(count, edges):
    """Again and again the smallest number whose sources are all done; None when there is a cycle."""
    done = []
    while len(done) < count:
        ready = [n for n in range(count) if n not in done and all(s in done for s, t in edges if t == n)]
        if not ready:
            return None
        done.append(min(ready))
    return done


@given(st.data())
def test_topological_order_is_the_smallest_one(data):
    count = data.draw(st.integers(1, 7))
    number = st.integers(0, count - 1)
    edges = data.draw(st.lists(st.tuples(number, number), max_size=10))
    expected = order_by_hand(count, edges)
    if expected is None:
        with pytest.raises(GraphError, match="cycle") as caught:
            topological_order(count, edges, str)
        cycle = [int(name) for name in caught.value.got.split(" -> ")]
        assert cycle[0] == cycle[-1]
        assert set(itertools.pairwise(cycle)) <= set(edges)
    else:
        assert topological_order(count, edges, str) == expected


@given(graphs())
def test_schedules_are_those_of_the_definition(graph):
    number = {node.name: index for index, node in enumerate(graph.nodes)}
    edges = [(number[e.source], number[e.target]) for e in graph.edges if e.source in number]
    assert [number[node.name] for node in graph.schedule()] == order_by_hand(len(graph.nodes), edges)
    names = {path.split("/")[0] for path in leaves_that_a_gradient_visits(graph)}
    assert list(graph.backward_schedule()) == [node for node in graph.schedule()[::-1] if node.name in names]


def test_backward_looks_into_the_graphs_inside():
    """The gradient of one output of an inner graph does not visit what only the other one reads."""
    a, b = Input(("n", 4), name="a"), Input(("n", 4), name="b")
    inner = Graph([a, b], {"y": layers.Linear(4)(a), "z": layers.Linear(4)(b)}, name="inner")
    x = Input(("batch", 4), name="x")
    outputs = inner(layers.Tanh(name="before_y")(x), layers.Sigmoid(name="before_z")(x))
    assert [node.name for node in Graph(x, outputs["z"]).backward_schedule()] == ["inner", "before_z"]


def test_backward_leaves_out_what_no_gradient_visits():
    x, ids = Input(("batch", 4), name="x"), Input(("batch", 4), name="ids", dtype="int32")
    y = layers.Linear(4, name="linear")(x)
    graph = Graph([x, ids], {"y": y, "ids": layers.ScalarMultiply(2, name="twice")(ids)})
    assert [node.name for node in graph.schedule()] == ["linear", "twice"]
    assert [node.name for node in graph.backward_schedule()] == ["linear"]


@given(graphs())
def test_networkx_has_the_same_nodes_and_edges(graph):
    copy = graph.to_networkx()
    assert isinstance(copy, networkx.MultiDiGraph)
    assert networkx.is_directed_acyclic_graph(copy)
    assert list(copy) == [node.name for node in (*graph.inputs, *graph.nodes)]
    assert {name: data["specs"] for name, data in copy.nodes(data=True)} == {
        **{node.name: (node.spec,) for node in graph.inputs},
        **{node.name: node.specs for node in graph.nodes},
    }
    found = sorted((s, d["source_index"], t, d["target_index"]) for s, t, d in copy.edges(data=True))
    assert found == sorted((e.source, e.source_index, e.target, e.target_index) for e in graph.edges)


PROGRAM = """
from graphnn import layers
from graphnn.graph.graph import Graph
from graphnn.graph.layer import Input
x, z = Input(("batch", 4), name="x"), Input(("batch", 4), name="z")
shared = layers.Linear(4)
branches = [act(shared(x)) + z for act in (layers.ReLU(), layers.Tanh(), layers.Sigmoid(), layers.ELU())]
graph = Graph([x, z], {"y": layers.Add()(*branches), "w": shared(z)})
print([node.name for node in graph.schedule()], [node.name for node in graph.backward_schedule()])
print(graph.edges, graph.summary(), graph.to_json(), list(graph.to_networkx().edges))
"""


def test_nothing_depends_on_the_hash_seed():
    texts = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(texts) == 1
    assert "linear_2" in texts.pop()
