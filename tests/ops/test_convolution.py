"""Convolution against PyTorch, its padding rules, named sizes and refusals; loops are in cases_convolution.py."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnn.errors import OptionError, ShapeError
from graphnn.ir.dimension import Dimension
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops.convolution import (
    Convolution,
    ConvolutionInputGradient,
    ConvolutionWeightGradient,
    convolution,
    output_sizes,
    resolve_padding,
    transposed_convolution,
)
from ops.helpers import call, gradients, run_op

GRID_1D = itertools.product([1, 2, 3], [1, 2, 3], [1, 2, 4], [(0, 0), (2, 2), (3, 0), (1, 2)], [1, 2])
GRID_2D = itertools.product([(1, 1), (3, 2), (2, 3)], [(1, 1), (2, 1), (2, 3)], [(1, 1), (2, 1)],
                            [(0, 0, 0, 0), (1, 1, 1, 1), (2, 0, 1, 3)], [1, 2])  # fmt: skip
ONE = [((k,), (s,), (d,), (p,), g) for k, s, d, p, g in GRID_1D]
TWO = [(k, s, d, (p[:2], p[2:]), g) for k, s, d, p, g in GRID_2D]
SPATIAL = {1: (13,), 2: (7, 8)}


@pytest.fixture(scope="module")
def peer():
    """PyTorch's convolutions on channels-last NumPy arrays, with low and high padding."""
    import torch
    from torch.nn import functional

    def first(x):  # channels-last to channels-first
        return torch.tensor(np.moveaxis(x, -1, 1), requires_grad=True)

    def weights(w):  # (*kernel, in, out) to (out, in, *kernel)
        return torch.tensor(np.moveaxis(w, (-1, -2), (0, 1)), requires_grad=True)

    def convolve(x, w, dy, strides, dilation, padding, groups):
        tx, tw = first(x), weights(w)
        flat = [width for pair in reversed(padding) for width in pair]
        run = (functional.conv1d, functional.conv2d)[len(strides) - 1]
        y = run(functional.pad(tx, flat), tw, stride=strides, dilation=dilation, groups=groups)
        dx, dw = torch.autograd.grad(y, (tx, tw), first(dy))
        arrays = [np.moveaxis(z.detach().numpy(), 1, -1) for z in (y, dx)]
        return *arrays, np.moveaxis(dw.numpy(), (0, 1), (-1, -2))

    def transpose(x, w, strides, dilation, pads, extra, groups):
        run = (functional.conv_transpose1d, functional.conv_transpose2d)[len(strides) - 1]
        options = {"stride": strides, "padding": pads, "output_padding": extra, "groups": groups, "dilation": dilation}
        return np.moveaxis(run(first(x), weights(w), **options).detach().numpy(), 1, -1)

    return SimpleNamespace(convolve=convolve, transpose=transpose)


