"""Comparing numbers as the reference does: NaN is found by itself."""

from __future__ import annotations

from graphnn.backends.cpu.emit import Function, Value
from graphnn.ir.tensor_spec import FLOATS


def greater(f: Function, a: Value, b: Value, dtype: str) -> Value:
    """a > b; false where one is NaN."""
    if dtype in FLOATS:
        return f.builder.fcmp_ordered(">", a, b)
    unsigned = dtype == "bool" or dtype.startswith("u")
    return f.builder.icmp_unsigned(">", a, b) if unsigned else f.builder.icmp_signed(">", a, b)


def is_nan(f: Function, a: Value) -> Value:
    """True where a float is NaN."""
    return f.builder.fcmp_unordered("uno", a, a)


def maximum(f: Function, a: Value, b: Value) -> Value:
    """The larger of two floats, `a` where they are equal; NaN wins."""
    larger = f.builder.select(f.builder.fcmp_ordered(">", b, a), b, a)  # a, where b is NaN
    return f.builder.select(is_nan(f, b), b, larger)


def wins(f: Function, number: Value, best: Value, dtype: str) -> Value:
    """The number comes before `best` in a search for the first largest: it is larger, or the first NaN."""
    larger = greater(f, number, best, dtype)
    if dtype not in FLOATS:
        return larger
    first_nan = f.builder.and_(is_nan(f, number), f.builder.not_(is_nan(f, best)))
    return f.builder.or_(larger, first_nan)
