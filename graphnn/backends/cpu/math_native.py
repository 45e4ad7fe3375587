"""Steps of the vector functions for which AVX-512 has one instruction and other CPUs need several.

Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2: VSCALEF, VGETEXP, VGETMANT, VRCP14.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from graphnn.backends.cpu.emit import I32, Value
from graphnn.backends.cpu.math_lanes import Lanes, Number, by_register

REGISTER = 16  # floats in 512 bits
CURRENT_ROUNDING = I32(4)
MANTISSA_NEAR_ONE = I32(0b1011)  # into [0.75, 1.5); NaN for what is below 0


def has_avx512(m: Lanes) -> bool:
    """Whether the values fill whole 512-bit registers, and the CPU has them: 1, 2, 4... of them."""
    registers, rest = divmod(m.count * m.whole.width, 512)
    whole = rest == 0 and registers > 0 and registers & (registers - 1) == 0
    return whole and _cpu_has_avx512(m)


def _cpu_has_avx512(m: Lanes) -> bool:
    return "+avx512f" in m.f.target.features.split(",")


def scale(m: Lanes, x: Value, n: Value, shifted: Value) -> Value:
    """X * 2**n, rounded once, for |n| up to twice the largest exponent; `n` and `shifted` come from `nearest`."""
    if has_avx512(m):
        return _call(m, "scalef", lambda zero, all_lanes, *v: [*v, zero, all_lanes, CURRENT_ROUNDING], x, n)
    b = m.builder
    exponent = b.sub(shifted, m.integer(m.magic_bits))
    half = b.ashr(exponent, m.integer(1))
    return m.mul(m.mul(x, m.power_of_two(half)), m.power_of_two(b.sub(exponent, half)))


def exponent(m: Lanes, x: Value) -> Value:
    """floor(log2(x)) as a float; -inf for 0, inf for inf. Only with AVX-512."""
    return _call(m, "getexp", lambda zero, all_lanes, v: [v, zero, all_lanes, CURRENT_ROUNDING], x)


def mantissa(m: Lanes, x: Value) -> Value:
    """X / 2**n in [0.75, 1.5); 1 for 0 and inf, NaN below 0. Only with AVX-512."""
    arguments = lambda zero, all_lanes, v: [v, MANTISSA_NEAR_ONE, zero, all_lanes, CURRENT_ROUNDING]  # noqa: E731
    return _call(m, "getmant", arguments, x)


def quotient(m: Lanes, a: Number, b: Value) -> Value:
    """A / b to within 1 ulp, for b in [1, 2**30].

    In float32 with AVX-512: an estimate of 1 / b to 14 bits and one Newton step, 3 times as fast as the division. So
    that a number gives the same bits wherever it stands in an array, less than a register is filled up to one; only
    odd numbers of registers (48 lanes) divide.
    """
    a = m.number(a)
    if not m.wide and m.count < REGISTER and _cpu_has_avx512(m):
        full = Lanes(m.f, ir.VectorType(m.element, REGISTER))
        return _cut(m, quotient(full, _filled(m, a), _filled(m, b)))
    if m.wide or not has_avx512(m):
        return m.div(a, b)
    estimate = _call(m, "rcp14", lambda zero, all_lanes, v: [v, zero, all_lanes], b)
    first = m.mul(a, estimate)
    return m.fma(m.fma(m.neg(b), first, a), estimate, first)


def _filled(m: Lanes, value: Value) -> Value:
    """A register with the value in its first lanes, and its last lane again in the others."""
    if not m.count:
        return m.f.splat(value, REGISTER)
    lanes = ir.Constant(ir.VectorType(I32, REGISTER), [min(lane, m.count - 1) for lane in range(REGISTER)])
    return m.builder.shuffle_vector(value, ir.Constant(m.kind, ir.Undefined), lanes)


def _cut(m: Lanes, register: Value) -> Value:
    """The first lanes of a register."""
    if not m.count:
        return m.builder.extract_element(register, I32(0))
    lanes = ir.Constant(ir.VectorType(I32, m.count), list(range(m.count)))
    return m.builder.shuffle_vector(register, ir.Constant(register.type, ir.Undefined), lanes)


def _call(m: Lanes, name: str, arguments: Any, *vectors: Value) -> Value:
    """The instruction on every register of the vectors."""
    lanes = 512 // m.whole.width
    kind = ir.VectorType(m.element, lanes)
    given = arguments(ir.Constant(kind, None), ir.IntType(lanes)(-1), *vectors)
    types = [kind if value in vectors else value.type for value in given]
    masked = "" if name == "rcp14" else "mask."
    full = f"llvm.x86.avx512.{masked}{name}.{'pd' if m.wide else 'ps'}.512"
    function = m.f.intrinsic(full, kind, types)

    def call(*parts: Value) -> Value:
        zero, all_lanes = ir.Constant(kind, None), ir.IntType(lanes)(-1)
        return m.builder.call(function, arguments(zero, all_lanes, *parts))

    return by_register(m.f, lanes, call, *vectors)
