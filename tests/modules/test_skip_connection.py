"""SkipConnectionIdentityModule and SkipConnectionConvModule."""

import json

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from graphnn.errors import DimensionError, OptionError, ShapeError
from graphnn.graph.graph import Graph
from graphnn.graph.layer import Input
from graphnn.layers import LeakyReLU
from graphnn.modules import SkipConnectionConvModule, SkipConnectionIdentityModule
from graphnn.modules.skip_connection import least_padding
from peers import batch_norm, compare, compare_training, conv, descend, graph_of, normal, random_arrays, run

IDENTITY_NODES = ["conv1", "batchnorm1", "conv2", "batchnorm2", "add3"]
CONV_NODES = ["conv1", "batchnorm1", "conv2", "batchnorm2", "conv_skip", "batchnorm_skip", "add3"]


def pair(value):
    return value if isinstance(value, tuple) else (value, value)


def fixed(x, kernel, stride, momentum=0.9):
    """Padding with which the output is as large as x."""
    totals = [(n - 1) * (s - 1) + k - 1 for n, k, s in zip(x.shape[1:3], pair(kernel), pair(stride), strict=True)]
    return [(total // 2, total - total // 2) for total in totals]


def main_path(x, p, path, kernels, strides, pads, act, order, training):
    """Both convolutions with their batch norms in torch; `pads` are functions of what goes in."""

    def convolution(name, x, index):
        return conv(x, p[f"{path}/{name}/W"], p[f"{path}/{name}/b"], pads[index](x), strides[index])

    def norm(name, x):
        return batch_norm(x, p, f"{path}/{name}", MOMENTUM, EPSILON, training)

    first = convolution("conv1", x, 0)
    first = norm("batchnorm1", act(first)) if order == "activation_first" else act(norm("batchnorm1", first))
    return norm("batchnorm2", convolution("conv2", first, 1))


MOMENTUM, EPSILON = 0.8, 1e-3
COMMON = {"momentum": MOMENTUM, "epsilon": EPSILON, "name": "s"}
ACTIVATIONS = {
    None: lambda x: x,
    "tanh": lambda x: x.tanh(),
    "relu": lambda x: x.relu(),
    "leaky_relu(alpha=0.2)": lambda x: x.where(x > 0, 0.2 * x),
}


def identity_twin(kernels, strides, act_fn, order, training):
    pads = [lambda x, k=k, s=s: fixed(x, k, s) for k, s in zip(kernels, strides, strict=True)]
    act = ACTIVATIONS[act_fn]
    return lambda i, p: act(i["x"] + main_path(i["x"], p, "s", kernels, strides, pads, act, order, training))


def image_graph(module, x):
    """The module on an image whose batch alone is named."""
    symbolic = Input(("batch", *x.shape[1:]), name="x")
    return Graph(symbolic, module(symbolic))


@pytest.mark.peers
@pytest.mark.parametrize("order", ["activation_first", "norm_first"])
@pytest.mark.parametrize("act_fn", ACTIVATIONS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("kernels", "strides"), [((3, 3), (1, 1)), ((1, (2, 3)), (2, 1)), ((4, 2), (1, 3)), ((3, 5), ((1, 2), 2))]
)
def test_identity_block_equals_torch(kernels, strides, act_fn, order, training):
    """Also with strides, which keep the size of the image."""
    x = normal(3, 5, 6, 2)
    module = SkipConnectionIdentityModule(4, *kernels, *strides, act_fn=act_fn, order=order, **COMMON)
    compare(
        image_graph(module, x), identity_twin(kernels, strides, act_fn, order, training), {"x": x}, training=training
    )


CONV_CASES = [
    # kernels, strides, pads, (kernel, stride) of the shortcut, and the explicit pads of the twin
    ((3, 3), (1, 1), (0, 0), (5, 1), [[(0, 0)] * 2, [(0, 0)] * 2]),
    ((3, 3), (1, 1), ("same", "same"), (1, 1), [[(1, 1)] * 2, [(1, 1)] * 2]),
    ((3, 2), (2, 1), (1, "same"), (1, 2), [[(1, 1)] * 2, [(0, 1)] * 2]),
    (((2, 3), 3), ((2, 1), (1, 2)), ((0, 1, 1, 0), (1, 1)), (2, 2), [[(0, 1), (1, 0)], [(1, 1)] * 2]),
    ((3, 3), (2, 2), (1, 2), (3, 4), [[(1, 1)] * 2, [(2, 2)] * 2]),
    ((1, 1), (1, 1), (2, 0), (1, 1), [[(2, 2)] * 2, [(0, 0)] * 2]),
]


def conv_twin(kernels, strides, shortcut, pads, act_fn, order, training):
    act, (kernel, stride) = ACTIVATIONS[act_fn], shortcut

    def twin(inputs, p):
        x, given = inputs["x"], [lambda x, pad=pad: pad for pad in pads]
        main = main_path(x, p, "s", kernels, strides, given, act, order, training)
        pad = [searched(n, m, kernel, stride) for n, m in zip(x.shape[1:3], main.shape[1:3], strict=True)]
        skip = conv(x, p["s/conv_skip/W"], p["s/conv_skip/b"], pad, stride)
        return act(main + batch_norm(skip, p, "s/batchnorm_skip", MOMENTUM, EPSILON, training))

    return twin


def searched(size, target, kernel, stride):
    """The least padding that gives the target, by trying."""
    total = next(t for t in range(100) if size + t >= kernel and (size + t - kernel) // stride + 1 == target)
    return total // 2, total - total // 2


def conv_module(kernels, strides, pads, shortcut, **options):
    return SkipConnectionConvModule(
        4, 3, *kernels, shortcut[0], *pads, *strides, stride_skip=shortcut[1], **options, **COMMON
    )


@pytest.mark.peers
@pytest.mark.parametrize("order", ["activation_first", "norm_first"])
@pytest.mark.parametrize("act_fn", [None, "tanh", "relu"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("kernels", "strides", "pads", "shortcut", "explicit"), CONV_CASES)
def test_conv_block_equals_torch(kernels, strides, pads, shortcut, explicit, act_fn, order, training):
    """A13, A14: paddings as words, pairs and tuples of four; strided and 1x1 shortcuts."""
    x = normal(3, 9, 8, 2)
    module = conv_module(kernels, strides, pads, shortcut, act_fn=act_fn, order=order)
    twin = conv_twin(kernels, strides, shortcut, explicit, act_fn, order, training)
    compare(image_graph(module, x), twin, {"x": x}, training=training)


@pytest.mark.peers
@pytest.mark.parametrize(("name", "options"), [("SGD", {"lr": 0.3, "momentum": 0.9}), ("Adam", {"lr": 0.02})])
@pytest.mark.parametrize("kind", ["identity", "conv"])
def test_five_steps_equal_torch(kind, name, options):
    """A1: parameters and running statistics after each step."""
    x, order = normal(4, 7, 6, 3), "activation_first"
    if kind == "identity":
        module = SkipConnectionIdentityModule(4, 3, 3, 1, 2, act_fn="tanh", **COMMON)
        twin = identity_twin((3, 3), (1, 2), "tanh", order, True)
    else:
        kernels, strides, pads, shortcut, explicit = CONV_CASES[2]
        module = conv_module(kernels, strides, pads, shortcut, act_fn="tanh")
        twin = conv_twin(kernels, strides, shortcut, explicit, "tanh", order, True)
    compare_training(image_graph(module, x), twin, {"x": x}, name, options, tolerance=1e-8)


# -- paddings ----------------------------------------------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 7), st.integers(1, 4))
@example(9, 4, 1, 2)  # one element too large
@example(8, 4, 1, 2)  # just fits
def test_the_solved_padding_is_the_least_that_fits(size, target, kernel, stride):
    fitting = [
        total for total in range(400) if size + total >= kernel and (size + total - kernel) // stride + 1 == target
    ]
    if fitting:
        assert least_padding(size, target, kernel, stride) == fitting[0]
    else:
        with pytest.raises(ShapeError, match="larger than the main path"):
            least_padding(size, target, kernel, stride)


@given(
    st.integers(1, 5), st.integers(1, 3), st.integers(1, 5), st.integers(0, 3), st.integers(1, 3), st.integers(5, 12)
)
def test_the_sum_fits_for_every_padding_that_is_solved(kernel1, stride, kernel2, pad, kernel_skip, rows):
    """A14: the shortcut is as large as the main path wherever one padding makes it so."""
    module = SkipConnectionConvModule(
        2, 3, kernel1, kernel2, kernel_skip, pad, pad + kernel2 // 2, stride, stride_skip=stride
    )
    first = (rows + 2 * pad - kernel1) // stride + 1
    target = first + 2 * (pad + kernel2 // 2) - kernel2 + 1
    assume(first > 0 and (target - 1) * stride + kernel_skip + stride > rows)
    assert module(Input(("batch", rows, rows, 2))).shape[1:3] == (target, target)


@given(st.integers(1, 5), st.integers(1, 4), st.integers(5, 9))
def test_a_named_size_gets_the_same_padding_as_a_number(kernel, stride, size):
    """The shortcut of a strided block is solved once, for every size: declared sizes are the real ones."""
    module = SkipConnectionConvModule(2, 3, kernel, 3, 1, "same", 1, stride, stride_skip=stride, name="s")
    x = normal(1, size, size + 1, 2)
    graph = graph_of(module, x)
    y = run(graph, {"x": x}, random_arrays(graph, {"x": x})).outputs["y"]
    assert y.shape == module(Input(x.shape)).shape


def test_one_module_takes_images_of_two_sizes():
    """A14: in two graphs, and with shared weights in one."""
    module = conv_module(*CONV_CASES[4][:4], act_fn="relu")
    for size in (9, 6):
        x = normal(2, size, size, 2)
        assert run(image_graph(module, x), {"x": x}, random_arrays(image_graph(module, x), {"x": x})).outputs["y"].size
    a, b = Input(("batch", 9, 9, 2), name="a"), Input(("batch", 6, 8, 2), name="b")
    graph = Graph([a, b], [module(a), module(b)])
    inputs = {"a": normal(2, 9, 9, 2), "b": normal(2, 6, 8, 2)}
    arrays = random_arrays(graph, inputs)
    assert {path.split("/")[0] for path in arrays} == {"s"}
    assert all(np.abs(g).max() > 0 for path, g in run(graph, inputs, arrays).gradients.items() if path.endswith("W"))


@pytest.mark.peers
def test_one_identity_block_used_on_two_images_equals_torch():
    """A35: the second convolution, made when the channels are known, is shared as well."""
    module = SkipConnectionIdentityModule(4, 3, 3, 2, act_fn="tanh", **COMMON)
    inputs = {"a": normal(2, 5, 6, 3), "b": normal(2, 7, 4, 3)}
    a, b = Input(("batch", 5, 6, 3), name="a"), Input(("batch", 7, 4, 3), name="b")
    graph = Graph([a, b], [module(a), module(b)])
    single = identity_twin((3, 3), (2, 1), "tanh", "activation_first", training=False)
    twin = lambda i, p: [single({"x": i[name]}, p) for name in "ab"]  # noqa: E731
    compare(graph, twin, inputs, training=False)


def test_one_identity_block_serves_graphs_of_other_channels():
    module = SkipConnectionIdentityModule(4, 3, 3, name="s")
    shapes = [
        random_arrays(graph, {"x": x})["s/conv2/W"].shape
        for x in (normal(2, 5, 5, 3), normal(2, 5, 5, 6), normal(2, 5, 5, 3))
        for graph in [graph_of(module, x)]
    ]
    assert shapes == [(3, 3, 4, 3), (3, 3, 4, 6), (3, 3, 4, 3)]


def test_a_stride_that_keeps_the_size_needs_integer_sizes():
    with pytest.raises(DimensionError, match=r"s/pad1: .*\n.*\n.*\n.*integer rows and cols"):
        SkipConnectionIdentityModule(4, 3, 3, 2, name="s")(Input(("batch", "rows", 8, 3)))
    assert SkipConnectionIdentityModule(4, 3, 3, (1, 2))(Input(("batch", "rows", 8, 3))).shape[2:] == (8, 3)


def test_a_shortcut_that_depends_on_named_sizes_is_refused():
    module = SkipConnectionConvModule(4, 5, 3, 3, 1, 1, 1, 2, 2, stride_skip=3, name="s")
    with pytest.raises(DimensionError, match="s/conv_skip: the padding of the shortcut"):
        module(Input(("batch", "rows", "cols", 3)))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"stride1": 2}, "give stride_skip the product of stride1 and stride2"),
        ({"stride1": 2, "pad_skip": 0}, "s/add3: Add needs inputs of equal shape"),
        ({"kernel_shape1": 9}, "s/conv1: the kernel is larger than the padded input"),
    ],
)
def test_shortcuts_that_do_not_fit_are_refused(options, text):
    arguments = {"kernel_shape1": 3, "kernel_shape2": 3, "kernel_shape_skip": 1, "pad1": 0, "pad2": 1} | options
    with pytest.raises(ShapeError, match=text):
        SkipConnectionConvModule(4, 5, **arguments, name="s")(Input(("batch", 8, 8, 3)))


def test_a_given_pad_skip_is_used():
    """A13."""
    module = SkipConnectionConvModule(4, 5, 3, 3, 3, "same", (1, 1, 1, 1), pad_skip="same")
    (node,) = image_graph(module, normal(2, 6, 7, 3)).nodes
    assert [inner.name for inner in node.graph.nodes if "pad" in inner.name] == []
    assert node.spec.shape[1:] == (6, 7, 5)


# -- structure and hyper-parameters ------------------------------------------------------------------------------------


def test_nodes_in_the_order_of_their_declaration():
    (identity,) = graph_of(SkipConnectionIdentityModule(4, 3, 3, act_fn="relu"), normal(2, 5, 5, 3)).nodes
    assert [node.name for node in identity.graph.nodes] == IDENTITY_NODES
    (block,) = graph_of(SkipConnectionConvModule(4, 5, 3, 3, 5, act_fn="relu"), normal(2, 9, 9, 3)).nodes
    assert [node.name for node in block.graph.nodes] == CONV_NODES


def test_all_paths_are_known_before_the_first_run():
    """A11, A12: parameters come from the declaration, conv2 and conv_skip among them."""
    x = normal(2, 9, 9, 3)
    modules = {
        SkipConnectionIdentityModule(4, 3, 3, name="s"): ["conv1", "conv2"],
        SkipConnectionConvModule(4, 5, 3, 3, 5, name="s"): ["conv1", "conv2", "conv_skip"],
    }
    for module, convolutions in modules.items():
        assert module.hyperparameters
        assert next(iter(module.components)) == "conv1"
        paths = set(random_arrays(graph_of(module, x), {"x": x}))
        assert {f"s/{name}/{end}" for name in convolutions for end in ("W", "b")} <= paths
        assert list(module.components) == (CONV_NODES if "conv_skip" in convolutions else IDENTITY_NODES)


def test_everything_frozen_keeps_every_statistic():
    """A12, A16: frozen before the first run; gradients still reach the input."""
    x = normal(3, 9, 9, 2)
    graph = graph_of(conv_module(*CONV_CASES[0][:4], act_fn="relu"), x)
    frozen = [f"s/{name}" for name in CONV_NODES]
    outcome = run(graph, {"x": x}, random_arrays(graph, {"x": x}), frozen=frozen)
    assert outcome.states == {}
    assert np.abs(outcome.gradients["x"]).max() > 0


def test_a_frozen_part_leaves_the_rest_training():
    """A16, A17."""
    x = normal(3, 9, 9, 2)
    graph = graph_of(conv_module(*CONV_CASES[0][:4], act_fn="relu"), x)
    states = run(graph, {"x": x}, random_arrays(graph, {"x": x}), frozen=["s/batchnorm1"]).states
    ends = ("running_mean", "running_var")
    assert set(states) == {f"s/{name}/{end}" for name in ("batchnorm2", "batchnorm_skip") for end in ends}


@pytest.mark.parametrize(
    "module",
    [
        SkipConnectionIdentityModule(4, (3, 2), 3, 1, (1, 2), act_fn="relu", order="norm_first"),
        SkipConnectionConvModule(4, 5, 3, 3, 1, "same", (1, 1, 1, 1), 2, act_fn="tanh", stride_skip=2),
    ],
)
def test_hyperparameters_make_an_equal_module(module):
    """A13, A19, A20, A24: they go through JSON, and stay what was given, also after use."""
    before = json.dumps(module.hyperparameters)
    specs = [node.specs for node in image_graph(module, normal(2, 8, 8, 3)).nodes[0].graph.nodes]
    assert json.dumps(module.hyperparameters) == before
    again = type(module)(**json.loads(before))
    assert [node.specs for node in image_graph(again, normal(2, 8, 8, 3)).nodes[0].graph.nodes] == specs


def test_an_activation_may_be_a_layer():
    x = normal(3, 5, 6, 2)
    outputs = []
    for act_fn in (LeakyReLU(0.2), "leaky_relu(alpha=0.2)"):
        for order in ("activation_first", "norm_first"):
            graph = graph_of(SkipConnectionIdentityModule(4, 3, 3, act_fn=act_fn, order=order, name="s"), x)
            outputs.append(run(graph, {"x": x}, random_arrays(graph, {"x": x})).outputs["y"])
    np.testing.assert_array_equal(outputs[0], outputs[2])
    np.testing.assert_array_equal(outputs[1], outputs[3])
    assert np.abs(outputs[0] - outputs[1]).max() > 0.1


def test_a_hundred_training_steps_lower_the_loss():
    """A1."""
    x = normal(6, 5, 5, 2)
    graph = graph_of(SkipConnectionIdentityModule(4, 3, 3, act_fn="tanh", name="s"), x)
    teacher = {path: -array for path, array in random_arrays(graph, {"x": x}).items()}
    losses, arrays = descend(graph, {"x": x}, run(graph, {"x": x}, teacher).outputs, rate=0.5)
    assert losses[-1] < 0.5 * losses[0]
    assert all(np.isfinite(array).all() for array in arrays.values())


def test_float32_stays_float32():
    """A33."""
    x = normal(3, 9, 9, 2, dtype="float32")
    graph = graph_of(conv_module(*CONV_CASES[1][:4], act_fn="relu"), x)
    outcome = run(graph, {"x": x}, random_arrays(graph, {"x": x}, "float32"), dtype="float32")
    everything = (*outcome.outputs.values(), *outcome.gradients.values(), *outcome.states.values())
    assert {str(array.dtype) for array in everything} == {"float32"}


IDENTITY, CONV, IMAGE = (4, 3, 3), (4, 5, 3, 3, 1), (2, 8, 8, 3)


@pytest.mark.parametrize(
    ("kind", "arguments", "options", "shape", "error", "text"),
    [
        (SkipConnectionIdentityModule, IDENTITY, {}, (2, 8, 8), ShapeError, "needs an image"),
        (SkipConnectionIdentityModule, IDENTITY, {}, (2, 8, 8, "ch"), ShapeError, "integer ch"),
        (SkipConnectionIdentityModule, (4, 0, 3), {}, IMAGE, OptionError, "conv1: `kernel_shape` does not fit"),
        (SkipConnectionIdentityModule, IDENTITY, {"act_fn": "rellu"}, IMAGE, OptionError, "unknown activation"),
        (SkipConnectionIdentityModule, IDENTITY, {"stride1": 0}, IMAGE, OptionError, "`stride` does not fit"),
        (SkipConnectionIdentityModule, IDENTITY, {"order": "paper"}, IMAGE, OptionError, "unknown order"),
        (SkipConnectionConvModule, CONV, {}, (2, 8, 8), ShapeError, r"\(batch, rows, cols, ch\)"),
        (SkipConnectionConvModule, CONV, {"pad1": "full"}, IMAGE, OptionError, "conv1: `pad` does not fit"),
        (SkipConnectionConvModule, CONV, {"order": "paper"}, IMAGE, OptionError, "unknown order"),
    ],
)
def test_misfits_are_refused_at_declaration(kind, arguments, options, shape, error, text):
    """A18."""
    with pytest.raises(error, match=text):
        kind(*arguments, **options)(Input(shape, name="x"))
