"""Declaring graphs: names, order, edges, nesting, sharing, optional inputs."""

import pytest
from hypothesis import given

from graphnn import layers
from graphnn.errors import DTypeError, ShapeError
from graphnn.graph.flatten import flatten
from graphnn.graph.graph import Graph
from graphnn.graph.layer import Input
from graphnn.graph.module import Module
from graphnn.graph.node import Edge, Source
from random_graphs import Block, graphs


@pytest.fixture
def x():
    return Input(("batch", 4), name="x")


def names(graph):
    return [node.name for node in graph.nodes]


def owners(graph):
    return {leaf.path: leaf.owner for leaf in flatten(graph).leaves}


# -- names and order --------------------------------------------------------------------------------------------------


def test_names_are_given_or_made_from_the_class(x):
    y = layers.Linear(4, name="mine")(x)
    for layer in (layers.ReLU(), layers.ReLU(), layers.LeakyReLU(), layers.Linear(4), layers.ReLU()):
        y = layer(y)
    assert names(Graph(x, y)) == ["mine", "relu", "relu_2", "leaky_relu", "linear", "relu_3"]


def test_a_made_up_name_gives_way_to_a_chosen_one(x):
    y = layers.ReLU(name="relu_2")(layers.ReLU()(layers.ReLU()(x)))
    assert names(Graph(x, y)) == ["relu", "relu_3", "relu_2"]


def test_a_layer_that_is_used_again_gets_a_number(x):
    layer = layers.Linear(4, name="tied")
    assert names(Graph(x, layer(layer(layer(x))))) == ["tied", "tied_2", "tied_3"]


def test_operators_make_named_nodes(x):
    y = -((x + x) * (x - 1.0) / (2.0 - x) @ Input((4, 4), name="m"))
    graph = Graph([x, y.source.inputs[0].source.inputs[1]], y)
    assert names(graph) == [
        "add",
        "scalar_subtract",
        "multiply",
        "scalar_subtract_2",
        "divide",
        "mat_mul",
        "scalar_multiply",
    ]


def test_unnamed_inputs_are_numbered():
    a, b, c = Input(("n", 4)), Input(("n", 4), name="x_2"), Input(("n", 4))
    assert [node.name for node in Graph([a, b, c], a + b + c).inputs] == ["x", "x_2", "x_3"]


@pytest.mark.parametrize("name", ["conv 1", "größe", "a.b", "a-b", "0", "x'y", 'x"y', "a&b"])
def test_other_names_are_allowed(x, name):
    graph = Graph(x, {name: layers.ReLU(name=name)(x)})
    assert names(graph) == [name]
    assert graph.output_names == (name,)


def test_nodes_stand_in_definition_order(x):
    late, early = layers.ReLU(name="a"), layers.ReLU(name="b")
    first = early(x)
    second = late(x)
    assert names(Graph(x, late(second) + first)) == ["b", "a", "a_2", "add"]
    assert names(Graph(x, (second, first))) == ["b", "a"]


def test_module_attributes_give_names(x):
    class Net(Module):
        def __init__(self):
            super().__init__()
            self.stem = layers.Linear(4)
            self.blocks = [layers.ReLU(), (layers.Linear(4), layers.Tanh(name="own"))]
            self.heads = {"a": layers.Linear(2), "b": layers.Linear(3)}

        def forward(self, x):
            x = self.blocks[1][1](self.blocks[1][0](self.blocks[0](self.stem(x))))
            return {key: head(x) for key, head in self.heads.items()}

    net = Net()
    graph = Graph(x, net(x))
    assert names(graph.nodes[0].graph) == ["stem", "blocks_0", "blocks_1_0", "own", "heads_a", "heads_b"]
    assert list(net.components) == ["stem", "blocks_0", "blocks_1_0", "blocks_1_1", "heads_a", "heads_b"]


# -- edges ------------------------------------------------------------------------------------------------------------


def test_two_inputs_from_one_node_are_two_edges(x):
    graph = Graph(x, layers.Add(name="double")(x, x))
    assert graph.edges == (Edge("x", 0, "double", 0), Edge("x", 0, "double", 1))


@given(graphs())
def test_edges_are_the_inputs_of_the_nodes(graph):
    by_target = {}
    for edge in graph.edges:
        by_target.setdefault(edge.target, {})[edge.target_index] = Source(edge.source, edge.source_index)
    for node in graph.nodes:
        assert by_target.get(node.name, {}) == {i: s for i, s in enumerate(node.inputs) if s is not None}
    specs = {node.name: (node.spec,) for node in graph.inputs} | {node.name: node.specs for node in graph.nodes}
    for edge in graph.edges:
        assert graph.spec_of(Source(edge.source, edge.source_index)) == specs[edge.source][edge.source_index]


@given(graphs())
def test_sources_stand_before_their_readers(graph):
    known = {node.name for node in graph.inputs}
    for node in graph.nodes:
        assert {source.name for source in node.inputs if source is not None} <= known
        known.add(node.name)


def test_equal_numbers_of_other_types_are_other_layers():
    ids = Input(("batch",), name="ids", dtype="int32")
    assert layers.ScalarMultiply(1)(ids).dtype == "int32"
    with pytest.raises(DTypeError, match="a fraction cannot take an integer dtype"):
        layers.ScalarMultiply(1.0)(ids)


