"""Cases of elementwise, arithmetic and comparison ops. Expected values come from Python's math module, one by one."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from graphnn.ops import arithmetic, comparison, elementwise
from ops.case import (
    Case,
    Input,
    bools,
    chosen,
    exactly,
    fractional,
    integers,
    nonzero,
    normal,
    positive,
    spaced,
    uniform,
)

Scalar = Callable[..., float]


def each(function: Scalar) -> Callable[..., np.ndarray]:
    """A function of Python numbers, applied element by element."""

    def apply(*arrays: np.ndarray) -> np.ndarray:
        broadcast = np.broadcast_arrays(*arrays)
        values = [function(*(x.item() for x in row)) for row in zip(*(x.flat for x in broadcast), strict=True)]
        return np.array(values).reshape(broadcast[0].shape)

    return apply


def unary(op: elementwise.Elementwise, source: Input, function: Scalar, **options: object) -> Case:
    return Case(op, [source], each(function), wrong=[["bool[3]"], ["float32[3]", "float32[3]"]], **options)


def binary(op: elementwise.Elementwise, a: Input, b: Input, function: Scalar, **options: object) -> Case:
    wrong = [["float32[2, 3]", "float32[2, 4]"], ["float32[3]", "float64[3]"], ["float32[batch]", "float32[time]"]]
    return Case(op, [a, b], each(function), wrong=[*wrong, ["float32[3]"]], **options)


def sign(x: float) -> int:
    return (x > 0) - (x < 0)


UNARY = [
    unary(elementwise.negative, normal(2, 3), lambda x: -x),
    unary(elementwise.negative, integers(4, low=-5), lambda x: -x, label="integers"),
    unary(elementwise.absolute, spaced(2, 3), lambda x: x if x > 0 else -x),
    unary(elementwise.absolute, integers(4, low=-5), lambda x: x if x > 0 else -x, label="integers"),
    unary(elementwise.sign, spaced(2, 3), sign),
    unary(elementwise.sign, exactly([0.0, -3.0, math.inf]), sign, gradient=False, label="zero"),
    unary(elementwise.floor, fractional(2, 3), math.floor),
    unary(elementwise.ceil, fractional(2, 3), math.ceil),
    unary(elementwise.round_, fractional(2, 3), round),
    unary(elementwise.round_, exactly([0.5, 1.5, 2.5, -0.5, -1.5]), round, gradient=False, label="halves"),
    unary(elementwise.exp, normal(2, 3), math.exp),
    unary(elementwise.expm1, normal(2, 3), math.expm1),
    unary(elementwise.expm1, exactly([1e-20, -1e-7, 1e-3]), math.expm1, label="small"),
    unary(elementwise.log, positive(2, 3), math.log),
    unary(elementwise.log1p, uniform(-0.5, 2.0, 2, 3), math.log1p),
    unary(elementwise.log1p, exactly([1e-20, -1e-7, 1e-3]), math.log1p, label="small"),
    unary(elementwise.sqrt, positive(2, 3), math.sqrt),
    unary(elementwise.sin, normal(2, 3), math.sin),
    unary(elementwise.cos, normal(2, 3), math.cos),
    unary(elementwise.tanh, normal(2, 3), math.tanh),
    unary(elementwise.sigmoid, normal(2, 3), lambda x: 1 / (1 + math.exp(-x))),
    unary(elementwise.sigmoid, exactly([-80.0, 0.0, 80.0]), lambda x: 1 / (1 + math.exp(-x)), label="large"),
    unary(elementwise.erf, normal(3, 4, scale=2.0), math.erf),
    unary(elementwise.erf, exactly([0.0, 1e-9, 1.9999, 2.0, 2.0001, -6.5, math.inf, math.nan]), math.erf, label="edges",
          gradient=False),
]  # fmt: skip

BINARY = [
    binary(arithmetic.add, normal(2, 3), normal(3), lambda a, b: a + b),
    binary(arithmetic.add, integers(4), integers(4), lambda a, b: a + b, label="integers"),
    binary(arithmetic.subtract, normal(2, 1), normal(2, 3), lambda a, b: a - b),
    binary(arithmetic.multiply, normal(2, 3), normal(1, 3), lambda a, b: a * b),
    binary(arithmetic.divide, normal(2, 3), nonzero(2, 3), lambda a, b: a / b),
    binary(arithmetic.power, positive(2, 3), normal(2, 3), math.pow),
    binary(arithmetic.power, nonzero(4), exactly(3.0), math.pow, gradient=False, label="cube"),
    binary(arithmetic.maximum, spaced(2, 3), fractional(2, 1), lambda a, b: a if a > b else b),
    binary(arithmetic.minimum, spaced(2, 3), fractional(2, 1), lambda a, b: a if a < b else b),
    binary(arithmetic.remainder, fractional(2, 3), chosen([1.0, -1.0, 0.5], 3), lambda a, b: a - math.floor(a / b) * b),
]


def compare(op: comparison.Comparison, function: Scalar) -> list[Case]:
    wrong = [["float32[3]", "int64[3]"], ["float32[2]", "float32[3]"]]
    numbers = Case(op, [integers(5, 1, high=3), integers(4, high=3)], each(function), wrong=wrong, label="integers")
    return [Case(op, [normal(2, 3), normal(3)], each(function), wrong=wrong), numbers]


def logic(op: comparison.Comparison, function: Scalar) -> Case:
    return Case(
        op, [bools(4, 1), bools(5)], each(function), wrong=[["float32[3]", "float32[3]"], ["bool[3]", "int8[3]"]]
    )


SPECIAL = chosen([0.0, math.nan, math.inf, -math.inf, 1e30], 7)

COMPARISON = [
    *compare(comparison.equal, lambda a, b: a == b),
    *compare(comparison.not_equal, lambda a, b: a != b),
    *compare(comparison.less, lambda a, b: a < b),
    *compare(comparison.less_equal, lambda a, b: a <= b),
    *compare(comparison.greater, lambda a, b: a > b),
    *compare(comparison.greater_equal, lambda a, b: a >= b),
    logic(comparison.logical_and, lambda a, b: a and b),
    logic(comparison.logical_or, lambda a, b: a or b),
    logic(comparison.logical_xor, lambda a, b: a != b),
    Case(comparison.logical_not, [bools(6)], each(lambda a: not a), wrong=[["float32[3]"]]),
    Case(comparison.is_nan, [SPECIAL], each(math.isnan), wrong=[["int64[3]"]]),
    Case(comparison.is_inf, [SPECIAL], each(math.isinf), wrong=[["int64[3]"]]),
]

WHERE_WRONG = [
    ["float32[3]", "float32[3]", "float32[3]"],
    ["bool[3]", "float32[3]", "int64[3]"],
    ["bool[2]", "float32[3]", "float32[3]"],
]

WHERE = [
    Case(elementwise.where, [bools(2, 3), normal(3), normal(2, 1)], each(lambda c, a, b: a if c else b),
         wrong=WHERE_WRONG),
]  # fmt: skip

CASES = [*UNARY, *BINARY, *COMPARISON, *WHERE]
