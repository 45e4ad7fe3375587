"""The error function."""

from __future__ import annotations

from graphnn.backends.cpu.emit import Value
from graphnn.backends.cpu.math_exponential import exp
from graphnn.backends.cpu.math_lanes import Lanes

# All by Remez exchange for this file, for the least largest relative error of erf.
SMALL = (0.128379166, -0.37612626, 0.112835854, -0.0268538129, 0.00518832775, -0.000801019371, 7.85386073e-05)
LOG2_ERFC = (-0.00385459489, -1.61212242, -0.944228649, -0.127871618, 0.0213201679, -0.00165968877)
EXP2 = (1.0, 0.693147242, 0.24022235, 0.0555030853, 0.00967187528, 0.00134072639)
SMALL_DOUBLE = (
    0.12837916709551256, -0.3761263890318352, 0.11283791670944185, -0.02686617064311144, 0.005223977606118296,
    -0.0008548325929306829, 0.00012055293576686918, -1.4924712298094114e-05, 1.6447131524503547e-06,
    -1.6206313408057644e-07, 1.37109789045861e-08, -7.779465729549996e-10,
)  # fmt: skip
SCALED_ERFC = (
    0.2108063640611466, -0.37173673394925233, 0.25171319320689617, -0.12503305244717874, 0.03992254005614559,
    -0.003993685088180243, -0.0026422891430158673, 0.0008758974937451455, 0.00022668663302492805,
    -0.00013661171079974645, -5.1046012346984504e-05,
)  # fmt: skip
CENTRE = 2.5


def erf(m: Lanes, x: Value) -> Value:
    """2 / sqrt(pi) * integral of exp(-t**2) from 0 to x: x P(x**2) within [-1, 1], else 1 - erfc(|x|)."""
    square = m.mul(x, x)
    small = m.fma(x, m.polynomial(square, SMALL_DOUBLE if m.wide else SMALL), x)
    size = m.at_most(m.abs(x), 6.0 if m.wide else 4.0)  # beyond, erf is 1
    erfc = (_erfc_double if m.wide else _erfc_float)(m, size)
    return m.select(m.compare(size, "<", 1.0), small, m.copysign(m.sub(1.0, erfc), x))


def _erfc_float(m: Lanes, x: Value) -> Value:
    """1 - erf(x) on [1, 4], as 2**P(x)."""
    exponent = m.polynomial(x, LOG2_ERFC)
    n, shifted = m.nearest(exponent, 1.0)
    return m.mul(m.polynomial(m.sub(exponent, n), EXP2), m.power_of_two(shifted))


def _erfc_double(m: Lanes, x: Value) -> Value:
    """1 - erf(x) on [1, 6], as exp(-x**2) P((x - 5/2) / (x + 5/2))."""
    place = m.div(m.sub(x, CENTRE), m.add(x, CENTRE))
    return m.mul(exp(m, m.neg(m.mul(x, x))), m.polynomial(place, SCALED_ERFC))
