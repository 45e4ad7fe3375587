"""exp, expm1, sigmoid and tanh.

exp(x) = 2**n * exp(r), n = round(x / ln 2), r = x - n ln 2 with ln 2 in two parts (Cody and Waite 1980, chapter 6).
"""

from __future__ import annotations

import math

from graphnn.backends.cpu.emit import Value
from graphnn.backends.cpu.math_lanes import Lanes
from graphnn.backends.cpu.math_native import quotient, scale

# (exp(r) - 1 - r) / r**2 on |r| <= 0.347, the least largest error of expm1(r), found by Remez exchange for this file:
# relative 1.3e-8 and 1.8e-17. Index: whether double.
EXPONENTIAL = (
    (0.5, 0.16666542, 0.0416662805, 0.00836664438, 0.00139465556),
    (
        0.5000000000000006, 0.16666666666666685, 0.04166666666657295, 0.008333333333314465, 0.0013888888932615095,
        0.00019841269903346826, 2.4801504146116064e-05, 2.7557227639658986e-06, 2.7626451297821455e-07,
        2.5114581102398848e-08,
    ),
)  # fmt: skip
LN2 = ((0.6931471824645996, -1.904654299957768e-09), (0.6931471805599453, 2.3190468138462996e-17))
EXP_RANGE = ((-105.0, 89.0), (-746.0, 710.0))  # beyond, exp is 0 or inf
EXPM1_LOW = (-20.0, -40.0)  # below, expm1 is -1
TANH_HIGH = (9.1, 19.2)  # above, tanh is 1
TINY = (2.0**-26, 2.0**-55)  # below, x**2 is nothing beside x


def exp(m: Lanes, x: Value) -> Value:
    """E to the power x."""
    return exp_sum(m, x, None)


def exp_sum(m: Lanes, x: Value, low: Value | None) -> Value:
    """exp(x + low), where `low` is less than an ulp of x."""
    x = m.clamp(x, *EXP_RANGE[m.wide])
    n, shifted, r = _reduce(m, x)
    r = r if low is None else m.add(r, low)
    return scale(m, m.polynomial(r, (1.0, 1.0, *EXPONENTIAL[m.wide])), n, shifted)


def expm1(m: Lanes, x: Value) -> Value:
    """exp(x) - 1 = 2**n * (exp(r) - 1) + (2**n - 1), halved on the way: 2**n itself may be too large."""
    inside = m.clamp(x, EXPM1_LOW[m.wide], EXP_RANGE[m.wide][1])
    _, shifted, r = _reduce(m, inside)
    part = m.fma(m.mul(r, r), m.polynomial(r, EXPONENTIAL[m.wide]), r)
    half = m.power_of_two(m.builder.sub(shifted, m.integer(1)))
    result = m.mul(m.fma(half, part, m.sub(half, 0.5)), 2.0)
    return m.select(m.compare(m.abs(x), "<", TINY[m.wide]), x, result)  # keeps -0 and subnormal numbers


def sigmoid(m: Lanes, x: Value) -> Value:
    """1 / (1 + exp(-x)) = (1 or exp(x)) / (1 + exp(-|x|)): exact for small results too."""
    e = exp(m, m.neg(m.abs(x)))
    return quotient(m, m.select(m.compare(x, "<", 0.0), e, 1.0), m.add(e, 1.0))


def tanh(m: Lanes, x: Value) -> Value:
    """h / (h + 1) with h = expm1(2 |x|) / 2, and the sign of x."""
    size = m.at_most(m.abs(x), TANH_HIGH[m.wide])
    n, shifted = m.nearest(size, 2.0 / math.log(2.0))
    r = m.fma(n, -LN2[m.wide][0] / 2, size)  # the low part of ln 2 would count only where tanh is 1 already
    doubled = [c * 2.0 ** (k + 1) for k, c in enumerate(EXPONENTIAL[m.wide])]  # for expm1(2 r) / 2
    part = m.fma(m.mul(r, r), m.polynomial(r, doubled), r)
    power = m.power_of_two(shifted)
    h = m.fma(power, part, m.fma(power, 0.5, -0.5))
    return m.copysign(quotient(m, h, m.add(h, 1.0)), x)


def _reduce(m: Lanes, x: Value) -> tuple[Value, Value, Value]:
    """N as a float, n + magic_bits, and r = x - n ln 2."""
    n, shifted = m.nearest(x, 1.0 / math.log(2.0))
    high, low = LN2[m.wide]
    return n, shifted, m.fma(n, -low, m.fma(n, -high, x))
