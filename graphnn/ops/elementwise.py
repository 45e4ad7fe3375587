"""Elementwise ops of one input, and `where`: shapes broadcast by NumPy's rule, dtypes are equal in and out."""

from __future__ import annotations

import math
from typing import ClassVar, final

from graphnn.errors import DTypeError
from graphnn.ir.tensor_spec import FLOATS, INTEGERS, TensorSpec, broadcast_shapes
from graphnn.ops.op import Array, ArrayModule, Op

NUMBERS = (*FLOATS, *INTEGERS)


class Elementwise(Op):
    """y[i] = f(x0[i], x1[i], ...)."""

    accepts: ClassVar[tuple[str, ...]] = FLOATS
    arity: ClassVar[int] = 1
    may_write_input: ClassVar[bool] = True

    def infer(self, *specs: TensorSpec) -> tuple[TensorSpec, ...]:
        """The broadcast shape and the common dtype."""
        self.check_dtypes(specs)
        return (TensorSpec(broadcast_shapes(spec.shape for spec in specs), self.output_dtype(specs)),)

    def check_dtypes(self, specs: tuple[TensorSpec, ...]) -> None:
        """Raise DTypeError unless there are `arity` inputs of one accepted dtype."""
        if len(specs) != self.arity:
            raise DTypeError(f"`{self.name}` takes {self.arity} inputs", expected=self.arity, got=_texts(specs))
        dtype = specs[0].dtype
        if any([spec.dtype != dtype for spec in specs]):
            expected, fix = "one dtype", "cast one of them"
            raise DTypeError(f"`{self.name}` needs equal dtypes", expected=expected, got=_texts(specs), fix=fix)
        if dtype not in self.accepts:
            message, expected = f"`{self.name}` is not defined for this dtype", ", ".join(self.accepts)
            raise DTypeError(message, expected=expected, got=_texts(specs))

    def output_dtype(self, specs: tuple[TensorSpec, ...]) -> str:
        """Equal to the inputs' dtype; comparisons say otherwise."""
        return specs[0].dtype

    def reference(self, xp: ArrayModule, *arrays: Array) -> Array:
        """The array module's own function of the op's name."""
        return getattr(xp, self.ufunc)(*arrays)


def _texts(specs: tuple[TensorSpec, ...]) -> str:
    return ", ".join(map(str, specs))


@final
class Negative(Elementwise):
    """y = -x. Gradient: dx = -dy."""

    name = "negative"
    expression = "-x0"
    ufunc = "negative"
    accepts = NUMBERS

    def vjp(self, inputs, outputs, cotangents):
        (dy,) = cotangents
        return (-dy,)


@final
class Absolute(Elementwise):
    """y = |x|. Gradient: dx = dy * sign(x)."""

    name = "absolute"
    expression = "abs(x0)"
    ufunc = "absolute"
    accepts = NUMBERS

    def vjp(self, inputs, outputs, cotangents):
        (x,), (dy,) = inputs, cotangents
        return (dy * sign(x),)


@final
class Sign(Elementwise):
    """y = -1, 0 or 1. No gradient: it is flat."""

    name = "sign"
    expression = "where(x0 > T(0), T(1), where(x0 < T(0), T(-1), x0))"
    ufunc = "sign"
    accepts = NUMBERS


@final
class Floor(Elementwise):
    """y = the largest integer not above x. No gradient: it is flat."""

    name = "floor"
    expression = "floor(x0)"
    ufunc = "floor"


@final
class Ceil(Elementwise):
    """y = the smallest integer not below x. No gradient: it is flat."""

    name = "ceil"
    expression = "ceil(x0)"
    ufunc = "ceil"


@final
class Round(Elementwise):
    """y = the nearest integer, halves to even. No gradient: it is flat."""

    name = "round"
    expression = "rint(x0)"
    ufunc = "rint"


@final
class Exp(Elementwise):
    """y = exp(x). Gradient: dx = dy * y."""

    name = "exp"
    expression = "exp(x0)"
    ufunc = "exp"

    def vjp(self, inputs, outputs, cotangents):
        (y,), (dy,) = outputs, cotangents
        return (dy * y,)


@final
class Expm1(Elementwise):
    """y = exp(x) - 1, exact near 0. Gradient: dx = dy * (y + 1)."""

    name = "expm1"
    expression = "expm1(x0)"
    ufunc = "expm1"

    def vjp(self, inputs, outputs, cotangents):
        (y,), (dy,) = outputs, cotangents
        return (dy * (y + 1.0),)


@final
class Log(Elementwise):
    """y = log(x). Gradient: dx = dy / x."""

    name = "log"
    expression = "log(x0)"
    ufunc = "log"

    def vjp(self, inputs, outputs, cotangents):
        (x,), (dy,) = inputs, cotangents
        return (dy / x,)


@final
class Log1p(Elementwise):
    """y = log(1 + x), exact near 0. Gradient: dx = dy / (1 + x)."""

    name = "log1p"
    expression = "log1p(x0)"
    ufunc = "log1p"

    def vjp(self, inputs, outputs, cotangents):
        (x,), (dy,) = inputs, cotangents
        return (dy / (x + 1.0),)


