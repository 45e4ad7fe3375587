"""Cases of scan. The loops are tested further in tests/test_scan.py."""

from __future__ import annotations

import numpy as np

from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.program import Program
from graphnn.ops.elementwise import tanh
from graphnn.ops.op import Tensor
from graphnn.scan import Scan
from ops.case import Case, integers, normal, spec


def step(dtype: str) -> Program:
    """h, n, x, i, w -> new h = tanh(h * w + x), new n = n + i; step outputs new h * w and old n."""
    builder = ProgramBuilder()
    specs = [f"{dtype}[3]", "int64[]", f"{dtype}[3]", "int64[]", f"{dtype}[3]"]
    h, n, x, i, w = (Tensor(builder, builder.input("", spec(text))) for text in specs)
    new = tanh(h * w + x)
    return builder.build([y.value for y in (new, n + i, new * w, n)])


def loop(h, n, x, i, w, reverse=False, keep_carries=True):
    """The last h and n, the step outputs, and the h and n before each step."""
    products, counts, before = np.empty(x.shape), np.empty(len(x), "int64"), np.empty(x.shape)
    for t in range(len(x))[:: -1 if reverse else 1]:
        before[t], counts[t] = h, n
        h, n = np.tanh(h * w + x[t]), n + i[t]
        products[t] = h * w
    kept = (before, counts) if keep_carries else ()
    return (h, n, products, counts, *kept)


def inputs(length: int):
    return [normal(3), integers(), normal(length, 3), integers(length), normal(3)]


WRONG = [
    ["float64[3]", "int64[]", "float64[4, 3]", "int64[5]", "float64[3]"],
    ["float64[3]", "int64[]", "float64[3, 3]", "int64[3]", "float64[3]"],
    ["float64[2]", "int64[]", "float64[4, 3]", "int64[4]", "float64[3]"],
    ["float32[3]", "int64[]", "float64[4, 3]", "int64[4]", "float64[3]"],
    ["float64[3]", "int64[]", "float64[4, 3]", "int64[]", "float64[3]"],
    ["float64[3]", "int64[]", "float64[4, 3]", "int64[4]"],
]

CASES = [
    Case(Scan(step("float64"), 2, 2, 4), inputs(4), loop, ("float64",), wrong=WRONG),
    Case(
        Scan(step("float64"), 2, 2, 4, reverse=True), inputs(4), lambda *x: loop(*x, reverse=True), ("float64",),
        label="reverse",
    ),
    Case(
        Scan(step("float64"), 2, 2, 4, keep_carries=False), inputs(4), lambda *x: loop(*x, keep_carries=False),
        ("float64",), gradient=False, label="trimmed",
    ),
    Case(Scan(step("float64"), 2, 2, 1), inputs(1), loop, ("float64",), label="one_step"),
    Case(Scan(step("float64"), 2, 2, 0), inputs(0), loop, ("float64",), label="no_step"),
]  # fmt: skip
