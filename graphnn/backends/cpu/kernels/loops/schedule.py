"""Schedule: what a loop nest computes where: before the rows, in which sweep, kept in a buffer or computed again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from graphnn.backends.cpu.kernels.loops.reduce import sum_dtype
from graphnn.ir.program import Instruction, Value
from graphnn.ops.creation import Iota, StopGradient
from graphnn.ops.random import RandomBits
from graphnn.ops.reduction import Reduction
from graphnn.ops.shape import BroadcastTo, Reshape
from graphnn.passes.loop_nest import Axes, LoopNest

# Instructions of a vector, about; 1 for the ops that are not named.
COSTS = {
    "divide": 5, "sqrt": 5, "remainder": 8, "random_bits": 40, "exp": 16, "expm1": 20, "log": 20, "log1p": 24,
    "sin": 24, "cos": 24, "tanh": 20, "sigmoid": 20, "erf": 24, "power": 48,
}  # fmt: skip
CHEAP = 4  # up to this cost a value is computed again rather than kept: a store and a load cost about as much


@dataclass(frozen=True, eq=False)
class Schedule:
    """Derived facts of a nest; all are pure functions of it."""

    nest: LoopNest

    @cached_property
    def producer(self) -> dict[Value, Instruction]:
        """The instruction of each computed value."""
        return {i.outputs[0]: i for i in self.nest.body.instructions}

    @cached_property
    def source(self) -> dict[Value, Value]:
        """The value that each value is another shape of; itself for most."""
        table = {value: value for value in self.nest.body.inputs}
        rows = {i.outputs[0] for i in (*self.nest.rows, *self.nest.folds)}
        for i in self.nest.body.instructions:
            result = i.outputs[0]
            is_alias = isinstance(i.op, BroadcastTo | Reshape | StopGradient | Reduction) and result not in rows
            table[result] = table[i.inputs[0]] if is_alias else result
        return table

    @cached_property
    def computed(self) -> tuple[Instruction, ...]:
        """The instructions that compute something, without the reductions."""
        reduced = {i.outputs[0] for i in (*self.nest.rows, *self.nest.folds)}
        return tuple(
            i
            for i in self.nest.body.instructions
            if i.outputs[0] not in reduced and self.source[i.outputs[0]] is i.outputs[0]
        )

    @cached_property
    def folded(self) -> frozenset[Value]:
        """Results of folds."""
        return frozenset(fold.outputs[0] for fold in self.nest.folds)

    def is_vector(self, value: Value) -> bool:
        """Whether the value changes along the row."""
        return any(axis >= self.nest.outer for axis in self.nest.depends[value])

    def is_column(self, value: Value) -> bool:
        """Whether the value is the same in every row, and known before the first."""
        depends = self.nest.depends[value]
        return bool(self.nest.outer) and all(a >= self.nest.outer for a in depends) and not self.nest.stage[value]

    def in_column(self, axes: Axes) -> bool:
        """Whether an array with these axes is one row or less."""
        return bool(self.nest.outer) and bool(axes) and axes[0] >= self.nest.outer

    # -- results ------------------------------------------------------------------------------------------------------

    @cached_property
    def column_outputs(self) -> tuple[Value, ...]:
        """Outputs that are written once, before the rows."""
        return tuple(v for v in self._plain if self.in_column(self.nest.layout[v]) and self.is_column(v))

    @cached_property
    def row_outputs(self) -> tuple[Value, ...]:
        """Outputs with elements along the row, written in the last sweep over each row."""
        has_row = (v for v in self._plain if any(a >= self.nest.outer for a in self.nest.layout[v]))
        return tuple(v for v in has_row if v not in self.column_outputs)

    @cached_property
    def scalar_outputs(self) -> tuple[Value, ...]:
        """Outputs with one element for each row or less, written behind the last sweep."""
        return tuple(v for v in self._plain if all(a < self.nest.outer for a in self.nest.layout[v]))

    @cached_property
    def _plain(self) -> tuple[Value, ...]:
        return tuple(v for v in self.nest.body.outputs if v not in self.folded)

    @cached_property
    def column_folds(self) -> tuple[Instruction, ...]:
        """Folds that keep the row: sums of rows."""
        return tuple(f for f in self.nest.folds if any(a >= self.nest.outer for a in self.nest.layout[f.outputs[0]]))

    @cached_property
    def total_folds(self) -> tuple[Instruction, ...]:
        """Folds that reduce the row too, or one number for each row."""
        return tuple(f for f in self.nest.folds if f not in self.column_folds)

    def fold_dtype(self, fold: Instruction) -> str:
        """What a fold is accumulated in."""
        return sum_dtype(fold.op, fold.outputs[0].spec.dtype, fold in self.total_folds)

    @cached_property
    def row_totals(self) -> tuple[Instruction, ...]:
        """Reductions that a sweep carries: over the row, and the part along the row of folds."""
        inside = (f for f in self.total_folds if any(a >= self.nest.outer for a in self.nest.layout[f.inputs[0]]))
        return (*self.nest.rows, *inside)

    # -- sweeps -------------------------------------------------------------------------------------------------------

    @cached_property
    def columns(self) -> tuple[Value, ...]:
        """Computed values that are equal in every row: kept in a buffer that is filled before the rows."""
        used: dict[Value, None] = {}
        for i in (*self.computed, *self.row_totals, *self.column_folds):
            if i in self.row_totals or i in self.column_folds or not self.is_column(i.outputs[0]):
                used.update(dict.fromkeys(self.source[value] for value in i.inputs))
        used.update(dict.fromkeys(self.source[value] for value in self.row_outputs))
        return tuple(v for v in used if v in self.producer and self.is_vector(v) and self.is_column(v))

    @cached_property
    def last(self) -> int:
        """Number of the last sweep; -1 where nothing has elements along the row."""
        stage = self.nest.stage
        read = [i.inputs[0] for i in (*self.row_totals, *self.column_folds)]
        return max((stage[value] for value in (*read, *self.row_outputs)), default=-1)

    def roots(self, sweep: int) -> list[Value]:
        """What a sweep must compute, beside the values that it keeps."""
        read = [i.inputs[0] for i in (*self.row_totals, *self.column_folds)]
        roots = [value for value in read if self.nest.stage[value] == sweep]
        return roots + (list(self.row_outputs) if sweep == self.last else [])

    @cached_property
    def kept(self) -> dict[Value, int]:
        """Values that a later sweep reads from a buffer of one row: the sweep that writes it."""
        return self._plan[0]

    def sweep_weight(self, sweep: int) -> int:
        """About the number of instructions for one vector in a sweep."""
        made = (self.producer[value].op.name for value in self._plan[1][sweep])
        return sum(COSTS.get(name, 1) for name in made) + len(self.roots(sweep))

    @cached_property
    def _plan(self) -> tuple[dict[Value, int], dict[int, set[Value]]]:
        """(`kept`, what each sweep computes), from the last sweep to the first."""
        first = self._first_needed
        kept: dict[Value, int] = {}
        made: dict[int, set[Value]] = {}
        for sweep in range(self.last, -1, -1):
            waiting = [*self.roots(sweep), *(value for value, when in kept.items() if when == sweep)]
            made[sweep] = set()
            while waiting:
                value = self.source[waiting.pop()]
                if value in made[sweep] or self._is_there(value):
                    continue
                if first[value] < sweep and (value in kept or self._cost_again(value) > CHEAP):
                    kept.setdefault(value, first[value])
                else:
                    made[sweep].add(value)
                    waiting.extend(self.producer[value].inputs)
        return kept, made

    @cached_property
    def _first_needed(self) -> dict[Value, int]:
        """The first sweep that needs each value along the row, itself or for another value."""
        first: dict[Value, int] = {}
        for sweep in range(self.last + 1):
            waiting = self.roots(sweep)
            while waiting:
                value = self.source[waiting.pop()]
                if value not in first and not self._is_there(value):
                    first[value] = sweep
                    waiting.extend(self.producer[value].inputs)
        return first

    def _is_there(self, value: Value) -> bool:
        return value not in self.producer or not self.is_vector(value) or value in self.columns

    def _cost_again(self, value: Value) -> int:
        """Of computing it from what is in memory, up to a little more than CHEAP."""
        total, waiting, seen = 0, [value], set[Value]()
        while waiting and total <= CHEAP:
            value = self.source[waiting.pop()]
            if value in seen or (value in self.producer and not self.is_vector(value)):
                continue
            seen.add(value)
            if self._is_there(value):
                total += 1
            else:
                total += COSTS.get(self.producer[value].op.name, 1)
                waiting.extend(self.producer[value].inputs)
        return total

    @property
    def weight(self) -> int:
        """About the number of instructions for one vector of the row, where nothing is computed twice."""
        names = [self.producer[value].op.name for value in set[Value]().union(*self._plan[1].values())]
        return sum(COSTS.get(name, 1) for name in names) + sum(len(self.roots(n)) for n in range(self.last + 1))

    def row_inputs(self) -> Iterable[Value]:
        """Inputs with elements along the row."""
        return (v for v in self.nest.body.inputs if v in self.nest.layout and self.is_vector(v))

    @cached_property
    def dtypes(self) -> frozenset[str]:
        """Of everything that is computed, read or written along the row."""
        values = [i.outputs[0] for i in self.computed if self.is_vector(i.outputs[0])]
        return frozenset(v.spec.dtype for v in (*values, *self.row_inputs(), *self.row_outputs))

    @property
    def generators(self) -> tuple[Instruction, ...]:
        """Instructions that make numbers from an index."""
        return tuple(i for i in self.computed if isinstance(i.op, Iota | RandomBits))
