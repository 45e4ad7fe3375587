"""Cases of opaque ops. Their gradients are tested through layers, in tests/layers/test_numeric.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graphnn.errors import DTypeError, ShapeError
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops.opaque import Opaque, OpaqueGradient
from ops.case import Case, integers, normal


@dataclass(frozen=True)
class ScaledRows:
    """(x[i] * n[i], sum of x over axis 1), written into its own arguments, which must harm nobody."""

    def output_specs(self, *specs: TensorSpec) -> tuple[TensorSpec, ...]:
        if len(specs) != 2 or not specs[0].is_float or specs[1].is_float:
            raise DTypeError("rows and counts", expected="a float and an integer tensor", got=specs)
        if specs[0].rank != 2 or specs[1].shape != specs[0].shape[:1]:
            raise ShapeError("rows and counts", expected="(n, m) and (n,)", got=specs)
        return specs[0], TensorSpec(specs[0].shape[:1], specs[0].dtype)

    def forward_arrays(self, xp: Any, *inputs: Any) -> tuple[Any, ...]:
        x, n = inputs
        total = x.sum(1)
        x *= n[:, None].astype(x.dtype)
        n[...] = 0
        return x, total

    def backward_arrays(self, xp: Any, inputs: Any, outputs: Any, cotangents: Any) -> tuple[Any, ...]:
        (x, n), (dy, dtotal) = inputs, cotangents
        dy *= n[:, None].astype(x.dtype)
        dy += dtotal[:, None]
        return (dy,)


def scaled(x, n):
    return np.einsum("ij,i->ij", x, n), np.einsum("ij->i", x)


def gradient(x, n, y, total, dy, dtotal):
    return np.einsum("ij,i->ij", dy, n) + np.einsum("i,ij->ij", dtotal, np.ones(x.shape))


INPUTS = [normal(3, 4), integers(3)]
CASES = [
    Case(
        Opaque(ScaledRows()), INPUTS, scaled, gradient=False,
        wrong=[["float32[3, 4]", "int64[4]"], ["float32[3, 4]"]],
    ),
    Case(
        OpaqueGradient(ScaledRows(), 2, 2), [*INPUTS, normal(3, 4), normal(3), normal(3, 4), normal(3)], gradient,
        gradient=False,
        wrong=[
            ["float32[3, 4]", "int64[3]", "float32[3, 4]", "float32[3]", "float32[3, 4]"],
            ["float32[3, 4]", "int64[3]", "float32[3, 4]", "float32[3]", "float32[3, 4]", "float32[4]"],
            ["float32[3, 4]", "int64[3]", "float32[4, 3]", "float32[3]", "float32[3, 4]", "float32[3]"],
        ],
    ),
]  # fmt: skip
