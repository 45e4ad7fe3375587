"""Numbers as sums of two floats, high + low, with twice the precision.

Source: Dekker, "A floating-point technique for extending the available precision" (1971), with fma for the products.
"""

from __future__ import annotations

from typing import TypeAlias

from graphnn.backends.cpu.emit import Value
from graphnn.backends.cpu.math_lanes import Lanes

Pair: TypeAlias = tuple[Value, Value]


def quick_sum(m: Lanes, a: Value, b: Value) -> Pair:
    """A + b exactly, where |a| >= |b| or a is 0."""
    total = m.add(a, b)
    return total, m.sub(b, m.sub(total, a))


def two_product(m: Lanes, a: Value, b: Value) -> Pair:
    """A * b exactly."""
    product = m.mul(a, b)
    return product, m.fma(a, b, m.neg(product))


def pair_product(m: Lanes, a: Pair, b: Pair) -> Pair:
    """A * b to about 2**-100 (double)."""
    high, low = two_product(m, a[0], b[0])
    return quick_sum(m, high, m.fma(a[0], b[1], m.fma(a[1], b[0], low)))


def add_to(m: Lanes, a: Pair, b: Value) -> Pair:
    """A + b to about 2**-100, where one is always the larger or the sum is not far from either (Knuth's two-sum)."""
    total = m.add(a[0], b)
    back = m.sub(total, a[0])
    error = m.add(m.sub(a[0], m.sub(total, back)), m.sub(b, back))
    return quick_sum(m, total, m.add(error, a[1]))
