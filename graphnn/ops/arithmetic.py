"""Elementwise arithmetic of two inputs."""

from __future__ import annotations

from typing import ClassVar, final

from graphnn.ir.tensor_spec import FLOATS
from graphnn.ops.comparison import equal
from graphnn.ops.elementwise import NUMBERS, Elementwise, floor, log, where
from graphnn.ops.op import Tensor


class Binary(Elementwise):
    """y[i] = f(x0[i], x1[i])."""

    accepts: ClassVar[tuple[str, ...]] = NUMBERS
    arity: ClassVar[int] = 2


@final
class Add(Binary):
    """y = a + b. Gradient: da = dy, db = dy."""

    name = "add"
    expression = "x0 + x1"
    ufunc = "add"

    def vjp(self, inputs, outputs, cotangents):
        (dy,) = cotangents
        return dy, dy


@final
class Subtract(Binary):
    """y = a - b. Gradient: da = dy, db = -dy."""

    name = "subtract"
    expression = "x0 - x1"
    ufunc = "subtract"

    def vjp(self, inputs, outputs, cotangents):
        (dy,) = cotangents
        return dy, -dy


@final
class Multiply(Binary):
    """y = a * b. Gradient: da = dy * b, db = dy * a."""

    name = "multiply"
    expression = "x0 * x1"
    ufunc = "multiply"

    def vjp(self, inputs, outputs, cotangents):
        (a, b), (dy,) = inputs, cotangents
        return dy * b, dy * a


@final
class Divide(Binary):
    """y = a / b. Gradient: da = dy / b, db = -dy * y / b."""

    name = "divide"
    expression = "x0 / x1"
    ufunc = "divide"
    accepts = FLOATS

    def vjp(self, inputs, outputs, cotangents):
        (_, b), (y,), (dy,) = inputs, outputs, cotangents
        da = dy / b
        return da, -(da * y)


@final
class Power(Binary):
    """y = a ** b. Gradient: da = dy * b * a**(b - 1), 0 where b is 0; db = dy * y * log(a), 0 where a is 0 or less."""

    name = "power"
    expression = "pow(x0, x1)"
    ufunc = "power"
    accepts = FLOATS

    def vjp(self, inputs, outputs, cotangents):
        (a, b), (y,), (dy,) = inputs, outputs, cotangents
        nonzero = where(equal(b, b.lift(0.0)), b.lift(1.0), b)  # b = 0 and a = 0 would give 0 * inf
        positive = a > 0.0
        logarithm = where(positive, log(where(positive, a, a.lift(1.0))), a.lift(0.0))
        return dy * b * a ** (nonzero - 1.0), dy * y * logarithm


@final
class Maximum(Binary):
    """y = max(a, b). The gradient goes to the larger; at a tie, half to each."""

    name = "maximum"
    expression = "maximum(x0, x1)"
    ufunc = "maximum"

    def vjp(self, inputs, outputs, cotangents):
        (a, b), (dy,) = inputs, cotangents
        return dy * _share(a, b), dy * _share(b, a)


@final
class Minimum(Binary):
    """y = min(a, b). The gradient goes to the smaller; at a tie, half to each."""

    name = "minimum"
    expression = "minimum(x0, x1)"
    ufunc = "minimum"

    def vjp(self, inputs, outputs, cotangents):
        (a, b), (dy,) = inputs, cotangents
        return dy * _share(b, a), dy * _share(a, b)


def _share(a: Tensor, b: Tensor) -> Tensor:
    """1 where a > b, 0 where a < b, one half where they are equal."""
    return ((a > b).cast(a.dtype) + (a >= b).cast(a.dtype)) * 0.5


@final
class Remainder(Binary):
    """y = a - floor(a / b) * b. Gradient: da = dy, db = -dy * floor(a / b)."""

    name = "remainder"
    expression = "x0 - floor(x0 / x1) * x1"
    ufunc = "remainder"
    accepts = FLOATS

    def vjp(self, inputs, outputs, cotangents):
        (a, b), (dy,) = inputs, cotangents
        return dy, -(dy * floor(a / b))


add, subtract, multiply, divide, power = Add(), Subtract(), Multiply(), Divide(), Power()
maximum, minimum, remainder = Maximum(), Minimum(), Remainder()
