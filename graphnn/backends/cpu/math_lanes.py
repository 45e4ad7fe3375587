"""Lanes: arithmetic on floats or doubles, scalars or vectors alike, for formulas that read like formulas."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from llvmlite import ir

from graphnn.backends.cpu.emit import I32, I64, Function, Value, type_suffix

Number: TypeAlias = Any  # a Value or a Python number


class Lanes:
    """Arithmetic on one LLVM type: float, double, or a vector of them. Python numbers become constants of that type.

    Nothing is reassociated or contracted: a formula means what it says, rounding by rounding.

    Args:
        f: where the IR goes.
        kind: the LLVM type.
    """

    def __init__(self, f: Function, kind: Any):
        self.f, self.builder, self.kind = f, f.builder, kind
        self.element = kind.element if isinstance(kind, ir.VectorType) else kind
        self.count: int = kind.count if isinstance(kind, ir.VectorType) else 0
        self.wide = isinstance(self.element, ir.DoubleType)
        self.mantissa_bits = 52 if self.wide else 23
        self.whole = I64 if self.wide else I32  # an integer as long as the float
        self.integers = self._like(self.whole)
        self.one_bits = 1023 << 52 if self.wide else 127 << 23
        self.magic = 1.5 * 2.0**self.mantissa_bits  # magic + n has the integer n in its lowest bits
        self.magic_bits = self.one_bits + ((self.mantissa_bits << self.mantissa_bits) | (1 << (self.mantissa_bits - 1)))

    def _like(self, element: Any) -> Any:
        return ir.VectorType(element, self.count) if self.count else element

    def doubles(self) -> Lanes:
        """Arithmetic on as many doubles."""
        return Lanes(self.f, self._like(ir.DoubleType()))

    # -- constants ----------------------------------------------------------------------------------------------------

    def number(self, number: Number) -> Value:
        """The number in all lanes; Values pass through."""
        return spread(self.element, number, self.count) if isinstance(number, int | float) else number

    def integer(self, number: int) -> Value:
        """An integer as long as the float, in all lanes; taken as a bit pattern."""
        limit = 1 << self.whole.width
        return spread(self.whole, (number + limit // 2) % limit - limit // 2, self.count)

    def known(self, value: Value) -> float | None:
        """The number that a constant holds in all lanes; None for other values."""
        scalar = value.constant[0] if isinstance(value, Splat) else value
        number = getattr(scalar, "constant", None)
        return number if isinstance(number, float) else None

    # -- arithmetic ---------------------------------------------------------------------------------------------------

    def add(self, a: Number, b: Number) -> Value:
        """A + b."""
        return self.builder.fadd(self.number(a), self.number(b))

    def sub(self, a: Number, b: Number) -> Value:
        """A - b."""
        return self.builder.fsub(self.number(a), self.number(b))

    def mul(self, a: Number, b: Number) -> Value:
        """A * b."""
        return self.builder.fmul(self.number(a), self.number(b))

    def div(self, a: Number, b: Number) -> Value:
        """A / b, correctly rounded."""
        return self.builder.fdiv(self.number(a), self.number(b))

    def neg(self, a: Value) -> Value:
        """-a."""
        return self.builder.fneg(a)

    def fma(self, a: Number, b: Number, c: Number) -> Value:
        """A * b + c, rounded once."""
        return self.f.fma(self.number(a), self.number(b), self.number(c))

    def polynomial(self, x: Value, coefficients: Sequence[float]) -> Value:
        """c[0] + c[1] x + c[2] x**2 + ... by Horner's rule: fewest operations; loops overlap, so latency hides."""
        result = self.number(coefficients[-1])
        for coefficient in reversed(coefficients[:-1]):
            result = self.fma(result, x, coefficient)
        return result

    # -- choices ------------------------------------------------------------------------------------------------------

    def compare(self, a: Number, sign: str, b: Number) -> Value:
        """A condition; false where a or b is NaN, but for `!=`."""
        compare = self.builder.fcmp_unordered if sign == "!=" else self.builder.fcmp_ordered
        return compare(sign, self.number(a), self.number(b))

    def select(self, condition: Value, a: Number, b: Number) -> Value:
        """A where the condition holds, else b."""
        return self.builder.select(condition, self.number(a), self.number(b))

    def clamp(self, x: Value, low: float, high: float) -> Value:
        """`x` brought into [low, high]; NaN stays."""
        return self.at_most(self.select(self.compare(x, "<", low), low, x), high)

    def at_most(self, x: Value, high: float) -> Value:
        """min(x, high); NaN stays."""
        return self.select(self.compare(x, ">", high), high, x)

    # -- parts of floats ----------------------------------------------------------------------------------------------

    def unary(self, name: str, x: Value) -> Value:
        """An LLVM intrinsic with one argument: fabs, sqrt, floor, ceil, rint."""
        return self.builder.call(self.f.intrinsic(f"llvm.{name}.{type_suffix(x.type)}", x.type, [x.type]), [x])

    def abs(self, x: Value) -> Value:
        """|x|."""
        return self.unary("fabs", x)

    def copysign(self, size: Value, sign: Value) -> Value:
        """|size| with the sign of `sign`."""
        name = f"llvm.copysign.{type_suffix(size.type)}"
        return self.builder.call(self.f.intrinsic(name, size.type, [size.type] * 2), [size, sign])

    def bits(self, x: Value) -> Value:
        """The bit pattern as an integer."""
        return self.builder.bitcast(x, self.integers)

    def floats(self, pattern: Value) -> Value:
        """The float with this bit pattern."""
        return self.builder.bitcast(pattern, self.kind)

    def nearest(self, x: Value, factor: float) -> tuple[Value, Value]:
        """The integer nearest to x * factor: as a float, and as an integer plus `magic_bits`.

        Right below 2**21 (double: 2**50) in size.
        """
        shifted = self.fma(x, factor, self.magic)
        return self.sub(shifted, self.magic), self.bits(shifted)

    def power_of_two(self, shifted: Value) -> Value:
        """2**n for `shifted` = n + magic_bits, where it is a normal number."""
        exponent = self.builder.shl(shifted, self.integer(self.mantissa_bits))  # what is above n falls off
        return self.floats(self.builder.add(exponent, self.integer(self.one_bits)))

    def exponent_float(self, small: Value) -> Value:
        """A small integer as a float, without a conversion from 64 bits, which AVX2 lacks."""
        return self.sub(self.floats(self.builder.add(small, self.integer(self.magic_bits))), self.magic)


