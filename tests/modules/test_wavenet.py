"""WavenetResidualModule."""

import numpy as np
import pytest

from graphnn.errors import GraphnnError, OptionError, ShapeError
from graphnn.graph.graph import Graph
from graphnn.graph.layer import Input
from graphnn.modules import WavenetResidualModule
from peers import compare, compare_training, conv, descend, graph_of, normal, random_arrays, run

NODES = ["conv_dilation", "tanh", "sigm", "multiply_gate", "conv_1x1", "add_residual", "add_skip"]


def block(x, skip, p, path, kernel_width, dilation, separate_gates):
    """The block in torch."""
    pads = [((kernel_width - 1) * dilation, 0)]
    f, g = ("conv_filter", "conv_gate") if separate_gates else ("conv_dilation", "conv_dilation")
    h, k = (conv(x, p[f"{path}/{name}/W"], p[f"{path}/{name}/b"], pads, 1, dilation) for name in (f, g))
    o = conv(h.tanh() * k.sigmoid(), p[f"{path}/conv_1x1/W"], p[f"{path}/conv_1x1/b"], [(0, 0)])
    return {"y_main": x + o, "y_skip": o if skip is None else skip + o}


def graph_with_skip(module, x):
    main, skip = (Input(("batch", "time", x.shape[-1]), name=name) for name in ("x_main", "x_skip"))
    return Graph([main, skip], module(main, skip))


@pytest.mark.peers
@pytest.mark.parametrize("separate_gates", [False, True])
@pytest.mark.parametrize("dilation", [1, 2, 4])
@pytest.mark.parametrize(("kernel_width", "length"), [(1, 5), (2, 1), (2, 9), (3, 6), (5, 8)])
def test_block_equals_torch(kernel_width, length, dilation, separate_gates):
    """A6, A7, A28: each kernel width, with and without x_skip, also where the filter is longer than the sequence."""
    x, skip = normal(2, length, 4), normal(2, length, 4, seed=1)
    options = {"kernel_width": kernel_width, "dilation": dilation, "separate_gates": separate_gates}
    module = WavenetResidualModule(4, 3, **options, name="w")
    twin = lambda i, p: block(i["x_main"], i["x_skip"], p, "w", **options)  # noqa: E731
    compare(graph_with_skip(module, x), twin, {"x_main": x, "x_skip": skip})
    compare(graph_of(module, x), lambda i, p: block(i["x"], None, p, "w", **options), {"x": x})


@pytest.mark.peers
@pytest.mark.parametrize(("name", "options"), [("SGD", {"lr": 0.5, "momentum": 0.9}), ("Adam", {"lr": 0.05})])
def test_five_steps_of_a_stack_equal_torch(name, options):
    """A1: three blocks with dilations 1, 2 and 4, the first without x_skip, trained for more than one step."""

    def twin(inputs, p):
        main, skip = inputs["x"], None
        for path, dilation in BLOCKS.items():
            main, skip = block(main, skip, p, path, 2, dilation, False).values()
        return {"main": main, "skip": skip}

    x = normal(3, 10, 4)
    compare_training(stack(x), twin, {"x": x}, name, options)


BLOCKS = {"first": 1, "second": 2, "third": 4}


def stack(x, kernel_width=2):
    """Blocks of growing dilation."""
    start = Input(("batch", "time", x.shape[-1]), name="x")
    main, skip = start, None
    for name, dilation in BLOCKS.items():
        main, skip = WavenetResidualModule(x.shape[-1], 3, dilation, kernel_width, name=name)(main, skip).values()
    return Graph(start, {"main": main, "skip": skip})


@pytest.mark.parametrize("kernel_width", [2, 3])
def test_the_stack_sees_exactly_its_receptive_field(kernel_width):
    """1 + sum of (kernel_width - 1) * dilation inputs up to its own time, and no later one."""
    x = normal(1, 24, 4)
    graph = stack(x, kernel_width)
    seed = {"main": np.zeros((1, 24, 4)), "skip": np.zeros((1, 24, 4))}
    seed["skip"][0, 20] = 1.0
    gradient = run(graph, {"x": x}, random_arrays(graph, {"x": x}), seeds=seed).gradients["x"]
    field = 1 + (kernel_width - 1) * sum(BLOCKS.values())
    seen = np.flatnonzero(np.abs(gradient[0]).max(-1))
    np.testing.assert_array_equal(seen, np.arange(21 - field, 21))


def test_a_missing_skip_counts_as_zeros():
    """A7: bit by bit, outputs and gradients."""
    x = normal(2, 7, 3)
    module = WavenetResidualModule(3, 5, 2, 2, name="w")
    with_zeros, without = graph_with_skip(module, x), graph_of(module, x)
    inputs = {"x_main": x, "x_skip": np.zeros_like(x)}
    arrays = random_arrays(without, {"x": x})
    a, b = run(with_zeros, inputs, arrays), run(without, {"x": x}, arrays)
    for name in ("y_main", "y_skip"):
        np.testing.assert_array_equal(a.outputs[name], b.outputs[name])
    np.testing.assert_array_equal(a.gradients["x_main"], b.gradients["x"])
    np.testing.assert_array_equal(a.gradients["w/conv_dilation/W"], b.gradients["w/conv_dilation/W"])


