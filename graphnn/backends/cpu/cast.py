"""Values of one dtype as another, between memory and registers, and constants."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir

from graphnn.backends.cpu.emit import I1, I8, I32, I64, TYPES, Function, Value
from graphnn.backends.cpu.math_lanes import Lanes, spread


def emit_number(number: float, dtype: str, lanes: int = 0) -> Value:
    """A constant of `dtype` (bool: i1), in all lanes if there are any; integers wrap around, floats become infinite."""
    if dtype == "bool":
        return spread(I1, int(bool(number)), lanes)
    element = TYPES[dtype]
    if not isinstance(element, ir.IntType):
        with np.errstate(over="ignore"):
            return spread(element, float(np.dtype(dtype).type(number)), lanes)
    limit = 1 << element.width
    return spread(element, (int(number) + limit // 2) % limit - limit // 2, lanes)


def from_memory(f: Function, loaded: Value, dtype: str) -> Value:
    """What `Function.load` or `load_vector` gave, as a value: a bool byte becomes i1, all else stays."""
    return f.builder.icmp_unsigned("!=", loaded, ir.Constant(loaded.type, None)) if dtype == "bool" else loaded


def to_memory(f: Function, value: Value, dtype: str) -> Value:
    """A value as `Function.store` or `store_vector` takes it: i1 becomes a byte 0 or 1, all else stays."""
    return f.builder.zext(value, _like(value, I8)) if dtype == "bool" else value


def emit_cast(f: Function, value: Value, source: str, target: str) -> Value:
    """`value` (bool: i1) in another dtype, as `ndarray.astype` does it; fractions are cut towards zero.

    A float beyond the range of an integer dtype gives some number, as in NumPy.
    """
    if source == target:
        return value
    if source == "float16":
        return emit_cast(f, f.builder.fpext(value, _like(value, TYPES["float32"])), "float32", target)
    if source == "bool":
        lanes = getattr(value.type, "count", 0)
        return f.builder.select(value, emit_number(1, target, lanes), emit_number(0, target, lanes))
    if target == "bool":
        return _is_not_zero(f, value, source)
    if target == "float16":
        return _to_half(f, value, source)
    write = _from_float if source.startswith("float") else _from_integer
    return write(f, value, source, target)


def _from_float(f: Function, value: Value, source: str, target: str) -> Value:
    """Float or double as another number; what fits into 32 bits with a sign goes through int32, as C compilers do."""
    b, kind = f.builder, _like(value, TYPES[target])
    if target.startswith("float"):
        return b.fpext(value, kind) if source == "float32" else b.fptrunc(value, kind)
    if target == "uint64":
        return b.fptoui(value, kind)
    between = I64 if target in ("uint32", "int64") else I32
    whole = b.fptosi(value, _like(value, between))
    return whole if between.width == TYPES[target].width else b.trunc(whole, kind)


def _from_integer(f: Function, value: Value, source: str, target: str) -> Value:
    """An integer as another number."""
    b, kind, signed = f.builder, _like(value, TYPES[target]), source.startswith("int")
    if target.startswith("float"):
        return b.sitofp(value, kind) if signed else b.uitofp(value, kind)
    width, wanted = TYPES[source].width, TYPES[target].width
    if wanted == width:
        return value
    if wanted < width:
        return b.trunc(value, kind)
    return b.sext(value, kind) if signed else b.zext(value, kind)


def _is_not_zero(f: Function, value: Value, source: str) -> Value:
    """As a bool; NaN is true."""
    compare = f.builder.fcmp_unordered if source.startswith("float") else f.builder.icmp_unsigned
    return compare("!=", value, ir.Constant(value.type, None))


def _to_half(f: Function, value: Value, source: str) -> Value:
    """As float16, rounded once."""
    single = _round_to_odd(f, value) if source == "float64" else emit_cast(f, value, source, "float32")
    return f.builder.fptrunc(single, _like(value, TYPES["float16"]))


def _round_to_odd(f: Function, value: Value) -> Value:
    """Double as float, cut towards zero with the last bit set where anything was lost: a second rounding is then right.

    Source: Boldo and Melquiond, "Emulation of FMA and correctly rounded sums: proved algorithms using rounding to odd"
    (2008).
    """
    b, d = f.builder, Lanes(f, value.type)
    m = Lanes(f, _like(value, TYPES["float32"]))
    single = b.fptrunc(value, m.kind)
    back = b.fpext(single, d.kind)
    too_far = d.compare(d.abs(back), ">", d.abs(value))
    cut = b.sub(m.bits(single), b.zext(too_far, m.integers))
    inexact = b.or_(d.compare(back, "<", value), d.compare(back, ">", value))  # false for NaN
    return m.floats(b.or_(cut, b.zext(inexact, m.integers)))


def _like(value: Value, element: Any) -> Any:
    """`element`, in as many lanes as the value has."""
    return ir.VectorType(element, value.type.count) if isinstance(value.type, ir.VectorType) else element
