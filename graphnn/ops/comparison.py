"""Comparisons and logic: elementwise, bool out, no gradient."""

from __future__ import annotations

from typing import ClassVar, final

from graphnn.ir.tensor_spec import DTYPES, FLOATS, TensorSpec
from graphnn.ops.elementwise import NUMBERS, Elementwise


class Comparison(Elementwise):
    """y[i] = whether a relation holds between a[i] and b[i]."""

    accepts: ClassVar[tuple[str, ...]] = NUMBERS
    arity: ClassVar[int] = 2
    may_write_input: ClassVar[bool] = False  # the output has another item size

    def output_dtype(self, specs: tuple[TensorSpec, ...]) -> str:
        """Always bool."""
        return "bool"


@final
class Equal(Comparison):
    """y = a == b."""

    name = "equal"
    expression = "x0 == x1"
    ufunc = "equal"
    accepts = DTYPES


@final
class NotEqual(Comparison):
    """y = a != b."""

    name = "not_equal"
    expression = "x0 != x1"
    ufunc = "not_equal"
    accepts = DTYPES


@final
class Less(Comparison):
    """y = a < b."""

    name = "less"
    expression = "x0 < x1"
    ufunc = "less"


@final
class LessEqual(Comparison):
    """y = a <= b."""

    name = "less_equal"
    expression = "x0 <= x1"
    ufunc = "less_equal"


@final
class Greater(Comparison):
    """y = a > b."""

    name = "greater"
    expression = "x0 > x1"
    ufunc = "greater"


@final
class GreaterEqual(Comparison):
    """y = a >= b."""

    name = "greater_equal"
    expression = "x0 >= x1"
    ufunc = "greater_equal"


@final
class LogicalAnd(Comparison):
    """y = a and b."""

    name = "logical_and"
    expression = "x0 & x1"
    ufunc = "logical_and"
    accepts = ("bool",)


@final
class LogicalOr(Comparison):
    """y = a or b."""

    name = "logical_or"
    expression = "x0 | x1"
    ufunc = "logical_or"
    accepts = ("bool",)


@final
class LogicalXor(Comparison):
    """y = a or b, not both."""

    name = "logical_xor"
    expression = "x0 ^ x1"
    ufunc = "logical_xor"
    accepts = ("bool",)


@final
class LogicalNot(Comparison):
    """y = not x."""

    name = "logical_not"
    expression = "!x0"
    ufunc = "logical_not"
    accepts = ("bool",)
    arity = 1


@final
class IsNan(Comparison):
    """y = whether x is not a number."""

    name = "is_nan"
    expression = "x0 != x0"
    ufunc = "isnan"
    accepts = FLOATS
    arity = 1


@final
class IsInf(Comparison):
    """y = whether x is plus or minus infinity."""

    name = "is_inf"
    expression = "abs(x0) == T(INFINITY)"
    ufunc = "isinf"
    accepts = FLOATS
    arity = 1


equal, not_equal, less, less_equal = Equal(), NotEqual(), Less(), LessEqual()
greater, greater_equal = Greater(), GreaterEqual()
logical_and, logical_or, logical_xor, logical_not = LogicalAnd(), LogicalOr(), LogicalXor(), LogicalNot()
is_nan, is_inf = IsNan(), IsInf()