def test_the_graph_is_the_one_that_is_drawn():
    x = normal(2, 7, 3)
    (node,) = graph_with_skip(WavenetResidualModule(3, 5, 2, 2, name="w"), x).nodes
    assert sorted(inner.name for inner in node.graph.nodes) == sorted(NODES)
    edges = {(edge.source, edge.target) for edge in node.graph.edges}
    assert edges == {
        ("x_main", "conv_dilation"), ("conv_dilation", "tanh"), ("conv_dilation", "sigm"), ("tanh", "multiply_gate"),
        ("sigm", "multiply_gate"), ("multiply_gate", "conv_1x1"), ("conv_1x1", "add_residual"),
        ("x_main", "add_residual"), ("conv_1x1", "add_skip"), ("x_skip", "add_skip"),
    }  # fmt: skip


def test_the_first_block_has_the_same_nodes():
    (node,) = graph_of(WavenetResidualModule(3, 5, 2, 2), normal(2, 7, 3)).nodes
    assert sorted(inner.name for inner in node.graph.nodes) == sorted(NODES)


@pytest.mark.parametrize("kernel_width", [1, 2, 3, 7])
def test_the_kernel_width_is_used_and_reported(kernel_width):
    """A6."""
    module = WavenetResidualModule(3, 5, 2, kernel_width, name="w")
    arrays = random_arrays(graph_of(module, normal(2, 7, 3)), {"x": normal(2, 7, 3)})
    assert arrays["w/conv_dilation/W"].shape == (kernel_width, 3, 5)
    assert module.hyperparameters["kernel_width"] == kernel_width


def test_hyperparameters_make_an_equal_module():
    """A19, A20: they are plain data, complete, and known before the first use."""
    module = WavenetResidualModule(3, 5, 2, kernel_width=4, separate_gates=True)
    again = WavenetResidualModule(**module.hyperparameters)
    assert again.hyperparameters == module.hyperparameters
    assert list(again.components) == list(module.components)
    specs = [[str(n.specs) for n in graph_of(m, normal(2, 7, 3)).nodes[0].graph.nodes] for m in (module, again)]
    assert specs[0] == specs[1]


@pytest.mark.peers
def test_one_block_used_twice_adds_its_gradients():
    """A9, A35: shared inside one graph."""
    x = normal(2, 6, 3)
    shared = WavenetResidualModule(3, 5, 2, 2, name="w")
    start = Input(("batch", "time", 3), name="x")
    first = shared(start)
    graph = Graph(start, shared(first["y_main"], first["y_skip"]))

    def twin(inputs, p):
        first = block(inputs["x"], None, p, "w", 2, 2, False)
        return block(first["y_main"], first["y_skip"], p, "w", 2, 2, False)

    compare(graph, twin, {"x": x})


def test_a_hundred_training_steps_lower_the_loss():
    """A1, A34: and each run starts from its arguments alone."""
    x = normal(4, 12, 3)
    target = np.tanh(np.roll(x, 1, 1))
    losses, arrays = descend(stack(x), {"x": x}, {"main": target, "skip": target}, rate=0.5)
    assert losses[-1] < 0.5 * losses[0]
    assert all(np.isfinite(array).all() for array in arrays.values())


def test_float32_stays_float32():
    """A33."""
    x = normal(2, 7, 3, dtype="float32")
    graph = graph_of(WavenetResidualModule(3, 5, 2, 2), x)
    outcome = run(graph, {"x": x}, random_arrays(graph, {"x": x}, "float32"), dtype="float32")
    assert {str(a.dtype) for a in (*outcome.outputs.values(), *outcome.gradients.values())} == {"float32"}


@pytest.mark.parametrize(
    ("arguments", "shape", "error", "text"),
    [
        ((4, 3, 1, 2), ("batch", "time", 3), ShapeError, r"expected: \(batch, length, 4\)"),
        ((1, 3, 1, 2), ("batch", "time", 3), ShapeError, r"expected: \(batch, length, 1\)"),
        ((3, 3, 1, 2), ("batch", "time", 3, 3), ShapeError, "w/x_main: x_main does not fit"),
        ((3, 3, 1, 2), ("batch", "time", "ch"), ShapeError, "x_main does not fit"),
        ((3, 3, 0, 2), ("batch", "time", 3), OptionError, "w/conv_dilation: `dilation` does not fit"),
        ((3, 3, 1, 0), ("batch", "time", 3), OptionError, "w/conv_dilation: `kernel_width` does not fit"),
        ((3, 0, 1, 2), ("batch", "time", 3), OptionError, "w/conv_dilation: `out_ch` does not fit"),
    ],
)
def test_misfits_are_refused_at_declaration(arguments, shape, error, text):
    """A10, A18: also for ch_residual = 1, which broadcasting would let through."""
    with pytest.raises(error, match=text) as caught:
        WavenetResidualModule(*arguments, name="w")(Input(shape, name="x"))
    assert isinstance(caught.value, GraphnnError)
    assert caught.value.declared_at[0] == __file__


def test_a_skip_of_another_shape_is_refused():
    """A10."""
    with pytest.raises(ShapeError, match="w/add_skip: Add needs inputs of equal shape"):
        WavenetResidualModule(3, 5, 2, 2, name="w")(Input(("batch", "time", 3)), Input(("batch", "time", 1)))
