"""Sum, max and min of vectors: where they start, how two are combined, and how the lanes of one are."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from llvmlite import ir

from graphnn.backends.cpu.emit import I32, Function, Value
from graphnn.backends.cpu.expression import emit_number, emit_op
from graphnn.errors import BackendError
from graphnn.ir.program import Instruction, Operation
from graphnn.ir.tensor_spec import FLOATS
from graphnn.ops.arithmetic import maximum, minimum
from graphnn.ops.reduction import Max, Min, Sum

WIDER = {"float16": "float32"}  # sums within a row
WIDEST = {"float16": "float64", "float32": "float64"}  # sums of single numbers over rows: they cost nothing there


def sum_dtype(op: Operation, dtype: str, over_rows: bool = False) -> str:
    """The dtype that a reduction is carried in."""
    return (WIDEST if over_rows else WIDER).get(dtype, dtype) if isinstance(op, Sum) else dtype


def row_dtype(reduction: Instruction) -> str:
    """The dtype that a reduction along a row is carried in."""
    return sum_dtype(reduction.op, reduction.inputs[0].spec.dtype)


def identity(op: Operation, dtype: str, lanes: int = 0) -> Value:
    """What a reduction of nothing gives: 0, or the smallest or largest number."""
    if isinstance(op, Sum):
        return emit_number(0, dtype, lanes)
    sign = -1 if isinstance(op, Max) else 1
    if dtype in FLOATS:
        return emit_number(sign * math.inf, dtype, lanes)
    limits = np.iinfo(dtype)
    return emit_number(int(limits.min if sign < 0 else limits.max), dtype, lanes)


def combine(f: Function, op: Operation, a: Value, b: Value, dtype: str) -> Value:
    """Two partial results, lane by lane."""
    if isinstance(op, Sum):
        return f.builder.fadd(a, b) if dtype in FLOATS else f.builder.add(a, b)
    if isinstance(op, Max | Min):
        return emit_op(f, maximum if isinstance(op, Max) else minimum, [b, a], [dtype, dtype], dtype)  # b is new
    raise BackendError("not a reduction", expected="sum, max, min", got=op.name)


def combined(f: Function, op: Operation, parts: Sequence[Value], dtype: str) -> Value:
    """Several partial results, neighbours with neighbours."""
    parts = list(parts)
    while len(parts) > 1:
        last = parts[-1:] if len(parts) % 2 else []
        parts = [combine(f, op, a, b, dtype) for a, b in zip(parts[::2], parts[1::2], strict=False)] + last
    return parts[0]


def horizontal(f: Function, op: Operation, vector: Value, dtype: str) -> Value:
    """All lanes combined, halves with halves."""
    lanes = vector.type.count
    while lanes > 1:
        lanes //= 2
        low, high = (_lanes(f, vector, start, lanes) for start in (0, lanes))
        vector = combine(f, op, low, high, dtype)
    return f.builder.extract_element(vector, I32(0))


def _lanes(f: Function, vector: Value, start: int, count: int) -> Value:
    numbers = ir.Constant(ir.VectorType(I32, count), list(range(start, start + count)))
    return f.builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), numbers)
