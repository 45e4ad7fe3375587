"""Wrong graphs, one per test: each is refused where it is declared, with a message that a person can act on."""

import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from graphnn import layers
from graphnn.errors import (
    DimensionError,
    DTypeError,
    FileFormatError,
    GraphError,
    GraphnnError,
    OptionError,
    ShapeError,
)
from graphnn.graph.graph import Graph
from graphnn.graph.layer import Input, Layer
from graphnn.graph.module import Module
from graphnn.graph.surgery import delete, insert, replace, rewire, subgraph


class Kit:
    """A good graph; what goes wrong with its parts must not touch it."""

    def __init__(self):
        self.x = Input(("batch", 8), name="x")
        self.h = layers.Linear(8, name="h")(self.x)
        self.y = layers.ReLU(name="act")(self.h)
        self.graph = Graph(self.x, self.y, name="kit")

    def states(self):
        return self.graph.to_json(), Graph(self.x, self.y, name="kit").to_json()

    def file(self, edit):
        """The graph's file with `edit` applied to its data."""
        data = json.loads(self.graph.to_json())
        edit(data)
        return json.dumps(data)

    def read(self, edit):
        return Graph.from_json(self.file(edit))


class Residual(Module):
    def __init__(self, channels=8):
        super().__init__()
        self.inner = layers.Linear(channels)

    def forward(self, x, skip=None):
        return self.inner(x) + (x if skip is None else skip)


class MakesLayersInForward(Module):
    def forward(self, x):
        return layers.Linear(8, name="late")(x)  # here


class Unpacking(Module):
    def __init__(self):
        super().__init__()
        self.parts = [layers.Linear(8), layers.Linear(9)]

    def forward(self, x):
        return layers.Add(name="sum")(self.parts[0](x), self.parts[1](x))  # here


class Handmade(Layer):
    """A user's layer that forgot to be a dataclass."""

    def __init__(self, size):
        object.__setattr__(self, "size", size)
        object.__setattr__(self, "name", None)

    def lower(self, scope, x):
        return x


CASES = []


@dataclass(frozen=True)
class Case:
    build: Callable[[Kit], object]
    error: type[GraphnnError]
    texts: tuple[str, ...]


def wrong(error, *texts):
    """The function builds a wrong graph; the line marked `# here`, if there is one, is the one the error must show."""

    def register(build):
        CASES.append(Case(build, error, texts))
        return build

    return register


# -- layers and their inputs ------------------------------------------------------------------------------------------


@wrong(GraphError, "relu: ", "wrong number of inputs", "expected: 1", "got: 2")
def too_many_inputs(kit):
    layers.ReLU()(kit.x, kit.h)  # here


@wrong(GraphError, "difference: ", "wrong number of inputs", "expected: 2", "got: 1")
def too_few_inputs(kit):
    layers.Subtract(name="difference")(kit.x)  # here


@wrong(GraphError, "add: ", "wrong number of inputs", "expected: 1 or more", "got: 0")
def no_inputs(kit):
    layers.Add()()  # here


@wrong(GraphError, "linear: ", "not a symbolic tensor", "gnn.Input", "got: ndarray", "fix: ", "Model.forward")
def array_as_input(kit):
    layers.Linear(4)(np.zeros((2, 8), "float32"))  # here


@wrong(GraphError, "linear: ", "not a symbolic tensor", "got: the layer ReLU, not called", "call it")
def layer_as_input(kit):
    layers.Linear(4)(layers.ReLU())  # here


@wrong(GraphError, "relu: ", "not a symbolic tensor", "got: None")
def none_as_input(kit):
    layers.ReLU()(None)  # here


@wrong(GraphError, "add: ", "not a symbolic tensor", "got: a list of 2", "layer(*tensors)")
def list_as_input(kit):
    layers.Add()([kit.x, kit.h])  # here


@wrong(ShapeError, "flat: ", "Linear needs", "rank 2 or more", "got: float32[batch]")
def wrong_rank(kit):
    layers.Linear(4, name="flat")(Input(("batch",), name="v"))  # here


@wrong(ShapeError, "linear: ", "expected: (..., 5)", "got: float32[batch, 8]")
def wrong_channels(kit):
    layers.Linear(4, n_in=5)(kit.h)  # here


@wrong(ShapeError, "add: ", "equal shape", "expected: float32[batch, 8]", "float32[batch, 3]")
def unequal_shapes(kit):
    layers.Add()(kit.x, layers.Linear(3)(kit.x))  # here


@wrong(ShapeError, "add: ", "equal shape", "float32[batch, 8]", "float32[rows, 8]")
def unequal_names_of_sizes(kit):
    kit.x + Input(("rows", 8), name="z")  # here


@wrong(DTypeError, "multiply: ", "expected: ", "got: ", "float32", "int32")
def wrong_dtype(kit):
    kit.x * Input(("batch", 8), name="ids", dtype="int32")  # here


