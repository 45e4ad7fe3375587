"""Transposing a matrix in registers: blocks are read by parts of 16 bytes, which unpack instructions turn round.

Parts of G rows of the source share a register, so that the G * P elements of one column (P to a part) come out side by
side. Unpacking works within the 16-byte lanes of a register, which is the cheapest kind of shuffle.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from graphnn.backends.cpu.emit import I32, Function, Value, const

PART = 16  # bytes
LINE = 64  # bytes of a cache line: a block reads whole lines of the source


def fits_transposition(rows: int, columns: int, unit: int) -> bool:
    """The source (rows, columns) is large enough for vectors."""
    return unit < PART and min(rows, columns) >= PART // unit


def emit_transposition(
    f: Function,
    source: Value,
    target: Value,
    shape: tuple[int, int],
    strides: tuple[int, int],
    unit: int,
    align: int,
) -> None:
    """target[c * strides[1] + r] = source[r * strides[0] + c] for all r, c of the shape.

    The last blocks of an axis lie over those before them where the size is no multiple of a block.
    """
    (rows, columns), per_part, b = shape, PART // unit, f.builder
    groups = max(g for g in (1, 2, 4) if g * PART <= f.target.vector_bytes and g * per_part <= rows)
    height, width = groups * per_part, per_part * min(LINE // PART, columns // per_part)
    with f.loop(columns, step=width) as outer, f.loop(rows, step=height) as inner:
        column, row = (
            _at_most(f, loop.index, room) for loop, room in ((outer, columns - width), (inner, rows - height))
        )
        for first in range(0, width, per_part):
            at = b.add(column, const(first))
            here = b.gep(source, [b.add(b.mul(row, const(strides[0])), at)], source_etype=ir.IntType(8 * unit))
            there = b.gep(target, [b.add(b.mul(at, const(strides[1])), row)], source_etype=ir.IntType(8 * unit))
            _emit_block(f, here, there, groups, strides, unit, align)


def _at_most(f: Function, index: Value, limit: int) -> Value:
    return f.builder.select(f.builder.icmp_signed("<", index, const(limit)), index, const(limit))


def _emit_block(
    f: Function, source: Value, target: Value, groups: int, strides: tuple[int, int], unit: int, align: int
) -> None:
    """`groups * P` rows and P columns, with the addresses of the first element."""
    per_part, element, b = PART // unit, ir.IntType(8 * unit), f.builder
    part = ir.VectorType(element, per_part)

    def load(row: int) -> Value:
        return b.load(b.gep(source, [const(row * strides[0])], source_etype=element), typ=part, align=align)

    vectors = [_joined(f, [load(g * per_part + row) for g in range(groups)]) for row in range(per_part)]
    for column, vector in enumerate(transposed_parts(f, vectors, per_part)):
        b.store(vector, b.gep(target, [const(column * strides[1])], source_etype=element), align=align)


def transposed_parts(f: Function, vectors: list[Any], per_part: int) -> list[Any]:
    """In each part the matrix (vector, element), transposed; there are as many vectors as elements in a part.

    Interleaving vector k with vector k + n / 2 moves one bit of the vector's number into the element's; log2(n) turns
    move all of them.
    """
    half, lanes = per_part // 2, vectors[0].type.count
    for _ in range(per_part.bit_length() - 1):
        pairs = list(zip(vectors[:half], vectors[half:], strict=True))
        vectors = [_unpacked(f, a, b, per_part, lanes, high) for a, b in pairs for high in (0, half)]
    return vectors


def _unpacked(f: Function, a: Value, b: Value, per_part: int, lanes: int, first: int) -> Value:
    """a[first], b[first], a[first + 1], ...: half of each part of both."""
    numbers = [
        start + first + n + second * lanes
        for start in range(0, lanes, per_part)
        for n in range(per_part // 2)
        for second in (0, 1)
    ]
    return f.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, lanes), numbers))


def _joined(f: Function, parts: list[Any]) -> Value:
    """Vectors one behind the other; their number is a power of two."""
    while len(parts) > 1:
        mask = ir.Constant(ir.VectorType(I32, 2 * parts[0].type.count), list(range(2 * parts[0].type.count)))
        parts = [f.builder.shuffle_vector(a, b, mask) for a, b in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]
