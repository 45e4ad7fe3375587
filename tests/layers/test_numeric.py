"""Numeric layers: forward and backward written on arrays, in a network like any other layer."""

from dataclasses import dataclass

import numpy as np
import pytest

from graphnn import layers
from graphnn.errors import GradientError, OptionError
from graphnn.gradient_check import check_gradients
from graphnn.graph.graph import Graph
from graphnn.graph.layer import Input
from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.layers.numeric import NumericLayer
from graphnn.model import Model
from graphnn.ops.op import Tensor
from graphnn.ops.opaque import Opaque
from ops.helpers import check_gradient, gradient_program

X = np.random.default_rng(0).normal(size=(4, 3))


@dataclass(frozen=True, eq=False)
class Cube(NumericLayer):
    """y = x ** 3; writes into all that it is given."""

    def output_spec(self, *specs):
        return specs[0]

    def forward(self, xp, x):
        x *= x * x
        return x

    def backward(self, xp, inputs, outputs, cotangents):
        (x,), (dy,) = inputs, cotangents
        dy *= 3 * x * x
        x[...] = outputs[0][...] = 0
        return dy


@dataclass(frozen=True, eq=False)
class PolarTimes(NumericLayer):
    """(r * cos(phi), r * sin(phi)) of r, phi, and integers n that r is multiplied by."""

    def output_spec(self, *specs):
        return specs[0], specs[0]

    def forward(self, xp, r, phi, n):
        return r * n * xp.cos(phi), r * n * xp.sin(phi)

    def backward(self, xp, inputs, outputs, cotangents):
        (_, phi, n), (a, b), (da, db) = inputs, outputs, cotangents
        return n * (da * xp.cos(phi) + db * xp.sin(phi)), db * a - da * b


def cube_net():
    x = Input(("batch", 3), name="x")
    return Graph(x, layers.Linear(2, name="head")(Cube(name="cube")(layers.Tanh(name="act")(x))))


def test_it_is_a_node_like_any_other():
    graph = cube_net()
    assert [node.name for node in graph.schedule()] == ["act", "cube", "head"]
    assert [node.name for node in graph.backward_schedule()] == ["head", "cube", "act"]
    assert str(graph.node("cube").spec) == "float32[batch, 3]"
    assert "Cube" in str(graph.summary())
    assert "cube" in graph.to_svg()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_forward_and_backward_are_the_users(dtype):
    model = Model(cube_net(), dtype=dtype)
    y = model.forward(X, retain=True)
    values = {path: array.copy() for path, array in model.derived_variables.items()}
    np.testing.assert_allclose(values["cube"], np.tanh(X) ** 3, rtol=1e-5)
    assert y.dtype == dtype
    dx = model.backward(np.ones((4, 2)))
    assert dx.dtype == dtype
    through = np.ones((4, 2)) @ model.parameters["head/W"].T
    np.testing.assert_allclose(dx, through * 3 * np.tanh(X) ** 2 * (1 - np.tanh(X) ** 2), rtol=1e-4, atol=1e-6)
    for path in values:  # whatever backward wrote into its arguments
        np.testing.assert_array_equal(model.derived_variables[path], values[path])


def test_several_inputs_and_outputs_some_of_integers():
    """The integers get no gradient, and `backward` gives none for them."""
    builder = ProgramBuilder()
    specs = [TensorSpec((4, 3), "float64"), TensorSpec((4, 3), "float64"), TensorSpec((4, 3), "int64")]
    inputs = [Tensor(builder, builder.input("", spec)) for spec in specs]
    program = builder.build([y.value for y in Opaque(PolarTimes())(*inputs)])
    check_gradient(program, [X, 2 * X, np.arange(12).reshape(4, 3)])


