"""Layers that move elements: Flatten, Reshape, Transpose, Concatenate, Pad, Slice, Zeros."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from graphnn.errors import OptionError, ShapeError
from graphnn.graph.layer import Layer
from graphnn.graph.scope import Scope
from graphnn.ir.dimension import Dimension, Shape, Size
from graphnn.ops.op import Tensor, normalize_axes
from graphnn.ops.shape import concatenate, pad


class ShapeLayer(Layer):
    """The elements of x in another place."""

    category = "shape"


@final
@dataclass(frozen=True, eq=False)
class Flatten(ShapeLayer):
    """y = x with all axes but one joined, in C order.

    Args:
        keep_dim: "first": (batch, ...) becomes (batch, n); "last": (..., ch) becomes (n, ch); -1: one row (1, n).
    """

    keep_dim: str | int = "first"

    def lower(self, scope: Scope, x: Tensor) -> Tensor:
        if self.keep_dim == -1:
            return x.reshape((1, math.prod(x.shape, start=1)))
        if self.keep_dim not in ("first", "last"):
            raise OptionError("unknown axis to keep", expected='"first", "last" or -1', got=repr(self.keep_dim))
        if x.rank < 1:
            raise ShapeError("a scalar has no axis to keep", expected="rank 1 or more", got=x.spec)
        if self.keep_dim == "first":
            return x.reshape((x.shape[0], math.prod(x.shape[1:], start=1)))
        return x.reshape((math.prod(x.shape[:-1], start=1), x.shape[-1]))


@final
@dataclass(frozen=True, eq=False)
class Reshape(ShapeLayer):
    """y = the elements of x in C order, in another shape.

    Args:
        shape: one size for each axis of y. 0 takes the size of the same axis of x, one -1 what is left:
            Reshape((0, -1, 8)) makes (batch, 4, 8) of (batch, 32). (ONNX's Reshape has the same two signs.)
    """

    shape: tuple[int, ...]

    def lower(self, scope: Scope, x: Tensor) -> Tensor:
        return x.reshape(target_shape(x, self.shape))


@final
@dataclass(frozen=True, eq=False)
class Transpose(ShapeLayer):
    """y = x with its axes in another order: axis i of y is axis order[i] of x.

    Args:
        order: a number for each axis; negative ones count from the end.
    """

    order: tuple[int, ...]

    def lower(self, scope: Scope, x: Tensor) -> Tensor:
        if any(not isinstance(axis, int) or not -x.rank <= axis < x.rank for axis in self.order):
            raise OptionError("an axis is out of range", expected=f"-{x.rank} to {x.rank - 1}", got=self.order)
        return x.transpose([axis % x.rank for axis in self.order])


@final
@dataclass(frozen=True, eq=False)
class Concatenate(ShapeLayer):
    """y = x1, x2, ... one behind the other along `axis`; the other axes are equal."""

    axis: int = -1

    def lower(self, scope: Scope, *inputs: Tensor) -> Tensor:
        (axis,) = normalize_axes(self.axis, inputs[0].rank)
        return concatenate(inputs, axis)


@final
@dataclass(frozen=True, eq=False)
class Pad(ShapeLayer):
    """y = x with `value` before and behind the elements of each axis.

    Args:
        widths: (before, behind) for each axis, none negative.
        value: what is put there.
    """

    widths: tuple[tuple[int, int], ...]
    value: float = 0.0

    def lower(self, scope: Scope, x: Tensor) -> Tensor:
        if len(self.widths) != x.rank or any(len(pair) != 2 for pair in self.widths):
            raise OptionError("Pad needs (before, behind) for each axis", expected=f"{x.rank} pairs", got=self.widths)
        return pad(x, self.widths, self.value)


@final
@dataclass(frozen=True, eq=False)
class Slice(ShapeLayer):
    """y = x[start:stop:step] along `axis`; negative ends count from behind, and both must lie within the axis.

    Args:
        axis: which axis.
        start: first element; None: 0.
        stop: the element behind the last; None: to the end.
        step: 1 or more.
    """

    axis: int
    start: int | None = None
    stop: int | None = None
    step: int = 1

    def lower(self, scope: Scope, x: Tensor) -> Tensor:
        if not isinstance(self.step, int) or self.step < 1:
            raise OptionError("the step of a slice is too small", expected="1 or more", got=self.step)
        (axis,) = normalize_axes(self.axis, x.rank)
        size = x.shape[axis]
        return x.slice(axis, _end(self.start, size, 0), _end(self.stop, size, size), self.step)


@final
class Zeros(ShapeLayer):
    """y = 0 in the shape and dtype of x: stands in where an optional input is missing. No gradient flows to x."""

    def lower(self, scope: Scope, x: Tensor) -> Tensor:
        return x.fill(0, x.shape)


def target_shape(x: Tensor, shape: Sequence[int]) -> Shape:
    """`shape` with 0 replaced by the size of the same axis of x and -1 by what is left.

    Raises:
        OptionError: not such numbers. ShapeError: there is no such axis, or the elements do not divide up.
    """
    integers = all(isinstance(size, int) and not isinstance(size, bool) and size >= -1 for size in shape)
    if not integers or [*shape].count(-1) > 1:
        raise OptionError("not a shape", expected="positive ints, 0 for a kept axis, at most one -1", got=repr(shape))
    if any(size == 0 and axis >= x.rank for axis, size in enumerate(shape)):
        raise ShapeError("0 keeps an axis that the input does not have", expected=f"{x.rank} axes", got=repr(shape))
    sizes: list[Size] = [x.shape[axis] if size == 0 else size for axis, size in enumerate(shape)]
    if -1 in shape:
        place = [*shape].index(-1)
        sizes[place] = _rest(x, math.prod(sizes[:place] + sizes[place + 1 :], start=1), shape)
    return tuple(sizes)


def _rest(x: Tensor, known: Size, shape: Sequence[int]) -> Size:
    total = math.prod(x.shape, start=1)
    if isinstance(total, Dimension) and known != 0:
        return total // known  # where this is not exact, the reshape itself says so
    if not isinstance(known, int) or known == 0 or total % known:
        raise ShapeError("the elements do not divide into this shape", expected=f"{total} elements", got=repr(shape))
    return total // known


def _end(place: int | None, size: Size, default: Size) -> Size:
    if place is None:
        return default
    return place if place >= 0 else size + place
