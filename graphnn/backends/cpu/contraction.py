"""Contractions as data: affine index spaces, and the choice of the register tile. Nothing is emitted here.

out[m..., n] = epilogue(sum over k... of A[affine(m..., k...)] * B[affine(m..., k..., n)]), each m and k a small loop.
Matrix products, convolutions and both their gradients are of this form; `contraction_nest` writes the loops.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from graphnn.backends.cpu.emit import Function, Value
from graphnn.backends.cpu.target import Target
from graphnn.ir.tensor_spec import ITEM_BYTES

DOTS = 8  # rows of a tile where vectors run along k
PAGE, NEAR_PAGES = 4096, 64  # bytes; pages whose addresses a core finds without delay

Compute: TypeAlias = Callable[[Function, Value, list[Value]], list[Value]]  # (f, sum, operands) -> one value per output


@dataclass(frozen=True)
class Segment:
    """Neighbouring indices of an axis that see the same range of k.

    Args:
        out: position of the first one in the output.
        count: how many.
        a: offset in A of the first one at its first k, in elements.
        k: the first k in B.
        k_count: how many k; 0 where only zeros are seen.
    """

    out: int
    count: int
    a: int = 0
    k: int = 0
    k_count: int = 1


@dataclass(frozen=True)
class Axis:
    """One loop of m, with the loop of k that slides along it.

    Args:
        segments: together all indices.
        a: elements of A from one index to the next.
        b: elements of B from one index to the next.
        step: positions of the output from one index to the next.
        extent_k: the size of the axis of k in B; 1 where no k belongs to this axis.
        step_k: positions of that axis from one k to the next.
        a_k: elements of A from one k to the next.
        b_k: elements of B from one position of k to the next.
    """

    segments: tuple[Segment, ...]
    a: int = 0
    b: int = 0
    step: int = 1
    extent_k: int = 1
    step_k: int = 1
    a_k: int = 0
    b_k: int = 0

    @property
    def slides(self) -> bool:
        """True where a loop of k belongs to the axis."""
        return self.extent_k > 1 or any(segment.k_count != 1 for segment in self.segments)

    @property
    def longest(self) -> int:
        """Indices of the longest segment."""
        return max(segment.count for segment in self.segments)


def plain(extent: int, a: int = 0, b: int = 0) -> Axis:
    """A loop without k."""
    return Axis((Segment(0, extent),), a, b)


@dataclass(frozen=True)
class Depth:
    """A loop of k alone: its extent and the elements of A and B from one index to the next."""

    extent: int
    a: int
    b: int


@dataclass(frozen=True)
class Place:
    """A tensor that the epilogue reads or writes, addressed by output positions.

    Args:
        pointer: position among the kernel's pointers.
        dtype: element type in memory.
        strides: elements for one position of each batch axis and each row axis; 0 where it is broadcast.
        column: 1 where its last axis is that of the columns, 0 where it is broadcast.
    """

    pointer: int
    dtype: str
    strides: tuple[int, ...]
    column: int = 1


@dataclass(frozen=True)
class Epilogue:
    """What becomes of the sums while they are in registers.

    Args:
        inputs: tensors that `compute` needs.
        outputs: where its results go.
        compute: see `Compute`; None stores the sum.
        weight: rough number of vector instructions of `compute`.
        over: pairs of an input and an output, by position, that may be in the same memory.
    """

    inputs: tuple[Place, ...]
    outputs: tuple[Place, ...]
    compute: Compute | None = None
    weight: int = 0
    over: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Border:
    """Zeros around the tiled axis of A: each batch item is copied with them.

    Args:
        lines: number of lines along that axis.
        line: elements of A from one line to the next.
        length: positions of a line that are copied.
        pitch: elements of A from one position to the next.
        channels: elements of a position that are copied.
        low: zeros in front, in positions.
        high: zeros behind.
    """

    lines: int
    line: int
    length: int
    pitch: int
    channels: int
    low: int
    high: int

    @property
    def elements(self) -> int:
        """Size of the copy."""
        return self.lines * (self.low + self.length + self.high) * self.channels


@dataclass(frozen=True)
class Contraction:
    """One contraction; the offsets of A and B are sums over all axes.

    Args:
        dtype: of A, B and the sums.
        a: position of A among the pointers; b: of B.
        batch: outermost loops, over which B may move.
        outer: loops of k around all of m: their partial sums go through memory.
        rows: the loops of m; the last one is tiled.
        depth: the inner loops of k.
        columns: extent of n.
        b_column: elements of B from one column to the next.
        a_column: 1 where A moves along n too (depthwise), else 0.
        epilogue: reads and writes.
        pointers: number of inputs and outputs of the kernel; its scratch memory comes behind them.
        border: a copy of A with zeros around it, made for each index of the outer loops or, without these, of the first
            row axis.
        block: number of k of the first row axis that are summed at a time; 0: all.
    """

    dtype: str
    a: int
    b: int
    batch: tuple[Axis, ...]
    outer: tuple[Depth, ...]
    rows: tuple[Axis, ...]
    depth: tuple[Depth, ...]
    columns: int
    b_column: int
    a_column: int
    epilogue: Epilogue
    pointers: int
    border: Border | None = None
    block: int = 0

    @property
    def depth_size(self) -> int:
        """Number of k in B, without the outer ones."""
        return math.prod(axis.extent_k for axis in self.rows) * math.prod(loop.extent for loop in self.depth)

    @property
    def packed_depth(self) -> int:
        """Number of k that are packed at a time."""
        return self.depth_size // self.rows[0].extent_k * self.block if self.block else self.depth_size

    @property
    def row_count(self) -> int:
        """Number of m that see one and the same B."""
        return math.prod(sum(segment.count for segment in axis.segments) for axis in self.rows)

    @property
    def dots(self) -> bool:
        """True for a matrix times a column, both contiguous along k: vectors run along k."""
        alone = len(self.depth) == 1 and not any(axis.slides for axis in self.rows)
        return self.columns == 1 and alone and (self.depth[0].a, self.depth[0].b) == (1, 1) and not self.outer

    @property
    def partial(self) -> bool:
        """True where sums go through memory between blocks of k."""
        return bool(self.block or self.outer)


@dataclass(frozen=True)
class Tile:
    """The register tile and what is packed.

    Args:
        rows: rows of a tile.
        vectors: vectors of columns of a tile: the width of a panel of B.
        lanes: elements of a vector.
        pack_b: copy B into panels.
        panels: number of panels that are packed at a time.
    """

    rows: int
    vectors: int
    lanes: int
    pack_b: bool
    panels: int

    @property
    def width(self) -> int:
        """Columns of a panel."""
        return self.vectors * self.lanes


def choose_tile(problem: Contraction, target: Target) -> Tile:
    """The tile of the smallest estimated time."""
    lanes = target.lanes(problem.dtype)
    if problem.dots:
        return Tile(min(problem.rows[-1].longest, DOTS), 1, lanes, False, 1)
    rows, vectors = _shape(problem, target, lanes)
    tile = Tile(rows, vectors, lanes, False, 1)
    total = panel_count(problem, tile)
    packs_b = _packs_b(problem, tile, total)
    held = min(total, _panels_at_a_time(problem, tile, target)) if packs_b else total
    return Tile(rows, vectors, lanes, packs_b, held)


def panel_count(problem: Contraction, tile: Tile) -> int:
    """Panels that cover all columns."""
    return -(-problem.columns // tile.width)


def _shape(problem: Contraction, target: Target, lanes: int) -> tuple[int, int]:
    """The (rows, vectors) with the fewest cycles for all rows and columns of one step of k."""
    counts = [segment.count for segment in problem.rows[-1].segments]
    columns = -(-problem.columns // lanes)
    streams = problem.packed_depth * min(columns, 2) * target.vector_bytes > target.l1_bytes // 2
    best, most = (math.inf, 0, 0), min(max(counts), 28, _rows_in_cache(problem, target))
    for vectors in range(1, min(columns, 8) + 1):
        for rows in range(1, most + 1):
            if _registers(rows, vectors, problem.a_column) <= target.registers:
                cost = -(-columns // vectors) * sum(_tiles(count, rows) for count in counts)
                best = min(
                    best,
                    (cost * _step_cycles(rows, vectors, problem.a_column, streams), -rows * vectors, rows),
                    key=_rank,
                )
    return best[2], -best[1] // best[2]


def _rank(candidate: tuple[float, int, int]) -> tuple[float, int, int]:
    return (round(candidate[0], 6), candidate[1], -candidate[2])


def _tiles(count: int, rows: int) -> int:
    return -(-count // rows) if count >= rows else count


def _registers(rows: int, vectors: int, a_column: int) -> int:
    """Sums, vectors of B, and the row of A."""
    return rows * vectors + (1 if vectors == 1 else vectors + 1) + (1 if a_column else 0) + 1


def _step_cycles(rows: int, vectors: int, a_column: int, streams: bool) -> float:
    """Of one k: two multiply-adds of a latency of 4 and two loads a cycle, and the loop's own instructions.

    Where B comes from L2, so do the rows of A, each from a place of its own: many of them are in each other's way.
    """
    loads = vectors + rows * (vectors if a_column else 1)
    return max(rows * vectors, loads + 0.5, 8) / 2 + 0.05 * loads + (0.1 * vectors + 0.08 * rows if streams else 0)


def _rows_in_cache(problem: Contraction, target: Target) -> int:
    """Rows of A of which the first-level cache keeps a line each; those a multiple of a page apart share its ways."""
    stride = problem.rows[-1].a * ITEM_BYTES[problem.dtype]
    return max(1, target.l1_bytes // PAGE - 2) * (PAGE // math.gcd(stride, PAGE))


def _packs_b(problem: Contraction, tile: Tile, panels: int) -> bool:
    """Panels pay where columns lie on more pages than the processor keeps in mind, or where many rows use them."""
    if problem.a_column:
        return False
    if problem.b_column != 1:
        return True
    tiles, item = problem.row_count // tile.rows, ITEM_BYTES[problem.dtype]
    nbytes = problem.packed_depth * problem.columns * item
    if problem.outer or nbytes <= 32768 or (panels == 1 and problem.columns % tile.lanes == 0):
        return False
    return tiles >= (3 if nbytes > NEAR_PAGES * PAGE else 24)


def _panels_at_a_time(problem: Contraction, tile: Tile, target: Target) -> int:
    """As many as fill a quarter of the second-level cache."""
    nbytes = problem.packed_depth * tile.width * ITEM_BYTES[problem.dtype]
    return max(1, target.l2_bytes // 4 // max(nbytes, 1))


def fold(axes: Sequence[Axis], strides: Sequence[tuple[int, ...]]) -> tuple[list[Axis], list[tuple[int, ...]]]:
    """Neighbouring plain axes that all tensors walk through as one become one.

    Args:
        axes: outermost first.
        strides: for each tensor the elements per position of each axis.
    """
    kept: list[Axis] = []
    moves: list[tuple[int, ...]] = []
    for axis, move in zip(axes, zip(*strides, strict=True), strict=True):
        if kept and _folds(kept[-1], moves[-1], axis, move):
            extent = kept[-1].segments[0].count * axis.segments[0].count
            kept[-1], moves[-1] = plain(extent, axis.a, axis.b), move
        else:
            kept.append(axis)
            moves.append(move)
    return kept, [tuple(column) for column in zip(*moves, strict=True)] if moves else [() for _ in strides]


def _folds(outer: Axis, outer_move: tuple[int, ...], inner: Axis, inner_move: tuple[int, ...]) -> bool:
    if not (is_plain(outer) and is_plain(inner)):
        return False
    extent = inner.segments[0].count
    before = (outer.a, outer.b, *outer_move)
    return before == tuple(extent * move for move in (inner.a, inner.b, *inner_move))


def is_plain(axis: Axis) -> bool:
    """True for a loop from 0 to its extent without k."""
    return not axis.slides and len(axis.segments) == 1 and axis.step == 1 and axis.segments[0].a == 0
