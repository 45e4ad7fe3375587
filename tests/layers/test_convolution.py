"""Conv1D, Conv2D, Deconv1D, Deconv2D."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnn.errors import DimensionError, OptionError, ShapeError
from graphnn.graph.graph import Graph
from graphnn.graph.layer import Input
from graphnn.layers import Conv1D, Conv2D, Deconv1D, Deconv2D
from peers import compare, conv, deconv, graph_of, normal, random_arrays, run

SAME = "same"


def low_high(total):
    return total // 2, total - total // 2


@st.composite
def sequence_cases(draw):
    """(n, ch_per_group, groups, arguments of Conv1D, explicit padding) where the kernel fits in."""
    width, dilation = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    reach = (width - 1) * dilation
    kind = draw(st.sampled_from(["int", "pair", "same", "causal", "valid"]))
    left, right = draw(st.integers(0, 4)), draw(st.integers(0, 4))
    pad, pads = {
        "int": (left, (left, left)),
        "pair": ((left, right), (left, right)),
        "same": ("same", low_high(reach)),
        "causal": ("causal", (reach, 0)),
        "valid": ("valid", (0, 0)),
    }[kind]
    n = draw(st.integers(max(1, reach + 1 - sum(pads)), reach + 9))
    options = {"kernel_width": width, "dilation": dilation, "pad": pad, "stride": draw(st.integers(1, 3))}
    return n, draw(st.integers(1, 3)), draw(st.integers(1, 2)), options, [pads]


@pytest.mark.peers
@given(sequence_cases(), st.booleans())
def test_conv1d_equals_torch(case, bias):
    n, ch, groups, options, pads = case
    x = normal(2, n, ch * groups)
    layer = Conv1D(4, **options, bias=bias, groups=groups, name="c", act_fn="tanh")
    stride, dilation = options["stride"], options["dilation"]
    twin = lambda inputs, p: conv(inputs["x"], p["c/W"], p.get("c/b"), pads, stride, dilation, groups).tanh()  # noqa: E731
    compare(graph_of(layer, x), twin, {"x": x})


@pytest.mark.peers
@pytest.mark.parametrize(
    ("kernel", "pad", "pads"),
    [
        (1, 0, [(0, 0), (0, 0)]),
        (3, 1, [(1, 1), (1, 1)]),
        ((2, 3), (0, 1), [(0, 0), (1, 1)]),
        ((3, 2), (1, 0, 2, 3), [(1, 0), (2, 3)]),  # B20: top, bottom, left, right
        ((4, 3), SAME, [(1, 2), (1, 1)]),
        ((2, 2), "valid", [(0, 0), (0, 0)]),
    ],
)
@pytest.mark.parametrize("stride", [1, 2, (1, 3)])
@pytest.mark.parametrize("groups", [1, 2])
def test_conv2d_equals_torch(kernel, pad, pads, stride, groups):
    """B20: a tuple of four is (top, bottom, left, right)."""
    x = normal(2, 7, 6, 4)
    graph = graph_of(Conv2D(6, kernel, pad, stride, groups=groups, name="c"), x)
    compare(graph, lambda inputs, p: conv(inputs["x"], p["c/W"], p["c/b"], pads, stride, 1, groups), {"x": x})


@pytest.mark.peers
@pytest.mark.parametrize("dilation", [1, 2, (3, 1)])
@pytest.mark.parametrize("pad", ["same", 2])
def test_dilated_conv2d_equals_torch(dilation, pad):
    x = normal(1, 8, 9, 2)
    rates = dilation if isinstance(dilation, tuple) else (dilation, dilation)
    pads = [low_high(2 * rate) for rate in rates] if pad == "same" else [(2, 2), (2, 2)]
    graph = graph_of(Conv2D(3, 3, pad, 2, dilation, name="c"), x)
    compare(graph, lambda inputs, p: conv(inputs["x"], p["c/W"], p["c/b"], pads, 2, dilation), {"x": x})


@pytest.mark.peers
@given(
    st.integers(1, 5),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 2),
    st.sampled_from([0, (1, 0), SAME, "causal"]),
)
def test_deconv1d_equals_torch(width, stride, dilation, groups, pad):
    x, reach = normal(2, 5, 2 * groups), (width - 1) * dilation
    pads = {0: (0, 0), (1, 0): (1, 0), SAME: low_high(reach), "causal": (0, reach)}[pad]
    extra = stride - 1 if isinstance(pad, str) else 0
    layer = Deconv1D(2 * groups, width, pad, stride, dilation, groups=groups, name="c")
    twin = lambda inputs, p: deconv_by_hand(inputs["x"], p, [pads], stride, dilation, extra, groups)  # noqa: E731
    compare(graph_of(layer, x), twin, {"x": x})


def deconv_by_hand(x, p, pads, stride, dilation, extra, groups):
    """torch refuses an output padding of the dilation or more; its zeros can as well be appended."""
    from torch.nn import functional

    y = deconv(x, p["c/W"], None, [(0, 0)], stride, dilation, 0, groups)
    y = functional.pad(y, (0, 0, 0, extra))
    return y[:, pads[0][0] : y.shape[1] - pads[0][1]] + p["c/b"]


@pytest.mark.peers
@pytest.mark.parametrize(("stride", "output_pad"), [(1, None), (2, None), (2, 1), ((3, 2), None), ((3, 2), (2, 0))])
@pytest.mark.parametrize(
    ("pad", "pads"), [(0, [(0, 0), (0, 0)]), ((0, 1, 1, 0), [(0, 1), (1, 0)]), (1, [(1, 1), (1, 1)])]
)
def test_deconv2d_equals_torch(stride, output_pad, pad, pads):
    x = normal(2, 3, 4, 2)
    graph = graph_of(Deconv2D(3, (2, 3), pad, stride, output_pad=output_pad, name="c", act_fn="sigmoid"), x)
    extra = output_pad or 0
    compare(graph, lambda i, p: deconv(i["x"], p["c/W"], p["c/b"], pads, stride, 1, extra).sigmoid(), {"x": x})


@given(st.integers(1, 40), st.integers(1, 7), st.integers(1, 5), st.integers(1, 3))
def test_same_and_causal_sizes(n, width, stride, dilation):
    """B16: n places give ceil(n / stride), and the transposed layers n * stride, known before anything runs."""
    x = Input((2, n, 3))
    for pad in ("same", "causal"):
        assert Conv1D(4, width, pad, stride, dilation)(x).shape == (2, -(-n // stride), 4)
        assert Deconv1D(4, width, pad, stride, dilation)(x).shape == (2, n * stride, 4)


@pytest.mark.parametrize("layer", [Conv1D, Deconv1D])
@pytest.mark.parametrize("dilation", [1, 3])
def test_causal_outputs_see_no_later_input(layer, dilation):
    x = normal(1, 12, 2)
    graph = graph_of(layer(3, 4, "causal", dilation=dilation), x)
    arrays = random_arrays(graph, {"x": x})
    later = x.copy()
    later[:, 7:] += 1.0
    before, after = (run(graph, {"x": x}, arrays).outputs["y"] for x in (x, later))
    np.testing.assert_array_equal(before[:, :7], after[:, :7])
    assert np.abs(before[:, 7] - after[:, 7]).min() > 0


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("pad", [0, SAME, (0, 1, 2, 0)])
def test_deconv_is_the_transpose_of_conv(pad, groups):
    """<conv(x), y> = <x, deconv(y)> with one weight, so both layers mean the same by W."""
    x = normal(2, 6, 9, 4)
    forward = graph_of(Conv2D(6, (3, 2), pad, (2, 3), bias=False, groups=groups, name="c"), x)
    weight = random_arrays(forward, {"x": x})["c/W"]
    y = run(forward, {"x": x}, {"c/W": weight}).outputs["y"]
    seed = np.random.default_rng(5).normal(size=y.shape)
    short = tuple((n - 1) * s + k for n, s, k in zip(y.shape[1:3], (2, 3), (3, 2), strict=True))
    cut = {0: (0, 0), SAME: (2, 1), (0, 1, 2, 0): (1, 2)}[pad]
    extra = tuple(n - (m - c) for n, m, c in zip(x.shape[1:3], short, cut, strict=True))
    layer = Deconv2D(4, (3, 2), pad, (2, 3), bias=False, groups=groups, output_pad=extra, name="c")
    turned = {"c/W": np.swapaxes(weight, -1, -2)}
    back = run(graph_of(layer, seed), {"x": seed}, turned).outputs["y"]
    np.testing.assert_allclose((back * x).sum(), (y * seed).sum(), rtol=1e-12)


@pytest.mark.parametrize("layer", [Conv1D(4, 3), Conv1D(4, 2, groups=2), Deconv1D(3, 3, stride=2)])
def test_float32_stays_float32(layer):
    """A33."""
    x = normal(2, 6, 4, dtype="float32")
    graph = graph_of(layer, x)
    outcome = run(graph, {"x": x}, random_arrays(graph, {"x": x}, "float32"), dtype="float32")
    assert {str(a.dtype) for a in (*outcome.outputs.values(), *outcome.gradients.values())} == {"float32"}


@pytest.mark.parametrize(
    ("layer", "shape", "error", "text"),
    [
        (Conv1D(4, 3), (2, 8), ShapeError, r"\(batch, length, ch\)"),
        (Conv2D(4, 3), (2, 8, 8), ShapeError, r"Reshape\(\(0, 0, 0, 1\)\)"),
        (Conv1D(4, 9), (2, 8, 1), ShapeError, "larger than the padded input"),
        (Conv1D(4, 0), (2, 8, 1), OptionError, "`kernel_width` does not fit"),
        (Conv1D(4, True), (2, 8, 1), OptionError, "`kernel_width` does not fit"),
        (Conv2D(4, (3, 3, 3)), (2, 8, 8, 1), OptionError, "an int of 1 or more, or 2 of them"),
        (Conv1D(4, 3, stride=0), (2, 8, 1), OptionError, "`stride` does not fit"),
        (Conv1D(4, 3, dilation=0), (2, 8, 1), OptionError, "`dilation` does not fit"),
        (Conv1D(0, 3), (2, 8, 1), OptionError, "`out_ch` does not fit"),
        (Conv1D(4, 3, pad="full"), (2, 8, 1), OptionError, "`pad` does not fit"),
        (Conv1D(4, 3, pad=-1), (2, 8, 1), OptionError, "none negative"),
        (Conv1D(4, 3, pad=(1, 2, 3)), (2, 8, 1), OptionError, "`pad` does not fit"),
        (Conv2D(4, 3, pad="causal"), (2, 8, 8, 1), OptionError, "`pad` does not fit"),
        (Conv1D(4, 3, groups=2), (2, 8, 3), ShapeError, "a multiple of 2"),
        (Conv1D(3, 3, groups=2), (2, 8, 4), OptionError, "filters do not divide"),
        (Conv1D(4, 3, groups=0), (2, 8, 4), OptionError, "`groups` does not fit"),
        (Conv1D(4, 3, init="glorot"), (2, 8, 4), OptionError, "unknown initializer"),
        (Conv1D(4, 3, act_fn="rellu"), (2, 8, 4), OptionError, "unknown activation"),
        (Conv1D(4, 3), (2, 8, "ch"), DimensionError, "must be a number"),
        (Deconv2D(4, 3, output_pad=1), (2, 8, 8, 1), OptionError, "fewer than the stride"),
        (Deconv2D(4, 3, output_pad=-1), (2, 8, 8, 1), OptionError, "`output_pad` does not fit"),
        (Deconv1D(4, 3, pad=9), (2, 3, 1), ShapeError, "a size is negative"),
    ],
)
def test_misfits_are_refused_at_declaration(layer, shape, error, text):
    with pytest.raises(error, match=text) as caught:
        layer(Input(shape, name="x"))
    assert layer.default_name in caught.value.where
    assert caught.value.declared_at[0] == __file__


def test_a_shared_layer_refuses_another_number_of_channels():
    """A10: a wrong number of channels is a typed error that names the parameter, not a broadcast."""
    layer = Conv1D(4, 1, name="shared")
    x, y = Input((2, 5, 3), name="x"), Input((2, 5, 1), name="y")
    with pytest.raises(ShapeError, match="shared_2: the shared parameter `W` would need two shapes"):
        Graph([x, y], [layer(x), layer(y)])
