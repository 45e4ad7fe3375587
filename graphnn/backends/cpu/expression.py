"""Elementwise ops as LLVM IR: the text of `Op.expression` is parsed, and written for any number of lanes.

Values are scalars or vectors alike. A float or an integer has its own LLVM type (float16: `half`); a bool is `i1`, and
a byte (0 or 1) only in memory: `from_memory` and `to_memory` stand between the two. A product and a sum never become
one fma: LLVM would do so in one kernel and not in another, and a number that is computed twice must be equal to itself
(the gradient of a maximum looks for it).
"""

from __future__ import annotations

import ast
import functools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from graphnn.backends.cpu.cast import emit_cast, emit_number, from_memory, to_memory
from graphnn.backends.cpu.emit import Function, Value
from graphnn.backends.cpu.functions import FUNCTIONS, emit_function
from graphnn.errors import BackendError
from graphnn.ops.arithmetic import Remainder
from graphnn.ops.creation import Cast
from graphnn.ops.elementwise import Where
from graphnn.ops.op import Op

__all__ = ["emit_cast", "emit_expression", "emit_number", "emit_op", "from_memory", "to_memory"]

LITERALS: Mapping[str, float] = MappingProxyType({"INFINITY": math.inf})
ARITHMETIC: Mapping[type[ast.operator], str] = MappingProxyType({ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul"})
LOGIC: Mapping[type[ast.operator], str] = MappingProxyType({ast.BitAnd: "and_", ast.BitOr: "or_", ast.BitXor: "xor"})
RELATIONS: Mapping[type[ast.cmpop], str] = MappingProxyType(
    {ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}
)


class UnknownFormulaError(BackendError):
    """An op has no formula, or one with something in it that has no code; it runs by its reference then."""


def emit_op(f: Function, op: Op, operands: Sequence[Value], dtypes: Sequence[str], output_dtype: str) -> Value:
    """The value of an elementwise op, for scalars or for vectors of equal length.

    float16 is computed in float32 and rounded once.

    Args:
        f: where the IR goes.
        op: an op with an `expression`.
        operands: one for each input, bools as i1.
        dtypes: of the operands.
        output_dtype: what `op.infer` says.

    Raises:
        UnknownFormulaError: the op has no expression.
    """
    if isinstance(op, Cast):
        return emit_cast(f, operands[0], dtypes[0], output_dtype)
    if isinstance(op, Where):
        return f.builder.select(*operands)
    # C has another `remainder`, so the shared text cannot name ours, which knows signs and infinity.
    text = "remainder(x0, x1)" if isinstance(op, Remainder) else op.expression
    if not text:
        raise UnknownFormulaError(
            "an op without a formula cannot stand in a loop", where=op.name, expected="an `expression`"
        )
    return emit_expression(f, text, operands, dtypes, output_dtype)


def emit_expression(
    f: Function, text: str, operands: Sequence[Value], dtypes: Sequence[str], output_dtype: str
) -> Value:
    """The value of a scalar formula in `x0`, `x1`... for scalars or for vectors of equal length.

    `T` is the output's dtype, or that of `x0` where the output is bool.

    Raises:
        UnknownFormulaError: the text holds something that the subset does not know.
    """
    working = dtypes[0] if output_dtype == "bool" else output_dtype
    terms = {f"x{i}": Term(v, d).widened(f) for i, (v, d) in enumerate(zip(operands, dtypes, strict=True))}
    result = _Writer(f, text, terms, working, getattr(operands[0].type, "count", 0)).write(parse(text))
    return emit_cast(f, result.value, result.dtype, output_dtype)


@functools.cache
def parse(text: str) -> ast.expr:
    """The tree of a formula; `!x` is the one sign that Python writes in another way."""
    return ast.parse(re.sub(r"!(?!=)", "~", text), mode="eval").body


@dataclass(frozen=True)
class Term:
    """A value and the dtype that says how to read it."""

    value: Value
    dtype: str

    @property
    def is_float(self) -> bool:
        """Float or double, or vectors of them."""
        return self.dtype.startswith("float")

    def widened(self, f: Function) -> Term:
        """float16 as float32."""
        return Term(emit_cast(f, self.value, "float16", "float32"), "float32") if self.dtype == "float16" else self


@dataclass(frozen=True)
class _Writer:
    """Writes one formula."""

    f: Function
    text: str
    terms: Mapping[str, Term]
    working: str
    lanes: int

    def write(self, node: ast.expr) -> Term:
        """IR for a part of the formula."""
        match node:
            case ast.Name(id=name) if name in self.terms:
                return self.terms[name]
            case ast.BinOp(left=left, op=sign, right=right):
                return self.binary(sign, self.write(left), self.write(right))
            case ast.UnaryOp(op=ast.USub(), operand=inner):
                return self.negative(self.write(inner))
            case ast.UnaryOp(op=ast.Invert(), operand=inner):
                return Term(self.f.builder.not_(self.write(inner).value), "bool")
            case ast.Compare(left=left, ops=[sign], comparators=[right]):
                return self.compare(RELATIONS[type(sign)], self.write(left), self.write(right))
            case ast.Call(func=ast.Name(id="T"), args=[inner]):
                return self.convert(inner)
            case ast.Call(func=ast.Name(id=name), args=arguments):
                return self.call(name, [self.write(argument) for argument in arguments])
            case _:
                raise self.unknown(ast.unparse(node))

    def unknown(self, part: str) -> UnknownFormulaError:
        """The error for what the subset does not hold."""
        return UnknownFormulaError("a formula holds something that cannot be compiled", where=self.text, got=part)

    def convert(self, node: ast.expr) -> Term:
        """T(x): a constant, or a cast."""
        number = _literal(node)
        if number is not None:
            return Term(emit_number(number, self.working, self.lanes), self.working).widened(self.f)
        inner = self.write(node)
        return Term(emit_cast(self.f, inner.value, inner.dtype, self.working), self.working).widened(self.f)

    def binary(self, sign: ast.operator, a: Term, b: Term) -> Term:
        """A + b and its like."""
        builder, kind = self.f.builder, type(sign)
        if kind in LOGIC:
            return Term(getattr(builder, LOGIC[kind])(a.value, b.value), a.dtype)
        if kind in ARITHMETIC and not a.is_float:
            return Term(getattr(builder, ARITHMETIC[kind])(a.value, b.value), a.dtype)
        if kind in ARITHMETIC or (kind is ast.Div and a.is_float):
            name = "f" + ARITHMETIC.get(kind, "div")
            return Term(getattr(builder, name)(a.value, b.value), a.dtype)
        raise self.unknown(f"{kind.__name__} of {a.dtype}")

    def negative(self, a: Term) -> Term:
        """-a."""
        builder = self.f.builder
        return Term(builder.fneg(a.value) if a.is_float else builder.neg(a.value), a.dtype)

    def compare(self, sign: str, a: Term, b: Term) -> Term:
        """A condition; false where there is a NaN, but for `!=`."""
        builder = self.f.builder
        if a.is_float:
            write = builder.fcmp_unordered if sign == "!=" else builder.fcmp_ordered
        else:
            write = builder.icmp_signed if a.dtype.startswith("int") else builder.icmp_unsigned
        return Term(write(sign, a.value, b.value), "bool")

    def call(self, name: str, arguments: Sequence[Term]) -> Term:
        """A function by name."""
        values, dtype = [argument.value for argument in arguments], arguments[-1].dtype
        if name == "where":
            return Term(self.f.builder.select(*values), dtype)
        if arguments[0].is_float and name in FUNCTIONS:
            return Term(emit_function(self.f, name, *values), dtype)
        if not arguments[0].is_float and name in INTEGER_FUNCTIONS:
            return Term(INTEGER_FUNCTIONS[name](self, *arguments), dtype)
        raise self.unknown(f"{name} of {dtype}")

    def absolute(self, a: Term) -> Value:
        """|a| of integers; the smallest stays as it is, as in NumPy."""
        if a.dtype.startswith("uint"):
            return a.value
        zero = Term(emit_number(0, a.dtype, self.lanes), a.dtype)
        return self.f.builder.select(self.compare("<", a, zero).value, self.negative(a).value, a.value)

    def larger(self, a: Term, b: Term) -> Value:
        """max(a, b) of integers."""
        return self.f.builder.select(self.compare(">", a, b).value, a.value, b.value)

    def smaller(self, a: Term, b: Term) -> Value:
        """min(a, b) of integers."""
        return self.f.builder.select(self.compare("<", a, b).value, a.value, b.value)


INTEGER_FUNCTIONS: Mapping[str, Callable[..., Value]] = MappingProxyType(
    {"abs": _Writer.absolute, "maximum": _Writer.larger, "minimum": _Writer.smaller}
)


def _literal(node: ast.expr) -> float | None:
    """The number that stands there, or None."""
    match node:
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.Name(id=name):
            return LITERALS.get(name)
        case _:
            return None
