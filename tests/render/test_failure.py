"""A declaration that failed can be drawn: all up to it, and the layer at fault."""

from xml.etree import ElementTree

import pytest

import drawn_graphs
import graphnn as gnn
from graphnn import layers
from graphnn.errors import GraphnnError, ShapeError
from graphnn.graph.layer import Input
from graphnn.render.failure import FAILURE, failure_scene, failure_svg


def caught(declare) -> GraphnnError:
    with pytest.raises(GraphnnError) as found:
        declare()
    return found.value


def misfit():
    x = Input(("batch", "time", 32), name="x_main")
    h = layers.Tanh(name="tanh")(layers.Conv1D(64, kernel_width=2, pad="causal", name="conv")(x))
    return layers.Add(name="add_residual")(x, h)


def test_the_picture_has_the_graph_so_far_both_shapes_and_the_failing_node():
    error = caught(misfit)
    scene = failure_scene(error)
    assert [box.key for box in scene.boxes] == ["x_main", "conv", "tanh", FAILURE]
    assert {(e.source, e.target) for e in scene.edges if e.target == FAILURE} == {
        ("x_main", FAILURE),
        ("tanh", FAILURE),
    }
    failing = scene.boxes[-1]
    assert failing.title == "Add"
    words = " ".join(failing.lines)
    assert "Add needs inputs of equal shape" in words
    assert "float32[batch, time, 32]" in words
    assert "float32[batch, time, 64]" in words
    assert "fix: bring the last axis of all to 32" in words
    root = ElementTree.fromstring(failure_svg(error))
    (red,) = [node for node in root.iter() if node.get("data-role") == "failure"]
    assert red.get("data-category") == "failure"
    assert any("gnn-warning" in part.get("class", "") for part in red.iter())
    assert __file__ not in failure_svg(error)


def test_the_error_carries_the_graph_so_far_and_its_picture_has_the_flag():
    error = caught(misfit)
    assert [node.name for node in error.graph.inputs] == ["x_main"]
    assert [node.name for node in error.graph.nodes] == ["conv", "tanh"]
    assert [source.name for source in error.graph.outputs] == ["x_main", "tanh"]
    layer, inputs = error.attempt
    assert layer.name == "add_residual"
    assert [tensor.spec for tensor in inputs] == list(error.graph.output_specs)
    root = ElementTree.fromstring(failure_svg(error))
    assert "! ShapeError" in [element.text for element in root.iter() if element.tag.endswith("}text")]
    assert "failure" not in error.graph.to_svg()  # a graph like any other: it lacks the layer that did not fit


def test_two_layers_of_one_name_make_no_graph_and_the_picture_is_a_red_box():
    x, y = Input(("batch", 4), name="x"), Input(("batch", 5), name="y")
    error = caught(lambda: layers.Add(name="add")(layers.Tanh(name="same")(x), layers.Tanh(name="same")(y)))
    assert error.graph is None
    assert [box.role for box in failure_scene(error).boxes] == ["failure"]
    assert "Add needs inputs of equal shape" in failure_svg(error)


def test_an_input_that_is_read_twice_is_two_connections():
    x = Input(("batch", 4), name="x")
    y = Input(("batch", 5), name="y")
    scene = failure_scene(caught(lambda: layers.Add(name="add")(x, y, x)))
    assert {(e.source, e.count) for e in scene.edges} == {("x", 2), ("y", 1)}


class Broken(gnn.Module):
    def __init__(self, name=None):
        super().__init__(name=name)
        self.narrow = layers.Linear(3)
        self.join = layers.Add()

    def forward(self, x):
        return self.join(x, self.narrow(x))


def test_inside_a_module_the_inside_is_drawn_and_the_path_is_named():
    x = Input(("batch", 4), name="x")
    error = caught(lambda: Broken(name="block")(layers.Tanh()(x)))
    scene = failure_scene(error)
    assert scene.name == "block/join"
    assert [(box.role, box.key) for box in scene.boxes] == [
        ("input", "x"), ("layer", "narrow"), ("failure", FAILURE),
    ]  # fmt: skip
    assert isinstance(error, ShapeError)
    assert [node.name for node in error.graph.nodes] == ["narrow"]


def test_a_module_so_far_is_closed_and_can_be_opened():
    x = Input(("batch", 4), name="x")
    error = caught(lambda: layers.Add(name="add")(drawn_graphs.Block(name="block")(x)["sum"], layers.Linear(3)(x)))
    assert [box.role for box in failure_scene(error).boxes] == ["input", "module", "layer", "failure"]
    assert [group.path for group in failure_scene(error, depth=1).groups] == ["block"]


@pytest.mark.parametrize(
    "declare",
    [
        lambda: layers.Tanh(name="tanh")(3),
        lambda: gnn.Graph(Input(("batch",), name="x"), Input(("batch",), name="y")),
        lambda: Input(("batch",), name="a/b"),
    ],
)
def test_an_error_without_a_graph_is_a_red_box(declare):
    error = caught(declare)
    assert error.graph is None
    scene = failure_scene(error, theme="dark")
    assert [box.role for box in scene.boxes] == ["failure"]
    assert error.message.split()[0] in failure_svg(error)
