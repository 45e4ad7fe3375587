"""Folds: reductions over the outer loops of a nest, in registers where they fit, else in memory."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from graphnn.backends.cpu.emit import Value
from graphnn.backends.cpu.expression import emit_cast
from graphnn.backends.cpu.kernels.loops.evaluator import Evaluator
from graphnn.backends.cpu.kernels.loops.frame import Array, Frame
from graphnn.backends.cpu.kernels.loops.position import Position, Shape, fixed_position
from graphnn.backends.cpu.kernels.loops.reduce import combine, combined, identity, row_dtype
from graphnn.ir.program import Instruction

Carried = list[Value]  # numbers and vectors that go from one turn of the outer loops to the next


class Folds:
    """Where the folds of a nest are accumulated, and how.

    Sums of rows of few vectors, and single numbers, are carried in registers through all outer loops; others are
    arrays. A sum of single numbers is carried in float64.

    Args:
        values: of the nest; each fold has an array there.
        shape: how a row is cut.
        frame: what gives scratch memory.
    """

    def __init__(self, values: Evaluator, shape: Shape, frame: Frame):
        self.f, self.values, self.shape, self.frame = values.f, values, shape, frame
        self.schedule, self.nest = values.schedule, values.schedule.nest
        self.totals: dict[Instruction, Array] = {}

    def start(self) -> Carried:
        """Clear the arrays; the numbers that the outer loops begin with."""
        for fold in self.nest.folds:
            if fold not in self._carried:
                self.totals[fold] = self._total(fold)
                self._fill(self.totals[fold], identity(fold.op, self.schedule.fold_dtype(fold)))
        first: Carried = []
        for fold in self._carried:
            lanes = 0 if fold in self.schedule.total_folds else self.shape.lanes
            first += [identity(fold.op, self.schedule.fold_dtype(fold), lanes)] * self._width(fold)
        return first

    def at(self, sweep: int) -> list[Instruction]:
        """Sums of rows that are fed in a sweep."""
        return [fold for fold in self.schedule.column_folds if self.nest.stage[fold.inputs[0]] == sweep]

    def in_memory(self, folds: Sequence[Instruction]) -> list[Instruction]:
        """Those that are not carried."""
        return [fold for fold in folds if fold not in self._carried]

    def added(self, fold: Instruction, rows: Sequence[Evaluator], places: Sequence[Position]) -> Value:
        """The sum of rows in memory, with these rows."""
        array = self.totals[fold]
        parts = [self._given(fold, row, place) for row, place in zip(rows, places, strict=True)]
        total = combined(self.f, fold.op, parts, array.dtype)
        return combine(self.f, fold.op, rows[0].load(array, places[0]), total, array.dtype)

    def add_rows(self, sweep: int, positions: Sequence[Position], carried: Carried) -> Carried:
        """Add a row that is written out to the sums of rows that are carried."""
        carried = list(carried)
        for fold in self.at(sweep):
            if fold in self._carried:
                row, slots = [self._given(fold, self.values, place) for place in positions], self._slots(fold)
                pairs = zip(carried[slots], row, strict=True)
                carried[slots] = [combine(self.f, fold.op, a, b, self.schedule.fold_dtype(fold)) for a, b in pairs]
        return carried

    def add_numbers(self, carried: Carried) -> Carried:
        """Add the numbers of a row to the folds that are single numbers, or one for some of the outer loops."""
        carried = list(carried)
        for fold in self.schedule.total_folds:
            number, wide = self._number(fold), self.schedule.fold_dtype(fold)
            if fold in self._carried:
                slots = self._slots(fold)
                carried[slots] = [combine(self.f, fold.op, carried[slots][0], number, wide)]
            else:
                so_far = self.values.load_scalar(self.totals[fold])
                self.values.store_scalar(combine(self.f, fold.op, so_far, number, wide), self.totals[fold])
        return carried

    def finish(self, carried: Carried) -> None:
        """Write the results in their dtype."""
        for fold in self.nest.folds:
            array, wide = self._result(fold), self.schedule.fold_dtype(fold)
            if fold not in self._carried:
                self._copy(self.totals[fold], array)
                continue
            made = [emit_cast(self.f, part, wide, array.dtype) for part in carried[self._slots(fold)]]
            if fold in self.schedule.total_folds:
                self.f.store(made[0], array.base, 0, array.dtype)
            else:
                self._store_row(made, array)

    # -- in registers -------------------------------------------------------------------------------------------------

    @cached_property
    def _carried(self) -> list[Instruction]:
        positions, registers = self.shape.positions, self.f.target.registers
        columns = [f for f in self.schedule.column_folds if self.nest.layout[f.outputs[0]] == self.nest.row_axes]
        if not positions or len(columns) * positions > registers // 2:
            columns = []
        return [*columns, *(f for f in self.schedule.total_folds if not self.nest.layout[f.outputs[0]])]

    def _width(self, fold: Instruction) -> int:
        return 1 if fold in self.schedule.total_folds else self.shape.positions

    def _slots(self, fold: Instruction) -> slice:
        """Where the numbers of a fold are among those that are carried."""
        place = self._carried.index(fold)
        start = sum(map(self._width, self._carried[:place]))
        return slice(start, start + self._width(fold))

    def _store_row(self, vectors: Sequence[Value], array: Array) -> None:
        for number, vector in enumerate(vectors):
            at = fixed_position(number, self.nest.sizes[-1], self.shape.lanes)
            if at.mask is None:
                self.f.store_vector(vector, array.base, at.start, array.dtype)
            else:
                self.f.store_masked(vector, array.base, at.start, array.dtype, at.mask)

    # -- numbers ------------------------------------------------------------------------------------------------------

    def _given(self, fold: Instruction, row: Evaluator, at: Position) -> Value:
        return emit_cast(
            self.f, row.vector(fold.inputs[0], at), fold.inputs[0].spec.dtype, self.schedule.fold_dtype(fold)
        )

    def _number(self, fold: Instruction) -> Value:
        """What a row adds."""
        given, wide = fold.inputs[0], self.schedule.fold_dtype(fold)
        if fold in self.schedule.row_totals:
            return emit_cast(self.f, self.values.scalars[fold.outputs[0]], row_dtype(fold), wide)
        return emit_cast(self.f, self.values.scalar(given), given.spec.dtype, wide)

    # -- memory -------------------------------------------------------------------------------------------------------

    def _result(self, fold: Instruction) -> Array:
        return self.values.arrays[fold.outputs[0]]

    def _total(self, fold: Instruction) -> Array:
        """The result itself, or scratch memory of a wider dtype."""
        result, wide = self._result(fold), self.schedule.fold_dtype(fold)
        if result.dtype == wide:
            return result
        return Array(self.frame.block(result.count, wide), result.axes, wide, result.sizes)

    def _fill(self, array: Array, number: Value) -> None:
        with self.f.loop(self.frame.number(array.count)) as loop:
            self.f.store(number, array.base, loop.index, array.dtype)

    def _copy(self, source: Array, target: Array) -> None:
        """Cast all elements, where the two are not one array."""
        if source == target:
            return
        with self.f.loop(self.frame.number(source.count)) as loop:
            number = self.f.load(source.base, loop.index, source.dtype)
            self.f.store(emit_cast(self.f, number, source.dtype, target.dtype), target.base, loop.index, target.dtype)
