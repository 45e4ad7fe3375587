"""What kernels along an axis share: the lines of an array, parts of a row in vectors, numbers alone or in vectors."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

from llvmlite import ir

from graphnn.backends.cpu.emit import TYPES, Function, Value, const
from graphnn.ir.tensor_spec import FLOATS, TensorSpec

Lines: TypeAlias = tuple[int, int, int]  # elements before, along and behind an axis


def lines_of(spec: TensorSpec, axis: int, rank: int = 1) -> Lines:
    """Elements before, along and behind the axes `axis` to `axis + rank - 1`."""
    shape = [size.__index__() for size in spec.shape]
    stop = axis + rank
    return math.prod(shape[:axis]), math.prod(shape[axis:stop]), math.prod(shape[stop:])


def strips(count: int, lanes: int) -> list[tuple[int, int, int]]:
    """(start, stop, width): parts of a row in vectors of this width, which do not overlap."""
    parts, start, width = [], 0, lanes
    while start < count:
        if stop := (count - start) // width * width:
            parts.append((start, start + stop, width))
            start += stop
        width //= 2
    return parts


def added(f: Function, a: Value, b: Value, dtype: str) -> Value:
    """a + b of scalars or vectors."""
    return f.builder.fadd(a, b) if dtype in FLOATS else f.builder.add(a, b)


def row_at(f: Function, base: Value, index: Value, stride: int, dtype: str) -> Value:
    """The address of row `index` of rows of `stride` elements."""
    return f.at(base, f.builder.mul(index, const(stride)), dtype)


def splat(f: Function, scalar: Value, width: int) -> Value:
    """The number in all lanes; itself where it is alone."""
    return scalar if width == 1 else f.splat(scalar, width)


def element_kind(dtype: str, width: int) -> Any:
    """The type of a number, or of a vector of them."""
    return TYPES[dtype] if width == 1 else ir.VectorType(TYPES[dtype], width)


def load_kind(f: Function, base: Value, index: Value, dtype: str, width: int) -> Value:
    """A number or a vector."""
    return f.load(base, index, dtype) if width == 1 else f.load_vector(base, index, dtype, width)


def store_kind(f: Function, number: Value, base: Value, index: Value, dtype: str, width: int) -> None:
    """Write a number or a vector."""
    if width == 1:
        f.store(number, base, index, dtype)
    else:
        f.store_vector(number, base, index, dtype)
