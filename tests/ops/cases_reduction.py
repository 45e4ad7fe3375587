"""Cases of reductions and of the matrix product."""

from __future__ import annotations

import numpy as np

from graphnn.ops.linalg import matmul
from graphnn.ops.reduction import ArgMax, Max, Min, Sum
from ops.case import Case, exactly, integers, normal, spaced


def columns(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """A copy of x with the elements of `axes` in one last axis."""
    rest = [axis for axis in range(x.ndim) if axis not in axes]
    return x.transpose(*rest, *axes).reshape(*(x.shape[axis] for axis in rest), -1)


def reduce(function, axes):
    """A Python function of a list, applied to the elements of `axes`."""
    return lambda x: np.apply_along_axis(lambda row: function(row.tolist()), -1, columns(x, axes))


WRONG = [["bool[2, 3, 4]"], ["float32[2]"]]

REDUCTIONS = [
    Case(Sum((1,)), [normal(2, 3, 4)], reduce(sum, (1,)), wrong=WRONG),
    Case(Sum((0, 1, 2)), [normal(2, 3, 4)], reduce(sum, (0, 1, 2)), wrong=WRONG, label="all"),
    Case(Sum(()), [normal(2, 3)], lambda x: x, label="none"),
    Case(Sum((1,)), [normal(2, 0)], lambda x: [0.0, 0.0], label="empty"),
    Case(Sum((0,)), [integers(5, low=100, high=128, dtype="int8")], lambda x: np.int64(x.sum()).astype("int8"),
         label="int8"),
    Case(Max((0, 2)), [spaced(2, 3, 4)], reduce(max, (0, 2)), wrong=[*WRONG, ["float32[2, 3, 0]"]]),
    Case(Max((1,)), [integers(2, 5)], reduce(max, (1,)), label="integers"),
    Case(Max((1,)), [normal(0, 5)], lambda x: np.empty(0), label="no_rows"),
    Case(Min((1,)), [spaced(2, 3)], reduce(min, (1,)), wrong=[*WRONG, ["float32[2, 0]"]]),
    Case(ArgMax(1), [spaced(2, 3, 4)], reduce(lambda row: row.index(max(row)), (1,)),
         wrong=[["float32[2]"], ["float32[2, 0]"]]),
    Case(ArgMax(0), [exactly([1.0, 3.0, 3.0])], lambda x: 1, label="tie"),
]  # fmt: skip

PRODUCTS_WRONG = [
    ["float32[2, 3]", "float32[4, 5]"],
    ["float32[3]", "float32[3, 4]"],
    ["float32[2, 3]", "float64[3, 4]"],
    ["bool[2, 3]", "bool[3, 4]"],
    ["float32[5, 2, 3]", "float32[4, 3, 2]"],
]


def einsum(a, b):
    return np.einsum("...ik,...kj->...ij", a, b, optimize=False)


PRODUCTS = [
    Case(matmul, [normal(2, 3), normal(3, 4)], einsum, wrong=PRODUCTS_WRONG),
    Case(matmul, [normal(2, 5, 3), normal(3, 4)], einsum, label="folded"),
    Case(matmul, [normal(2, 3), normal(5, 3, 4)], einsum, label="batch_right"),
    Case(matmul, [normal(2, 1, 2, 3), normal(5, 3, 1)], einsum, label="broadcast"),
    Case(matmul, [normal(2, 0), normal(0, 3)], lambda a, b: np.zeros((2, 3)), label="empty_inner"),
    Case(matmul, [normal(0, 2, 3), normal(3, 4)], lambda a, b: np.empty((0, 2, 4)), label="empty_batch"),
    Case(matmul, [normal(4, 2, 0), normal(0, 3)], lambda a, b: np.zeros((4, 2, 3)), label="empty_inner_folded"),
    Case(matmul, [integers(2, 3), integers(3, 4)], einsum, label="integers"),
]

CASES = [*REDUCTIONS, *PRODUCTS]
