"""tile_loop: a Tiled as rows of the driver's table, shared by the workers or turn by turn inside of another loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from graphnn.backends.cpu.table import PARTIAL, Place, Repeat, Row, Serial, TileIndex, Tiles
from graphnn.ir.program import Origin
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops.arithmetic import Add, Maximum, Minimum
from graphnn.ops.op import Op
from graphnn.plan.memory import make_plan
from graphnn.plan.plan import Plan, Step, aligned
from graphnn.tiled import Tiled

if TYPE_CHECKING:
    from graphnn.backends.cpu.assemble import Assembler

COMBINE: dict[str, Op] = {"sum": Add(), "max": Maximum(), "min": Minimum()}
SHARED_ELEMENTS = 2**12  # of a sum over workers: below, one worker alone is quicker
WHOLE_LINES = 64  # elements; no two workers write into one cache line
# (the first part, bytes from a part to the next, whether parts are strided) -> the part of each tile
Advance: TypeAlias = Callable[[Place, int, bool], Place]


@dataclass(frozen=True)
class Part:
    """One of `parts` equal parts of an array, along an axis."""

    whole: TensorSpec
    axis: int
    parts: int

    @property
    def spec(self) -> TensorSpec:
        """Its own spec."""
        shape = self.whole.shape
        own = (*shape[: self.axis], int(shape[self.axis]) // self.parts, *shape[self.axis + 1 :])
        return TensorSpec(own, self.whole.dtype)

    @property
    def stride(self) -> int:
        """Bytes from the start of a part to that of the next."""
        return math.prod(int(n) for n in self.spec.shape[self.axis :]) * TensorSpec((), self.whole.dtype).nbytes

    @property
    def is_strided(self) -> bool:
        """Whether it is more than one stretch of memory."""
        return math.prod(int(n) for n in self.whole.shape[: self.axis]) != 1


class _Turn:
    """Rows of one tile: where it leaves its results, which of them are added to what lies there, what is done then."""

    def __init__(self) -> None:
        self.places: list[Place] = []
        self.added: set[int] = set()
        self.behind: list[Row] = []


@dataclass(frozen=True)
class _Result:
    """An output: its number in the plan, how tiles put it together, where, and who makes it."""

    number: int
    axis: int | str
    spec: TensorSpec
    place: Place
    origin: Origin


class TileLoop:
    """One Tiled of a plan.

    Args:
        rows: makes the rows of steps, and counts memory.
        plan: that the step is of.
        step: its op is the Tiled.
        places: of the buffers of the plan.
    """

    def __init__(self, rows: Assembler, plan: Plan, step: Step, places: Sequence[Place]):
        if not isinstance(step.op, Tiled):
            raise TypeError(step.op)
        self.rows, self.step, self.op = rows, step, step.op
        self.works = rows.works(make_plan(step.op.body))
        self.given = [(plan.buffers[n].spec, places[n]) for n in step.inputs]
        makers = {value: i.origin for i in step.op.body.instructions for value in i.outputs}
        self.results = [
            _Result(n, axis, plan.buffers[n].spec, places[n], makers.get(value, Origin()))
            for n, axis, value in zip(step.outputs, step.op.output_axes, step.op.body.outputs, strict=True)
        ]

    def shared(self) -> list[Row]:
        """Tiles for all workers, then the combination of what they have summed up; `arrange` sets the barriers."""
        with self.rows.memory():
            first, later, places = self._turns(_by_tile, self._of_worker, self.op.tiles > self.rows.workers)
        tiles = Tiles(self.op.tiles, first, later, self.step)
        combined = [
            row
            for result, place in zip(self.results, places, strict=True)
            if isinstance(result.axis, str)
            for row in self._combine(COMBINE[result.axis], result, place)
        ]
        return [tiles, *combined]

    def repeated(self) -> list[Row]:
        """The tiles one after the other, by the worker that runs the loop around them."""
        differ = self.op.tiles > 1 and any(isinstance(axis, str) for axis in self.op.output_axes)
        with self.rows.memory():
            first, later, _ = self._turns(_by_step, lambda result: result.place, differ)
        if not differ:
            return [Repeat(self.op.tiles, first, False, self.step)]
        return [Repeat(1, first, False, self.step), Repeat(self.op.tiles, later, False, self.step, start=1)]

    def _turns(
        self, advance: Advance, total_of: Callable[[_Result], Place], differ: bool
    ) -> tuple[tuple[Row, ...], tuple[Row, ...], list[Place]]:
        """Rows of the first tile and, if they differ, of those behind it, and where the first leaves its results."""
        first, later, before = _Turn(), _Turn(), list[Row]()
        in_whole = self._taken_outputs()
        inputs = self._inputs(advance, before)
        arena = self.rows.private(self.works.plan.arena_bytes)
        for k, result in enumerate(self.results):
            if isinstance(result.axis, str):
                self._sum(k, total_of(result), first, later)
            else:
                self._join(result, result.axis, advance, k in in_whole, (first, later))
        programs: list[tuple[Row, ...]] = []
        for turn in (first, later)[: 1 + differ]:  # a worker runs one after the other: they use the same memory
            with self.rows.memory():
                own = self.rows.body(self.works, inputs, turn.places, arena, turn.added)
            programs.append((*before, *own, *turn.behind))
        return programs[0], programs[1] if differ else (), first.places

    def _inputs(self, advance: Advance, before: list[Row]) -> list[Place]:
        """Where a tile finds its inputs, the number of the tile behind all others."""
        inputs = [self._input(k, advance, before) for k in range(len(self.given))]
        if self.op.with_index:
            inputs.append(self.rows.private(8))
            before.append(TileIndex(inputs[-1], advance is _by_step))
        return inputs

    def _input(self, k: int, advance: Advance, before: list[Row]) -> Place:
        """Where a tile finds its part of an input.

        A part that is not contiguous is copied first, unless all who read it can read it where it is.
        """
        (spec, place), axis = self.given[k], self.op.input_axes[k]
        if axis is None:
            return place
        part = Part(spec, axis, self.op.tiles)
        moving = advance(place, part.stride, part.is_strided)
        if not part.is_strided or self.works.take(k, spec):
            return moving
        private = self.rows.private(part.spec.nbytes)
        origin = next((s.origin for s in self.works.readers(k)), Origin())
        before.append(self.rows.move(part, (moving, private), False, origin))
        return private

    def _taken_outputs(self) -> set[int]:
        """The results of which tiles write their strided parts into the whole."""
        found: set[int] = set()
        for k, (made, result) in enumerate(zip(self.works.plan.outputs, self.results, strict=True)):
            is_strided = isinstance(result.axis, int) and Part(result.spec, result.axis, self.op.tiles).is_strided
            if is_strided and self.works.take(made, result.spec):
                found.add(k)
        return found

    def _join(self, result: _Result, axis: int, advance: Advance, in_whole: bool, turns: tuple[_Turn, _Turn]) -> None:
        """A tile writes its part of a result where it belongs; strided ones not `in_whole` are copied there."""
        part = Part(result.spec, axis, self.op.tiles)
        target = made = advance(result.place, part.stride, part.is_strided)
        behind: list[Row] = []
        if part.is_strided and not in_whole:
            made = self.rows.private(part.spec.nbytes)
            behind = [self.rows.move(part, (made, target), True, result.origin)]
        for turn in turns:
            turn.places.append(made)
            turn.behind += behind

    def _of_worker(self, result: _Result) -> Place:
        """Where the sum of a worker grows; that of worker 0 where the sum of all shall be."""
        total = Place(PARTIAL, self.rows.partial_bytes, home=(result.place.base, result.place.offset))
        self.rows.partial_bytes += aligned(result.spec.nbytes)
        return total

    def _sum(self, k: int, total: Place, first: _Turn, later: _Turn) -> None:
        """The first tile writes its result where the sum grows; the others are added."""
        result = self.results[k]
        op = COMBINE[str(result.axis)]
        number = self.works.plan.outputs[k]
        first.places.append(total)
        if isinstance(op, Add) and self.rows.may_add(self.works, number):
            later.places.append(total)
            later.added.add(number)
            return
        term, spec = self.rows.private(result.spec.nbytes), result.spec
        later.places.append(term)
        later.behind.append(self.rows.call(op, (spec, spec), (spec,), (total, term, total), result.origin))

    # -- sums of the workers ------------------------------------------------------------------------------------------

    def _combine(self, op: Op, result: _Result, partial: Place) -> list[Row]:
        """The results of all workers, in their order; of large ones each worker adds up a share of the elements."""
        spec, workers = result.spec, min(self.rows.workers, self.op.tiles)
        share = spec.size // workers // WHOLE_LINES * WHOLE_LINES if spec.size >= SHARED_ELEMENTS else 0
        if workers == 1 or not share:
            return [Serial(tuple(self._add_up(op, result, spec, (partial, result.place))))]
        itemsize = spec.nbytes // spec.size
        part, rest = TensorSpec((share,), spec.dtype), TensorSpec((spec.size - share * workers,), spec.dtype)
        first, goal = (replace(place, per_tile=part.nbytes) for place in (partial, result.place))
        shared = tuple(self._add_up(op, result, part, (first, goal)))
        first, goal = (place.ahead(share * workers * itemsize) for place in (partial, result.place))
        left = self._add_up(op, result, rest, (first, goal)) if rest.size else []
        return [Tiles(workers, shared, (), None), *([Serial(tuple(left))] if left else [])]

    def _add_up(self, op: Op, result: _Result, spec: TensorSpec, places: tuple[Place, Place]) -> list[Row]:
        partial, target = places
        parts = [replace(partial, worker=number) for number in range(1, min(self.rows.workers, self.op.tiles))]
        return [self.rows.call(op, (spec, spec), (spec,), (target, part, target), result.origin) for part in parts]


def _by_tile(place: Place, nbytes: int, strided: bool) -> Place:
    return replace(place, per_tile=nbytes, strided=strided)


def _by_step(place: Place, nbytes: int, strided: bool) -> Place:
    """What is touched is then said to reach further than it does where parts are strided."""
    return replace(place, per_step=nbytes)
