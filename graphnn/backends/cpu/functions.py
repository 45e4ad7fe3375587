"""The vector functions by name: no calls, no tables, no branches, for scalars and vectors of floats and doubles.

Errors in units in the last place, over the whole range: see FUNCTIONS of tests/backends/cpu/test_functions.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

from graphnn.backends.cpu.emit import Function, Value
from graphnn.backends.cpu.math_error import erf
from graphnn.backends.cpu.math_exponential import exp, expm1, sigmoid, tanh
from graphnn.backends.cpu.math_lanes import Lanes
from graphnn.backends.cpu.math_logarithm import log, log1p, power
from graphnn.backends.cpu.math_trigonometric import cos, sin


def emit_function(f: Function, name: str, *values: Value) -> Value:
    """`name` of values of one type: float, double, or a vector of them.

    Raises:
        KeyError: there is no such function in FUNCTIONS.
    """
    return FUNCTIONS[name](Lanes(f, values[0].type), *values)


def maximum(m: Lanes, a: Value, b: Value) -> Value:
    """The larger; NaN where either is NaN."""
    return _unless_nan(m, a, m.select(m.compare(a, ">", b), a, b))


def minimum(m: Lanes, a: Value, b: Value) -> Value:
    """The smaller; NaN where either is NaN."""
    return _unless_nan(m, a, m.select(m.compare(a, "<", b), a, b))


def _unless_nan(m: Lanes, a: Value, chosen: Value) -> Value:
    """`a` where it is NaN; where b is, the comparison was false and chose b."""
    return m.select(m.compare(a, "!=", a), a, chosen)


def remainder(m: Lanes, a: Value, b: Value) -> Value:
    """A - floor(a / b) b, with the sign of b as `numpy.remainder` has it; exact where |a / b| < 2**mantissa bits."""
    count = m.unary("floor", m.div(a, b))
    rest = m.fma(m.neg(count), b, a)
    rest = m.select(
        m.compare(m.mul(rest, m.copysign(m.number(1.0), b)), "<", 0.0), m.add(rest, b), rest
    )  # was rounded up
    rest = m.select(m.compare(rest, "==", 0.0), m.copysign(m.number(0.0), b), rest)
    return _of_infinite(m, a, b, rest)


def _of_infinite(m: Lanes, a: Value, b: Value, rest: Value) -> Value:
    """The remainder by b = +-inf: a, or b where the signs differ."""
    infinite = m.builder.and_(m.compare(m.abs(b), "==", math.inf), m.compare(m.abs(a), "<", math.inf))
    differ = m.compare(m.mul(m.copysign(m.number(1.0), b), a), "<", 0.0)
    zero = m.compare(a, "==", 0.0)
    return m.select(infinite, m.select(differ, b, m.select(zero, m.copysign(a, b), a)), rest)


def _intrinsic(name: str) -> Callable[..., Value]:
    return lambda m, x: m.unary(name, x)


FUNCTIONS: Mapping[str, Callable[..., Value]] = MappingProxyType(
    {
        "abs": _intrinsic("fabs"), "sqrt": _intrinsic("sqrt"), "floor": _intrinsic("floor"),
        "ceil": _intrinsic("ceil"), "rint": _intrinsic("rint"), "exp": exp, "expm1": expm1, "log": log,
        "log1p": log1p, "pow": power, "sin": sin, "cos": cos, "tanh": tanh, "sigmoid": sigmoid, "erf": erf,
        "maximum": maximum, "minimum": minimum, "remainder": remainder,
    }
)  # fmt: skip
