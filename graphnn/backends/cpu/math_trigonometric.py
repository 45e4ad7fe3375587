"""sin and cos: x = n pi/2 + r, then a polynomial in r chosen by n mod 4.

pi/2 stands in two or three parts (Cody and Waite). Exact to the last bits up to |x| = 2**50; beyond, results are within
[-1, 1] but mean nothing: float32 has no digits after the point from 2**23 on, double from 2**52 on.
"""

from __future__ import annotations

import math

from graphnn.backends.cpu.emit import Value
from graphnn.backends.cpu.math_lanes import Lanes
from graphnn.backends.cpu.math_pairs import Pair, add_to, two_product

# (sin(r) - r) / r**3 and (cos(r) - 1 + r**2 / 2) / r**4 in r**2 on |r| <= pi/4: Remez exchange, for this file; relative
# errors below 5e-12 and 1e-10 (float), 3e-18 and 5e-20 (double).
SINE = (
    (-0.166666672, 0.00833332911, -0.000198393303, 2.71827457e-06),
    (
        -0.16666666666666632, 0.00833333333332237, -0.0001984126982977119, 2.7557313678673106e-06,
        -2.5050755962477025e-08, 1.5896666564496392e-10,
    ),
)  # fmt: skip
COSINE = (
    (0.0416666456, -0.00138873642, 2.44380917e-05),
    (
        0.0416666666666666, -0.0013888888888874064, 2.4801587289443458e-05, -2.755731434065397e-07,
        2.0875721623074656e-09, -1.135955930077305e-11,
    ),
)  # fmt: skip
HALF_PI = (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33)
LIMIT, LOW_LIMIT = 0.7858, 1e-15  # r and its low part are never larger where n is right: a little more than pi/4


def sin(m: Lanes, x: Value) -> Value:
    """The sine; NaN at infinity."""
    return m.select(m.compare(x, "==", 0.0), x, _wave(m, x, 0))  # keeps -0


def cos(m: Lanes, x: Value) -> Value:
    """The cosine, sin(x + pi/2); NaN at infinity."""
    return _wave(m, x, 1)


def _wave(m: Lanes, x: Value, quarter: int) -> Value:
    """sin(x + quarter pi/2)."""
    b = m.builder
    (r, low), shifted = (_reduce_double if m.wide else _reduce_float)(m, x)
    turn = b.add(shifted, m.integer(quarter))
    square = m.mul(r, r)
    one_less = m.fma(square, -0.5, 1.0)
    sine = m.fma(m.mul(square, r), m.polynomial(square, SINE[m.wide]), r)
    cosine = m.fma(m.mul(square, square), m.polynomial(square, COSINE[m.wide]), one_less)
    if low is not None:
        sine, cosine = m.fma(low, one_less, sine), m.fma(m.neg(low), r, cosine)
    is_cosine = b.icmp_signed("!=", b.and_(turn, m.integer(1)), m.integer(0))
    value = b.select(is_cosine, cosine, sine)
    sign = b.shl(b.and_(turn, m.integer(2)), m.integer(m.whole.width - 2))
    return m.floats(b.xor(m.bits(value), sign))


def _reduce_float(m: Lanes, x: Value) -> tuple[tuple[Value, None], Value]:
    """R in float and n + magic_bits as a 32-bit integer; in between all is double, so r is exact to its last bit."""
    b, d = m.builder, m.doubles()
    wide = b.fpext(x, d.kind)
    n, shifted = d.nearest(wide, 2.0 / math.pi)
    r = d.fma(n, -HALF_PI[1], d.fma(n, -HALF_PI[0], wide))
    return (b.fptrunc(d.clamp(r, -LIMIT, LIMIT), m.kind), None), b.trunc(shifted, m.integers)


def _reduce_double(m: Lanes, x: Value) -> tuple[Pair, Value]:
    """R as a pair, and n + magic_bits."""
    n, shifted = m.nearest(x, 2.0 / math.pi)
    first = m.fma(n, -HALF_PI[0], x)  # exact: the leading digits cancel
    product, rest = two_product(m, n, m.number(HALF_PI[1]))
    high, low = add_to(m, (first, m.neg(m.fma(n, HALF_PI[2], rest))), m.neg(product))
    return (m.clamp(high, -LIMIT, LIMIT), m.clamp(low, -LOW_LIMIT, LOW_LIMIT)), shifted
