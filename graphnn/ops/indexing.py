"""Ops that read and add at positions given by integers: gather, scatter, one-hot, and running sums.

Indices count from 0 and may be of any integer dtype. One that is out of range, negative ones included, is an error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from graphnn.errors import DTypeError, OptionError, ShapeError
from graphnn.ir.dimension import Shape, Size
from graphnn.ir.tensor_spec import INTEGERS, TensorSpec
from graphnn.ops.elementwise import NUMBERS
from graphnn.ops.op import Array, ArrayModule, Op, Tensor


@final
@dataclass(frozen=True)
class Gather(Op):
    """y[..., i, ...] = x[..., indices[i], ...]: `axis` of x gives way to the shape of the indices.

    Gradient: dy is added up at the places that it was read from.
    """

    name = "gather"
    may_fail = True
    axis: int

    def infer(self, *specs: TensorSpec) -> tuple[TensorSpec, ...]:
        """T, integers -> T."""
        x, indices = specs
        check_axis(self, self.axis, x)
        check_integers(self, indices)
        return (TensorSpec((*x.shape[: self.axis], *indices.shape, *x.shape[self.axis + 1 :]), x.dtype),)

    def reference(self, xp: ArrayModule, *arrays: Array) -> Array:
        """xp.take."""
        x, indices = arrays
        return xp.take(x, positions_in(self, indices, x.shape[self.axis]), axis=self.axis)

    def vjp(self, inputs, outputs, cotangents):
        (x, indices), (dy,) = inputs, cotangents
        return ScatterAdd(self.axis, x.shape[self.axis])(dy, indices), None


@final
@dataclass(frozen=True)
class ScatterAdd(Op):
    """y[..., k, ...] = sum of updates[..., i, ...] over all i with indices[i] = k; 0 where there is none.

    The axes `axis, axis + 1, ...` of the updates are those of the indices; one axis of `size` replaces them.
    Gradient: gather.
    """

    name = "scatter_add"  # may_fail is False: as a gradient, its indices are those of a gather that has run
    axis: int
    size: Size

    def infer(self, *specs: TensorSpec) -> tuple[TensorSpec, ...]:
        """T, integers -> T."""
        updates, indices = specs
        check_numbers(self, updates)
        check_integers(self, indices)
        stop = self.axis + indices.rank
        if self.axis < 0 or updates.shape[self.axis : stop] != indices.shape:
            raise ShapeError(
                "the updates have not the shape of the indices at `axis`",
                expected=f"updates[..., {', '.join(map(str, indices.shape))}, ...] from axis {self.axis} on",
                got=f"{updates}, {indices}",
            )
        return (TensorSpec((*updates.shape[: self.axis], self.size, *updates.shape[stop:]), updates.dtype),)

    def reference(self, xp: ArrayModule, *arrays: Array) -> Array:
        """Sums in the order of the updates."""
        updates, indices = arrays
        before, behind = updates.shape[: self.axis], updates.shape[self.axis + indices.ndim :]
        positions = positions_in(self, indices, self.size).reshape(1, -1, 1)
        return _scatter_add(xp, updates, positions, (*before, self.size, *behind), self.axis)

    def vjp(self, inputs, outputs, cotangents):
        (_, indices), (dy,) = inputs, cotangents
        return Gather(self.axis)(dy, indices), None


@final
@dataclass(frozen=True)
class GatherAlong(Op):
    """y[..., i, ...] = x[..., indices[..., i, ...], ...]: each line along `axis` has indices of its own.

    Gradient: dy is added up at the places that it was read from.
    """

    name = "gather_along"
    may_fail = True
    axis: int

    def infer(self, *specs: TensorSpec) -> tuple[TensorSpec, ...]:
        """T, integers -> T of the shape of the indices, which equals that of x but for `axis`."""
        x, indices = specs
        check_integers(self, indices)
        check_along(self, self.axis, x, indices)
        return (TensorSpec(indices.shape, x.dtype),)

    def reference(self, xp: ArrayModule, *arrays: Array) -> Array:
        """xp.take_along_axis."""
        x, indices = arrays
        return xp.take_along_axis(x, positions_in(self, indices, x.shape[self.axis]), axis=self.axis)

    def vjp(self, inputs, outputs, cotangents):
        (x, indices), (dy,) = inputs, cotangents
        return ScatterAddAlong(self.axis, x.shape[self.axis])(dy, indices), None


@final
@dataclass(frozen=True)
class ScatterAddAlong(Op):
    """y[..., k, ...] = sum of updates[..., i, ...] over all i with indices[..., i, ...] = k, along `axis` of `size`.

    Gradient: gather_along.
    """

    name = "scatter_add_along"  # may_fail as in scatter_add
    axis: int
    size: Size

    def infer(self, *specs: TensorSpec) -> tuple[TensorSpec, ...]:
        """T, integers of the same shape -> T."""
        updates, indices = specs
        check_numbers(self, updates)
        check_integers(self, indices)
        check_along(self, self.axis, updates, indices)
        if updates.shape != indices.shape:
            raise ShapeError("each update needs one index", expected="equal shapes", got=f"{updates}, {indices}")
        return (TensorSpec(_replaced(updates.shape, self.axis, self.size), updates.dtype),)

    def reference(self, xp: ArrayModule, *arrays: Array) -> Array:
        """Sums in the order of the updates."""
        updates, indices = arrays
        shape = _replaced(updates.shape, self.axis, self.size)
        lines = (math.prod(shape[: self.axis]), updates.shape[self.axis], math.prod(shape[self.axis + 1 :]))
        positions = positions_in(self, indices, self.size).reshape(lines)
        return _scatter_add(xp, updates, positions, shape, self.axis)

    def vjp(self, inputs, outputs, cotangents):
        (_, indices), (dy,) = inputs, cotangents
        return GatherAlong(self.axis)(dy, indices), None


@final
@dataclass(frozen=True)
class OneHot(Op):
    """y[..., k] = 1 where indices[...] = k, else 0; k runs from 0 to depth - 1. No gradient."""

    name = "one_hot"
    depth: Size
    dtype: str = "float32"

    def infer(self, *specs: TensorSpec) -> tuple[TensorSpec, ...]:
        """Integers -> the dtype that was asked for."""
        (indices,) = specs
        check_integers(self, indices)
        return (TensorSpec((*indices.shape, self.depth), self.dtype),)

    def reference(self, xp: ArrayModule, *arrays: Array) -> Array:
        """Comparison with 0, 1, ..., depth - 1."""
        positions = positions_in(self, arrays[0], self.depth)
        return (positions[..., None] == xp.arange(self.depth)).astype(self.dtype)


@final
@dataclass(frozen=True)
class CumulativeSum(Op):
    """y[i] = x[0] + ... + x[i] along `axis`; `exclusive` leaves x[i] out, `reverse` sums from the end.

    Gradient: the same sum of dy from the other end.
    """

    name = "cumulative_sum"
    axis: int
    reverse: bool = False
    exclusive: bool = False

    def infer(self, *specs: TensorSpec) -> tuple[TensorSpec, ...]:
        """The same spec."""
        (x,) = specs
        check_axis(self, self.axis, x)
        check_numbers(self, x)
        return (x,)

    def reference(self, xp: ArrayModule, *arrays: Array) -> Array:
        """xp.cumsum without NumPy's widening of small integers."""
        (x,) = arrays
        x = xp.flip(x, self.axis) if self.reverse else x
        y = xp.cumsum(x, axis=self.axis, dtype=x.dtype)
        if self.exclusive:  # shifted, not y - x, which would cancel
            first = (slice(None),) * self.axis
            y = xp.concatenate([xp.zeros_like(y[(*first, slice(0, 1))]), y[(*first, slice(0, -1))]], axis=self.axis)
        return xp.flip(y, self.axis) if self.reverse else y

    def vjp(self, inputs, outputs, cotangents):
        (dy,) = cotangents
        return (CumulativeSum(self.axis, not self.reverse, self.exclusive)(dy),)


