"""Folding is exact: only equal links of a chain become one, and what is drawn once can be written out again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import drawn_graphs
import graphnn as gnn
from graphnn import layers
from graphnn.graph.graph import Graph
from graphnn.graph.layer import Input
from graphnn.graph.summary import walk
from graphnn.render.fold import Fold, folds_by_path
from graphnn.render.options import never
from graphnn.render.views import build_scene


def tower(widths, last=None, alike=True) -> Graph:
    """Blocks in a chain; `widths` of their inner layers, `last` a factory of one more node."""
    x = y = Input(("batch", 4), name="x")
    for index, width in enumerate(widths):
        y = Narrow(width, name=f"block_{index}")(y)
    return Graph(x, last(y) if last else y, name="tower")


class Narrow(gnn.Module):
    def __init__(self, width, name=None):
        super().__init__(name=name)
        self.inner, self.outer, self.add = layers.Linear(width), layers.Linear(4), layers.Add()

    def forward(self, x):
        return self.add(self.outer(self.inner(x)), x)


def folds(graph: Graph, is_frozen=never) -> dict:
    return folds_by_path(graph, is_frozen)


def test_twelve_equal_blocks_are_one_box_and_a_thirteenth_that_differs_is_another():
    graph = tower([8] * 12 + [9])
    assert folds(graph) == {"": (Fold(0, 1, 12),)}
    scene = build_scene(graph, depth=0, fold=True)
    assert [box.key for box in scene.boxes] == ["x", "block_0", "block_12", "@output/"]
    block = scene.boxes[1]
    assert [badge.text for badge in block.badges] == ["×12"]  # noqa: RUF001
    assert "block_0 … block_11" in block.lines
    assert "each 76 parameters" in block.lines
    assert [(e.source, e.target) for e in scene.edges] == [
        ("x", "block_0"), ("block_0", "block_12"), ("block_12", "@output/"),
    ]  # fmt: skip
    assert scene.subtitle == build_scene(graph, depth=0).subtitle  # totals count all of them


@pytest.mark.parametrize(("length", "found"), [(7, {}), (8, {"": (Fold(0, 8, 2),)}), (12, {"": (Fold(0, 12, 2),)})])
def test_two_long_pieces_fold_and_two_short_ones_do_not(length, found):
    """As the dilations of a WaveNet, which start again."""
    assert folds(tower([*range(1, length + 1)] * 2)) == found


def test_an_open_block_is_a_frame_with_its_number_and_without_folding_all_are_drawn():
    graph = tower([8] * 12)
    scene = build_scene(graph, fold=True)
    assert [(group.path, group.repeats) for group in scene.groups] == [("block_0", 12)]
    full = build_scene(graph, fold=False)
    assert len(full.groups) == 12
    assert len(full.boxes) == 2 + 12 * 3


def test_pieces_of_several_nodes_fold_and_stand_in_a_frame():
    x = y = Input(("batch", 4), name="x")
    for _ in range(4):
        y = layers.Tanh()(layers.Linear(4)(y))
    scene = build_scene(Graph(x, layers.Sigmoid(name="end")(y)), fold=True)
    assert [box.key for box in scene.boxes] == ["x", "linear", "tanh", "end", "@output/"]
    (group,) = scene.groups
    assert (group.repeats, group.path, group.title) == (4, "linear@4", "linear … tanh_4 · 2 nodes each")
    assert ("tanh", "end") in {(edge.source, edge.target) for edge in scene.edges}


X = Input(("batch", 4), name="x")


def _chain(make, count=4, first=X):
    values = [first]
    for index in range(count):
        values.append(make(index, values))
    return values


SHARED = layers.Linear(4)
NOT_FOLDED = {
    "two are too few": lambda: _chain(lambda i, v: layers.Linear(4)(v[-1]), 2)[-1],
    "shared weights": lambda: _chain(lambda i, v: SHARED(v[-1]))[-1],
    "other hyper-parameters": lambda: _chain(lambda i, v: layers.LeakyReLU(alpha=0.1 * (i + 1))(v[-1]))[-1],
    "1 is not 1.0": lambda: _chain(lambda i, v: layers.ScalarAdd([1, 1.0][i % 2])(v[-1]), 3)[-1],
    "side by side": lambda: layers.Add()(*_chain(lambda i, v: layers.Linear(4)(X))[1:]),
    "read from outside": lambda: layers.Add()(*_chain(lambda i, v: layers.Linear(4)(v[-1]))),
    "another wiring": lambda: _chain(
        lambda i, v: layers.Subtract()(*[v[-1], X][:: [1, -1][i % 2]]), 5, layers.Tanh()(X)
    )[-1],
}


@pytest.mark.parametrize("name", NOT_FOLDED)
def test_what_is_not_exactly_a_chain_of_equal_nodes_is_drawn_in_full(name):
    graph = Graph(X, NOT_FOLDED[name]())
    assert folds(graph).get("", ()) == () or name == "another wiring"
    if name == "another wiring":  # pieces of two may fold, single nodes may not
        assert all(fold.length > 1 for fold in folds(graph).get("", ()))


def test_a_source_that_all_read_alike_does_not_hinder():
    y = _chain(lambda i, v: layers.Multiply()(layers.Linear(4)(v[-1]), X))[-1]
    assert folds(Graph(X, y)) == {"": (Fold(0, 2, 4),)}


def test_a_frozen_block_is_not_like_the_others():
    graph = tower([8] * 6)
    assert folds(graph, lambda path: path.startswith("block_5/")) == {"": (Fold(0, 1, 5),)}
    assert folds(graph, lambda path: path.startswith("block_2/")) == {"": (Fold(3, 1, 3),)}


def unfolded(graph: Graph) -> list[str]:
    """Kinds of all nodes in order, each chain written out from its first piece alone."""
    found = folds_by_path(graph, never)
    graphs = {"": graph} | {path: node.graph for path, _, node in walk(graph) if node.graph is not None}

    def kinds(path: str) -> list:
        nodes, starts, result, index = graphs[path].nodes, {f.start: f for f in found.get(path, ())}, [], 0
        while index < len(nodes):
            fold = starts.get(index)
            piece = nodes[index : index + (fold.length if fold else 1)]
            inner = [_kind(n, kinds, path) for n in piece]
            result += inner * (fold.count if fold else 1)
            index = fold.stop if fold else index + 1
        return result

    return kinds("")


def _kind(node, kinds, path):
    return (
        [str(node.specs), kinds(f"{path}/{node.name}".strip("/"))] if node.graph else [node.layer.kind, str(node.specs)]
    )


def plain(graph: Graph) -> list:
    return [[str(n.specs), plain(n.graph)] if n.graph else [n.layer.kind, str(n.specs)] for n in graph.nodes]


@given(st.lists(st.sampled_from("tlsr"), min_size=1, max_size=4), st.integers(1, 5), st.integers(0, 2))
def test_every_chain_written_out_again_is_the_graph(kinds, count, before):
    make = {"t": layers.Tanh, "l": lambda: layers.Linear(4), "s": layers.Sigmoid, "r": lambda: Narrow(3)}
    y = _chain(lambda i, v: layers.Exponential()(v[-1]), before)[-1]
    for _ in range(count):
        for kind in kinds:
            y = make[kind]()(y)
    graph = Graph(X, y)
    assert unfolded(graph) == plain(graph)
    if count >= 3:
        assert folds(graph)
    drawn = len(build_scene(graph, depth=0, fold=True).boxes)
    assert drawn <= 2 + before + len(kinds) * (count if count < 3 else 1) + len(kinds)


@given(st.integers(0, 10_000))
def test_boxes_and_edges_of_a_folded_graph_are_some_of_the_full_one(seed):
    graph = drawn_graphs.random_graph(seed)
    full, folded = (build_scene(graph, depth=3, fold=fold) for fold in (False, True))
    assert {box.key for box in folded.boxes} <= {box.key for box in full.boxes}
    if not folds(graph):
        assert folded == full


def test_long_chains_fold_in_time():
    graph = drawn_graphs.chain(5000)
    assert folds(graph) == {"": (Fold(0, 1, 5000),)}
    assert len(build_scene(graph, fold=True).boxes) == 3
