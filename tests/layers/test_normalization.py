"""BatchNorm and LayerNorm."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnn.errors import DimensionError, OptionError, ShapeError
from graphnn.graph.graph import Graph
from graphnn.graph.layer import Input
from graphnn.layers import BatchNorm, BatchNorm1D, BatchNorm2D, LayerNorm, Linear
from peers import batch_norm, compare, graph_of, normal, random_arrays, run


@pytest.mark.peers
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (BatchNorm(name="n"), (5, 3)),
        (BatchNorm(0.5, 1e-3, name="n"), (4, 6, 3)),
        (BatchNorm(0.0, name="n"), (3, 2, 4, 5, 2)),
        (BatchNorm1D(0.99, name="n"), (4, 7, 2)),
        (BatchNorm2D(0.7, 0.1, name="n"), (2, 3, 5, 4)),
    ],
)
def test_batch_norm_equals_torch(layer, shape, training):
    """Outputs, gradients and, while training, running statistics; in evaluation these do not move."""
    x = 3.0 + 2.0 * normal(*shape)
    twin = lambda i, p: batch_norm(i["x"], p, "n", layer.momentum, layer.epsilon, training)  # noqa: E731
    compare(graph_of(layer, x), twin, {"x": x}, training=training)


@pytest.mark.peers
@pytest.mark.parametrize(("axes", "count"), [(-1, 1), (2, 1), ((1, 2), 2), ((-1, -2), 2)])
def test_layer_norm_equals_torch(axes, count):
    from torch.nn import functional

    x = 1.0 + normal(4, 3, 5)
    symbolic = Input(("batch", 3, 5), name="x")
    graph = Graph(symbolic, LayerNorm(1e-3, axes, name="n")(symbolic))
    twin = lambda i, p: functional.layer_norm(i["x"], x.shape[-count:], p["n/scaler"], p["n/intercept"], 1e-3)  # noqa: E731
    compare(graph, twin, {"x": x})


def test_layer_norm_of_a_middle_axis():
    """The slope and the intercept lie along the axis that is normalized."""
    x = normal(4, 3, 5)
    symbolic = Input(("batch", 3, 5), name="x")
    graph = Graph(symbolic, LayerNorm(axes=1, name="n")(symbolic))
    arrays = random_arrays(graph, {"x": x})
    slope, intercept = arrays["n/scaler"].reshape(1, 3, 1), arrays["n/intercept"].reshape(1, 3, 1)
    expected = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5) * slope + intercept
    np.testing.assert_allclose(run(graph, {"x": x}, arrays).outputs["y"], expected, rtol=1e-12, atol=1e-12)


def test_a_frozen_batch_norm_is_the_affine_map_of_its_running_statistics():
    """A16, A34: frozen, it neither sees nor moves statistics while training, and gradients flow through it."""
    x = normal(6, 4)
    graph = graph_of(BatchNorm(name="n"), x)
    arrays = random_arrays(graph, {"x": x})
    frozen = run(graph, {"x": x}, arrays, training=True, frozen=["n"])
    evaluated = run(graph, {"x": x}, arrays, training=False)
    assert frozen.states == {}
    np.testing.assert_array_equal(frozen.outputs["y"], evaluated.outputs["y"])
    np.testing.assert_array_equal(frozen.gradients["x"], evaluated.gradients["x"])
    assert np.abs(frozen.gradients["x"]).min() > 0


@given(st.integers(1, 5), st.integers(1, 4), st.floats(0, 1), st.sampled_from(["float32", "float64"]))
def test_statistics_are_those_of_numpy_in_the_dtype_of_the_input(batch, ch, momentum, dtype):
    """A33: float32 stays float32. The variance is the biased one, and a constant channel has 0."""
    x = normal(batch, 3, ch, dtype=dtype)
    x[..., 0] = 2.0
    graph = graph_of(BatchNorm(momentum, name="n"), x)
    arrays = random_arrays(graph, {"x": x}, dtype)
    outcome = run(graph, {"x": x}, arrays, dtype=dtype)
    mean = momentum * arrays["n/running_mean"] + (1 - momentum) * x.mean((0, 1))
    var = momentum * arrays["n/running_var"] + (1 - momentum) * x.var((0, 1))
    everything = (*outcome.outputs.values(), *outcome.gradients.values(), *outcome.states.values())
    assert {str(array.dtype) for array in everything} == {dtype}
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(outcome.states["n/running_mean"], mean, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(outcome.states["n/running_var"], var, rtol=tolerance, atol=tolerance)
    assert all(np.isfinite(array).all() for array in everything)


def test_a_large_mean_leaves_the_variance_exact():
    """The variance comes from differences: mean(x**2) - mean(x)**2 would be negative here."""
    x = (1e4 + normal(64, 2)).astype("float32")
    graph = graph_of(BatchNorm(0.0, name="n"), x)
    states = run(graph, {"x": x}, random_arrays(graph, {"x": x}, "float32"), dtype="float32").states
    np.testing.assert_allclose(states["n/running_var"], x.astype("float64").var(0), rtol=1e-2)


def test_a_shared_batch_norm_moves_its_statistics_at_each_use():
    x, y = normal(5, 2), normal(5, 2, seed=1)
    norm = BatchNorm(0.5, name="n")
    a, b = Input(("batch", 2), name="a"), Input(("batch", 2), name="b")
    graph = Graph([a, b], [norm(a), norm(b)])
    arrays = random_arrays(graph, {"a": x, "b": y})
    states = run(graph, {"a": x, "b": y}, arrays).states
    expected = 0.5 * (0.5 * arrays["n/running_mean"] + 0.5 * x.mean(0)) + 0.5 * y.mean(0)
    np.testing.assert_allclose(states["n/running_mean"], expected, rtol=1e-12)


def test_the_first_slope_is_one_and_the_first_statistics_are_standard():
    x = Input(("batch", 3), name="x")
    declared = {d.path: d for d in Graph(x, BatchNorm(name="n")(x)).nodes[0].declarations}
    ends = {path.removeprefix("/"): type(d.initializer).__name__ for path, d in declared.items()}
    assert ends == {"scaler": "Ones", "intercept": "Zeros", "running_mean": "Zeros", "running_var": "Ones"}


@pytest.mark.parametrize(
    ("layer", "shape", "error", "text"),
    [
        (BatchNorm(), ("batch",), ShapeError, "rank 2 or more"),
        (BatchNorm1D(), (2, 4, 4, 3), ShapeError, "rank 2 or 3"),
        (BatchNorm2D(), (2, 4, 3), ShapeError, "rank 4"),
        (BatchNorm(), ("batch", "ch"), DimensionError, "`scaler` must be a number"),
        (BatchNorm(momentum=1.5), (2, 3), OptionError, "0 to 1"),
        (BatchNorm(epsilon=-1.0), (2, 3), OptionError, "epsilon is negative"),
        (LayerNorm(-1.0), (2, 3), OptionError, "epsilon is negative"),
        (LayerNorm(axes=0), (2, 3), OptionError, "batch axis"),
        (LayerNorm(axes=()), (2, 3), OptionError, "batch axis"),
        (LayerNorm(axes=3), (2, 3), OptionError, "out of range"),
        (LayerNorm(axes=1), ("batch", "time", 3), DimensionError, "must be a number"),
    ],
)
def test_misfits_are_refused_at_declaration(layer, shape, error, text):
    with pytest.raises(error, match=text) as caught:
        layer(Input(shape, name="x"))
    assert layer.default_name in caught.value.where


def test_batch_norm_behind_a_layer_takes_its_channels():
    x = Input(("batch", 3), name="x")
    graph = Graph(x, BatchNorm(name="n")(Linear(7, name="l")(x)))
    assert {d.spec.shape for d in graph.node("n").declarations} == {(7,)}
