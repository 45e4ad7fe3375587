"""The loops around the register tile: batches, blocks of columns and of k, segments, tiles, panels."""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from llvmlite import ir

from graphnn.backends.cpu.contraction import (
    Axis,
    Border,
    Contraction,
    Epilogue,
    Segment,
    Tile,
    choose_tile,
    is_plain,
    panel_count,
)
from graphnn.backends.cpu.contraction_pack import (
    Copied,
    Index,
    larger,
    number,
    pack_panels,
    pad_lines,
    plus,
    smaller,
    times,
)
from graphnn.backends.cpu.contraction_tile import (
    STRAIGHT,
    Register,
    Sink,
    Sum,
    add_products,
    dot_products,
    fetch_of,
    finish_tile,
    merged,
    start_sums,
)
from graphnn.backends.cpu.emit import I64, SECOND_LEVEL, Function, Value, const
from graphnn.backends.cpu.kernel import Kernel
from graphnn.backends.cpu.target import Target
from graphnn.ir.tensor_spec import ITEM_BYTES

LINE = 64  # bytes that a cache holds together


def emit_contraction(problem: Contraction, target: Target, tile: Tile | None = None) -> Kernel:
    """The kernel of a contraction; `tile` is for measurements."""
    tile = tile or choose_tile(problem, target)
    nest = _Nest(problem, tile, target)
    nest.emit()
    copies = f"{' pack B' if tile.pack_b else ''}{' border' if problem.border else ''}"
    notes = f"tile {tile.rows} x {tile.vectors} vectors{copies}"
    return Kernel(nest.f.finish(), nest.sizes, nest.scratch_bytes, notes)


@dataclass(frozen=True)
class _Here:
    """Offsets of the current place in A, in B (what its axes add) and in the epilogue's tensors; the loops of k."""

    a: Index
    b: Index
    places: tuple[Index, ...]
    sums: tuple[Sum, ...] = ()


@dataclass(frozen=True)
class _Block:
    """First panel, number of panels, range of k of the first row axis; where the next block begins in A and in B."""

    panel: Index = 0
    panels: Index = 0
    low: Index = 0
    high: Index | None = None
    ahead: tuple[Value, Value] | None = None
    fresh: Value | None = None
    last: Value | None = None


