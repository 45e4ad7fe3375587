"""Surgery: what changes, what stays, what stays shared."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnn import layers
from graphnn.errors import GraphError, ShapeError
from graphnn.graph.flatten import flatten
from graphnn.graph.graph import Graph
from graphnn.graph.layer import Input
from graphnn.graph.node import Edge, Source
from graphnn.graph.surgery import delete, insert, replace, rewire, subgraph
from random_graphs import Block, graphs


@pytest.fixture
def chain():
    """x -> a -> b -> c, with c also reading a."""
    x = Input(("batch", 4), name="x")
    a = layers.Linear(4, name="a")(x)
    b = layers.ReLU(name="b")(a)
    return Graph(x, {"y": layers.Add(name="c")(b, a)}, name="chain")


def edges(graph):
    return [f"{e.source}>{e.target}.{e.target_index}" for e in graph.edges]


def layer_of(graph):
    return {leaf.path: leaf.layer for leaf in flatten(graph).leaves}


def test_rewire(chain):
    assert edges(rewire(chain, "c", 1, "x")) == ["x>a.0", "a>b.0", "b>c.0", "x>c.1"]
    assert edges(rewire(chain, "c", 0, "a")) == ["x>a.0", "a>c.0", "a>c.1"]  # no output needs b any more
    assert edges(rewire(chain, "b", 0, Source("x"))) == ["x>a.0", "x>b.0", "b>c.0", "a>c.1"]


def test_rewire_to_a_node_that_is_defined_later():
    x = Input(("batch", 4), name="x")
    a, b = layers.ReLU(name="a")(x), layers.Tanh(name="b")(x)
    changed = rewire(Graph(x, (a, b)), "a", 0, "b")
    assert [node.name for node in changed.nodes] == ["b", "a"]
    assert edges(changed) == ["x>b.0", "b>a.0"]
    assert [str(source) for source in changed.outputs] == ["a", "b"]


def test_rewire_may_not_leave_an_input_without_use():
    x, other = Input(("batch", 4), name="x"), Input(("batch", 4), name="other")
    with pytest.raises(GraphError, match="other: the input is disconnected"):
        rewire(Graph([x, other], x + other), "add", 1, "x")


def test_replace(chain):
    new = layers.Linear(4, bias=False)
    changed = replace(chain, "a", new)
    assert edges(changed) == edges(chain)
    assert layer_of(changed) == layer_of(chain) | {"a": new}
    with pytest.raises(ShapeError, match="c: ") as caught:
        replace(replace(chain, "b", layers.Linear(3)), "a", new)
    assert "test_surgery.py" in str(caught.value)


def test_replace_by_a_graph(chain):
    changed = replace(chain, "b", chain)
    assert [leaf.path for leaf in flatten(changed).leaves] == ["a", "b/a", "b/b", "b/c", "c"]
    assert {leaf.path: leaf.owner for leaf in flatten(changed).leaves}["b/a"] == "a"


def test_insert_after_a_source_moves_all_readers(chain):
    changed = insert(chain, layers.Tanh(), "t", after="a")
    assert edges(changed) == ["x>a.0", "a>t.0", "t>b.0", "b>c.0", "t>c.1"]
    assert edges(insert(chain, layers.Tanh(), "t", after="x"))[:2] == ["x>t.0", "t>a.0"]
    assert str(insert(chain, layers.Tanh(), "t", after="c").outputs[0]) == "t"


def test_insert_on_one_edge(chain):
    changed = insert(chain, layers.Tanh(), "t", edge=Edge("a", 0, "c", 1))
    assert edges(changed) == ["x>a.0", "a>t.0", "a>b.0", "b>c.0", "t>c.1"]
    with pytest.raises(GraphError, match="no such edge"):
        insert(chain, layers.Tanh(), "t", edge=Edge("x", 0, "c", 1))
    for place in ({}, {"after": "a", "edge": Edge("a", 0, "c", 1)}):
        with pytest.raises(GraphError, match="inserted at one place"):
            insert(chain, layers.Tanh(), "t", **place)


def test_delete(chain):
    assert edges(delete(chain, "b")) == ["x>a.0", "a>c.0", "a>c.1"]
    assert edges(delete(delete(chain, "a"), "b")) == ["x>c.0", "x>c.1"]


def test_delete_the_only_node():
    x = Input(("batch", 4), name="x")
    graph = delete(Graph(x, layers.ReLU(name="r")(x)), "r")
    assert graph.nodes == ()
    assert graph.outputs == (Source("x"),)


def test_inside_a_module_only_the_named_use_changes():
    x = Input(("batch", 4), name="x")
    block = Block()
    graph = Graph(x, block(block(x)["y"], x)["y"])
    new = layers.Tanh()
    changed = replace(graph, "block_2/parts_0", new)
    before, after = layer_of(graph), layer_of(changed)
    assert after == before | {"block_2/parts_0": new}
    assert {leaf.path: leaf.owner for leaf in flatten(changed).leaves}["block_2/linear"] == "block/linear"
    assert [node.layer.kind for node in changed.nodes] == ["Block", "Block"]
    assert edges(delete(graph, "block_2/parts_0").node("block_2").graph)[0] == "x>parts_1.0"
    assert edges(insert(graph, new, "t", after="block/linear").node("block").graph)[-1] == "linear>t.0"
    assert edges(rewire(graph, "block_2/linear", 0, "x").node("block_2").graph)[-3] == "x>linear.0"
    with pytest.raises(GraphError, match="block_2/skip: the input is disconnected"):
        rewire(graph, "block_2/add", 1, "linear")


@pytest.mark.parametrize("path", ["block_2/nothing", "nothing/linear", "block/linear/deeper"])
def test_unknown_paths(path):
    x = Input(("batch", 4), name="x")
    block = Block()
    with pytest.raises(GraphError, match=f"{path}: ") as caught:
        delete(Graph(x, block(block(x)["y"])["y"]), path)
    assert "test_surgery.py" in str(caught.value)


def test_an_error_inside_names_the_whole_path():
    x = Input(("batch", 4), name="x")
    with pytest.raises(ShapeError, match="block/add: Add needs inputs of equal shape"):
        replace(Graph(x, Block()(x, x)["y"]), "block/linear", layers.Linear(5))


# -- sub-graphs -------------------------------------------------------------------------------------------------------


def test_subgraph(chain):
    part = subgraph(chain, "a", "c", name="part")
    assert [node.name for node in part.inputs] == ["a"]
    assert edges(part) == ["a>b.0", "b>c.0", "a>c.1"]
    assert (part.name, part.output_names) == ("part", ())
    assert part.inputs[0].spec == chain.node("a").spec
    assert subgraph(chain, "x", {"r": "b"}).output_names == ("r",)
    assert subgraph(chain, ["x"], ["b", "a"]).output_names == ("0", "1")
    assert [node.name for node in subgraph(chain, {"left": "b", "right": "a"}, "c").inputs] == ["left", "right"]
    with pytest.raises(GraphError, match="listed twice"):
        subgraph(chain, ["a", "a"], "c")
    with pytest.raises(GraphError, match="b: the input is disconnected"):
        subgraph(chain, ["x", "b"], "a")


def test_subgraph_at_a_second_output():
    x = Input(("batch", 4), name="x")
    outputs = Block()(x)
    graph = Graph(x, layers.ReLU(name="r")(outputs["inner"]) + outputs["y"])
    part = subgraph(graph, ["block:1", "block"], "add")
    assert [node.name for node in part.inputs] == ["block_1", "block"]
    assert edges(part) == ["block_1>r.0", "r>add.0", "block>add.1"]


@given(graphs(), st.data())
def test_a_subgraph_has_the_same_layers_at_the_same_paths(graph, data):
    node = data.draw(st.sampled_from(graph.nodes))
    reached, stack = set(), [node.name]
    while stack:
        name = stack.pop()
        reached.add(name)
        if name not in {i.name for i in graph.inputs}:
            stack += [s.name for s in graph.node(name).inputs if s is not None]
    inputs = [i.name for i in graph.inputs if i.name in reached]
    part = subgraph(graph, inputs, node.name)
    whole = layer_of(graph)
    assert layer_of(part) == {path: whole[path] for path in whole if path.split("/")[0] in reached}
    assert edges(part) == [edge for edge in edges(graph) if edge.split(">")[1].rpartition(".")[0] in reached]


@given(graphs())
def test_surgery_that_changes_nothing_gives_an_equal_graph(graph):
    before = [edges(graph), layer_of(graph)]
    node = graph.nodes[0]
    same = rewire(graph, node.name, 0, node.inputs[0])
    assert [edges(same), layer_of(same)] == before
    same = replace(graph, node.name, node.layer)
    assert [edges(same), layer_of(same)] == before
    inserted = insert(graph, layers.Identity(), "extra", after=node.inputs[0])
    assert [edges(delete(inserted, "extra")), layer_of(delete(inserted, "extra"))] == before
    assert [edges(graph), layer_of(graph)] == before