@wrong(GraphError, "cannot add these", "expected: a symbolic tensor or a number", "got: 'one'")
def operator_with_text(kit):
    kit.x + "one"  # here


@wrong(
    DimensionError, "linear: ", "size of parameter `W` must be a number", "got: float32[features, 4]", "integer size"
)
def named_size_for_a_parameter(kit):
    layers.Linear(4)(Input(("batch", "features"), name="open"))  # here


@wrong(ShapeError, "shared_2: ", "`W`", "expected: float32[8, 4] as `shared`", "got: float32[4, 4]", "two layers")
def shared_layer_with_two_feature_sizes(kit):
    shared = layers.Linear(4, name="shared")
    Graph(kit.x, shared(shared(kit.x)))  # here


@wrong(GraphError, "symbolic tensor has no truth value", "fix: ")
def branch_on_a_tensor(kit):
    if kit.x:  # here
        pass


@wrong(GraphError, "symbolic tensor cannot be iterated over")
def unpack_a_tensor(kit):
    _first, _second = kit.x  # here


@wrong(ShapeError, "linear: ", "not a size", "expected: an integer", "got: 'four'")
def size_that_is_a_text(kit):
    layers.Linear("four")(kit.x)  # here


@wrong(OptionError, "linear: ", "unknown activation", "ReLU", "got: 'rleu'")
def unknown_activation(kit):
    layers.Linear(4, act_fn="rleu")(kit.x)  # here


@wrong(OptionError, "linear: ", "unknown initializer", "glorot_uniform", "got: 'glorot'")
def unknown_initializer(kit):
    layers.Linear(4, init="glorot")(kit.x)  # here


# -- inputs -----------------------------------------------------------------------------------------------------------


@wrong(ShapeError, "size is negative", "expected: 0 or more", "got: float32[batch, -8]")
def negative_size(kit):
    Input(("batch", -8), name="n")  # here


@wrong(OptionError, "not a size", "expected: an integer or a name", "got: None", 'name unknown sizes: "batch"')
def size_none(kit):
    Input((None, 8), name="n")  # here


@wrong(OptionError, "not a size", "got: 8.0")
def size_float(kit):
    Input(("batch", 8.0), name="n")  # here


@wrong(DimensionError, "not a size", "names with + - * //", "got: '2**time'")
def size_expression_that_is_not_allowed(kit):
    Input(("batch", "2**time"), name="n")  # here


@wrong(OptionError, "a tuple with one entry per axis", "got: 8")
def shape_without_tuple(kit):
    Input(8, name="n")  # here


@wrong(DTypeError, "unknown element type", "float32", "got: 'float23'")
def unknown_dtype(kit):
    Input(("batch", 8), name="n", dtype="float23")  # here


@pytest.mark.parametrize(
    "name", ["a/b", "a:1", "a*", "a?", "[a]", "<a>", "a@b", "dLd", "", " a", "a ", 7, "a\\b", "a\nb", "a\0b", "\ud800"]
)
def test_reserved_names(name):
    for make in (lambda: Input(("batch", 8), name=name), lambda: layers.ReLU(name=name)(Kit().x)):
        with pytest.raises(GraphError, match="cannot be a name") as caught:
            make()
        assert repr(name) in str(caught.value)
        assert "expected: a non-empty string" in str(caught.value)
        assert f"{__file__}:" in str(caught.value)


# -- graphs -----------------------------------------------------------------------------------------------------------


@wrong(GraphError, "dup: ", "name is given twice", "first used at", "layers.ReLU", "fix: rename one")
def duplicate_node_names(kit):
    a = layers.ReLU(name="dup")(kit.x)
    b = layers.Tanh(name="dup")(a)  # here
    Graph(kit.x, b)


@wrong(GraphError, "x: ", "name is given twice", "first used at")
def duplicate_input_names(kit):
    other = Input(("batch", 8), name="x")  # here
    Graph([kit.x, other], kit.x + other)


@wrong(GraphError, "x: ", "name is given twice", "first used at")
def node_named_like_an_input(kit):
    Graph(kit.x, layers.ReLU(name="x")(kit.x))  # here


@wrong(GraphError, "an input stands twice")
def same_input_twice(kit):
    Graph([kit.x, kit.x], kit.h)  # here


@wrong(GraphError, "spare: ", "disconnected: no output depends on it", "fix: ")
def disconnected_input(kit):
    spare = Input(("batch", 8), name="spare")  # here
    Graph([kit.x, spare], kit.h)


@wrong(GraphError, "forgotten: ", "depends on an input that the graph does not list", "expected: one of x", "add it to")
def unlisted_input(kit):
    forgotten = Input(("batch", 8), name="forgotten")  # here
    Graph(kit.x, kit.h + forgotten)