class _Nest:
    """Writes one kernel; the methods stand in the order of the loops, outermost first."""

    def __init__(self, problem: Contraction, tile: Tile, target: Target):
        self.problem, self.tile = problem, tile
        self.f = Function(target)
        self.item = ITEM_BYTES[problem.dtype]
        self.scratch_bytes = 0
        self.sizes: tuple[int, ...] = ()
        self.a, self.b = self.f.pointer(problem.a), self.f.pointer(problem.b)
        places = (*problem.epilogue.inputs, *problem.epilogue.outputs)
        self.bases = tuple(self.f.pointer(place.pointer) for place in places)
        self._reserve()

    def _reserve(self) -> None:
        """Scratch memory: panels of B, the bordered copy, sums between blocks."""
        problem, tile = self.problem, self.tile
        parts = (
            tile.panels * tile.width * problem.packed_depth if tile.pack_b else 0,
            problem.border.elements if problem.border else 0,
            self._partial_size() if problem.partial and problem.epilogue.compute else 0,
            tile.rows * tile.width if self._spills() else 0,
        )
        starts = []
        for part in parts:
            starts.append(self.scratch_bytes)
            self.scratch_bytes += -(-part * self.item // 64) * 64
        base = self.f.pointer(problem.pointers) if self.scratch_bytes else self.a
        addresses = [self.f.at(base, start, "int8") for start in starts]
        self.packed_b, self.bordered, self.partial_base, self.spill = addresses
        if problem.partial and not problem.epilogue.compute:
            self.partial_base = self.bases[-1]

    def _spills(self) -> bool:
        """True where a tile's sums may have to lie in memory for the epilogue."""
        problem, rows = self.problem, self.tile.rows
        (*_, axis), epilogue = problem.rows, problem.epilogue
        is_open = not problem.batch and not problem.outer and len(problem.rows) == 1
        partly = is_open or any(segment.count % rows and segment.count > rows for segment in axis.segments)
        return partly or len(axis.segments) > 1 or epilogue.weight * rows * self.tile.vectors > STRAIGHT

    def _partial_size(self) -> int:
        out, axes = self.problem.epilogue.outputs[0], (*self.problem.batch, *self.problem.rows)
        ends = (max(s.out + (s.count - 1) * axis.step for s in axis.segments) for axis in axes)
        return sum(end * stride for end, stride in zip(ends, out.strides, strict=True)) + self.problem.columns

    def emit(self) -> None:
        """All loops."""
        places = (0,) * len(self.bases)
        self._batch(0, _Here(0, 0, places))

    def _count(self, extent: int, outermost: bool) -> Index:
        """The extent of the outermost loop is left open: steps that differ in it alone share the code."""
        if not outermost:
            return extent
        self.sizes = (extent,)
        return self.f.size(0)

    # -- batch, columns, blocks of k ---------------------------------------------------------------------------------

    def _batch(self, depth: int, here: _Here) -> None:
        if depth == len(self.problem.batch):
            return self._columns(here)
        axis = self.problem.batch[depth]
        with self.f.loop(self._count(axis.longest, depth == 0)) as loop:
            self._batch(depth + 1, self._moved(here, axis, depth, loop.index, 0))

    def _moved(self, here: _Here, axis: Axis, position: int, index: Index, out: Index) -> _Here:
        f, places = self.f, (*self.problem.epilogue.inputs, *self.problem.epilogue.outputs)
        at = plus(f, times(f, index, axis.step), out)
        moved = [plus(f, o, times(f, at, p.strides[position])) for o, p in zip(here.places, places, strict=True)]
        a, b = plus(f, here.a, times(f, index, axis.a)), plus(f, here.b, times(f, index, axis.b))
        return replace(here, a=a, b=b, places=tuple(moved))

    def _columns(self, here: _Here) -> None:
        """Blocks of panels."""
        total, held = panel_count(self.problem, self.tile), self.tile.panels
        if total <= held:
            return self._outer(0, here, _Block(0, total))
        with self.f.loop(total, step=held) as loop:
            left = self.f.builder.sub(const(total), loop.index)
            self._outer(0, here, _Block(loop.index, smaller(self.f, left, held)))

    def _outer(self, depth: int, here: _Here, block: _Block) -> None:
        """Loops of k around all rows."""
        if depth == len(self.problem.outer):
            border = self.problem.border if depth else None
            return self._k_blocks(self._bordered(here, border) if border else here, block)
        axis, f = self.problem.outer[depth], self.f
        count = self._count(axis.extent, depth == 0 and not self.problem.batch)
        with f.loop(count) as loop:
            a, b = plus(f, here.a, times(f, loop.index, axis.a)), plus(f, here.b, times(f, loop.index, axis.b))
            first, last = self._ends(loop.index, f.builder.sub(number(count), const(1)))
            self._outer(depth + 1, replace(here, a=a, b=b), self._flagged(block, first, last))

    def _ends(self, index: Value, last: Value) -> tuple[Value, Value]:
        b = self.f.builder
        return b.icmp_signed("==", index, const(0)), b.icmp_signed("==", index, last)

    def _flagged(self, block: _Block, first: Value, last: Value) -> _Block:
        b = self.f.builder
        fresh = first if block.fresh is None else b.and_(block.fresh, first)
        end = last if block.last is None else b.and_(block.last, last)
        return replace(block, fresh=fresh, last=end)

    def _k_blocks(self, here: _Here, block: _Block) -> None:
        size, axis = self.problem.block, self.problem.rows[0]
        if not size:
            return self._packed(here, block)
        with self.f.loop(axis.extent_k, step=size) as loop:
            first, last = self._ends(loop.index, const((axis.extent_k - 1) // size * size))
            high = smaller(self.f, self.f.builder.add(loop.index, const(size)), axis.extent_k)
            ahead = None if self.problem.border else self._ahead(here, axis, high)
            self._packed(here, replace(self._flagged(block, first, last), low=loop.index, high=high, ahead=ahead))

    def _ahead(self, here: _Here, axis: Axis, k: Index) -> tuple[Value, Value]:
        """The addresses of a k of the first row axis."""
        f, dtype = self.f, self.problem.dtype
        a, b = plus(f, here.a, times(f, k, axis.a_k)), plus(f, here.b, times(f, k, axis.b_k))
        return f.at(self.a, a, dtype), f.at(self.b, b, dtype)

    def _packed(self, here: _Here, block: _Block) -> None:
        if self.tile.pack_b:
            f, problem = self.f, self.problem
            loops = []
            for i, (extent, move, target) in enumerate(self._k_moves()):
                clipped = problem.block and i == 0
                loops.append(Copied(f.builder.sub(block.high, block.low) if clipped else extent, move, target))
            start = plus(f, here.b, times(f, block.low, problem.rows[0].b_k))
            source = f.at(self.b, start, problem.dtype)
            pack_panels(f, problem, self.tile, source, self.packed_b, block.panel, block.panels, loops)
            here = replace(here, b=0)
        self._rows(0, here, block)

    def _k_moves(self) -> list[tuple[int, int, int]]:
        """For each loop of k: extent, elements in B, elements in the packed panels."""
        problem = self.problem
        moves = [(axis.extent_k, axis.b_k) for axis in problem.rows if axis.slides]
        moves += [(loop.extent, loop.b) for loop in problem.depth]
        inner = [math.prod(extent for extent, _ in moves[i + 1 :]) * self.tile.width for i in range(len(moves))]
        return [(*move, packed) for move, packed in zip(moves, inner, strict=True)]

    # -- rows --------------------------------------------------------------------------------------------------------

    def _rows(self, depth: int, here: _Here, block: _Block) -> None:
        axis, tiled = self.problem.rows[depth], depth == len(self.problem.rows) - 1
        for_open = not self.problem.batch and not self.problem.outer and depth == 0 and is_plain(axis)
        if self.problem.border and depth == 1 and not self.problem.outer:
            here = self._bordered(here, self.problem.border)
        with self._segments(axis, for_open) as segment:
            inside = self._segment(here, axis, segment, depth, block)
            if tiled:
                return self._tiles(inside, axis, segment, block)
            with self.f.loop(segment.count) as loop:
                self._rows(
                    depth + 1,
                    self._moved(inside, axis, len(self.problem.batch) + depth, loop.index, segment.out),
                    block,
                )

    @contextmanager
    def _segments(self, axis: Axis, outermost: bool) -> Generator[Segment]:
        """The numbers of each segment: constants, or read from a table."""
        if len(axis.segments) == 1:
            (segment,) = axis.segments
            yield replace(segment, count=self._count(segment.count, outermost))
            return
        rows = [(s.out, s.count, s.a, s.k, s.k_count) for s in axis.segments]
        kind = ir.ArrayType(I64, len(rows) * 5)
        table: Value = ir.GlobalVariable(self.f.module, kind, f"segments{len(self.f.module.globals)}")
        table.initializer = ir.Constant(kind, [number for row in rows for number in row])
        table.global_constant, table.linkage = True, "internal"
        with self.f.loop(len(rows)) as loop:
            start = self.f.builder.mul(loop.index, const(5))
            fields = [self.f.load(table, self.f.builder.add(start, const(i)), "int64") for i in range(5)]
            yield Segment(*fields)

    def _segment(self, here: _Here, axis: Axis, segment: Segment, depth: int, block: _Block) -> _Here:
        """`here` at the first index of a segment, with its loop of k."""
        f, a = self.f, plus(self.f, here.a, segment.a)
        if not axis.slides:
            return replace(here, a=a)
        move = self._k_moves()[sum(other.slides for other in self.problem.rows[:depth])]
        stride = move[2] if self.tile.pack_b else move[1]
        first, count = segment.k, segment.k_count
        if block.high is not None and depth == 0:
            low, end = larger(f, first, block.low), smaller(f, plus(f, first, count), block.high)
            a = plus(f, a, times(f, f.builder.sub(number(low), number(first)), axis.a_k))
            count = larger(f, f.builder.sub(number(end), number(low)), 0)
            first = f.builder.sub(number(low), number(block.low)) if self.tile.pack_b else low
        b = plus(f, here.b, times(f, first, stride))
        return replace(here, a=a, b=b, sums=(*here.sums, Sum(count, axis.a_k, axis.step_k * stride)))

    def _bordered(self, here: _Here, border: Border) -> _Here:
        f = self.f
        pad_lines(f, border, f.at(self.a, here.a, self.problem.dtype), self.bordered, self.problem.dtype)
        return replace(here, a=0)

    # -- tiles -------------------------------------------------------------------------------------------------------

    def _tiles(self, here: _Here, axis: Axis, segment: Segment, block: _Block) -> None:
        """All tiles of a segment; the last lies over the one before it. Segments too short for that go row by row."""
        f, rows, count = self.f, self.tile.rows, number(segment.count)
        if all(s.count >= rows for s in axis.segments):
            return self._whole_tiles(here, axis, segment, block)
        with f.when(f.builder.icmp_signed(">=", count, const(rows))):
            self._whole_tiles(here, axis, segment, block)
        with f.when(f.builder.icmp_signed("<", count, const(rows))), f.loop(count) as loop:
            self._tile(here, axis, segment, loop.index, 0, 1, block)

    def _whole_tiles(self, here: _Here, axis: Axis, segment: Segment, block: _Block) -> None:
        f, rows, count = self.f, self.tile.rows, segment.count
        if isinstance(count, int) and count == rows:
            return self._tile(here, axis, segment, 0, 0, rows, block)
        with f.loop(count, step=rows) as loop:
            start = smaller(f, loop.index, f.builder.sub(number(count), const(rows)))
            skip = f.builder.sub(loop.index, number(start))
            if isinstance(count, int) and count % rows == 0:
                start, skip = loop.index, 0
            self._tile(here, axis, segment, start, skip, rows, block)

    def _tile(
        self, here: _Here, axis: Axis, segment: Segment, start: Index, skip: Index, rows: int, block: _Block
    ) -> None:
        """One tile of rows for all panels of the block."""
        f, problem = self.f, self.problem
        here = self._moved(here, axis, len(problem.batch) + len(problem.rows) - 1, start, segment.out)
        if block.ahead is not None:
            self._fetch_share(block.ahead, start)
        if isinstance(block.panels, int) and block.panels == 1:
            return self._panel(here, axis, 0, skip, rows, block)
        with f.loop(block.panels) as loop:
            self._panel(here, axis, loop.index, skip, rows, block)

    def _fetch_share(self, ahead: tuple[Value, Value], start: Index) -> None:
        """Ask for a tile's share of the next block: at once it would come no faster than it is needed."""
        problem, f, rows = self.problem, self.f, self.tile.rows
        tiles = -(-problem.rows[-1].longest // rows)
        for address, move in zip(ahead, (problem.rows[0].a_k, problem.rows[0].b_k), strict=True):
            lines = -(-problem.block * move * self.item // (LINE * tiles))
            first = f.builder.mul(f.builder.sdiv(number(start), const(rows)), const(lines))
            with f.loop(lines) as line:
                at = f.builder.mul(f.builder.add(first, line.index), const(LINE))
                f.prefetch(f.at(address, at, "int8"), SECOND_LEVEL)

    def _panel(self, here: _Here, axis: Axis, panel: Index, skip: Index, rows: int, block: _Block) -> None:
        f, problem, tile = self.f, self.problem, self.tile
        column = times(f, plus(f, panel, block.panel), tile.width)
        register = self._register(axis, rows, column)
        places = (*problem.epilogue.inputs, *problem.epilogue.outputs)
        offsets = [plus(f, o, times(f, column, p.column)) for o, p in zip(here.places, places, strict=True)]
        moves = tuple(axis.step * place.strides[-1] for place in places)
        a, b = self._sources(here, panel, column)
        sink = Sink(problem.epilogue, self.bases, tuple(offsets), moves)
        fetch = None if problem.partial else fetch_of(f, register, sink)
        if problem.dots and not tile.pack_b:
            sums = dot_products(f, register, problem.depth_size, a, b)
        else:
            sums = self._start(register, block, offsets[len(problem.epilogue.inputs)], axis)
            sums = add_products(f, register, merged((*here.sums, *self._depth())), a, b, sums, fetch)
        self._finish(register, sink, sums, skip, block)

    def _register(self, axis: Axis, rows: int, column: Index) -> Register:
        problem, tile = self.problem, self.tile
        masks = tuple(self._mask(column, vector) for vector in range(tile.vectors))
        return Register(problem.dtype, rows, tile.vectors, tile.lanes, axis.a, problem.a_column, masks, not tile.pack_b)

    def _mask(self, column: Index, vector: int) -> Value | None:
        """The columns of a vector that exist; None where they do in all panels."""
        problem, tile, f = self.problem, self.tile, self.f
        last = (panel_count(problem, tile) - 1) * tile.width + (vector + 1) * tile.lanes
        if last <= problem.columns:
            return None
        start = plus(f, column, vector * tile.lanes)
        return f.tail_mask(f.builder.sub(const(problem.columns), number(start)), tile.lanes)

    def _start(self, register: Register, block: _Block, offset: Index, axis: Axis) -> list[Value]:
        if not self.problem.partial:
            return start_sums(self.f, register, None, None, 0, None)
        move = axis.step * self.problem.epilogue.outputs[0].strides[-1]
        return start_sums(self.f, register, move, self.partial_base, offset, block.fresh)

    def _sources(self, here: _Here, panel: Index, column: Index) -> tuple[Value, Value]:
        """Addresses of the first row and k in A, and of the first column and k in B."""
        f, problem, tile = self.f, self.problem, self.tile
        base = self.bordered if problem.border else self.a
        a = f.at(base, plus(f, here.a, times(f, column, problem.a_column)), problem.dtype)
        if tile.pack_b:
            return a, f.at(
                self.packed_b, plus(f, times(f, panel, tile.width * problem.packed_depth), here.b), problem.dtype
            )
        return a, f.at(self.b, plus(f, here.b, column), problem.dtype)

    def _depth(self) -> list[Sum]:
        moves = self._k_moves()[-len(self.problem.depth) :] if self.problem.depth else []
        return [Sum(loop.extent, loop.a, self._b_move(m)) for loop, m in zip(self.problem.depth, moves, strict=True)]

    def _b_move(self, move: tuple[int, int, int]) -> int:
        return move[2] if self.tile.pack_b else move[1]

    def _finish(self, register: Register, sink: Sink, sums: list[Value], skip: Index, block: _Block) -> None:
        f, epilogue = self.f, self.problem.epilogue
        if not self.problem.partial or not epilogue.compute:
            return finish_tile(f, register, sink, sums, skip, self.spill)
        first = len(epilogue.inputs)
        place = replace(epilogue.outputs[0], dtype=self.problem.dtype)
        raw = Sink(
            Epilogue((), (place,)), (self.partial_base,), sink.offsets[first : first + 1], sink.rows[first : first + 1]
        )
        with f.when(f.builder.not_(block.last)):
            finish_tile(f, register, raw, sums, skip, self.spill)
        with f.when(block.last):
            finish_tile(f, register, sink, sums, skip, self.spill)
