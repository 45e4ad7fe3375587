"""Cases of fused. It is tested further in tests/passes/test_fuse.py and tests/backends/cpu/."""

from __future__ import annotations

import numpy as np

from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.program import Program
from graphnn.ops import tanh
from graphnn.ops.fused import Fused
from graphnn.ops.op import Tensor
from ops.case import Case, normal, spec


def group(*texts: str) -> tuple[ProgramBuilder, list[Tensor]]:
    builder = ProgramBuilder()
    return builder, [Tensor(builder, builder.input("", spec(text))) for text in texts]


def loop_nest() -> Program:
    """x (4, 3), b (3) -> tanh(x + b), the sum of its rows, the sum of its columns."""
    builder, (x, b) = group("float64[4, 3]", "float64[3]")
    y = tanh(x + b)
    return builder.build([tensor.value for tensor in (y, y.sum(1), y.sum(0))])


def product() -> Program:
    """x (4, 3), w (3, 5), r (4, 5) -> x @ w * 2 + r."""
    builder, (x, w, r) = group("float64[4, 3]", "float64[3, 5]", "float64[4, 5]")
    return builder.build([(x @ w * 2.0 + r).value])


def by_formula(x, b):
    y = np.tanh(x + b)
    return y, np.einsum("ij->i", y), np.einsum("ij->j", y)


CASES = [
    Case(
        Fused(loop_nest()), [normal(4, 3), normal(3)], by_formula, ("float64",), gradient=False,
        wrong=[["float64[4, 3]", "float64[4]"], ["float32[4, 3]", "float32[3]"]], label="loops",
    ),
    Case(
        Fused(product()), [normal(4, 3), normal(3, 5), normal(4, 5)],
        lambda x, w, r: 2.0 * np.einsum("ij,jk->ik", x, w) + r, ("float64",), gradient=False, label="product",
    ),
]  # fmt: skip
