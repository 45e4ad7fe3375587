"""Cases of tiled. It is tested further in tests/test_tiled.py."""

from __future__ import annotations

import numpy as np

from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.program import Program
from graphnn.ops.op import Tensor
from graphnn.tiled import Tiled
from ops.case import Case, normal, spec


def one_tile() -> Program:
    """x (2, 3), y (3, 2), w (3), number of the tile -> x * w, its sum, its largest, y @ (x * w) + number."""
    builder = ProgramBuilder()
    texts = ("float64[2, 3]", "float64[3, 2]", "float64[3]", "int64[]")
    x, y, w, number = (Tensor(builder, builder.input("", spec(text))) for text in texts)
    scaled = x * w
    results = (scaled, scaled.sum(0), scaled.max(0), y @ scaled + number.cast("float64"))
    return builder.build([tensor.value for tensor in results])


def by_loops(x, y, w):
    """The same for all tiles of x (6, 3) and y (3, 6)."""
    scaled = x * w
    products = [y[:, 2 * t : 2 * t + 2] @ scaled[2 * t : 2 * t + 2] + t for t in range(3)]
    return scaled, scaled.sum(0), scaled.max(0), np.concatenate(products, axis=1)


CASES = [
    Case(
        Tiled(one_tile(), 3, (0, 1, None), (0, "sum", "max", 1), with_index=True),
        [normal(6, 3), normal(3, 6), normal(3)],
        by_loops,
        ("float64",),
        gradient=False,
        wrong=[
            ["float64[5, 3]", "float64[3, 6]", "float64[3]"],
            ["float64[6, 3]", "float64[3, 9]", "float64[3]"],
            ["float32[6, 3]", "float64[3, 6]", "float64[3]"],
            ["float64[6, 3]", "float64[3, 6]"],
        ],
    ),
]