class Splat(ir.Constant):
    """A vector constant of equal lanes, short in the IR text however many there are."""

    def _get_reference(self) -> str:
        scalar: Any = self.constant[0]
        return f"splat ({scalar.type} {scalar.get_reference()})"


def spread(element: Any, number: float, count: int) -> Value:
    """A constant of type `element`, in `count` lanes if there are any."""
    scalar = ir.Constant(element, number if isinstance(element, ir.IntType) else float(number))
    return Splat(ir.VectorType(element, count), scalar) if count else scalar


def by_register(f: Function, size: int, function: Callable[..., Value], *vectors: Value) -> Value:
    """`function` applied to every `size` lanes of the vectors, the results put together again."""
    b, count = f.builder, vectors[0].type.count
    if count == size:
        return function(*vectors)
    parts: list[Value] = []
    for start in range(0, count, size):
        lanes = ir.Constant(ir.VectorType(I32, size), list(range(start, start + size)))
        parts.append(function(*(b.shuffle_vector(v, ir.Constant(v.type, ir.Undefined), lanes) for v in vectors)))
    while len(parts) > 1:  # pairs, so the count of registers must be a power of two
        length = parts[0].type.count * 2
        both = ir.Constant(ir.VectorType(I32, length), list(range(length)))
        parts = [b.shuffle_vector(one, two, both) for one, two in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]