def check_axis(op: Op, axis: int, x: TensorSpec) -> None:
    """Raise OptionError unless x has the axis."""
    if not 0 <= axis < x.rank:
        raise OptionError(f"`{op.name}`: axis out of range", expected=f"0 to {x.rank - 1}", got=f"{axis} for {x}")


def check_numbers(op: Op, x: TensorSpec) -> None:
    """Raise DTypeError unless x holds numbers."""
    if x.dtype not in NUMBERS:
        raise DTypeError(f"`{op.name}` needs numbers", expected=", ".join(NUMBERS), got=x)


def check_integers(op: Op, indices: TensorSpec) -> None:
    """Raise DTypeError unless the indices are integers."""
    if indices.dtype not in INTEGERS:
        raise DTypeError(f"`{op.name}`: indices are not integers", expected=", ".join(INTEGERS), got=indices)


def check_along(op: Op, axis: int, x: TensorSpec, indices: TensorSpec) -> None:
    """Raise unless x and the indices have equal shapes but for `axis`."""
    check_axis(op, axis, x)
    if indices.rank != x.rank or _replaced(x.shape, axis, 0) != _replaced(indices.shape, axis, 0):
        expected = f"shapes that are equal but for axis {axis}"
        raise ShapeError(f"`{op.name}`: the indices do not fit", expected=expected, got=f"{x}, {indices}")