@final
class Sqrt(Elementwise):
    """y = sqrt(x). Gradient: dx = dy / (2 y)."""

    name = "sqrt"
    expression = "sqrt(x0)"
    ufunc = "sqrt"

    def vjp(self, inputs, outputs, cotangents):
        (y,), (dy,) = outputs, cotangents
        return (dy * 0.5 / y,)


@final
class Sin(Elementwise):
    """y = sin(x). Gradient: dx = dy * cos(x)."""

    name = "sin"
    expression = "sin(x0)"
    ufunc = "sin"

    def vjp(self, inputs, outputs, cotangents):
        (x,), (dy,) = inputs, cotangents
        return (dy * cos(x),)


@final
class Cos(Elementwise):
    """y = cos(x). Gradient: dx = -dy * sin(x)."""

    name = "cos"
    expression = "cos(x0)"
    ufunc = "cos"

    def vjp(self, inputs, outputs, cotangents):
        (x,), (dy,) = inputs, cotangents
        return (-(dy * sin(x)),)


@final
class Tanh(Elementwise):
    """y = tanh(x). Gradient: dx = dy * (1 - y**2)."""

    name = "tanh"
    expression = "tanh(x0)"
    ufunc = "tanh"

    def vjp(self, inputs, outputs, cotangents):
        (y,), (dy,) = outputs, cotangents
        return (dy * (1.0 - y * y),)


@final
class Sigmoid(Elementwise):
    """y = 1 / (1 + exp(-x)), without overflow. Gradient: dx = dy * y * (1 - y)."""

    name = "sigmoid"
    expression = "sigmoid(x0)"

    def reference(self, xp: ArrayModule, *arrays: Array) -> Array:
        """exp is only taken of numbers <= 0; for x < 0 the form exp(x) / (1 + exp(x)) keeps small values exact."""
        (x,) = arrays
        e = xp.exp(-xp.abs(x))
        return xp.where(x >= 0, x.dtype.type(1), e) / (1 + e)

    def vjp(self, inputs, outputs, cotangents):
        (y,), (dy,) = outputs, cotangents
        return (dy * y * (1.0 - y),)


@final
class Erf(Elementwise):
    """y = 2/sqrt(pi) * integral of exp(-t**2) from 0 to x. Gradient: dx = dy * 2/sqrt(pi) * exp(-x**2)."""

    name = "erf"
    expression = "erf(x0)"

    def reference(self, xp: ArrayModule, *arrays: Array) -> Array:
        """Computed in float64 and rounded once."""
        return error_function(xp, arrays[0].astype("float64")).astype(arrays[0].dtype)

    def vjp(self, inputs, outputs, cotangents):
        (x,), (dy,) = inputs, cotangents
        return (dy * exp(-(x * x)) * (2.0 / math.sqrt(math.pi)),)


@final
class Where(Op):
    """y = a where condition else b. The gradient goes to the side that was taken."""

    name = "where"
    expression = "where(x0, x1, x2)"
    may_write_input = True

    def infer(self, *specs: TensorSpec) -> tuple[TensorSpec, ...]:
        """bool, T, T -> T, broadcast."""
        condition, a, b = specs
        if condition.dtype != "bool" or a.dtype != b.dtype:
            got = ", ".join(map(str, specs))
            raise DTypeError("`where` needs a bool and two tensors of one dtype", expected="bool, T, T", got=got)
        return (TensorSpec(broadcast_shapes(spec.shape for spec in specs), a.dtype),)

    def reference(self, xp: ArrayModule, *arrays: Array) -> Array:
        """xp.where."""
        return xp.where(*arrays)

    def vjp(self, inputs, outputs, cotangents):
        condition, dy = inputs[0], cotangents[0]
        zero = dy.lift(0.0)
        return None, Where()(condition, dy, zero), Where()(condition, zero, dy)


def error_function(xp: ArrayModule, x: Array) -> Array:
    """erf in float64 to about 1e-15 absolute.

    |x| < 2: the Maclaurin series times exp(-x**2) (Abramowitz and Stegun 7.1.6), all terms positive.
    Otherwise: 1 - erfc by the continued fraction 7.1.14, evaluated from the tail.
    """
    size = xp.minimum(xp.abs(x), 6.0)  # erf(6) is 1 to the last bit
    small = xp.minimum(size, 2.0)
    term = total = small
    for n in range(1, 50):
        term = term * (2.0 * small * small) / (2 * n + 1)
        total = total + term
    series = (2.0 / math.sqrt(math.pi)) * xp.exp(-small * small) * total
    large = xp.maximum(size, 2.0)
    fraction = large
    for n in range(60, 0, -1):
        fraction = large + (n / 2.0) / fraction
    tail = 1.0 - xp.exp(-large * large) / (math.sqrt(math.pi) * fraction)
    return xp.where(xp.isnan(x), x, xp.sign(x) * xp.where(size < 2.0, series, tail))


negative, absolute, sign, floor, ceil, round_ = Negative(), Absolute(), Sign(), Floor(), Ceil(), Round()
exp, expm1, log, log1p, sqrt, sin, cos = Exp(), Expm1(), Log(), Log1p(), Sqrt(), Sin(), Cos()
tanh, sigmoid, erf, where = Tanh(), Sigmoid(), Erf(), Where()