@pytest.mark.peers
@pytest.mark.parametrize("dimensions", [ONE, TWO], ids=["1d", "2d"])
def test_value_and_both_gradients_are_those_of_pytorch(dimensions, peer):
    rng = np.random.default_rng(0)
    for kernel, strides, dilation, padding, groups in dimensions:
        options = (strides, dilation, padding, groups)
        spatial = SPATIAL[len(kernel)]
        out = output_sizes(spatial, kernel, strides, dilation, padding)
        x, w = rng.normal(size=(2, *spatial, 4)), rng.normal(size=(*kernel, 4 // groups, 6))
        dy = rng.normal(size=(2, *out, 6))
        y = run_op(Convolution(*options), [x, w])
        dx = run_op(ConvolutionInputGradient(*options, spatial=spatial), [dy, w])
        dw = run_op(ConvolutionWeightGradient(*options, kernel=kernel), [x, dy])
        for mine, theirs in zip((*y, *dx, *dw), peer.convolve(x, w, dy, *options), strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-10, err_msg=str((kernel, *options)))


@pytest.mark.peers
@pytest.mark.parametrize("dimensions", [ONE, TWO], ids=["1d", "2d"])
def test_transposed_convolution_is_that_of_pytorch(dimensions, peer):
    rng, checked = np.random.default_rng(0), 0
    for kernel, strides, dilation, padding, groups in dimensions:
        if any(low != high for low, high in padding):
            continue
        extra = tuple(stride - 1 for stride in strides)
        x, w = rng.normal(size=(2, *SPATIAL[len(kernel)], 4)), rng.normal(size=(*kernel, 6 // groups, 4))
        theirs = peer.transpose(x, w, strides, dilation, [low for low, _ in padding], extra, groups)
        mine = call(lambda x, w, o=(strides, dilation, padding, extra, groups): transposed_convolution(x, w, *o), x, w)
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-10)
        checked += 1
    assert checked > 30


def test_uneven_padding_of_a_transposed_convolution_cuts_the_output():
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(2, 5, 3)), rng.normal(size=(4, 2, 3))
    whole = call(lambda x, w: transposed_convolution(x, w, (2,), (1,), ((0, 0),), (0,)), x, w)
    cut = call(lambda x, w: transposed_convolution(x, w, (2,), (1,), ((1, 3),), (0,)), x, w)
    np.testing.assert_allclose(cut, whole[:, 1:-3], rtol=0, atol=1e-12)


@pytest.mark.parametrize("extra", [(2,), (-1,), (0, 0)])
def test_extra_elements_must_be_fewer_than_the_stride(extra):
    with pytest.raises(OptionError, match="extra"):
        call(lambda x, w: transposed_convolution(x, w, (2,), (1,), ((0, 0),), extra), np.ones((1, 4, 1)), [[[1.0]]])


def test_a_transposed_convolution_needs_tensors_of_its_rank():
    with pytest.raises(ShapeError, match="rank"):
        call(lambda x, w: transposed_convolution(x, w, (2,), (1,), ((0, 0),), (0,)), np.ones((4, 1)), [[[1.0]]])


# -- padding rules -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pad", "kernel", "dilation", "expected"),
    [
        (2, (3,), (1,), ((2, 2),)),
        (0, (3, 3), (1, 1), ((0, 0), (0, 0))),
        ((1, 2), (3,), (1,), ((1, 2),)),
        ([1, 2], (3, 3), (1, 1), ((1, 1), (2, 2))),
        ((1, 2, 3, 4), (3, 3), (1, 1), ((1, 2), (3, 4))),
        ("valid", (3, 3), (2, 2), ((0, 0), (0, 0))),
        ("same", (3, 4), (1, 1), ((1, 1), (1, 2))),
        ("same", (2,), (5,), ((2, 3),)),
        ("causal", (3,), (4,), ((8, 0),)),
    ],
)
def test_padding_words_and_numbers(pad, kernel, dilation, expected):
    assert resolve_padding(pad, kernel, dilation) == expected


@pytest.mark.parametrize(
    "pad", ["SAME", "", None, -1, 1.0, True, (1,) * 3, (1, -1), (1.0, 2), ((1, 1), (1, 1)), "causal"]
)
def test_other_paddings_are_refused(pad):
    with pytest.raises(OptionError, match="`pad` does not fit") as caught:
        resolve_padding(pad, (3, 3), (1, 1))
    assert repr(pad) in str(caught.value)


@given(n=st.integers(1, 40), k=st.integers(1, 5), d=st.integers(1, 4), stride=st.integers(1, 4))
def test_same_and_causal_padding_give_one_output_for_each_stride(n, k, d, stride):
    for pad in ("same", "causal"):
        assert output_sizes((n,), (k,), (stride,), (d,), resolve_padding(pad, (k,), (d,))) == (math.ceil(n / stride),)


@given(k=st.integers(1, 3), d=st.integers(1, 3), stride=st.integers(1, 3), place=st.integers(0, 3))
def test_causal_outputs_see_no_later_input(k, d, stride, place):
    x, w = np.ones((1, 12, 1)), np.ones((k, 1, 1))
    padding, cotangent = resolve_padding("causal", (k,), (d,)), np.zeros((1, math.ceil(12 / stride), 1))
    cotangent[0, place] = 1.0
    dx, _ = gradients(lambda x, w: convolution(x, w, (stride,), (d,), padding), x, w, cotangent=cotangent)
    seen = {place * stride - j * d for j in range(k)} & set(range(12))
    assert set(np.flatnonzero(dx)) == seen


# -- shapes ------------------------------------------------------------------------------------------------------------


@st.composite
def geometries(draw):
    """(n, k, stride, dilation, (low, high)) with room for the kernel."""
    k, stride, d, low, high = (draw(st.integers(least, 3)) for least in (1, 1, 1, 0, 0))
    return draw(st.integers(max(1, d * (k - 1) + 1 - low - high), 12)), k, stride, d, (low, high)


@given(geometry=geometries(), batch=st.integers(0, 3))
def test_named_sizes_bind_to_the_sizes_of_integers(geometry, batch):
    n, k, stride, d, padding = geometry
    op, w = Convolution((stride,), (d,), (padding,)), TensorSpec((k, 2, 5))
    names, sizes = (Dimension.named("batch"), Dimension.named("time")), {"batch": batch, "time": n}
    x, known = TensorSpec((*names, 2)), TensorSpec((batch, n, 2))
    (y,), (y_known,) = op.infer(x, w), op.infer(known, w)
    assert y.bind(sizes) == y_known
    back = ConvolutionInputGradient((stride,), (d,), (padding,), spatial=(names[1],))
    assert back.infer(y, w) == (x,)
    assert ConvolutionWeightGradient((stride,), (d,), (padding,), kernel=(k,)).infer(x, y) == (w,)


def test_a_transposed_convolution_takes_named_sizes():
    """Its output, convolved again, has the input's size: the two shape rules are each other's inverse."""
    time = Dimension.named("time")
    for stride, k, extra in itertools.product([1, 2, 3], [1, 2, 4], [0, 1]):
        spatial = ((time - 1) * stride + k + extra * (stride > 1),)
        op = ConvolutionInputGradient((stride,), (1,), ((0, 0),), spatial=spatial)
        (y,) = op.infer(TensorSpec((2, time, 3)), TensorSpec((k, 5, 3)))
        assert y == TensorSpec((2, *spatial, 5))


@pytest.mark.parametrize(
    "options",
    [((0,), (1,), ((0, 0),)), ((1,), (0,), ((0, 0),)), ((1,), (1,), ((-1, 0),)), ((1,), (1, 1), ((0, 0),)),
     ((1,), (1,), ()), ((1,), (1,), ((0,),)), ((1,), (1,), ((0, 0),), 0)],
)  # fmt: skip
def test_wrong_attributes_are_refused(options):
    with pytest.raises(OptionError):
        Convolution(*options).infer(TensorSpec((1, 5, 2)), TensorSpec((3, 2, 4)))


@pytest.mark.parametrize(
    ("x", "w", "groups", "message"),
    [
        ((1, 5, 2), (7, 2, 4), 1, "larger than the padded input"),
        ((1, 5, 2), (0, 2, 4), 1, "positive integers"),
        ((1, 5, 3), (2, 1, 4), 2, "do not divide into groups"),
        ((1, 5, 4), (2, 2, 3), 2, "do not divide into groups"),
        ((1, 5, 4), (2, 4, 4), 2, "do not fit"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(x, w, groups, message):
    with pytest.raises(ShapeError, match=message):
        Convolution((1,), (1,), ((0, 0),), groups).infer(TensorSpec(x), TensorSpec(w))


def test_a_one_by_one_convolution_copies_no_input():
    x = np.ones((2, 4, 5, 3))
    columns = Convolution((1, 1), (1, 1), ((0, 0), (0, 0))).columns(np, x, (1, 1))
    assert np.shares_memory(columns, x)
    assert columns.shape == (1, 40, 3)
