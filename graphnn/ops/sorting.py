"""Ops that order elements along an axis. Equal elements keep their order; NaN counts as larger than every number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from graphnn.errors import OptionError
from graphnn.ir.dimension import Size, is_known
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops.indexing import ScatterAddAlong, check_axis, check_numbers
from graphnn.ops.op import Array, ArrayModule, Op, Tensor


@final
@dataclass(frozen=True)
class Sort(Op):
    """(values in order along `axis`, their indices in x as int64); stable, also where descending.

    Gradient: each dy goes back to where its value came from.
    """

    name = "sort"
    axis: int
    descending: bool = False

    def infer(self, *specs: TensorSpec) -> tuple[TensorSpec, ...]:
        """The spec of x, and its shape in int64."""
        (x,) = specs
        check_axis(self, self.axis, x)
        check_numbers(self, x)
        return x, x.with_dtype("int64")

    def reference(self, xp: ArrayModule, *arrays: Array) -> tuple[Array, Array]:
        """A stable xp.argsort."""
        (x,) = arrays
        order = _order(xp, x, self.axis, self.descending)
        return xp.take_along_axis(x, order, self.axis), order

    def vjp(self, inputs, outputs, cotangents):
        return (_back(self.axis, inputs[0], outputs[1], cotangents[0]),)


@final
@dataclass(frozen=True)
class TopK(Op):
    """(the k largest along `axis`, largest first, their indices in x as int64); of equal ones the first in x.

    Gradient: each dy goes back to where its value came from.
    """

    name = "top_k"
    k: Size
    axis: int

    def infer(self, *specs: TensorSpec) -> tuple[TensorSpec, ...]:
        """The shape of x with k at `axis`, in the dtype of x and in int64."""
        (x,) = specs
        check_axis(self, self.axis, x)
        check_numbers(self, x)
        size = x.shape[self.axis]
        if is_known(self.k) and (self.k < 1 or (is_known(size) and self.k > size)):
            raise OptionError("`top_k`: k does not fit", expected=f"1 <= k <= {size}", got=self.k)
        values = TensorSpec((*x.shape[: self.axis], self.k, *x.shape[self.axis + 1 :]), x.dtype)
        return values, values.with_dtype("int64")

    def reference(self, xp: ArrayModule, *arrays: Array) -> tuple[Array, Array]:
        """The head of a stable sort: a partition would be free to choose among equal elements."""
        (x,) = arrays
        head = (*(slice(None),) * self.axis, slice(0, self.k))
        order = _order(xp, x, self.axis, descending=True)[head]
        return xp.take_along_axis(x, order, self.axis), order

    def vjp(self, inputs, outputs, cotangents):
        return (_back(self.axis, inputs[0], outputs[1], cotangents[0]),)


def _order(xp: ArrayModule, x: Array, axis: int, descending: bool) -> Array:
    """Stable order of x. Descending is the ascending order of the reversed x, reversed: x need not be negated."""
    if not descending:
        return xp.argsort(x, axis=axis, kind="stable").astype("int64")
    order = xp.argsort(xp.flip(x, axis), axis=axis, kind="stable").astype("int64")
    return x.shape[axis] - 1 - xp.flip(order, axis)


def _back(axis: int, x: Tensor, indices: Tensor, dy: Tensor) -> Tensor:
    return ScatterAddAlong(axis, x.shape[axis])(dy, indices)


def sort(x: Tensor, axis: int = -1, descending: bool = False) -> Tensor:
    """The elements in order along `axis`."""
    return Sort(axis % x.rank, descending)(x)[0]


def argsort(x: Tensor, axis: int = -1, descending: bool = False) -> Tensor:
    """The indices, int64, at which the sorted elements lie in x."""
    return Sort(axis % x.rank, descending)(x)[1]


def top_k(x: Tensor, k: Size, axis: int = -1) -> tuple[Tensor, Tensor]:
    """The k largest elements along `axis`, largest first, and their indices."""
    return TopK(k, axis % x.rank)(x)
