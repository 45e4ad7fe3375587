"""Convolution and its two gradients, channels last, over any number of spatial axes.

The three ops are bilinear and each one's gradient is written with the other two, so derivatives of every order exist.
Sizes follow Dumoulin and Visin, "A guide to convolution arithmetic for deep learning" (arXiv:1603.07285).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any, TypeAlias, final

from graphnn.errors import DTypeError, OptionError, ShapeError
from graphnn.ir.dimension import Shape, Size, is_known
from graphnn.ir.tensor_spec import FLOATS, TensorSpec
from graphnn.ops.op import Array, ArrayModule, Op, Tensor

Pads: TypeAlias = tuple[tuple[int, int], ...]  # (low, high) for each spatial axis


@dataclass(frozen=True)
class ConvolutionOp(Op):
    """What the three ops share: where the kernel goes.

    Args:
        strides: step of the kernel, for each spatial axis.
        dilation: distance of neighbouring kernel elements on the input; 1 is the ordinary convolution.
        padding: zeros before and behind the input, for each spatial axis.
        groups: number of equal parts of the channels that do not mix.
    """

    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: Pads
    groups: int = 1

    def output_shape(self, spatial: Shape, kernel: Shape) -> Shape:
        """Spatial sizes of the convolution's output."""
        return output_sizes(spatial, kernel, self.strides, self.dilation, self.padding)

    def check(self, first: TensorSpec, second: TensorSpec) -> None:
        """Raise unless the attributes fit together and both tensors have their rank and one float dtype."""
        check_windows(self.strides, self.dilation, self.padding)
        if self.groups < 1:
            raise OptionError("groups must be positive", expected="1 or more", got=self.groups)
        if first.dtype != second.dtype or first.dtype not in FLOATS:
            raise DTypeError(f"`{self.name}` needs one float dtype", expected="equal dtypes", got=f"{first}, {second}")
        rank = len(self.strides) + 2
        if first.rank != rank or second.rank != rank:
            raise ShapeError(f"`{self.name}` needs tensors of rank {rank}", expected=rank, got=f"{first}, {second}")

    def split(self, channels: Size) -> int:
        """The channels of one group."""
        if not isinstance(channels, int) or channels % self.groups:
            raise ShapeError(
                "channels do not divide into groups", expected=f"a multiple of {self.groups}", got=channels
            )
        return channels // self.groups

    def columns(self, xp: ArrayModule, x: Array, kernel: Shape) -> Array:
        """What the kernel sees at each place: (groups, places, kernel elements * channels of one group).

        A copy as large as x times the kernel; no copy at all for a 1x1 kernel with stride 1.
        """
        out = self.output_shape(x.shape[1:-1], kernel)
        seen = windows(xp, pad_spatial(xp, x, self.padding), kernel, out, self.strides, self.dilation)
        seen = seen.reshape(*seen.shape[:-1], self.groups, x.shape[-1] // self.groups)
        places, width = x.shape[0] * math.prod(out), math.prod(kernel) * seen.shape[-1]
        return xp.moveaxis(seen, -2, 0).reshape(self.groups, places, width)

    def rows(self, xp: ArrayModule, y: Array) -> Array:
        """An output as (groups, places, channels of one group)."""
        places, channels = math.prod(y.shape[:-1]), y.shape[-1] // self.groups
        return xp.moveaxis(y.reshape(places, self.groups, channels), 1, 0)

    def stack(self, xp: ArrayModule, w: Array) -> Array:
        """A weight as (groups, *kernel, input channels of one group, output channels of one group)."""
        return xp.moveaxis(w.reshape(*w.shape[:-1], self.groups, w.shape[-1] // self.groups), -2, 0)


@final
class Convolution(ConvolutionOp):
    """y[b, p, o] = sum over k, c of x[b, p * stride + k * dilation - low, c] * w[k, c, o] (a cross-correlation).

    Shapes: x (batch, *spatial, in), w (*kernel, in / groups, out) -> y (batch, *output, out).
    """

    name = "convolution"

    def infer(self, *specs: TensorSpec) -> tuple[TensorSpec, ...]:
        """Ranks, dtypes and channels must fit; sizes may be named, those of w may not."""
        x, w = specs
        self.check(x, w)
        self.split(w.shape[-1])
        if self.split(x.shape[-1]) != w.shape[-2]:
            expected = f"input channels {w.shape[-2]} * {self.groups} groups"
            raise ShapeError("channels of input and weight do not fit", expected=expected, got=f"{x}, {w}")
        out = self.output_shape(x.shape[1:-1], w.shape[:-2])
        return (TensorSpec((x.shape[0], *out, w.shape[-1]), x.dtype),)

    def reference(self, xp: ArrayModule, *arrays: Array) -> Array:
        """One matrix product (one for each group) of all columns with the weight."""
        x, w = arrays
        kernel, columns = w.shape[:-2], self.columns(xp, x, w.shape[:-2])
        weight = self.stack(xp, w).reshape(self.groups, columns.shape[-1], w.shape[-1] // self.groups)
        y = xp.moveaxis(xp.matmul(columns, weight), 0, 1)
        return y.reshape(x.shape[0], *self.output_shape(x.shape[1:-1], kernel), w.shape[-1])

    def vjp(self, inputs, outputs, cotangents):
        (x, w), (dy,) = inputs, cotangents
        return input_gradient(self, x.shape[1:-1])(dy, w), weight_gradient(self, w.shape[:-2])(x, dy)


@final
@dataclass(frozen=True)
class ConvolutionInputGradient(ConvolutionOp):
    """dx[b, p * stride + k * dilation - low, c] = sum of dy[b, p, o] * w[k, c, o] over all (p, k, o) that reach it.

    It is also the transposed convolution. Shapes: dy (batch, *output, out), w (*kernel, in / groups, out) ->
    dx (batch, *spatial, in).

    Args:
        spatial: sizes of dx; the attributes leave them open where the stride is more than 1.
    """

    name = "convolution_input_gradient"
    spatial: Shape = field(kw_only=True)

    def infer(self, *specs: TensorSpec) -> tuple[TensorSpec, ...]:
        """The sizes of dy must be those that a convolution of an input with sizes `spatial` has."""
        dy, w = specs
        self.check(dy, w)
        self.split(w.shape[-1])
        out = self.output_shape(self.spatial, w.shape[:-2])
        if dy.shape[1:] != (*out, w.shape[-1]):
            expected = f"(batch, {', '.join(map(str, (*out, w.shape[-1])))})"
            raise ShapeError("the cotangent does not fit the convolution", expected=expected, got=f"{dy}, {w}")
        return (TensorSpec((dy.shape[0], *self.spatial, w.shape[-2] * self.groups), dy.dtype),)

    def reference(self, xp: ArrayModule, *arrays: Array) -> Array:
        """For each kernel element one matrix product, added where that element touches the input.

        Against one product with all columns this needs no memory for them, and measures equal or faster.
        """
        dy, w = arrays
        rows, weight = self.rows(xp, dy), self.stack(xp, w)
        channels = w.shape[-2] * self.groups
        dx = xp.zeros((dy.shape[0], *padded_sizes(self.spatial, self.padding), channels), dy.dtype)
        for offset, touched in offsets(w.shape[:-2], dy.shape[1:-1], self.strides, self.dilation):
            part = xp.matmul(rows, xp.swapaxes(weight[(slice(None), *offset)], 1, 2))
            dx[touched] += xp.moveaxis(part, 0, 1).reshape(*dy.shape[:-1], channels)
        return cut_spatial(dx, self.padding)

    def vjp(self, inputs, outputs, cotangents):
        (dy, w), (g,) = inputs, cotangents
        return plain(self)(g, w), weight_gradient(self, w.shape[:-2])(g, dy)


@final
@dataclass(frozen=True)
class ConvolutionWeightGradient(ConvolutionOp):
    """dw[k, c, o] = sum over b, p of x[b, p * stride + k * dilation - low, c] * dy[b, p, o].

    Shapes: x (batch, *spatial, in), dy (batch, *output, out) -> dw (*kernel, in / groups, out).

    Args:
        kernel: kernel sizes of dw; the attributes leave them open.
    """

    name = "convolution_weight_gradient"
    kernel: tuple[int, ...] = field(kw_only=True)

    def infer(self, *specs: TensorSpec) -> tuple[TensorSpec, ...]:
        """The sizes of dy must be those that a convolution of x with this kernel has."""
        x, dy = specs
        self.check(x, dy)
        self.split(dy.shape[-1])
        expected = (x.shape[0], *self.output_shape(x.shape[1:-1], self.kernel))
        if dy.shape[:-1] != expected:
            text = f"({', '.join(map(str, expected))}, out)"
            raise ShapeError("the cotangent does not fit the convolution", expected=text, got=f"{x}, {dy}")
        return (TensorSpec((*self.kernel, self.split(x.shape[-1]), dy.shape[-1]), x.dtype),)

    def reference(self, xp: ArrayModule, *arrays: Array) -> Array:
        """One matrix product (one for each group) of all columns, turned, with dy."""
        x, dy = arrays
        columns = self.columns(xp, x, self.kernel)
        dw = xp.matmul(xp.swapaxes(columns, 1, 2), self.rows(xp, dy))
        parts = dw.reshape(self.groups, *self.kernel, x.shape[-1] // self.groups, dw.shape[-1])
        return xp.moveaxis(parts, 0, -2).reshape(*parts.shape[1:-1], dy.shape[-1])

    def vjp(self, inputs, outputs, cotangents):
        (x, dy), (g,) = inputs, cotangents
        return input_gradient(self, x.shape[1:-1])(dy, g), plain(self)(x, g)


# -- the three from each other -----------------------------------------------------------------------------------------


def plain(op: ConvolutionOp) -> Convolution:
    """The convolution that `op` belongs to."""
    return Convolution(op.strides, op.dilation, op.padding, op.groups)


def input_gradient(op: ConvolutionOp, spatial: Shape) -> ConvolutionInputGradient:
    """The gradient of that convolution by its input."""
    return ConvolutionInputGradient(op.strides, op.dilation, op.padding, op.groups, spatial=tuple(spatial))


def weight_gradient(op: ConvolutionOp, kernel: Shape) -> ConvolutionWeightGradient:
    """The gradient of that convolution by its weight."""
    sizes = tuple(size.__index__() for size in kernel)
    return ConvolutionWeightGradient(op.strides, op.dilation, op.padding, op.groups, kernel=sizes)


def convolution(
    x: Tensor, w: Tensor, strides: tuple[int, ...], dilation: tuple[int, ...], padding: Pads, groups: int = 1
) -> Tensor:
    """A tensor (batch, *output, out) from x (batch, *spatial, in) and w (*kernel, in / groups, out): `Convolution`."""
    return Convolution(tuple(strides), tuple(dilation), tuple(padding), groups)(x, w)


def transposed_convolution(
    x: Tensor,
    w: Tensor,
    strides: tuple[int, ...],
    dilation: tuple[int, ...],
    padding: Pads,
    extra: tuple[int, ...],
    groups: int = 1,
) -> Tensor:
    """The map whose matrix is the transpose of a convolution's: output (n - 1) * stride + span - low - high + extra.

    Args:
        x: (batch, *spatial, in).
        w: (*kernel, out / groups, in): the weight of the convolution that it turns round.
        strides: steps on the output.
        dilation: distance of neighbouring kernel elements on the output.
        padding: elements cut from the output.
        extra: elements appended to the output, 0 <= extra < stride.
        groups: number of equal parts of the channels that do not mix.
    """
    check_windows(strides, dilation, padding)
    if not x.rank == w.rank == len(strides) + 2:
        raise ShapeError("tensors of another rank", expected=len(strides) + 2, got=f"{x.spec}, {w.spec}")
    if len(extra) != len(strides) or any(not 0 <= e < s for e, s in zip(extra, strides, strict=True)):
        raise OptionError("extra output elements must be fewer than the stride", expected=f"below {strides}", got=extra)
    spans = [span(k.__index__(), rate) for k, rate in zip(w.shape[:-2], dilation, strict=True)]
    numbers = zip(x.shape[1:-1], strides, spans, padding, extra, strict=True)
    sizes = tuple((n - 1) * s + reach - low - high + e for n, s, reach, (low, high), e in numbers)
    return ConvolutionInputGradient(tuple(strides), tuple(dilation), tuple(padding), groups, spatial=sizes)(x, w)


# -- windows: also used by pooling -------------------------------------------------------------------------------------


def check_windows(strides: Sequence[int], dilation: Sequence[int], padding: Pads) -> None:
    """Raise OptionError unless there is one entry per axis, strides and dilation >= 1, padding >= 0."""
    got = f"strides={strides}, dilation={dilation}, padding={padding}"
    if not len(strides) == len(dilation) == len(padding) or any(len(pair) != 2 for pair in padding):
        raise OptionError("one stride, dilation and (low, high) padding for each spatial axis", got=got)
    if min((*strides, *dilation), default=1) < 1 or min(itertools.chain(*padding), default=0) < 0:
        raise OptionError("a stride, dilation or padding is too small", expected=">= 1, >= 1, >= 0", got=got)


def span(kernel: int, dilation: int) -> int:
    """Input elements from the first to the last that a dilated kernel touches."""
    return dilation * (kernel - 1) + 1


def output_sizes(
    spatial: Shape, kernel: Shape, strides: Sequence[int], dilation: Sequence[int], padding: Pads
) -> Shape:
    """(n + low + high - span) // stride + 1 for each axis.

    Raises:
        ShapeError: a kernel is empty, or larger than its padded input.
    """
    if not len(spatial) == len(kernel) == len(strides):
        raise ShapeError(
            "the kernel has another number of axes", expected=f"{len(strides)} axes", got=f"{spatial}, {kernel}"
        )
    sizes = []
    for n, k, stride, rate, (low, high) in zip(spatial, kernel, strides, dilation, padding, strict=True):
        if not isinstance(k, int) or k < 1:
            raise ShapeError("kernel sizes must be positive integers", expected="1 or more", got=kernel)
        room = n + low + high - span(k, rate)
        if is_known(room) and room < 0:
            raise ShapeError(
                "the kernel is larger than the padded input",
                expected=f"{span(k, rate)} or more, the width of a kernel of {k} at dilation {rate}",
                got=f"{n + low + high}: {n} and a padding of {low} + {high}",
            )
        sizes.append(room // stride + 1)
    return tuple(sizes)


def padded_sizes(spatial: Shape, padding: Pads) -> Shape:
    """Sizes with the padding."""
    return tuple(n + low + high for n, (low, high) in zip(spatial, padding, strict=True))


def pad_spatial(xp: ArrayModule, x: Array, padding: Pads, value: float = 0.0) -> Array:
    """A copy with `value` around it, or x itself where there is nothing to add."""
    if not any(itertools.chain(*padding)):
        return x
    padded = xp.full((x.shape[0], *padded_sizes(x.shape[1:-1], padding), x.shape[-1]), value, x.dtype)
    cut_spatial(padded, padding)[...] = x
    return padded


def cut_spatial(x: Array, padding: Pads) -> Array:
    """The view of x without its padding."""
    inner = (slice(low, n - high) for n, (low, high) in zip(x.shape[1:-1], padding, strict=True))
    return x[(slice(None), *inner)]


def windows(
    xp: ArrayModule, x: Array, kernel: Shape, out: Shape, strides: Sequence[int], dilation: Sequence[int]
) -> Array:
    """What a kernel sees at each place, (batch, *out, *kernel, channels): a view that must not be written to."""
    steps = x.strides[1:-1]
    places = (step * stride for step, stride in zip(steps, strides, strict=True))
    elements = (step * rate for step, rate in zip(steps, dilation, strict=True))
    shape = (x.shape[0], *out, *kernel, x.shape[-1])
    return xp.lib.stride_tricks.as_strided(x, shape, (x.strides[0], *places, *elements, x.strides[-1]))


def offsets(
    kernel: Shape, out: Shape, strides: Sequence[int], dilation: Sequence[int]
) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
    """Each kernel element in C order, with the slice of the padded input that it touches."""
    for element in itertools.product(*map(range, kernel)):
        starts = [index * rate for index, rate in zip(element, dilation, strict=True)]
        slices = (slice(a, a + (n - 1) * step + 1, step) for a, n, step in zip(starts, out, strides, strict=True))
        yield element, (slice(None), *slices)


def resolve_padding(pad: int | str | Sequence[int], kernel: Sequence[int], dilation: Sequence[int]) -> Pads:
    """The (low, high) padding of each spatial axis that a layer's `pad` means; it never depends on the input's size.

    An int pads all sides. One number per axis pads both its ends; two per axis are low and high of each in turn:
    (low, high) for sequences, (top, bottom, left, right) for images. "valid" pads nothing. "same" adds span - 1, the
    smaller half in front, so that n elements give ceil(n / stride). "causal" (one axis) puts span - 1 in front: no
    output sees a later input.

    Raises:
        OptionError: `pad` is none of these.
    """
    totals = [span(k, rate) - 1 for k, rate in zip(kernel, dilation, strict=True)]
    if pad == "valid":
        return tuple((0, 0) for _ in totals)
    if pad == "same":
        return tuple((total // 2, total - total // 2) for total in totals)
    if pad == "causal" and len(totals) == 1:
        return ((totals[0], 0),)
    return _explicit_padding(pad, len(totals))


def _explicit_padding(pad: int | str | Sequence[int], rank: int) -> Pads:
    numbers: tuple[Any, ...] = tuple(pad) if isinstance(pad, tuple | list) else (pad,) * rank
    fitting = len(numbers) in (rank, 2 * rank) and rank > 0
    if not fitting or any(not isinstance(n, Integral) or isinstance(n, bool) or n < 0 for n in numbers):
        words = '"same", "valid", "causal"' if rank == 1 else '"same", "valid"'
        expected = f"{words}, an int, {rank} or {2 * rank} ints, none negative"
        raise OptionError("`pad` does not fit", expected=expected, got=repr(pad))
    counts = [int(n) for n in numbers]
    if len(counts) == rank:
        return tuple((n, n) for n in counts)
    return tuple(zip(counts[::2], counts[1::2], strict=True))
