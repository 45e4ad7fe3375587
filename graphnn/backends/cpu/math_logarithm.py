"""log, log1p and pow.

log(x) = e ln 2 + log(1 + f) with x = 2**e (1 + f), f in [-1/4, 1/2].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

from graphnn.backends.cpu.emit import Value
from graphnn.backends.cpu.math_exponential import exp_sum
from graphnn.backends.cpu.math_lanes import Lanes
from graphnn.backends.cpu.math_native import exponent, has_avx512, mantissa
from graphnn.backends.cpu.math_pairs import Pair, add_to, pair_product, quick_sum, two_product

# (log(1 + f) - f) / f**2 on [-1/4, 1/2] (relative error of the logarithm 5e-09), and (2 atanh(s) - 2 s) / s**3 in s**2
# on |s| <= 0.2 (3e-17): Remez exchange, for this file.
LOGARITHM = (
    -0.5, 0.333334506, -0.250002295, 0.199909747, -0.166429445, 0.14468056, -0.131930023, 0.105910435, -0.0461906046
)  # fmt: skip
ARTANH = (
    0.6666666666667282, 0.39999999996102237, 0.2857142940595203, 0.22222137630916736, 0.1818639172026761,
    0.15249475377780758, 0.1537373721316659,
)  # fmt: skip
# (atanh(s) / s - 1 - s**2 / 3) / s**4 in s**2 on |s| <= 0.2, also by Remez exchange (2e-21).
ARTANH_TAIL = (
    0.1999999999999986, 0.14285714285789938, 0.11111111095396078, 0.09090910783557532, 0.07692202292363777,
    0.06670601558164097, 0.05795739520621292, 0.0628842194840924,
)  # fmt: skip
# In two parts, both positive: e may be -inf or inf.
LN2 = ((0.6931471228599548, 5.7699990475432854e-08), (0.6931471805599453, 2.3190468138462996e-17))
THIRD = (1.0 / 3.0, 1.850371707708594e-17)
SMALLEST_NORMAL = (2.0**-126, 2.0**-1022)
TINY = (2.0**-26, 2.0**-55)
LARGE = (2.0**26, 2.0**55)  # above, 1 + x is x


def log(m: Lanes, x: Value) -> Value:
    """The natural logarithm: -inf at 0, NaN below."""
    if has_avx512(m):  # the instructions take 0, inf, NaN and subnormal numbers in their stride
        near_one = mantissa(m, x)
        return _sum(m, m.sub(near_one, 1.0), m.sub(exponent(m, x), exponent(m, near_one)))
    return _with_edges(m, x, 0.0, _sum(m, *_split(m, x)))


def log1p(m: Lanes, x: Value) -> Value:
    """log(1 + x): with 1 + x = 2**e (1 + f), f is computed from x itself, so nothing of it is lost."""
    b, rounded = m.builder, m.add(x, 1.0)
    e_bits, e, near_one = _exponent_bits(m, rounded)
    power = m.floats(b.sub(m.integer(m.one_bits), e_bits))  # 2**-e
    f = m.fma(x, power, m.sub(power, 1.0))
    f = m.select(m.compare(x, ">", LARGE[m.wide]), m.sub(near_one, 1.0), f)  # 2**-e may be too small a number
    result = _with_edges(m, x, -1.0, _sum(m, f, e))
    return m.select(m.compare(m.abs(x), "<", TINY[m.wide]), x, result)  # keeps -0


def power(m: Lanes, x: Value, y: Value) -> Value:
    """X ** y by the rules of C99, annex F.9.4.4; float32 by way of double. Some constant exponents have short cuts."""
    known = m.known(y)
    if known in SHORT_POWERS:
        return SHORT_POWERS[known](m, x)
    size = (_power_double if m.wide else _power_float)(m, m.abs(x), y)
    whole = m.compare(m.unary("rint", y), "==", y)
    half = m.mul(y, 0.5)
    odd = m.builder.and_(whole, m.compare(m.unary("rint", half), "!=", half))
    signed = m.select(odd, m.copysign(size, x), size)
    negative = m.builder.and_(m.compare(x, "<", 0.0), m.compare(x, ">", -math.inf))
    result = m.select(m.builder.and_(negative, m.builder.not_(whole)), math.nan, signed)
    one = m.builder.or_(m.compare(y, "==", 0.0), m.compare(x, "==", 1.0))
    unsure = m.builder.and_(m.compare(x, "==", -1.0), m.compare(m.abs(y), "==", math.inf))
    return m.select(m.builder.or_(one, unsure), 1.0, result)


SHORT_POWERS: Mapping[float | None, Callable[[Lanes, Value], Value]] = MappingProxyType(
    {
        2.0: lambda m, x: m.mul(x, x),
        1.0: lambda m, x: x,
        -1.0: lambda m, x: m.div(1.0, x),
        # pow(-0, 0.5) is 0 and pow(-inf, 0.5) is inf, unlike the square root.
        0.5: lambda m, x: m.select(m.compare(x, "==", -math.inf), math.inf, m.unary("sqrt", m.add(x, 0.0))),
    }
)


def _power_float(m: Lanes, x: Value, y: Value) -> Value:
    """X ** y for x >= 0, in double."""
    b, d = m.builder, m.doubles()
    logarithm = log(d, b.fpext(x, d.kind))
    return b.fptrunc(exp_sum(d, d.mul(logarithm, b.fpext(y, d.kind)), None), m.kind)


def _power_double(m: Lanes, x: Value, y: Value) -> Value:
    """X ** y for x >= 0: the logarithm to 2**-64, its product with y in two parts, then exp."""
    high, low = _log_pair(m, x)
    high = _with_edges(m, x, 0.0, high)
    product, rest = two_product(m, y, high)
    rest = m.fma(y, low, rest)
    near = m.compare(m.abs(product), "<", 1000.0)  # elsewhere the result is 0 or inf, and `rest` may be NaN
    return exp_sum(m, product, m.select(near, rest, 0.0))


def _log_pair(m: Lanes, x: Value) -> Pair:
    """log(x) = e ln 2 + 2 s (1 + s**2 / 3 + s**4 ...), s = f / (2 + f), in pairs of doubles, for 0 < x < inf."""
    f, e = _split(m, x)
    s = _artanh_argument(m, f)
    square = pair_product(m, s, s)
    series = m.mul(square[0], m.polynomial(square[0], ARTANH_TAIL))
    bracket = add_to(m, (m.number(THIRD[0]), m.number(THIRD[1])), series)
    bracket = add_to(m, pair_product(m, square, bracket), m.number(1.0))
    small = pair_product(m, s, bracket)
    small = (m.mul(small[0], 2.0), m.mul(small[1], 2.0))
    large, rest = two_product(m, e, m.number(LN2[1][0]))
    total, error = quick_sum(m, large, small[0])  # |large| > |small|, or large is 0
    return quick_sum(m, total, m.add(m.add(error, m.fma(e, LN2[1][1], rest)), small[1]))


def _artanh_argument(m: Lanes, f: Value) -> Pair:
    """F / (2 + f) as a pair."""
    below, lost = quick_sum(m, m.number(2.0), f)
    inverse = m.div(1.0, below)
    high = m.mul(f, inverse)  # one division: what it lacks is in the remainder
    remainder = m.fma(m.neg(high), lost, m.fma(m.neg(high), below, f))
    return high, m.mul(remainder, inverse)


def _split(m: Lanes, x: Value) -> tuple[Value, Value]:
    """F and e of x = 2**e (1 + f), for 0 < x < inf, also subnormal."""
    shift = m.mantissa_bits + 1
    small = m.compare(x, "<", SMALLEST_NORMAL[m.wide])
    _, e, near_one = _exponent_bits(m, m.select(small, m.mul(x, 2.0**shift), x))
    return m.sub(near_one, 1.0), m.select(small, m.sub(e, float(shift)), e)


def _exponent_bits(m: Lanes, x: Value) -> tuple[Value, Value, Value]:
    """E shifted to where the exponent stands, e as a float, and x / 2**e in [3/4, 3/2)."""
    b, pattern = m.builder, m.bits(x)
    three_quarters = 0x3FE8000000000000 if m.wide else 0x3F400000
    distance = b.sub(pattern, m.integer(three_quarters))
    e_bits = b.and_(distance, m.integer(-1 << m.mantissa_bits))
    e = m.exponent_float(b.ashr(distance, m.integer(m.mantissa_bits)))
    return e_bits, e, m.floats(b.sub(pattern, e_bits))


def _sum(m: Lanes, f: Value, e: Value) -> Value:
    """E ln 2 + log(1 + f)."""
    high, low = LN2[m.wide]
    if not m.wide:
        tail = m.mul(m.mul(f, f), m.polynomial(f, LOGARITHM))
        return m.add(m.fma(e, high, f), m.fma(e, low, tail))
    s = m.div(f, m.add(f, 2.0))  # log(1 + f) = f - f**2 / 2 + s (f**2 / 2 + s**2 P(s**2))
    square, half = m.mul(s, s), m.mul(m.mul(f, f), 0.5)
    inner = m.fma(s, m.fma(square, m.polynomial(square, ARTANH), half), m.mul(e, low))
    return m.fma(e, high, m.sub(f, m.sub(half, inner)))


def _with_edges(m: Lanes, x: Value, zero: float, inside: Value) -> Value:
    """`inside`, but -inf at `zero`, NaN below, and inf and NaN as they are."""
    result = m.select(m.compare(x, "<", math.inf), inside, x)
    result = m.select(m.compare(x, "==", zero), -math.inf, result)
    return m.select(m.compare(x, "<", zero), math.nan, result)
