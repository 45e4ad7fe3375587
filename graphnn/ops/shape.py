"""Ops that move elements: reshape, transpose, broadcast, slice, pad, concatenate, flip."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from graphnn.errors import DTypeError, OptionError, ShapeError
from graphnn.ir.dimension import Shape, Size, is_known
from graphnn.ir.tensor_spec import TensorSpec, broadcast_shapes
from graphnn.ops.op import Array, ArrayModule, Op, Tensor


@final
@dataclass(frozen=True)
class Reshape(Op):
    """The same elements in C order. Gradient: reshape back."""

    name = "reshape"
    is_view: ClassVar[bool] = True
    shape: Shape

    def infer(self, *specs: TensorSpec) -> tuple[TensorSpec, ...]:
        """Shapes must hold the same number of elements."""
        (x,) = specs
        before, after = math.prod(x.shape, start=1), math.prod(self.shape, start=1)
        if before != after:
            raise ShapeError(
                "reshape changes the number of elements", expected=f"{before} elements", got=f"{self.shape}"
            )
        return (TensorSpec(self.shape, x.dtype),)

    def reference(self, xp: ArrayModule, *arrays: Array) -> Array:
        """xp.reshape."""
        return arrays[0].reshape(self.shape)

    def vjp(self, inputs, outputs, cotangents):
        (x,), (dy,) = inputs, cotangents
        return (dy.reshape(x.shape),)


@final
@dataclass(frozen=True)
class Transpose(Op):
    """Axis i of y is axis order[i] of x. Gradient: the inverse order."""

    name = "transpose"
    order: tuple[int, ...]

    def infer(self, *specs: TensorSpec) -> tuple[TensorSpec, ...]:
        """The shape in another order."""
        (x,) = specs
        if sorted(self.order) != list(range(x.rank)):
            raise OptionError("not an order of the axes", expected=f"each of 0 to {x.rank - 1} once", got=self.order)
        return (TensorSpec(tuple(x.shape[axis] for axis in self.order), x.dtype),)

    def reference(self, xp: ArrayModule, *arrays: Array) -> Array:
        """xp.transpose."""
        return arrays[0].transpose(self.order)

    def vjp(self, inputs, outputs, cotangents):
        (dy,) = cotangents
        return (dy.transpose(sorted(range(len(self.order)), key=self.order.__getitem__)),)


@final
@dataclass(frozen=True)
class BroadcastTo(Op):
    """Size-1 and missing leading axes repeated up to `shape`. Gradient: the sum over them."""

    name = "broadcast_to"
    shape: Shape

    def infer(self, *specs: TensorSpec) -> tuple[TensorSpec, ...]:
        """The input must broadcast to `shape` without changing it."""
        (x,) = specs
        if broadcast_shapes([x.shape, self.shape]) != tuple(self.shape):
            raise ShapeError("a tensor cannot be broadcast to a smaller shape", expected=self.shape, got=x)
        return (TensorSpec(self.shape, x.dtype),)

    def reference(self, xp: ArrayModule, *arrays: Array) -> Array:
        """xp.broadcast_to."""
        return xp.broadcast_to(arrays[0], self.shape)

    def vjp(self, inputs, outputs, cotangents):
        (x,), (dy,) = inputs, cotangents
        return (sum_to_shape(dy, x.shape),)


@final
@dataclass(frozen=True)
class Slice(Op):
    """y = x[starts[0]:stops[0]:steps[0], ...]. Gradient: dy padded with zeros."""

    name = "slice"
    starts: tuple[Size, ...]
    stops: tuple[Size, ...]
    steps: tuple[int, ...]

    def infer(self, *specs: TensorSpec) -> tuple[TensorSpec, ...]:
        """Starts and stops must lie in the shape; steps are positive."""
        (x,) = specs
        if not len(self.starts) == len(self.stops) == len(self.steps) == x.rank or min(self.steps, default=1) < 1:
            raise OptionError("a slice needs start, stop and step > 0 for each axis", expected=x.rank, got=self)
        shape = []
        for size, start, stop, step in zip(x.shape, self.starts, self.stops, self.steps, strict=True):
            if is_known(size) and is_known(start) and is_known(stop) and not 0 <= start <= stop <= size:
                raise ShapeError(
                    "a slice lies outside of the tensor", expected=f"0 <= start <= stop <= {size}", got=self
                )
            shape.append((stop - start + step - 1) // step)
        return (TensorSpec(tuple(shape), x.dtype),)

    def reference(self, xp: ArrayModule, *arrays: Array) -> Array:
        """Basic indexing."""
        return arrays[0][tuple(map(slice, self.starts, self.stops, self.steps))]

    def vjp(self, inputs, outputs, cotangents):
        (x,), (y,), (dy,) = inputs, outputs, cotangents
        interior = tuple(step - 1 for step in self.steps)
        spans = [spread(n, gap) for n, gap in zip(y.shape, interior, strict=True)]
        high = tuple(size - start - span for size, start, span in zip(x.shape, self.starts, spans, strict=True))
        return (Pad(self.starts, high, interior)(dy),)


@final
@dataclass(frozen=True)
class Pad(Op):
    """x with `value` put before (`low`), behind (`high`) and between (`interior`) its elements, for each axis.

    Gradient: the slice of dy that holds x.
    """

    name = "pad"
    low: tuple[Size, ...]
    high: tuple[Size, ...]
    interior: tuple[int, ...]
    value: float = 0.0

    def infer(self, *specs: TensorSpec) -> tuple[TensorSpec, ...]:
        """low + spread(size) + high for each axis."""
        (x,) = specs
        if not len(self.low) == len(self.high) == len(self.interior) == x.rank:
            raise OptionError("pad needs low, high and interior for each axis", expected=x.rank, got=self)
        if any(is_known(width) and width < 0 for width in (*self.low, *self.high, *self.interior)):
            raise OptionError("pad widths must not be negative", expected="0 or more", got=self, fix="use slice to cut")
        spans = map(spread, x.shape, self.interior)
        return (TensorSpec(tuple(a + n + b for a, n, b in zip(self.low, spans, self.high, strict=True)), x.dtype),)

    def reference(self, xp: ArrayModule, *arrays: Array) -> Array:
        """A filled array with x written into a strided slice of it."""
        (x,) = arrays
        spans = list(map(spread, x.shape, self.interior))
        shape = [a + n + b for a, n, b in zip(self.low, spans, self.high, strict=True)]
        y = xp.full(shape, self.value, x.dtype)
        y[tuple(slice(a, a + n, gap + 1) for a, n, gap in zip(self.low, spans, self.interior, strict=True))] = x
        return y

    def vjp(self, inputs, outputs, cotangents):
        (x,), (dy,) = inputs, cotangents
        spans = map(spread, x.shape, self.interior)
        stops = tuple(a + n for a, n in zip(self.low, spans, strict=True))
        return (Slice(self.low, stops, tuple(gap + 1 for gap in self.interior))(dy),)


@final
@dataclass(frozen=True)
class Concatenate(Op):
    """Tensors one behind the other along `axis`. Gradient: the slices of dy."""

    name = "concatenate"
    axis: int

    def infer(self, *specs: TensorSpec) -> tuple[TensorSpec, ...]:
        """Shapes must be equal but for `axis`."""
        first, got = specs[0], ", ".join(map(str, specs))
        if len({spec.dtype for spec in specs}) > 1:
            raise DTypeError("`concatenate` needs equal dtypes", expected="one dtype", got=got, fix="cast one of them")
        if not 0 <= self.axis < first.rank:
            raise OptionError("an axis is out of range", expected=f"0 to {first.rank - 1}", got=self.axis)
        rests = {spec.shape[: self.axis] + spec.shape[self.axis + 1 :] for spec in specs if spec.rank == first.rank}
        if len(rests) > 1 or any(spec.rank != first.rank for spec in specs):
            raise ShapeError(
                "shapes differ outside of the joined axis", expected=f"equal but for axis {self.axis}", got=got
            )
        total = sum((spec.shape[self.axis] for spec in specs), start=0)
        return (TensorSpec((*first.shape[: self.axis], total, *first.shape[self.axis + 1 :]), first.dtype),)

    def reference(self, xp: ArrayModule, *arrays: Array) -> Array:
        """xp.concatenate."""
        return xp.concatenate(arrays, axis=self.axis)

    def vjp(self, inputs, outputs, cotangents):
        (dy,) = cotangents
        start: Size = 0
        parts: list[Tensor] = []
        for x in inputs:
            stop = start + x.shape[self.axis]
            parts.append(dy.slice(self.axis, start, stop))
            start = stop
        return tuple(parts)


@final
@dataclass(frozen=True)
class Flip(Op):
    """The elements in reverse order along `axes`. Gradient: dy reversed."""

    name = "flip"
    axes: tuple[int, ...]

    def infer(self, *specs: TensorSpec) -> tuple[TensorSpec, ...]:
        """The same spec."""
        if any(not 0 <= axis < specs[0].rank for axis in self.axes):
            raise OptionError("an axis is out of range", expected=f"0 to {specs[0].rank - 1}", got=self.axes)
        return (specs[0],)

    def reference(self, xp: ArrayModule, *arrays: Array) -> Array:
        """xp.flip."""
        return xp.flip(arrays[0], self.axes)

    def vjp(self, inputs, outputs, cotangents):
        (dy,) = cotangents
        return (self(dy),)


def spread(size: Size, gap: int) -> Size:
    """Length of `size` elements with `gap` places between neighbours."""
    return size + (size - 1) * gap if gap and not (is_known(size) and size == 0) else size


def sum_to_shape(x: Tensor, shape: Shape) -> Tensor:
    """The sum of x over all axes along which `shape` was broadcast to x's shape."""
    if x.shape == tuple(shape):
        return x
    extra = x.rank - len(shape)
    widened = [extra + axis for axis, size in enumerate(shape) if size == 1 and x.shape[extra + axis] != 1]
    return x.sum([*range(extra), *widened]).reshape(tuple(shape))


def concatenate(tensors: Sequence[Tensor], axis: int = -1) -> Tensor:
    """Tensors one behind the other along `axis`."""
    return Concatenate(axis % tensors[0].rank)(*tensors)


def flip(x: Tensor, axes: int | Sequence[int]) -> Tensor:
    """The elements in reverse order along `axes`."""
    return Flip(x.axes(axes))(x)


def pad(x: Tensor, widths: Sequence[tuple[Size, Size]], value: float = 0.0) -> Tensor:
    """`value` put before and behind the elements of each axis."""
    low, high = tuple(a for a, _ in widths), tuple(b for _, b in widths)
    return x if not any((*low, *high)) else Pad(low, high, (0,) * x.rank, value)(x)
