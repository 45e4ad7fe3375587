"""Squares of numbers that are turned round in registers, several of them side by side in a vector.

A piece is `part` neighbouring numbers, within which shuffles are cheapest: 16 bytes. Pieces i, i + part, i + 2 part...
lie side by side in vector i, so that `part` vectors hold squares of part x part numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from llvmlite import ir

from graphnn.backends.cpu.emit import I32, Function, Value
from graphnn.ir.tensor_spec import ITEM_BYTES


def part_of(dtype: str) -> int:
    """Elements of a piece."""
    return 16 // ITEM_BYTES[dtype]


def side_by_side(f: Function, pieces: Sequence[Value], part: int) -> list[Value]:
    """`part` vectors of all pieces; the number of pieces divided by `part` is a power of two."""
    groups = [list(pieces[i::part]) for i in range(part)]
    while len(groups[0]) > 1:
        groups = [[_joined(f, *pair) for pair in zip(group[::2], group[1::2], strict=True)] for group in groups]
    return [group[0] for group in groups]


def taken_apart(f: Function, vectors: Sequence[Value], part: int) -> list[Value]:
    """The pieces of which `side_by_side` would make these vectors."""
    count = vectors[0].type.count // part
    orders = [list(range(start * part, (start + 1) * part)) for start in range(count)]
    return [_shuffle(f, vector, vector, order) for order in orders for vector in vectors]


def turn_squares(f: Function, rows: list[Value], lanes: int) -> list[Value]:
    """Rows as columns, in each square: stages that exchange halves of pairs (Eklundh 1972)."""
    rows, distance = list(rows), len(rows) // 2
    while distance:
        low = [j if not j & distance else lanes + j - distance for j in range(lanes)]
        high = [j + distance if not j & distance else lanes + j for j in range(lanes)]
        for i in range(len(rows)):
            if not i & distance:
                pair = rows[i], rows[i + distance]
                rows[i], rows[i + distance] = (_shuffle(f, *pair, order) for order in (low, high))
        distance //= 2
    return rows


def picked(f: Function, vectors: Sequence[Value], picks: Sequence[int]) -> Value:
    """One vector of these elements, by their numbers in all vectors laid end to end."""
    lanes = vectors[0].type.count
    result = vectors[0]
    for number, vector in enumerate(vectors):
        mine = [pick - number * lanes for pick in picks]
        order = [lanes + at if 0 <= at < lanes else lane for lane, at in enumerate(mine)]
        result = _shuffle(f, result, vector, order)
    return result


def _joined(f: Function, x: Value, y: Value) -> Value:
    return _shuffle(f, x, y, list(range(2 * x.type.count)))


def _shuffle(f: Function, x: Value, y: Value, order: list[int]) -> Value:
    return f.builder.shuffle_vector(x, y, _constant(tuple(order)))


@cache
def _constant(order: tuple[int, ...]) -> ir.Constant:
    """One for all places that need it: they are few, and each takes some kilobytes."""
    return ir.Constant(ir.VectorType(I32, len(order)), order)
