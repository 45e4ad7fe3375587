"""Copies that contractions make: panels of B, A with zeros around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from llvmlite import ir

from graphnn.backends.cpu.contraction import Border, Contraction, Tile
from graphnn.backends.cpu.emit import Function, Value, const
from graphnn.backends.cpu.squares import part_of, side_by_side, turn_squares

Index: TypeAlias = "Value | int"  # a number known now, or at run time


def plus(f: Function, x: Index, y: Index) -> Index:
    """X + y."""
    if isinstance(x, int) and isinstance(y, int):
        return x + y
    if isinstance(x, int) and x == 0:
        return y
    if isinstance(y, int) and y == 0:
        return x
    return f.builder.add(number(x), number(y))


def times(f: Function, x: Index, factor: int) -> Index:
    """X * factor."""
    if isinstance(x, int):
        return x * factor
    if factor in (0, 1):
        return x if factor else 0
    return f.builder.mul(x, const(factor))


def number(x: Index) -> Value:
    """The index as an IR value."""
    return const(x) if isinstance(x, int) else x


def smaller(f: Function, x: Index, y: Index) -> Index:
    """min(x, y)."""
    if isinstance(x, int) and isinstance(y, int):
        return min(x, y)
    return f.builder.select(f.builder.icmp_signed("<", number(x), number(y)), number(x), number(y))


def larger(f: Function, x: Index, y: Index) -> Index:
    """max(x, y)."""
    if isinstance(x, int) and isinstance(y, int):
        return max(x, y)
    return f.builder.select(f.builder.icmp_signed(">", number(x), number(y)), number(x), number(y))


@dataclass(frozen=True)
class Copied:
    """One loop of k of a copy: how many, and the elements from one to the next on both sides."""

    count: Index
    source: int
    target: int


# -- panels of B -------------------------------------------------------------------------------------------------------


def pack_panels(
    f: Function,
    problem: Contraction,
    tile: Tile,
    source: Value,
    target: Value,
    first: Index,
    count: Index,
    loops: Sequence[Copied],
) -> None:
    """Write `count` panels of B from number `first` on: [panel][k][tile.width].

    `source` is B at its first k and column 0; `loops` are those of k, outermost first, the innermost of which is
    turned by blocks where it is contiguous. Columns behind the last one are of no meaning.
    """
    with f.loop(count) as panel:
        column = f.builder.mul(f.builder.add(panel.index, number(first)), const(tile.width))
        there = f.at(target, f.builder.mul(panel.index, const(problem.packed_depth * tile.width)), problem.dtype)
        inner = loops[-1]
        turns = problem.b_column != 1 and inner.source == 1 and isinstance(inner.count, int)
        turns = turns and inner.count >= part_of(problem.dtype)
        _walk(f, problem, tile, (source, there), column, list(loops), bool(turns))


def _walk(
    f: Function,
    problem: Contraction,
    tile: Tile,
    ends: tuple[Value, Value],
    column: Value,
    loops: list[Copied],
    turns: bool,
) -> None:
    if turns and len(loops) == 1:
        return _turn_panel(f, problem, tile, ends, column, loops[0])
    if not loops:
        return _copy_columns(f, problem, tile, ends, column)
    with f.loop(loops[0].count) as loop:
        moved = (times(f, loop.index, loops[0].source), times(f, loop.index, loops[0].target))
        inner = (f.at(ends[0], moved[0], problem.dtype), f.at(ends[1], moved[1], problem.dtype))
        _walk(f, problem, tile, inner, column, loops[1:], turns)


def _copy_columns(f: Function, problem: Contraction, tile: Tile, ends: tuple[Value, Value], column: Value) -> None:
    """One k of a panel."""
    b, dtype, lanes = f.builder, problem.dtype, tile.lanes
    if problem.b_column == 1:
        for start in range(0, tile.width, lanes):
            at = b.add(column, const(start))
            if problem.columns % tile.width:
                values = f.load_masked(ends[0], at, dtype, f.tail_mask(b.sub(const(problem.columns), at), lanes))
            else:
                values = f.load_vector(ends[0], at, dtype, lanes)
            f.store_vector(values, ends[1], start, dtype)
        return
    with f.loop(tile.width) as loop:
        at = smaller(f, b.add(column, loop.index), problem.columns - 1)
        value = f.load(ends[0], times(f, at, problem.b_column), dtype)
        f.store(value, ends[1], loop.index, dtype)


def _turn_panel(
    f: Function, problem: Contraction, tile: Tile, ends: tuple[Value, Value], column: Value, loop: Copied
) -> None:
    """All k of the innermost loop, by blocks of lanes * part; the last block lies over the one before it."""
    b, dtype, part = f.builder, problem.dtype, part_of(problem.dtype)
    with f.loop(tile.vectors) as vector, f.loop(loop.count, step=part) as block:
        k = block.index if loop.count % part == 0 else smaller(f, block.index, int(loop.count) - part)
        start = b.mul(vector.index, const(tile.lanes))
        here, first = f.at(ends[0], k, dtype), b.add(column, start)
        there = f.at(ends[1], plus(f, times(f, k, loop.target), start), dtype)
        pieces = _read_pieces(f, problem, tile, here, first)
        for i, turned in enumerate(turn_squares(f, pieces, tile.lanes)):
            f.store_vector(turned, there, i * loop.target, dtype)


def _read_pieces(f: Function, problem: Contraction, tile: Tile, source: Value, first: Value) -> list[Value]:
    """Vectors whose lanes of 16 bytes hold k of one column each: vector i has columns i, i + part, i + 2 part..."""
    part, last, pieces = part_of(problem.dtype), problem.columns - 1, []
    if problem.columns % tile.width == 0:
        source = f.at(source, times(f, first, problem.b_column), problem.dtype)
    for lane in range(tile.lanes):
        at: Index = lane * problem.b_column
        if problem.columns % tile.width:
            at = times(f, smaller(f, f.builder.add(first, const(lane)), last), problem.b_column)
        pieces.append(f.load_vector(source, at, problem.dtype, part))
    return side_by_side(f, pieces, part)


# -- A -----------------------------------------------------------------------------------------------------------------


def pad_lines(f: Function, border: Border, source: Value, target: Value, dtype: str) -> None:
    """The copy of one batch item with zeros in front of and behind each line."""
    lanes, channels = f.target.lanes(dtype), border.channels
    pitch = (border.low + border.length + border.high) * channels
    with f.loop(border.lines) as line:
        here = f.at(source, times(f, line.index, border.line), dtype)
        there = f.at(target, times(f, line.index, pitch), dtype)
        inside, behind = border.low * channels, (border.low + border.length) * channels
        copy_run(f, None, there, inside, dtype, lanes)
        copy_run(f, None, f.at(there, behind, dtype), border.high * channels, dtype, lanes)
        _copy_line(f, border, here, f.at(there, inside, dtype), dtype)


def _copy_line(f: Function, border: Border, source: Value, target: Value, dtype: str) -> None:
    lanes, channels = f.target.lanes(dtype), border.channels
    if channels == border.pitch:
        return copy_run(f, source, target, border.length * channels, dtype, lanes)
    with f.loop(border.length) as place:
        here = f.at(source, times(f, place.index, border.pitch), dtype)
        copy_run(f, here, f.at(target, times(f, place.index, channels), dtype), channels, dtype, lanes)


def copy_run(f: Function, source: Value | None, target: Value, count: int, dtype: str, lanes: int) -> None:
    """`count` neighbouring elements; zeros where there is no source."""
    whole = count // lanes * lanes
    zeros = ir.Constant(ir.VectorType(_element(dtype), lanes), None)
    if whole:
        with f.loop(whole, step=lanes) as loop:
            values = zeros if source is None else f.load_vector(source, loop.index, dtype, lanes)
            f.store_vector(values, target, loop.index, dtype)
    if count > whole:
        mask = f.tail_mask(const(count - whole), lanes)
        values = zeros if source is None else f.load_masked(source, whole, dtype, mask)
        f.store_masked(values, target, whole, dtype, mask)


def _element(dtype: str) -> ir.Type:
    return ir.FloatType() if dtype == "float32" else ir.DoubleType()