def test_in_a_graph_with_two_outputs():
    r, phi = Input(("batch", 3), name="r"), Input(("batch", 3), name="phi")
    n = Input(("batch", 3), name="n", dtype="int64")
    a, b = PolarTimes(name="polar")(r, phi, n)
    model = Model(Graph([r, phi, n], {"a": a, "b": b}), dtype="float64")
    count = np.full((4, 3), 2)
    outputs = model.forward(X, 2 * X, count, retain=True)
    np.testing.assert_allclose(outputs["b"], 2 * X * np.sin(2 * X))
    gradients = model.backward(a=np.ones((4, 3)))
    assert list(gradients) == ["r", "phi"]
    np.testing.assert_allclose(gradients["r"], 2 * np.cos(2 * X))
    np.testing.assert_allclose(gradients["phi"], -2 * X * np.sin(2 * X))
    check_gradients(model, X, 2 * X, count)


def test_batches_of_one_and_of_nothing():
    model = Model(cube_net())
    for batch in (0, 1):
        assert model.forward(X[:batch]).shape == (batch, 2)
        assert model.backward(np.ones((batch, 2))).shape == (batch, 3)


def test_there_is_no_second_derivative_and_the_error_says_what_to_do():
    builder = ProgramBuilder()
    x = Tensor(builder, builder.input("x", TensorSpec((3,), "float64")))
    program = builder.build([Opaque(Cube())(x).value])
    with pytest.raises(GradientError, match="no second derivative") as caught:
        gradient_program(gradient_program(program))
    assert caught.value.where == "Cube"
    assert "lower" in caught.value.fix


def test_a_graph_file_names_its_class():
    graph = Graph.from_json(cube_net().to_json(), layers={"Cube": Cube})
    np.testing.assert_array_equal(Model(graph).forward(X), Model(cube_net()).forward(X))


def returning(forward=None, backward=None, spec=None):
    """A layer of one input that gives these things."""

    @dataclass(frozen=True, eq=False)
    class Odd(NumericLayer):
        def output_spec(self, *specs):
            return specs[0] if spec is None else spec

        def forward(self, xp, x):
            return x if forward is None else forward(x)

        def backward(self, xp, inputs, outputs, cotangents):
            return cotangents[0] if backward is None else backward(cotangents[0])

    x = Input(("batch", 3), name="x")
    return Graph(x, Odd(name="odd")(x))


WRONG = {
    "a transposed value": (lambda: returning(forward=lambda x: x.T), OptionError),
    "two values for one": (lambda: returning(forward=lambda x: (x, x)), OptionError),
    "no value": (lambda: returning(forward=lambda x: None), OptionError),
    "text": (lambda: returning(forward=lambda x: "x"), OptionError),
    "a transposed gradient": (lambda: returning(backward=lambda dy: dy.T), GradientError),
    "no gradient": (lambda: returning(backward=lambda dy: None), GradientError),
    "two gradients for one": (lambda: returning(backward=lambda dy: (dy, dy)), GradientError),
}


@pytest.mark.parametrize("name", WRONG)
def test_arrays_that_do_not_fit_are_refused_at_the_node(name):
    make, error = WRONG[name]
    model = Model(make())

    def run():
        model.forward(X)
        model.backward(np.ones((4, 3)))

    with pytest.raises(error, match="gives wrong arrays") as caught:
        run()
    assert caught.value.where == "odd"
    assert caught.value.expected.startswith("float32[4, 3]")


@pytest.mark.parametrize("spec", [(), "float32", ("float32",), 3])
def test_a_spec_that_is_none_is_refused_at_declaration(spec):
    with pytest.raises(OptionError, match="output_spec"):
        returning(spec=spec)


def test_a_number_is_an_array():
    total = returning(spec=TensorSpec(()), forward=lambda x: float(x.sum()), backward=lambda dy: np.full((4, 3), dy))
    model = Model(total)
    assert model.forward(X).shape == ()
    assert model.backward(2.0).tolist() == np.full((4, 3), 2.0).tolist()


def test_an_exception_of_the_user_leaves_the_model_as_it_was():
    def fail(x):
        raise RuntimeError("mine")

    x = Input(("batch", 3), name="x")
    norm = layers.BatchNorm(name="norm")(x)
    model = Model(Graph(x, (norm, returning(forward=fail)(x))))
    before = {path: array.copy() for path, array in model.states.items()}
    with pytest.raises(RuntimeError, match="mine"):
        model.forward(X, training=True)
    assert model.step == 0
    assert all(np.array_equal(array, before[path]) for path, array in model.states.items())
