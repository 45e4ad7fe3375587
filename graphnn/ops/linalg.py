"""Matrix products."""

from __future__ import annotations

from typing import final

from graphnn.errors import DTypeError, ShapeError
from graphnn.ir.tensor_spec import TensorSpec, broadcast_shapes
from graphnn.ops.elementwise import NUMBERS
from graphnn.ops.op import Array, ArrayModule, Op, Tensor


@final
class MatMul(Op):
    """y[..., i, j] = sum over k of a[..., i, k] * b[..., k, j]; leading axes broadcast.

    Gradient: da = dy @ b^T, db = a^T @ dy.
    """

    name = "matmul"

    def infer(self, *specs: TensorSpec) -> tuple[TensorSpec, ...]:
        """Two tensors of rank 2 or more whose inner sizes agree."""
        a, b = specs
        if a.dtype != b.dtype or a.dtype not in NUMBERS:
            raise DTypeError(
                "`matmul` needs two tensors of one number dtype", expected="equal dtypes", got=f"{a} @ {b}"
            )
        if a.rank < 2 or b.rank < 2 or a.shape[-1] != b.shape[-2]:
            raise ShapeError("matrices do not fit", expected="[..., i, k] @ [..., k, j]", got=f"{a} @ {b}")
        return (TensorSpec((*broadcast_shapes([a.shape[:-2], b.shape[:-2]]), a.shape[-2], b.shape[-1]), a.dtype),)

    def reference(self, xp: ArrayModule, *arrays: Array) -> Array:
        """xp.matmul; the leading axes of a are folded into one where b is a plain matrix, for one large BLAS call."""
        a, b = arrays
        if b.ndim == 2 and a.ndim > 2:
            return (
                xp.matmul(a.reshape(-1, a.shape[-1]), b).reshape(*a.shape[:-1], b.shape[-1])
                if a.size
                else xp.matmul(a, b)
            )
        return xp.matmul(a, b)

    def vjp(self, inputs, outputs, cotangents):
        (a, b), (dy,) = inputs, cotangents
        if b.rank == 2 and a.rank > 2:
            rows = (_product(a), a.shape[-1])
            return dy @ swap_last(b), swap_last(a.reshape(rows)) @ dy.reshape((rows[0], dy.shape[-1]))
        return dy @ swap_last(b), swap_last(a) @ dy


def _product(a: Tensor):
    rows = 1
    for size in a.shape[:-1]:
        rows = rows * size
    return rows


def swapped(rank: int) -> tuple[int, ...]:
    """The order of axes with the last two exchanged; the rank is 2 or more."""
    return (*range(rank - 2), rank - 1, rank - 2)


def swap_last(x: Tensor) -> Tensor:
    """The last two axes exchanged."""
    return x.transpose(swapped(x.rank))


matmul = MatMul()