# -- structures -------------------------------------------------------------------------------------------------------


def test_outputs_keep_the_structure(x):
    y, z = layers.ReLU()(x), layers.Tanh()(x)
    assert Graph(x, y).arrange([1]) == 1
    assert Graph(x, (y, z)).arrange([1, 2]) == (1, 2)
    assert Graph(x, [y]).arrange([1]) == (1,)
    assert Graph(x, {"b": y, "a": z}).arrange([1, 2]) == {"b": 1, "a": 2}
    assert list(Graph(x, {"b": y, "a": z})(x)) == ["b", "a"]


def test_an_input_may_be_an_output(x):
    graph = Graph(x, {"same": x, "relu": layers.ReLU()(x)})
    assert graph.outputs == (Source("x"), Source("relu"))
    assert Graph(x, x).nodes == ()


# -- nesting and sharing ----------------------------------------------------------------------------------------------


def test_a_graph_is_a_layer(x):
    inner = Graph(x, layers.Linear(4, name="linear")(x), name="inner")
    middle = Graph(x, inner(layers.ReLU(name="act")(x)), name="middle")
    outer = Graph(x, middle(x))
    assert [leaf.path for leaf in flatten(outer).leaves] == ["middle/act", "middle/inner/linear"]
    assert flatten(outer).groups == {
        "middle/inner": (Source("middle/inner/linear"),),
        "middle": (Source("middle/inner/linear"),),
    }


def test_every_use_of_a_layer_has_the_first_one_as_owner(x):
    layer, module = layers.Linear(4, name="tied"), Block()
    inner = Graph(x, layer(x), name="inner")
    y = module(inner(layer(x)))["y"]
    graph = Graph(x, (inner(module(y, x)["y"]), layers.Linear(4, name="free")(y)))
    assert owners(graph) == {
        "tied": "tied",
        "inner/tied": "tied",
        **{f"block/{name}": f"block/{name}" for name in ("parts_0", "parts_1", "linear")},
        **{f"block_2/{name}": f"block/{name}" for name in ("parts_0", "parts_1", "linear")},
        "block_2/add": "block_2/add",
        "inner_2/tied": "tied",
        "free": "free",
    }


def test_names_of_sizes_are_renamed_in_a_graph_that_is_called(x):
    a = Input(("rows", "cols"), name="a")
    inner = Graph(a, layers.ReLU()(a), name="inner")
    outer = Graph(x, inner(x))
    assert outer.output_specs == (x.spec,)
    assert outer.nodes[0].graph.nodes[0].spec == x.spec
    assert inner.output_specs == (a.spec,)  # as it was


def test_a_module_may_be_used_on_other_shapes_where_no_parameter_minds():
    class Twice(Module):
        def __init__(self):
            super().__init__()
            self.act = layers.Tanh()

        def forward(self, x):
            return self.act(x) + x

    twice, a, b = Twice(), Input(("n", 4), name="a"), Input((7,), name="b")
    graph = Graph([a, b], (twice(a), twice(b)))
    assert [spec.shape for spec in graph.output_specs] == [a.spec.shape, (7,)]
    assert owners(graph)["twice_2/act"] == "twice/act"


def test_a_shared_module_cannot_need_two_parameter_shapes(x):
    class Dense(Module):
        def __init__(self):
            super().__init__()
            self.linear = layers.Linear(3)

        def forward(self, x):
            return self.linear(x)

    dense = Dense()
    with pytest.raises(ShapeError, match="shared parameter `W` would need two shapes") as caught:
        Graph(x, dense(dense(x)))
    assert caught.value.where == "dense_2/linear"
    assert "float32[4, 3] as `dense/linear`" in caught.value.expected


# -- optional inputs --------------------------------------------------------------------------------------------------


def test_an_optional_input_that_is_not_given_is_zeros_of_its_spec(x):
    a, skip = Input(("n", 4), name="a"), Input(("n", 4), name="skip", optional=True)
    inner = Graph([a, skip], layers.Add(name="sum")(a, skip), name="inner")
    graph = Graph(x, (inner(x), inner(x, skip=layers.ReLU(name="act")(x))))
    sums = {leaf.path: leaf.inputs for leaf in flatten(graph).leaves if leaf.path.endswith("sum")}
    assert sums == {"inner/sum": (Source("x"), x.spec), "inner_2/sum": (Source("x"), Source("act"))}
    assert graph.node("inner").inputs == (Source("x"), None)


def test_a_module_sees_none_for_what_is_not_given(x):
    graph = Graph(x, (Block()(x)["y"], Block()(x, x)["y"]))
    assert [[node.name for node in outer.graph.inputs] for outer in graph.nodes] == [["x"], ["x", "skip"]]
    assert [len(outer.graph.nodes) for outer in graph.nodes] == [3, 4]


def test_named_sizes_follow_through_layers():
    x = Input(("batch", "2*time - 1", 8), name="x")
    graph = Graph(x, layers.Conv1D(3, kernel_width=2)(x))
    assert str(graph.output_specs[0]) == "float32[batch, 2*time - 2, 3]"
