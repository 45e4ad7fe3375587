"""Reductions over axes. The reduced axes disappear; `Tensor.sum(..., keep=True)` leaves size 1."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

from graphnn.errors import DTypeError, OptionError, ShapeError
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops.comparison import equal
from graphnn.ops.creation import stop_gradient
from graphnn.ops.elementwise import NUMBERS, exp, log, where
from graphnn.ops.op import Array, ArrayModule, Op, Tensor, keep_shape


@dataclass(frozen=True)
class Reduction(Op):
    """y = f(x over `axes`)."""

    axes: tuple[int, ...]

    def infer(self, *specs: TensorSpec) -> tuple[TensorSpec, ...]:
        """The shape without `axes`."""
        (x,) = specs
        if x.dtype not in NUMBERS:
            raise DTypeError(f"`{self.name}` needs numbers", expected=", ".join(NUMBERS), got=x)
        if any(not 0 <= axis < x.rank for axis in self.axes):
            raise OptionError("an axis is out of range", expected=f"0 to {x.rank - 1}", got=self.axes)
        return (TensorSpec(tuple(n for axis, n in enumerate(x.shape) if axis not in self.axes), x.dtype),)


@final
class Sum(Reduction):
    """y = sum of x over `axes`. Gradient: dx = dy, repeated over the axes."""

    name = "sum"

    def reference(self, xp: ArrayModule, *arrays: Array) -> Array:
        """xp.sum without NumPy's widening of small integers."""
        return xp.sum(arrays[0], axis=self.axes, dtype=arrays[0].dtype)

    def vjp(self, inputs, outputs, cotangents):
        (x,), (dy,) = inputs, cotangents
        return (dy.reshape(keep_shape(x.shape, self.axes)).broadcast_to(x.shape),)


class Extremum(Reduction):
    """Largest or smallest element over `axes`. The gradient is shared equally by all elements that reach it."""

    def infer(self, *specs: TensorSpec) -> tuple[TensorSpec, ...]:
        """The shape without `axes`, which must not be empty."""
        outputs = super().infer(*specs)
        if any(specs[0].shape[axis] == 0 for axis in self.axes):
            raise ShapeError(f"`{self.name}` of nothing", expected="at least one element", got=specs[0])
        return outputs

    def vjp(self, inputs, outputs, cotangents):
        (x,), (y,), (dy,) = inputs, outputs, cotangents
        kept = keep_shape(x.shape, self.axes)
        reached = equal(x, y.reshape(kept)).cast(x.dtype)
        return (reached * (dy.reshape(kept) / reached.sum(self.axes, keep=True)),)


@final
class Max(Extremum):
    """y = largest element over `axes`."""

    name = "max"

    def reference(self, xp: ArrayModule, *arrays: Array) -> Array:
        """xp.max."""
        return xp.max(arrays[0], axis=self.axes)


@final
class Min(Extremum):
    """y = smallest element over `axes`."""

    name = "min"

    def reference(self, xp: ArrayModule, *arrays: Array) -> Array:
        """xp.min."""
        return xp.min(arrays[0], axis=self.axes)


@final
@dataclass(frozen=True)
class ArgMax(Op):
    """y = index of the first largest element along `axis`, int64. No gradient."""

    name = "argmax"
    axis: int

    def infer(self, *specs: TensorSpec) -> tuple[TensorSpec, ...]:
        """The shape without `axis`."""
        (x,) = specs
        if not 0 <= self.axis < x.rank or x.shape[self.axis] == 0:
            raise ShapeError(
                "argmax needs an axis with elements", expected=f"axis 0 to {x.rank - 1}", got=f"{self}, {x}"
            )
        return (TensorSpec(x.shape[: self.axis] + x.shape[self.axis + 1 :], "int64"),)

    def reference(self, xp: ArrayModule, *arrays: Array) -> Array:
        """xp.argmax."""
        return xp.argmax(arrays[0], axis=self.axis)


def argmax(x: Tensor, axis: int = -1) -> Tensor:
    """Index of the first largest element along `axis`."""
    return ArgMax(axis % x.rank)(x)


def mean(x: Tensor, axes: int | tuple[int, ...] | None = None, keep: bool = False) -> Tensor:
    """Sum over the axes, divided by the number of elements in them."""
    count = math.prod(x.shape[axis].__index__() for axis in x.axes(axes)) if _countable(x, axes) else None
    total = x.sum(axes, keep)
    return total * (1.0 / max(count, 1)) if count is not None else total


def _countable(x: Tensor, axes: int | tuple[int, ...] | None) -> bool:
    """At declaration sizes may be names: then only the shape of a mean matters, not its value."""
    return all(isinstance(x.shape[axis], int) for axis in x.axes(axes))


def log_softmax(x: Tensor, axis: int = -1) -> Tensor:
    """x - log(sum(exp(x))) along `axis`, without overflow."""
    shifted = x - stop_at_infinity(x.max(axis, keep=True))
    return shifted - log(exp(shifted).sum(axis, keep=True))


def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """exp(x) / sum(exp(x)) along `axis`, without overflow; a row of only -inf gives zeros."""
    e = exp(x - stop_at_infinity(x.max(axis, keep=True)))
    total = e.sum(axis, keep=True)
    return e / where(total > 0.0, total, total.lift(1.0))


def stop_at_infinity(largest: Tensor) -> Tensor:
    """The shift of a softmax: 0 where a whole row is -inf, so that -inf minus -inf never happens.

    A softmax does not depend on its shift, so no gradient passes.
    """
    largest = stop_gradient(largest)
    return where(largest > -math.inf, largest, largest.lift(0.0))


def squared_norm(x: Tensor) -> Tensor:
    """Sum of squares of all elements."""
    return (x * x).sum()
