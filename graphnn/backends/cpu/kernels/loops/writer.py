"""write_nest: the kernel of a loop nest. NestWriter: its loops and its sweeps over the rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from graphnn.backends.cpu.emit import Function, Value, const
from graphnn.backends.cpu.expression import emit_cast
from graphnn.backends.cpu.kernels.loops.across import AcrossRows, goes_across
from graphnn.backends.cpu.kernels.loops.evaluator import Evaluator
from graphnn.backends.cpu.kernels.loops.folds import Carried, Folds
from graphnn.backends.cpu.kernels.loops.frame import Array, Frame
from graphnn.backends.cpu.kernels.loops.position import Position, fixed_position, row_shape, unroll_of
from graphnn.backends.cpu.kernels.loops.reduce import combine, combined, horizontal, identity, row_dtype
from graphnn.backends.cpu.kernels.loops.row_loop import Body, RowLoop
from graphnn.backends.cpu.kernels.loops.schedule import Schedule
from graphnn.ir.program import Instruction
from graphnn.ir.program import Value as IrValue

BATCH = 4  # rows that are added up at once


def write_nest(f: Function, frame: Frame, schedule: Schedule, memory: Mapping[IrValue, Value]) -> None:
    """Write a nest, and then its epilogue.

    Args:
        f: where the IR goes.
        frame: what asks for sizes and scratch memory.
        schedule: of the nest.
        memory: addresses of the inputs and outputs.
    """
    memory, epilogue = dict(memory), schedule.nest.epilogue
    for fold in schedule.nest.folds:
        if fold.outputs[0] not in memory:  # only the epilogue reads it
            spec = fold.outputs[0].spec
            memory[fold.outputs[0]] = frame.block(spec.size, spec.dtype)
    writer = AcrossRows if goes_across(schedule, f.target) else NestWriter
    writer(f, frame, schedule, memory).write()
    if epilogue:
        write_nest(f, frame, Schedule(epilogue), memory)


class NestWriter:
    """Writes one nest, without its epilogue.

    Args:
        f: where the IR goes.
        frame: what asks for sizes and scratch memory.
        schedule: of the nest.
        memory: addresses of the inputs, outputs and folds.
    """

    def __init__(self, f: Function, frame: Frame, schedule: Schedule, memory: Mapping[IrValue, Value]):
        self.f, self.frame, self.schedule, self.nest = f, frame, schedule, schedule.nest
        nest, self.memory = schedule.nest, memory
        self.shape = row_shape(self.schedule, f.target)
        self.extents: list[Value] = [const(size) for size in nest.sizes]
        if nest.sizes:
            self.extents[0] = frame.number(nest.sizes[0])
        arrays = {value: self._array(value) for value in nest.layout if value in self.memory}
        words = {value: self.memory[value] for value in nest.body.inputs if value in self.memory}
        self.values = Evaluator(f, self.schedule, self.shape.lanes, arrays, words, self._stores())
        self.folds = Folds(self.values, self.shape, frame)
        self.positions: list[Position] = []

    def write(self) -> None:
        """The whole nest."""
        carried = self.folds.start()
        self.values.write_keys()
        self._scalars_at_depth(0, self.values)
        self._write_columns()
        self.folds.finish(self._outer_loops(0, carried))

    def _array(self, value: IrValue) -> Array:
        return Array(self.memory[value], self.nest.layout[value], value.spec.dtype, self.nest.sizes)

    def _stores(self) -> dict[IrValue, Array]:
        """Buffers of one row: what a row that is written out keeps stays in registers."""
        axes, sizes = self.nest.row_axes, self.nest.sizes
        count = math.prod(sizes[axis] for axis in axes)
        values = (*self.schedule.columns, *(() if self.shape.positions else self.schedule.kept))
        return {v: Array(self.frame.block(count, v.spec.dtype), axes, v.spec.dtype, sizes) for v in values}

    # -- outer loops --------------------------------------------------------------------------------------------------

    def _scalars_at_depth(self, depth: int, values: Evaluator) -> None:
        """Stage 0: inputs and numbers that change with the loop `depth - 1` and none further in."""
        inputs = [v for v in self.nest.body.inputs if v in self.nest.layout and v in self.memory]
        made = [i.outputs[0] for i in self.schedule.computed]
        at_depth = (v for v in (*inputs, *made) if self._is_scalar(v) and not self.nest.stage[v])
        values.write_scalars(v for v in at_depth if max(self.nest.depends[v], default=-1) == depth - 1)

    def _is_scalar(self, value: IrValue) -> bool:
        return not self.schedule.is_vector(value) and value not in self.schedule.folded

    def _outer_loops(self, depth: int, carried: Carried) -> Carried:
        if depth == self.nest.outer:
            return self._write_row(carried)
        if depth == self.nest.outer - 1 and self._is_batched:
            self._write_batches(depth)
            return carried
        with self.f.loop(self.extents[depth], carried) as loop:
            self.values.indices[depth] = loop.index
            self._scalars_at_depth(depth + 1, self.values)
            loop.results = self._outer_loops(depth + 1, loop.carried)
        return loop.carried

    def _write_row(self, carried: Carried) -> Carried:
        values, last = self.values, self.schedule.last
        values.write_bases()
        count, lanes = self.shape.positions, self.shape.lanes
        self.positions = [fixed_position(number, self.nest.sizes[-1], lanes) for number in range(count)]
        stages = [(i.outputs[0], self.nest.stage[i.outputs[0]]) for i in self.schedule.computed]
        for sweep in range(last + 2):
            values.write_scalars(v for v, stage in stages if stage == sweep and self._is_scalar(v))
            if sweep <= last:
                values.sweep = sweep
                carried = self._write_sweep(sweep, carried)
        for value in self.schedule.scalar_outputs:
            values.store_scalar(values.scalar(value), values.arrays[value])
        return self.folds.add_numbers(carried)

    # -- several rows at once -----------------------------------------------------------------------------------------

    @property
    def _is_batched(self) -> bool:
        """Whether rows are only added up in memory: then a load and a store of the sums serve several rows."""
        schedule, axis = self.schedule, self.nest.outer - 1
        simple = not (schedule.row_totals or schedule.total_folds or schedule.scalar_outputs or self.shape.positions)
        layouts = [self.nest.layout[fold.outputs[0]] for fold in schedule.column_folds]
        return simple and bool(layouts) and not any(axis in layout for layout in layouts)

    def _write_batches(self, axis: int) -> None:
        b, count = self.f.builder, self.extents[axis]
        whole = b.and_(count, const(-BATCH))
        for start, stop, rows in ((const(0), whole, BATCH), (whole, count, 1)):
            with self.f.loop(stop, start=start, step=rows) as loop:
                batch = [self._row_values(axis, b.add(loop.index, const(row))) for row in range(rows)]
                self._row_loop((), partial(self._at_batch, batch), 1).write()

    def _row_values(self, axis: int, index: Value) -> Evaluator:
        """What one row of a batch knows."""
        known, around = dict(self.values.scalars), {**self.values.indices, axis: index}
        values = replace(self.values, scalars=known, indices=around, sweep=0)
        self._scalars_at_depth(axis + 1, values)
        values.write_bases()
        return values

    def _at_batch(self, batch: Sequence[Evaluator], at: Position, _: Sequence[Value]) -> Carried:
        places = [replace(at, values={}, offsets={}) for _ in batch]
        folds = self.folds
        made = [
            (batch[0], places[0], folds.added(f, batch, places), folds.totals[f]) for f in self.schedule.column_folds
        ]
        for row, place in zip(batch, places, strict=True):
            made += [(row, place, row.vector(v, place), row.arrays[v]) for v in self.schedule.row_outputs]
        for row, place, value, array in made:
            row.store(value, array, place)
        return []

    # -- sweeps -------------------------------------------------------------------------------------------------------

    def _write_columns(self) -> None:
        """What is the same in every row, once."""
        values, schedule = self.values, self.schedule
        if not schedule.columns and not schedule.column_outputs:
            return
        values.write_bases()

        def body(at: Position, _: Sequence[Value]) -> Carried:
            made = [(values.vector(v, at), values.stores[v]) for v in schedule.columns]
            made += [(values.vector(v, at), values.arrays[v]) for v in schedule.column_outputs]
            for value, array in made:
                values.store(value, array, at)
            return []

        self._row_loop((), body, 1).write()

    def _write_sweep(self, sweep: int, carried: Carried) -> Carried:
        reductions = [r for r in self.schedule.row_totals if self.nest.stage[r.inputs[0]] == sweep]
        if self.positions:
            return self._write_out(sweep, reductions, carried)
        body = partial(self._at_position, sweep, reductions)
        unroll = unroll_of(self.schedule, sweep, self.shape.lanes)
        self._finish_rows(reductions, self._row_loop(reductions, body, unroll).write())
        return carried

    def _row_loop(self, reductions: Sequence[Instruction], body: Body, unroll: int) -> RowLoop:
        lanes, outer = self.shape.lanes, self.nest.outer
        return RowLoop(self.f, self.nest.sizes, self.extents, outer, lanes, unroll, reductions, body)

    def _write_out(self, sweep: int, reductions: Sequence[Instruction], carried: Carried) -> Carried:
        """A short row, position by position; what one sweep computed the next still has in registers."""
        parts_at = [self._at_position(sweep, reductions, at, []) for at in self.positions]
        sums = [
            combined(self.f, r.op, [parts[number] for parts in parts_at], row_dtype(r))
            for number, r in enumerate(reductions)
        ]
        self._finish_rows(reductions, sums)
        return self.folds.add_rows(sweep, self.positions, carried)

    def _at_position(
        self, sweep: int, reductions: Sequence[Instruction], at: Position, so_far: Sequence[Value]
    ) -> Carried:
        """Compute all that the sweep needs at a position, then store: an output may lie over an input."""
        values, schedule = self.values, self.schedule
        parts = so_far or [None] * len(reductions)
        results = [self._reduced(r, at, part) for r, part in zip(reductions, parts, strict=True)]
        folds = self.folds.at(sweep)
        for fold in folds:
            values.vector(fold.inputs[0], at)  # also for those that are added in registers, later
        made = [(self.folds.added(f, [values], [at]), self.folds.totals[f]) for f in self.folds.in_memory(folds)]
        kept = [v for v, when in schedule.kept.items() if when == sweep and v in values.stores]
        made += [(values.vector(v, at), values.stores[v]) for v in kept]
        if sweep == schedule.last:
            made += [(values.vector(v, at), values.arrays[v]) for v in schedule.row_outputs]
        for value, array in made:
            values.store(value, array, at)
        return results

    def _reduced(self, reduction: Instruction, at: Position, partial: Value | None) -> Value:
        """The partial result with the elements of a position."""
        dtype, wide = reduction.inputs[0].spec.dtype, row_dtype(reduction)
        value = emit_cast(self.f, self.values.vector(reduction.inputs[0], at), dtype, wide)
        if at.mask is not None:
            neutral = identity(reduction.op, wide, self.shape.lanes)
            value = self.f.builder.select(at.mask, value, neutral)
        return value if partial is None else combine(self.f, reduction.op, partial, value, wide)

    def _finish_rows(self, reductions: Sequence[Instruction], sums: Sequence[Value]) -> None:
        for r, vector in zip(reductions, sums, strict=True):
            total = horizontal(self.f, r.op, vector, row_dtype(r))
            if r in self.nest.rows:
                total = emit_cast(self.f, total, row_dtype(r), r.outputs[0].spec.dtype)
            self.values.scalars[r.outputs[0]] = total