@wrong(GraphError, "x: ", "depends on an input that the graph does not list", "declared at", "self.x = Input(")
def input_of_another_graph(kit):
    own = Input(("batch", 8), name="own")
    Graph(own, {"mine": layers.ReLU()(own), "theirs": kit.y})


@wrong(GraphError, "a graph begins at inputs", "expected: gnn.Input", "got: float32[batch, 8] from `h`", "subgraph")
def node_output_as_graph_input(kit):
    Graph(kit.h, kit.y)  # here


@wrong(GraphError, "graph output is not a symbolic tensor", "expected: the output of a layer", "got: 3")
def number_as_output(kit):
    Graph(kit.x, {"y": 3})  # here


@wrong(GraphError, "graph output is not a symbolic tensor", "Linear")
def layer_as_output(kit):
    Graph(kit.x, layers.Linear(4))  # here


@wrong(GraphError, "at least one output", "expected: a symbolic tensor, a tuple or a dict")
def no_outputs(kit):
    Graph(kit.x, [])  # here


@wrong(GraphError, "'y/1' cannot be a name")
def reserved_output_name(kit):
    Graph(kit.x, {"y/1": kit.y})  # here


@wrong(GraphError, "kit: ", "a graph does not change", "surgery")
def graph_that_is_changed(kit):
    kit.graph.nodes = ()


@wrong(GraphError, "kit", "no node is called 'acr'", "expected: h, act", "got: 'acr'")
def unknown_node_name(kit):
    kit.graph.node("acr")


# -- graphs and modules as layers -------------------------------------------------------------------------------------


@wrong(GraphError, "pair", "required input is missing", "b", "expected: float32[batch, 8]")
def missing_required_input(kit):
    a, b = Input(("batch", 8), name="a"), Input(("batch", 8), name="b")
    pair = Graph([a, b], a + b, name="pair")
    pair(kit.x)  # here


@wrong(GraphError, "kit: ", "unknown, repeated", "expected: x", "got: 0 by position, z=...")
def unknown_keyword_of_a_graph(kit):
    kit.graph(z=kit.x)  # here


@wrong(GraphError, "kit: ", "too many inputs", "expected: x", "got: 2 by position")
def too_many_inputs_of_a_graph(kit):
    kit.graph(kit.x, kit.x)  # here


@wrong(ShapeError, "kit/x: ", "does not fit the graph", "expected: float32[batch, 8]", "got: float32[batch, 9]")
def graph_called_with_another_size(kit):
    kit.graph(layers.Linear(9)(kit.x))  # here


@wrong(
    ShapeError, "same/b: ", "does not fit the graph", "expected: float32[n, 8]", "got: float32[rows, 8]", "n = batch"
)
def graph_called_with_two_sizes_for_one_name(kit):
    a, b = Input(("n", 8), name="a"), Input(("n", 8), name="b")
    same = Graph([a, b], a + b, name="same")
    same(kit.x, Input(("rows", 8), name="z"))  # here


@wrong(GraphError, "residual: ", "missing a required argument: 'x'", "expected: forward(x, skip=None)")
def module_without_its_input(kit):
    Residual()()  # here


@wrong(GraphError, "residual: ", "unexpected keyword argument 'z'", "expected: forward(x, skip=None)")
def module_with_an_unknown_input(kit):
    Residual()(kit.x, z=kit.x)  # here


@wrong(ShapeError, "residual/add: ", "equal shape", "float32[batch, 5]", "float32[batch, 8]")
def module_whose_inside_does_not_fit(kit):
    Residual(5)(kit.x)


@wrong(ShapeError, "unpacking/sum: ", "equal shape")
def module_whose_layers_do_not_fit(kit):
    Unpacking()(kit.x)


@wrong(GraphError, "makes_layers_in_forward/late: ", "made inside forward", "make it in __init__")
def module_that_makes_layers_in_forward(kit):
    MakesLayersInForward()(kit.x)


# -- surgery ----------------------------------------------------------------------------------------------------------


@wrong(GraphError, "cycle", "expected: ", "got: h -> act -> h", "fix: ")
def cycle_by_rewire(kit):
    rewire(kit.graph, "h", 0, "act")  # here


@wrong(GraphError, "cycle", "got: act -> act")
def self_loop_by_rewire(kit):
    rewire(kit.graph, "act", 0, "act")  # here


@wrong(GraphError, "act: ", "source does not exist", "expected: x, h, act", "got: 'hh'")
def rewire_from_an_unknown_source(kit):
    rewire(kit.graph, "act", 0, "hh")  # here


@wrong(GraphError, "act: ", "no such output", "expected: h\n", "got: h:1")
def rewire_from_an_unknown_output(kit):
    rewire(kit.graph, "act", 0, "h:1")  # here


