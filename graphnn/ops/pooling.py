"""Pooling over windows, channels last, over any number of spatial axes: the largest element, the sum, the mean."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import final

from graphnn.errors import DTypeError, OptionError, ShapeError
from graphnn.ir.dimension import Shape
from graphnn.ir.tensor_spec import FLOATS, TensorSpec
from graphnn.ops.convolution import (
    Pads,
    check_windows,
    cut_spatial,
    offsets,
    output_sizes,
    pad_spatial,
    padded_sizes,
    span,
)
from graphnn.ops.op import Array, ArrayModule, Op, Tensor


@dataclass(frozen=True)
class PoolingOp(Op):
    """What all pooling ops share: where the windows lie.

    Args:
        window: elements of a window, for each spatial axis.
        strides: step of the window.
        padding: places before and behind the input; fewer than a window reaches over.
        dilation: distance of neighbouring elements of a window; 1 is the ordinary pooling.
    """

    window: tuple[int, ...]
    strides: tuple[int, ...]
    padding: Pads
    dilation: tuple[int, ...]

    def output_spec(self, x: TensorSpec) -> TensorSpec:
        """(batch, *output, channels), after a check of the attributes and of x."""
        check_windows(self.strides, self.dilation, self.padding)
        if x.dtype not in FLOATS:
            raise DTypeError(f"`{self.name}` needs floats", expected=", ".join(FLOATS), got=x)
        if x.rank != len(self.strides) + 2:
            raise ShapeError(f"`{self.name}` needs (batch, *spatial, channels)", expected=len(self.strides) + 2, got=x)
        out = output_sizes(x.shape[1:-1], self.window, self.strides, self.dilation, self.padding)
        spans = map(span, self.window, self.dilation)
        if any(max(pair) >= reach for pair, reach in zip(self.padding, spans, strict=True)):
            raise OptionError("a window would lie in the padding alone", expected="padding < window", got=self)
        return TensorSpec((x.shape[0], *out, x.shape[-1]), x.dtype)

    def check_output(self, x: TensorSpec, y: TensorSpec) -> None:
        """Raise unless y has the spec of what the pooling makes of x."""
        if y != (expected := self.output_spec(x)):
            raise ShapeError("the cotangent does not fit the pooling", expected=expected, got=y)


class MaxPoolOp(PoolingOp):
    """What the ops of the largest element share."""

    def first_maximum(self, xp: ArrayModule, x: Array) -> tuple[Array, Array]:
        """The largest element of each window, and the place of the first of them in C order.

        NaN wins, as in NumPy's maximum; the place is then that of the largest element before it.
        """
        padded = pad_spatial(xp, x, self.padding, -math.inf)
        out = output_sizes(x.shape[1:-1], self.window, self.strides, self.dilation, self.padding)
        slices = (padded[touched] for _, touched in offsets(self.window, out, self.strides, self.dilation))
        largest = next(slices).copy()
        place = xp.zeros(largest.shape, "int32")
        for index, seen in enumerate(slices, start=1):
            place[seen > largest] = index
            xp.maximum(largest, seen, out=largest)
        return largest, place


@final
class MaxPool(MaxPoolOp):
    """y = the largest element of each window; padding counts as -inf. The gradient goes to the first largest one.

    Shapes: x (batch, *spatial, channels) -> y (batch, *output, channels).
    """

    name = "max_pool"

    def infer(self, *specs: TensorSpec) -> tuple[TensorSpec, ...]:
        """One float tensor; sizes may be named."""
        (x,) = specs
        return (self.output_spec(x),)

    def reference(self, xp: ArrayModule, *arrays: Array) -> Array:
        """The running maximum of the strided slices that each window element touches."""
        (x,) = arrays
        padded = pad_spatial(xp, x, self.padding, -math.inf)
        out = output_sizes(x.shape[1:-1], self.window, self.strides, self.dilation, self.padding)
        slices = (padded[touched] for _, touched in offsets(self.window, out, self.strides, self.dilation))
        y = next(slices).copy()
        for seen in slices:
            xp.maximum(y, seen, out=y)
        return y

    def vjp(self, inputs, outputs, cotangents):
        (x,), (dy,) = inputs, cotangents
        return (MaxPoolGradient(self.window, self.strides, self.padding, self.dilation)(x, dy),)


@final
class MaxPoolGradient(MaxPoolOp):
    """dx = the sum of dy over all windows whose first largest element of x is here. No gradient by x: it is flat.

    Shapes: x (batch, *spatial, channels), dy (batch, *output, channels) -> dx as x.
    """

    name = "max_pool_gradient"

    def infer(self, *specs: TensorSpec) -> tuple[TensorSpec, ...]:
        """The spec of x."""
        x, dy = specs
        self.check_output(x, dy)
        return (x,)

    def reference(self, xp: ArrayModule, *arrays: Array) -> Array:
        """dy added to the strided slice of each window element, where that element was the first largest one."""
        x, dy = arrays
        _, place = self.first_maximum(xp, x)
        dx = xp.zeros((x.shape[0], *padded_sizes(x.shape[1:-1], self.padding), x.shape[-1]), x.dtype)
        steps = offsets(self.window, place.shape[1:-1], self.strides, self.dilation)
        for index, (_, touched) in enumerate(steps):
            dx[touched] += xp.where(place == index, dy, dy.dtype.type(0))
        return cut_spatial(dx, self.padding)

    def vjp(self, inputs, outputs, cotangents):
        (x, _), (g,) = inputs, cotangents
        return None, MaxPoolSelect(self.window, self.strides, self.padding, self.dilation)(x, g)


@final
class MaxPoolSelect(MaxPoolOp):
    """y = the element of v at the first largest element of x, for each window. No gradient by x: it is flat.

    Shapes: x and v (batch, *spatial, channels) -> y (batch, *output, channels).
    """

    name = "max_pool_select"

    def infer(self, *specs: TensorSpec) -> tuple[TensorSpec, ...]:
        """Two tensors of one spec."""
        x, v = specs
        if x != v:
            raise ShapeError("`max_pool_select` needs two tensors of one spec", expected=x, got=v)
        return (self.output_spec(x),)

    def reference(self, xp: ArrayModule, *arrays: Array) -> Array:
        """The slices of v that each window element touches, taken where that element was the first largest one."""
        x, v = arrays
        _, place = self.first_maximum(xp, x)
        padded, y = pad_spatial(xp, v, self.padding), xp.zeros(place.shape, v.dtype)
        steps = offsets(self.window, place.shape[1:-1], self.strides, self.dilation)
        for index, (_, touched) in enumerate(steps):
            y = xp.where(place == index, padded[touched], y)
        return y

    def vjp(self, inputs, outputs, cotangents):
        (x, _), (dy,) = inputs, cotangents
        return None, MaxPoolGradient(self.window, self.strides, self.padding, self.dilation)(x, dy)


@final
class SumPool(PoolingOp):
    """y = the sum over each window; padding counts as 0. Gradient: dy added to every element of its window.

    Shapes: x (batch, *spatial, channels) -> y (batch, *output, channels).
    """

    name = "sum_pool"

    def infer(self, *specs: TensorSpec) -> tuple[TensorSpec, ...]:
        """One float tensor; sizes may be named."""
        (x,) = specs
        return (self.output_spec(x),)

    def reference(self, xp: ArrayModule, *arrays: Array) -> Array:
        """The sum of the strided slices that each window element touches."""
        (x,) = arrays
        padded = pad_spatial(xp, x, self.padding)
        out = output_sizes(x.shape[1:-1], self.window, self.strides, self.dilation, self.padding)
        y = xp.zeros((x.shape[0], *out, x.shape[-1]), x.dtype)
        for _, touched in offsets(self.window, out, self.strides, self.dilation):
            y += padded[touched]
        return y

    def vjp(self, inputs, outputs, cotangents):
        (x,), (dy,) = inputs, cotangents
        spatial = x.shape[1:-1]
        return (SumPoolGradient(self.window, self.strides, self.padding, self.dilation, spatial=spatial)(dy),)


@final
@dataclass(frozen=True)
class SumPoolGradient(PoolingOp):
    """dx = the sum of dy over all windows that touch this element: the transpose of `SumPool`, which is its gradient.

    Shapes: dy (batch, *output, channels) -> dx (batch, *spatial, channels).

    Args:
        spatial: sizes of dx; the attributes leave them open where the stride is more than 1.
    """

    name = "sum_pool_gradient"
    spatial: Shape = field(kw_only=True)

    def infer(self, *specs: TensorSpec) -> tuple[TensorSpec, ...]:
        """The sizes of dy must be those that a pooling of an input with sizes `spatial` has."""
        (dy,) = specs
        x = TensorSpec((*dy.shape[:1], *self.spatial, *dy.shape[1:][-1:]), dy.dtype)
        self.check_output(x, dy)
        return (x,)

    def reference(self, xp: ArrayModule, *arrays: Array) -> Array:
        """dy added to the strided slice of each window element."""
        (dy,) = arrays
        dx = xp.zeros((dy.shape[0], *padded_sizes(self.spatial, self.padding), dy.shape[-1]), dy.dtype)
        for _, touched in offsets(self.window, dy.shape[1:-1], self.strides, self.dilation):
            dx[touched] += dy
        return cut_spatial(dx, self.padding)

    def vjp(self, inputs, outputs, cotangents):
        (g,) = cotangents
        return (SumPool(self.window, self.strides, self.padding, self.dilation)(g),)


def max_pool(x: Tensor, window: tuple[int, ...], strides: tuple[int, ...], padding: Pads) -> Tensor:
    """The largest element of each window; see `MaxPool`."""
    return MaxPool(tuple(window), tuple(strides), tuple(padding), (1,) * len(window))(x)


def average_pool(
    x: Tensor, window: tuple[int, ...], strides: tuple[int, ...], padding: Pads, count_padding: bool = True
) -> Tensor:
    """The mean over each window of x (batch, *spatial, channels) -> (batch, *output, channels).

    Args:
        x: floats.
        window: elements of a window, for each spatial axis.
        strides: step of the window.
        padding: zeros before and behind the input.
        count_padding: divide by the window's size everywhere; if False, by the number of elements that are no padding.
    """
    pool = SumPool(tuple(window), tuple(strides), tuple(padding), (1,) * len(window))
    if count_padding or not any(itertools.chain(*padding)):
        return pool(x) * (1.0 / math.prod(window))
    return pool(x) / pool(x.fill(1, (1, *x.shape[1:-1], 1)))
