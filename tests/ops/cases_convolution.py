"""Cases of convolution and pooling. Expected values are sums over single places of the input, one term at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from graphnn.ops.convolution import Convolution, ConvolutionInputGradient, ConvolutionOp, ConvolutionWeightGradient
from graphnn.ops.pooling import MaxPool, MaxPoolGradient, MaxPoolSelect, PoolingOp, SumPool, SumPoolGradient
from ops.case import Case, Input, exactly, normal, spaced

Index = tuple[int, ...]


def touches(op: ConvolutionOp | PoolingOp, spatial: Index, kernel: Index) -> Iterator[tuple[Index, Index, Index]]:
    """(output place, kernel element, input place) wherever the input place is no padding; kernels in C order."""
    for place in np.ndindex(*output_shape(op, spatial, kernel)):
        for element in np.ndindex(*kernel):
            numbers = zip(place, op.strides, element, op.dilation, op.padding, strict=True)
            at = tuple(p * s + e * d - low for p, s, e, d, (low, _) in numbers)
            if all(0 <= a < n for a, n in zip(at, spatial, strict=True)):
                yield place, element, at


def output_shape(op: ConvolutionOp | PoolingOp, spatial: Index, kernel: Index) -> Index:
    """The number of places at which the whole kernel lies on the padded input, by counting."""
    numbers = zip(spatial, kernel, op.strides, op.dilation, op.padding, strict=True)
    return tuple(len(range(0, n + low + high - d * (k - 1), s)) for n, k, s, d, (low, high) in numbers)


def terms(op: ConvolutionOp, spatial: Index, kernel: Index, channels: int, filters: int) -> Iterator[tuple]:
    """Indices (without the batch) of x, w and y for each product that a convolution adds up."""
    inputs, outputs = channels // op.groups, filters // op.groups
    for place, element, at in touches(op, spatial, kernel):
        for group, c, o in np.ndindex(op.groups, inputs, outputs):
            filter_ = group * outputs + o
            yield (*at, group * inputs + c), (*element, c, filter_), (*place, filter_)


def convolved(op, x, w):
    y = np.zeros((x.shape[0], *output_shape(op, x.shape[1:-1], w.shape[:-2]), w.shape[-1]))
    for i, k, j in terms(op, x.shape[1:-1], w.shape[:-2], x.shape[-1], w.shape[-1]):
        y[:, *j] += x[:, *i] * w[k]
    return y


def input_gradient(op, dy, w):
    channels = w.shape[-2] * op.groups
    dx = np.zeros((dy.shape[0], *op.spatial, channels))
    for i, k, j in terms(op, op.spatial, w.shape[:-2], channels, w.shape[-1]):
        dx[:, *i] += dy[:, *j] * w[k]
    return dx


def weight_gradient(op, x, dy):
    dw = np.zeros((*op.kernel, x.shape[-1] // op.groups, dy.shape[-1]))
    for i, k, j in terms(op, x.shape[1:-1], op.kernel, x.shape[-1], dy.shape[-1]):
        dw[k] += np.dot(x[:, *i], dy[:, *j])
    return dw


def convolution_cases(strides, dilation, padding, groups, spatial, kernel, batch=2, label="") -> list[Case]:
    """The convolution and both gradients, with 2 channels in and 1 out for each group."""
    options = (strides, dilation, padding, groups)
    forward = Convolution(*options)
    backward = ConvolutionInputGradient(*options, spatial=spatial)
    weight = ConvolutionWeightGradient(*options, kernel=kernel)
    x, w = normal(batch, *spatial, 2 * groups), normal(*kernel, 2, groups)
    dy = normal(batch, *output_shape(forward, spatial, kernel), groups)
    longer = [[f"float32{list(x.shape)}", f"float32{[*dy.shape[:-2], dy.shape[-2] + 1, groups]}"]]
    return [
        Case(forward, [x, w], lambda x, w: convolved(forward, x, w), label=label, wrong=refused(x, w)),
        Case(backward, [dy, w], lambda dy, w: input_gradient(backward, dy, w), label=label, wrong=refused(dy, w)),
        Case(
            weight,
            [x, dy],
            lambda x, dy: weight_gradient(weight, x, dy),
            label=label,
            wrong=refused(x, dy)[:-1] + longer,
        ),
    ]


def refused(a: Input, b: Input) -> list[list[str]]:
    """Two dtypes, a dtype without convolution, a rank too few, a channel too many."""
    a, b = list(a.shape), list(b.shape)
    return [
        [f"float32{a}", f"float64{b}"],
        [f"int64{a}", f"int64{b}"],
        [f"float32{a[1:]}", f"float32{b}"],
        [f"float32{a}", f"float32{b[1:]}"],
        [f"float32{[*a[:-1], a[-1] + 1]}", f"float32{b}"],
    ]


CONVOLUTIONS = [
    *convolution_cases((1,), (1,), ((1, 0),), 1, (5,), (2,)),
    *convolution_cases((2,), (3,), ((2, 5),), 2, (6,), (3,), label="groups"),
    *convolution_cases((1,), (1,), ((0, 0),), 1, (4,), (1,), label="one"),
    *convolution_cases((3,), (1,), ((0, 0),), 1, (8,), (2,), label="gaps"),
    *convolution_cases((1,), (1,), ((1, 1),), 1, (3,), (2,), batch=0, label="no_batch"),
    *convolution_cases((1, 2), (2, 1), ((1, 2), (0, 1)), 2, (4, 5), (2, 3), label="2d"),
    *convolution_cases((1, 1, 1), (1, 1, 1), ((0, 0), (1, 0), (0, 0)), 1, (2, 2, 3), (2, 2, 1), label="3d"),
]


def pooled(op, x, take):
    """take(elements, their places) of each window, batch and channel."""
    y = np.zeros((x.shape[0], *output_shape(op, x.shape[1:-1], op.window), x.shape[-1]))
    windows: dict[Index, list[Index]] = {}
    for place, _, at in touches(op, x.shape[1:-1], op.window):
        windows.setdefault(place, []).append(at)
    for b, c in np.ndindex(x.shape[0], x.shape[-1]):
        for place, places in windows.items():
            y[(b, *place, c)] = take([x[(b, *at, c)] for at in places], [(b, *at, c) for at in places])
    return y


def transposed(op, x, dy, take):
    """The sum of dy over the windows that `take` gives each place of x to."""
    dx = np.zeros(x.shape)

    def spread(elements, places):
        targets.append(take(elements, places))
        return 0.0

    targets: list = []
    shape = pooled(op, x, spread).shape
    order = [(b, *place, c) for b, c in np.ndindex(shape[0], shape[-1]) for place in np.ndindex(*shape[1:-1])]
    for index, places in zip(order, targets, strict=True):
        for place in places:
            dx[place] += dy[index]
    return dx


def first_largest(elements, places):
    return [places[elements.index(max(elements))]]


def all_places(_, places):
    return places


def selected(op, x, v):
    return pooled(op, x, lambda elements, places: v[first_largest(elements, places)[0]])


def pooling_cases(window, strides, padding, dilation, spatial, batch=2, label="", x=None) -> list[Case]:
    """All five pooling ops."""
    options = (window, strides, padding, dilation)
    largest, gradient, select = MaxPool(*options), MaxPoolGradient(*options), MaxPoolSelect(*options)
    total, back = SumPool(*options), SumPoolGradient(*options, spatial=spatial)
    ties, x = x is not None, x or spaced(batch, *spatial, 2)
    dy, v, shape = normal(batch, *output_shape(largest, spatial, window), 2), normal(*x.shape), list(x.shape)
    one = [[f"int64{shape}"], [f"float32{shape[1:]}"]]
    two = [[f"float32{shape}", f"float64{shape}"], [f"float32{shape}", f"float32{[9, *shape[1:]]}"]]
    three = [[f"int64{list(dy.shape)}"], [f"float32{shape[1:]}"], [f"float32{[*shape[:-1], 1, 1]}"]]
    named = {"label": label, "gradient": not ties}
    return [
        Case(largest, [x], lambda x: pooled(largest, x, lambda e, _: max(e)), wrong=one, **named),
        Case(gradient, [x, dy], lambda x, dy: transposed(gradient, x, dy, first_largest), wrong=two, **named),
        Case(select, [x, v], lambda x, v: selected(select, x, v), wrong=two, **named),
        Case(total, [v], lambda v: pooled(total, v, lambda e, _: math.fsum(e)), wrong=one, label=label),
        Case(back, [dy], lambda dy: transposed(back, np.zeros(x.shape), dy, all_places), wrong=three, label=label),
    ]


POOLINGS = [
    *pooling_cases((2,), (2,), ((0, 0),), (1,), (7,)),
    *pooling_cases((3,), (1,), ((1, 2),), (2,), (6,), label="dilated"),
    *pooling_cases((2, 3), (1, 2), ((1, 0), (0, 2)), (1, 1), (3, 4), label="2d"),
    *pooling_cases((2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1), (4, 5), batch=0, label="no_batch"),
    *pooling_cases((2,), (1,), ((1, 1),), (1,), (5,), x=exactly(np.ones((2, 5, 2))), label="ties"),
    *pooling_cases((2,), (1,), ((1, 1),), (1,), (4,), x=exactly(-np.ones((2, 4, 2))), label="negative_ties"),
]

CASES = [*CONVOLUTIONS, *POOLINGS]