@wrong(GraphError, "act: ", "no such input", "expected: less than 1", "got: 1")
def rewire_an_unknown_input(kit):
    rewire(kit.graph, "act", 1, "x")  # here


@wrong(GraphError, "nothing: ", "no such node", "expected: h, act", "got: 'nothing'")
def delete_an_unknown_node(kit):
    delete(kit.graph, "nothing")  # here


@wrong(GraphError, "add: ", "one input and one output", "got: 2 and 1", "rewire")
def delete_a_node_with_two_inputs(kit):
    delete(Graph(kit.x, kit.x + kit.h), "add")  # here


@wrong(GraphError, "h: ", "name is given twice")
def insert_a_name_that_is_taken(kit):
    insert(kit.graph, layers.Tanh(), "h", after="h")  # here


@wrong(GraphError, "act: ", "wrong number of inputs", "expected: 2", "got: 1")
def replace_by_a_layer_of_other_arity(kit):
    replace(kit.graph, "act", layers.Subtract())  # here


@wrong(ShapeError, "h: ", "expected: (..., 4)", "got: float32[batch, 8]")
def replace_by_a_layer_that_does_not_fit(kit):
    replace(kit.graph, "h", layers.Linear(3, n_in=4))  # here


@wrong(GraphError, "x: ", "depends on an input that is not listed", "got: h")
def subgraph_that_needs_more(kit):
    subgraph(Graph(kit.x, kit.x + kit.h), "h", "add")  # here


# -- files ------------------------------------------------------------------------------------------------------------


@wrong(GraphError, "cycle", "got: h -> act -> h")
def cycle_in_a_file(kit):
    kit.read(lambda data: data["nodes"][0].update(inputs=["act"]))


@wrong(FileFormatError, "h, nodes[0].layer", "unknown layer", "got: 'os.system'", "layers={")
def unknown_layer_in_a_file(kit):
    kit.read(lambda data: data["nodes"][0].update(layer="os.system"))


@wrong(FileFormatError, "h, nodes[0].hyperparameters", "unknown attribute of Linear", "n_out", "got: 'n_outs'")
def unknown_attribute_in_a_file(kit):
    kit.read(lambda data: data["nodes"][0]["hyperparameters"].update(n_outs=3))


@wrong(GraphError, "act: ", "source does not exist", "expected: act, h, x", "got: 'z'")
def unknown_source_in_a_file(kit):
    kit.read(lambda data: data["nodes"][1].update(inputs=["z"]))


@wrong(GraphError, "act: ", "`h` has no such output", "expected: h\n", "got: h:7")
def unknown_source_output_in_a_file(kit):
    kit.read(lambda data: data["nodes"][1].update(inputs=["h:7"]))


@wrong(GraphError, "h: ", "no output depends on this node", "take it out")
def unused_node_in_a_file(kit):
    kit.read(lambda data: data["nodes"][1].update(inputs=["x"]))


@wrong(FileFormatError, "nodes[1].name", "'a/b' cannot be a name")
def reserved_name_in_a_file(kit):
    kit.read(lambda data: data["nodes"][1].update(name="a/b"))


@wrong(FileFormatError, "version: ", "unknown version", "expected: 1", "got: 2", "newer graphnn")
def unknown_version_of_a_file(kit):
    kit.read(lambda data: data.update(version=2))


@wrong(GraphError, "handmade", "could not be made again", "expected: ", "size", "@dataclass(frozen=True, eq=False)")
def layer_that_cannot_be_saved(kit):
    Graph(kit.x, Handmade(3)(kit.x)).to_json()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.build.__name__)
def test_wrong_graph(case):
    kit = Kit()
    before = kit.states()
    with pytest.raises(GraphnnError) as caught:
        case.build(kit)
    message = str(caught.value)
    assert type(caught.value) is case.error, message
    assert [text for text in (*case.texts, "\n  expected: ", "\n  got: ") if text not in message] == [], message
    assert caught.value.where
    for line in marked_lines(case.build):
        assert f"declared at {__file__}:{line}" in message, message
    assert kit.states() == before


def marked_lines(build):
    """`file.py:12: text` of the line marked `# here`, in the function or in the class that it names."""
    lines, first = inspect.getsourcelines(build)
    return [f"{first + i}: {line.strip()}" for i, line in enumerate(lines) if "# here" in line]


@pytest.mark.parametrize("kind", [MakesLayersInForward, Unpacking])
def test_error_inside_a_module_shows_the_line_in_its_forward(kind):
    (line,) = marked_lines(kind.forward)
    with pytest.raises(GraphnnError) as caught:
        kind()(Kit().x)
    assert f"declared at {__file__}:{line}" in str(caught.value)


def test_no_case_is_listed_twice_and_there_are_many():
    assert len({case.build.__name__ for case in CASES}) == len(CASES) >= 60