def positions_in(op: Op, indices: Array, size: Size) -> Array:
    """The indices as int64.

    Raises:
        OptionError: an index is negative, or `size` or more.
    """
    positions = indices.astype("int64")  # a uint64 beyond its range becomes negative, and so is found
    if positions.size and (positions.min() < 0 or positions.max() >= size):
        bad = indices[(positions < 0) | (positions >= size)]
        raise OptionError(f"`{op.name}`: an index is out of range", expected=f"0 <= index < {size}", got=int(bad[0]))
    return positions


def _replaced(shape: Shape, axis: int, size: Size) -> Shape:
    return (*shape[:axis], size, *shape[axis + 1 :])


def _scatter_add(xp: ArrayModule, updates: Array, positions: Array, shape: Shape, axis: int) -> Array:
    """Zeros of `shape` with the updates added; positions along `axis` are (1 or before, count, 1 or behind)."""
    before, behind = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    lines = xp.arange(before).reshape(-1, 1, 1) * shape[axis]
    places = ((lines + positions) * behind + xp.arange(behind)).reshape(-1)
    # Half precision would lose what many small updates add up to: it is rounded once, at the end.
    wide = "float32" if updates.dtype == "float16" else updates.dtype
    add_at = _add_in_order if xp is np else _add_by_halves
    total = add_at(xp, updates.reshape(-1).astype(wide), places, math.prod(shape))
    return total.reshape(shape).astype(updates.dtype)


def _add_in_order(xp: ArrayModule, updates: Array, places: Array, size: Size) -> Array:
    """Flat np.add.at: measured faster than sorted segments, bincount and one-hot products at most sizes."""
    total = xp.zeros(size, updates.dtype)
    xp.add.at(total, places, updates)
    return total


def _add_by_halves(xp: ArrayModule, updates: Array, places: Array, size: Size) -> Array:
    """The same in an order that parallel devices keep, where add.at uses atomics: sorted, then summed in a tree."""
    total = xp.zeros(size, updates.dtype)
    if not updates.size:
        return total
    order = xp.argsort(places, kind="stable")
    places, sums, distance = places[order], updates[order], 1
    while distance < sums.size:  # invariant: sums[i] covers `distance` updates from i on, as far as they share a place
        same = places[distance:] == places[:-distance]
        sums[:-distance] = sums[:-distance] + xp.where(same, sums[distance:], 0)
        distance *= 2
    starts = xp.concatenate([xp.ones(1, "bool"), places[1:] != places[:-1]])
    total[places[starts]] = sums[starts]
    return total


def gather(x: Tensor, indices: Tensor, axis: int = 0) -> Tensor:
    """Elements of x at the indices along `axis`, as an embedding looks up its rows."""
    return Gather(axis % x.rank)(x, indices)


def gather_along(x: Tensor, indices: Tensor, axis: int = -1) -> Tensor:
    """Elements of x at the indices along `axis`, each line with indices of its own."""
    return GatherAlong(axis % x.rank)(x, indices)


def one_hot(indices: Tensor, depth: Size, dtype: str = "float32") -> Tensor:
    """1 at each index of a new last axis, 0 elsewhere."""
    return OneHot(depth, dtype)(indices)


def cumulative_sum(x: Tensor, axis: int = -1, reverse: bool = False, exclusive: bool = False) -> Tensor:
    """Running sum along `axis`."""
    return CumulativeSum(axis % x.rank, reverse, exclusive)(x)
