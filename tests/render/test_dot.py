import sys

import pygraphviz
import pytest

import drawn_graphs
from graphnn.errors import BackendError, OptionError
from graphnn.render.dot import to_graphviz
from graphnn.render.text import identifier
from graphnn.render.views import build_scene


@pytest.mark.parametrize("depth", [0, 1, None])
@pytest.mark.parametrize("make", [drawn_graphs.nested, drawn_graphs.hostile, lambda: drawn_graphs.random_graph(3)])
def test_graphviz_reads_back_the_same_graph(make, depth):
    scene = build_scene(make(), depth=depth)
    read = pygraphviz.AGraph(string=to_graphviz(make(), depth=depth).source)
    assert sorted(read.nodes()) == sorted(identifier(box.key) for box in scene.boxes)
    assert sorted(tuple(edge) for edge in read.edges()) == sorted(
        (identifier(edge.source), identifier(edge.target)) for edge in scene.edges
    )
    labels = {node: read.get_node(node).attr["label"] for node in read.nodes()}
    for box in scene.boxes:
        assert labels[identifier(box.key)].replace("\\\\", "\\").startswith(box.title.split("\x00")[0])
        assert not labels[identifier(box.key)].startswith("<")


def test_clusters_are_nested_like_modules_and_keep_their_order():
    read = pygraphviz.AGraph(string=to_graphviz(drawn_graphs.nested()).source)
    assert [cluster.name for cluster in read.subgraphs()] == ["cluster_stack", "cluster_last"]
    stack = read.subgraphs()[0]
    assert [c.name for c in stack.subgraphs()] == [
        f"cluster_stack/{name}" for name in ("blocks_0", "blocks_1", "blocks_0_2")
    ]
    assert "stack/blocks_1/linear" in stack.subgraphs()[1].nodes()


def test_doubled_and_frozen_are_shown():
    source = to_graphviz(drawn_graphs.nested(), is_frozen=lambda path: path == "last/linear").source
    read = pygraphviz.AGraph(string=source)
    assert read.get_edge("stack/blocks_0_2/add", "double").attr["label"] == "\N{MULTIPLICATION SIGN}2"
    assert read.get_node("last/linear").attr["style"] == "filled,rounded,dashed"
    assert read.get_node("stack/blocks_1/linear").attr["style"] == "filled,rounded"


def test_errors_are_typed(monkeypatch):
    with pytest.raises(OptionError, match="no such view"):
        to_graphviz(drawn_graphs.chain(1), view="sideways")
    monkeypatch.setitem(sys.modules, "graphviz", None)
    with pytest.raises(BackendError, match="pip install graphviz"):
        to_graphviz(drawn_graphs.chain(1))
