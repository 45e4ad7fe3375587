"""AcrossRows: short rows with reductions, many at a time: each lane of a vector has a row of its own.

In a row of ten numbers most lanes of a vector along it would be empty, and each reduction would end with a tree of
shuffles. Across rows all lanes are full, and a reduction over the row is plain arithmetic. All positions of a row are
written out, so that nothing goes through memory between the sweeps. Arrays are turned round in registers as they are
read and written. Rows that do not fill the last vector are copied to scratch memory, and their results from there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from llvmlite import ir

from graphnn.backends.cpu.emit import I64, Function, Value, const
from graphnn.backends.cpu.expression import emit_cast, emit_number, from_memory, to_memory
from graphnn.backends.cpu.kernels.loops.evaluator import applied
from graphnn.backends.cpu.kernels.loops.frame import Frame, stride
from graphnn.backends.cpu.kernels.loops.reduce import combine, combined, horizontal, identity, row_dtype
from graphnn.backends.cpu.kernels.loops.schedule import Schedule
from graphnn.backends.cpu.squares import part_of, picked, side_by_side, taken_apart, turn_squares
from graphnn.backends.cpu.target import Target
from graphnn.ir.program import Instruction
from graphnn.ir.program import Value as IrValue
from graphnn.ir.tensor_spec import ITEM_BYTES
from graphnn.ops.creation import Fill, Iota
from graphnn.ops.random import RandomBits

FLOATS = ("float32", "float64")  # of arrays with elements along the row
MOST_LENGTH = 2  # vectors that a row would fill
MOST_WEIGHT = 512  # instructions for all positions of a row


def goes_across(schedule: Schedule, target: Target) -> bool:
    """Whether rows are short, have a reduction, and are enough to fill most of a vector."""
    nest = schedule.nest
    if nest.outer != 1 or len(nest.sizes) != 2 or not schedule.row_totals or schedule.column_outputs:
        return False
    rows, length = nest.sizes
    lanes = lanes_of(schedule, target)
    arrays = [v for v in (*schedule.row_inputs(), *schedule.row_outputs) if nest.layout[v] == (0, 1)]
    fits = all(v.spec.dtype in FLOATS and part_of(v.spec.dtype) <= lanes for v in arrays)
    # What all rows share, such as the softmax of a bias, has no place for a row in each lane.
    own = all(nest.layout[v] == (0, 1) for v in schedule.row_outputs)
    own = own and all(nest.layout[v] == (0,) for v in schedule.scalar_outputs)
    draws = any(isinstance(i.op, RandomBits) for i in schedule.generators)
    short = 0 < length <= MOST_LENGTH * lanes and length * schedule.weight <= MOST_WEIGHT
    return fits and own and not draws and short and 2 * rows >= lanes


def lanes_of(schedule: Schedule, target: Target) -> int:
    """Rows of a vector."""
    return target.vector_bytes // max((max(ITEM_BYTES[d], 4) for d in schedule.dtypes), default=4)


@dataclass
class Rows:
    """The rows at hand.

    Args:
        start: number of the first.
        exist: lanes that have a row.
        bases: addresses of their elements, in arrays with elements for each row.
        values: computed so far, by position; None for what is the same along the row.
    """

    start: Value
    exist: Value
    bases: Mapping[IrValue, Value]
    values: dict[tuple[IrValue, int | None], Value] = field(default_factory=dict)


class AcrossRows:
    """Writes one nest, without its epilogue.

    Args:
        f: where the IR goes.
        frame: what asks for sizes and scratch memory.
        schedule: of the nest.
        memory: addresses of the inputs, outputs and folds.
    """

    def __init__(self, f: Function, frame: Frame, schedule: Schedule, memory: Mapping[IrValue, Value]):
        self.f, self.schedule, self.nest, self.memory = f, schedule, schedule.nest, memory
        self.length, self.lanes = self.nest.sizes[1], lanes_of(schedule, f.target)
        self.count = frame.number(self.nest.sizes[0])
        self.outputs = (*schedule.row_outputs, *schedule.scalar_outputs)
        self.inputs = tuple(v for v in self.nest.body.inputs if v in self.nest.layout and 0 in self.nest.layout[v])
        several = (*self.inputs, *self.outputs)
        self.spare = {v: frame.block(self.lanes * self._width(v), v.spec.dtype) for v in several}

    def write(self) -> None:
        """All rows, and the results of folds."""
        f, b = self.f, self.f.builder
        with f.loop(self.count, self._neutral(), step=self.lanes) as loop:
            left = b.sub(self.count, loop.index)
            whole = b.icmp_signed(">=", left, const(self.lanes))
            with f.when(b.not_(whole)):
                for value in self.inputs:
                    self._copy(self.spare[value], self._real(value, loop.index), value, left)
            bases = {v: b.select(whole, self._real(v, loop.index), self.spare[v]) for v in self.spare}
            rows = Rows(loop.index, f.tail_mask(left, self.lanes), bases)
            self._store(rows)
            loop.results = self._folded(rows, loop.carried)
            with f.when(b.not_(whole)):
                for value in self.outputs:
                    self._copy(self._real(value, loop.index), self.spare[value], value, left)
        self._finish(loop.carried)

    def _width(self, value: IrValue) -> int:
        """Elements for each row."""
        return self.length if 1 in self.nest.layout[value] else 1

    def _real(self, value: IrValue, start: Value) -> Value:
        offset = self.f.builder.mul(start, const(self._width(value)))
        return self.f.at(self.memory[value], offset, value.spec.dtype)

    def _copy(self, target: Value, source: Value, value: IrValue, rows: Value) -> None:
        dtype = value.spec.dtype
        with self.f.loop(self.f.builder.mul(rows, const(self._width(value)))) as loop:
            self.f.store(self.f.load(source, loop.index, dtype), target, loop.index, dtype)

    # -- values -------------------------------------------------------------------------------------------------------

    def _at(self, rows: Rows, value: IrValue, position: int) -> Value:
        """A vector across the rows, at a position along them."""
        value = self.schedule.source[value]
        key = (value, position if 1 in self.nest.depends[value] else None)
        if key not in rows.values:
            rows.values[key] = self._vector(rows, value, position)
        return rows.values[key]

    def _vector(self, rows: Rows, value: IrValue, position: int) -> Value:
        instruction = self.schedule.producer.get(value)
        if instruction is None:
            return self._loaded(rows, value, position)
        if instruction in self.nest.rows:
            return emit_cast(self.f, self._total(rows, instruction), row_dtype(instruction), value.spec.dtype)
        if isinstance(instruction.op, Fill):
            return emit_number(instruction.op.value, value.spec.dtype, self.lanes)
        if isinstance(instruction.op, Iota):
            return self._counted(rows, value, position)
        return applied(self.f, instruction, [self._at(rows, given, position) for given in instruction.inputs])

    def _total(self, rows: Rows, reduction: Instruction) -> Value:
        """A reduction over the row, in the dtype that it is carried in."""
        (given,), dtype = reduction.inputs, reduction.inputs[0].spec.dtype
        wide = row_dtype(reduction)
        parts = [emit_cast(self.f, self._at(rows, given, position), dtype, wide) for position in range(self.length)]
        return combined(self.f, reduction.op, parts, wide)

    def _counted(self, rows: Rows, value: IrValue, position: int) -> Value:
        b, axes = self.f.builder, self.nest.counters[value]
        lanes = ir.Constant(ir.VectorType(I64, self.lanes), list(range(self.lanes)))
        indices = (b.add(self.f.splat(rows.start, self.lanes), lanes), self.f.splat(const(position), self.lanes))
        total: Value = self.f.splat(const(0), self.lanes)
        for axis in axes:
            step = const(stride(axes, axis, self.nest.sizes))
            total = b.add(total, b.mul(indices[axis], self.f.splat(step, self.lanes)))
        return emit_cast(self.f, total, "int64", value.spec.dtype)

    # -- memory -------------------------------------------------------------------------------------------------------

    def _loaded(self, rows: Rows, value: IrValue, position: int) -> Value:
        layout, dtype, f = self.nest.layout[value], value.spec.dtype, self.f
        if layout == (0, 1):
            return self._turned(rows, value, position)
        if layout == (0,):
            return from_memory(f, f.load_vector(rows.bases[value], 0, dtype, self.lanes), dtype)
        number = f.load(self.memory[value], position if layout else 0, dtype)
        return f.splat(from_memory(f, number, dtype), self.lanes)

    def _turned(self, rows: Rows, value: IrValue, position: int) -> Value:
        """A square of each row is read at once; all its positions are known then."""
        f, dtype = self.f, value.spec.dtype
        part, start = part_of(dtype), self._square(dtype, position)
        if self.length < part:
            return self._picked(rows, value, position)
        offsets = [row * self.length + start for row in range(self.lanes)]
        pieces = [f.load_vector(rows.bases[value], offset, dtype, part) for offset in offsets]
        turned = turn_squares(f, side_by_side(f, pieces, part), self.lanes)
        for number, vector in enumerate(turned, start):
            rows.values.setdefault((value, number), vector)
        return rows.values[value, position]

    def _picked(self, rows: Rows, value: IrValue, position: int) -> Value:
        """Of rows shorter than a square."""
        f, lanes, length = self.f, self.lanes, self.length
        all_of_them = [f.load_vector(rows.bases[value], n * lanes, value.spec.dtype, lanes) for n in range(length)]
        return picked(f, all_of_them, [lane * length + position for lane in range(lanes)])

    def _square(self, dtype: str, position: int) -> int:
        """The first position of the square; the last one of a row may lie over the one before."""
        part = part_of(dtype)
        return min(position // part * part, self.length - part)

    def _store(self, rows: Rows) -> None:
        """Compute all outputs, then write them: they may lie over inputs."""
        made = {v: [self._at(rows, v, position) for position in range(self._width(v))] for v in self.outputs}
        for value, vectors in made.items():
            dtype = value.spec.dtype
            vectors = [to_memory(self.f, vector, dtype) for vector in vectors]
            if self.nest.layout[value] == (0,):
                self.f.store_vector(vectors[0], rows.bases[value], 0, dtype)
            else:
                self._store_turned(rows.bases[value], vectors, dtype)

    def _store_turned(self, base: Value, vectors: Sequence[Value], dtype: str) -> None:
        part, lanes, length = part_of(dtype), self.lanes, self.length
        if length < part:
            for start in range(0, lanes * length, lanes):
                picks = [at % length * lanes + at // length for at in range(start, start + lanes)]
                self.f.store_vector(picked(self.f, vectors, picks), base, start, dtype)
            return
        for position in range(0, length, part):
            start = self._square(dtype, position)
            squares = turn_squares(self.f, list(vectors[start : start + part]), lanes)
            for row, piece in enumerate(taken_apart(self.f, squares, part)):
                self.f.store_vector(piece, base, row * length + start, dtype)

    # -- folds --------------------------------------------------------------------------------------------------------

    def _positions(self, fold: Instruction) -> int:
        return self.length if fold in self.schedule.column_folds else 1

    def _neutral(self) -> list[Value]:
        return [
            identity(fold.op, self.schedule.fold_dtype(fold), self.lanes)
            for fold in self.nest.folds
            for _ in range(self._positions(fold))
        ]

    def _folded(self, rows: Rows, carried: Sequence[Value]) -> list[Value]:
        """What is carried, with these rows; lanes without a row add nothing."""
        results, before = list[Value](), iter(carried)
        for fold in self.nest.folds:
            wide = self.schedule.fold_dtype(fold)
            neutral = identity(fold.op, wide, self.lanes)
            for position in range(self._positions(fold)):
                given = self.f.builder.select(rows.exist, self._given(rows, fold, position, wide), neutral)
                results.append(combine(self.f, fold.op, next(before), given, wide))
        return results

    def _given(self, rows: Rows, fold: Instruction, position: int, wide: str) -> Value:
        (given,) = fold.inputs
        if fold in self.schedule.row_totals:
            return emit_cast(self.f, self._total(rows, fold), row_dtype(fold), wide)
        return emit_cast(self.f, self._at(rows, given, position), given.spec.dtype, wide)

    def _finish(self, carried: Sequence[Value]) -> None:
        """Lanes combined, and written in the dtype of the result."""
        sums = iter(carried)
        for fold in self.nest.folds:
            (result,), wide = fold.outputs, self.schedule.fold_dtype(fold)
            dtype = result.spec.dtype
            for position in range(self._positions(fold)):
                number = emit_cast(self.f, horizontal(self.f, fold.op, next(sums), wide), wide, dtype)
                self.f.store(to_memory(self.f, number, dtype), self.memory[result], position, dtype)
