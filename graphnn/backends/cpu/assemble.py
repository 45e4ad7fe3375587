"""assemble: from a Plan to the rows of the driver's table."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from graphnn.backends.cpu.kernel import Kernel, Specs
from graphnn.backends.cpu.strided_parts import InPlace, Work
from graphnn.backends.cpu.table import (
    PARTIAL,
    PRIVATE,
    SCRATCH,
    Call,
    Copy,
    Place,
    Repeat,
    Row,
    Serial,
    TileIndex,
    Tiles,
)
from graphnn.ir.program import Origin
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops.arithmetic import Add, Maximum, Minimum
from graphnn.ops.fused import Fused
from graphnn.ops.op import Op
from graphnn.ops.shape import Slice
from graphnn.passes.accumulate import accumulating
from graphnn.plan.memory import make_plan
from graphnn.plan.plan import Plan, Step, aligned
from graphnn.scan import Scan
from graphnn.tiled import Tiled

COMBINE: dict[str, Op] = {"sum": Add(), "max": Maximum(), "min": Minimum()}
SHARED_ELEMENTS = 2**12  # of a sum over workers: below, one worker alone is quicker
WHOLE_LINES = 64  # elements; no two workers write into one cache line
KernelOf = Callable[[Op, Specs, Specs], Kernel | None]
Mover = Callable[[TensorSpec, int, int, bool], Kernel | None]  # whole, axis, parts, into the whole -> a strided copy


class NotCoveredError(Exception):
    """A step, or one inside of it, has no kernel; it runs by its reference instead."""


class Assembler:
    """Makes rows, and counts the memory that each worker needs.

    Args:
        kernel_of: (op, input specs, output specs) -> Kernel, or None.
        mover: (spec of the whole, axis, parts, into the whole) -> Kernel that copies one part out of the whole or
            into it; the whole's address is that of the part's first element.
        workers: number of workers that tiles are shared by.
    """

    def __init__(self, kernel_of: KernelOf, mover: Mover, workers: int):
        self.workers = workers
        self.private_bytes = self.partial_bytes = self.scratch_bytes = 0
        self._kernel_of = kernel_of
        self._mover = mover
        self._free = 0  # private memory from here on holds nothing

    # -- one step -----------------------------------------------------------------------------------------------------

    def works(self, plan: Plan) -> InPlace:
        """The steps of a plan as kernels do them, without strided parts so far."""
        return InPlace(plan, self._kernel_of)

    def step(self, works: InPlace, step: Step, places: Sequence[Place]) -> list[Row]:
        """The rows of a step that no workers share.

        Raises:
            NotCoveredError: there is no kernel for it.
        """
        inputs, outputs = ([places[n] for n in numbers] for numbers in (step.inputs, step.outputs))
        if isinstance(step.op, Scan):
            return self._scan(step, step.op, inputs, outputs)
        if step.op.is_view and places[step.inputs[0]] == places[step.outputs[0]]:
            return []
        work = works.of(step)
        return [self.call(work.op, work.inputs, work.outputs, (*inputs, *outputs), step.origin, step)]

    def call(
        self, op: Op, inputs: Specs, outputs: Specs, places: Sequence[Place], origin: Origin, step: Step | None = None
    ) -> Call:
        """A row for one kernel."""
        kernel = self._kernel_of(op, inputs, outputs)
        if kernel is None:
            raise NotCoveredError(op.name)
        self.scratch_bytes = max(self.scratch_bytes, kernel.scratch_bytes)
        scratch = [Place(SCRATCH)] if kernel.scratch_bytes else []
        return Call(kernel, (*places, *scratch), op, inputs, outputs, step, origin)

    def body(
        self,
        works: InPlace,
        inputs: Sequence[Place],
        outputs: Sequence[Place],
        arena: Place,
        added: Collection[int] = (),
    ) -> list[Row]:
        """The rows of a plan whose inputs and outputs are at these places; `added` are added to what is there."""
        places, copies = bind(works.plan, inputs, outputs, arena)
        rows: list[Row] = []
        for step in works.plan.steps:
            sums = [position for position, number in enumerate(step.outputs) if number in added]
            rows += [self._add_step(works, step, places, sums)] if sums else self.step(works, step, places)
        return rows + copies

    def _add_step(self, works: InPlace, step: Step, places: Sequence[Place], sums: Sequence[int]) -> Row:
        """The row of a step of which these outputs are added to what lies at their places."""
        op, read, made = self._adding(works.of(step), sums)
        if op is None:
            raise NotCoveredError(step.op.name)
        inputs, outputs = ([places[n] for n in numbers] for numbers in (step.inputs, step.outputs))
        totals = [outputs[position] for position in sums]
        return self.call(op, read, made, (*inputs, *totals, *outputs), step.origin, step)

    def _adding(self, work: Work, sums: Sequence[int]) -> tuple[Fused | None, Specs, Specs]:
        """The op with totals to add to, if there is a kernel for it; its input and output specs."""
        made = work.outputs
        op = accumulating(work.op, work.inputs, made, sums)
        read = (*work.inputs, *(made[position] for position in sums))
        return (op if op is not None and self._kernel_of(op, read, made) is not None else None), read, made

    def _may_add(self, works: InPlace, number: int) -> bool:
        """Whether a result of a tile, which nothing else reads, can be added to the sum of the worker as it is made."""
        maker = works.maker_of_result(number)
        return maker is not None and self._adding(works.of(maker), [maker.outputs.index(number)])[0] is not None

    def _private(self, nbytes: int) -> Place:
        """New memory of each worker."""
        place = Place(PRIVATE, self._free)
        self._free += aligned(nbytes)
        self.private_bytes = max(self.private_bytes, self._free)
        return place

    # -- loops --------------------------------------------------------------------------------------------------------

    def _scan(self, step: Step, op: Scan, inputs: Sequence[Place], outputs: Sequence[Place]) -> list[Row]:
        """Carries live at the places of the last carries; what the body makes of them is copied there after a turn."""
        plan, start = make_plan(op.body), self._free
        _, sequences, constants = op.split([_inside(place) for place in inputs])
        last, stacked, kept = op.split_outputs([_inside(place) for place in outputs])
        n_c, n_s = op.n_carries, op.n_sequences
        sizes = [buffer.spec.nbytes for buffer in plan.buffers[: len(plan.inputs)]]
        slices = [_stepping(place, size) for place, size in zip(sequences, sizes[n_c : n_c + n_s], strict=True)]
        steps = [
            _stepping(place, value) for place, value in zip(stacked, _output_bytes(plan)[n_c:], strict=True)
        ]  # fmt: skip
        new = [self._private(size) for size in sizes[:n_c]]
        arena = self._private(plan.arena_bytes)
        rows: list[Row] = [Copy(_stepping(k, n), c, n) for k, c, n in zip(kept, last, sizes, strict=False)]
        rows += self.body(self.works(plan), [*last, *slices, *constants], [*new, *steps], arena)
        rows += [Copy(c, x, n) for c, x, n in zip(last, new, sizes, strict=False)]
        self._free = start
        begin = [Copy(c, x, n) for c, x, n in zip(outputs[:n_c], inputs[:n_c], sizes, strict=False)]
        return [*begin, Repeat(op.length.__index__(), tuple(rows), op.reverse, step)]

    def tiled(self, plan: Plan, step: Step, places: Sequence[Place]) -> list[Row]:
        """The rows of a Tiled step: tiles for all workers, then the combination of what they have summed up.

        Barriers are for `arrange` to set.
        """
        op = step.op
        if not isinstance(op, Tiled):
            raise TypeError(op)
        start = self._free
        makers = {value: i.origin for i in op.body.instructions for value in i.outputs}
        origins = [makers.get(value, Origin()) for value in op.body.outputs]
        first, later, results = self._tile_programs(op, plan, step, places, origins)
        sharing = min(self.workers, op.tiles)
        combined = [
            row
            for n, axis, partial, origin in zip(step.outputs, op.output_axes, results, origins, strict=True)
            if isinstance(axis, str)
            for row in self._combine(COMBINE[axis], plan.buffers[n].spec, partial, places[n], sharing, origin)
        ]
        self._free = start
        tiles = Tiles(op.tiles, first, later if op.tiles > self.workers else (), step)
        return [tiles, *combined]

    def _tile_programs(
        self, op: Tiled, plan: Plan, step: Step, places: Sequence[Place], origins: Sequence[Origin]
    ) -> tuple[tuple[Row, ...], tuple[Row, ...], list[Place]]:
        """Rows of a worker's first tile and of those behind it, and where the first one leaves its results."""
        before, first, later = _TileRows(), _TileRows(), _TileRows()
        works = self.works(make_plan(op.body))
        body, strided = works.plan, self._strided_outputs(op, plan, step, works)
        inputs: list[Place] = []
        for k, (n, axis) in enumerate(zip(step.inputs, op.input_axes, strict=True)):
            inputs.append(self._tile_input(op, k, plan.buffers[n].spec, axis, places[n], works, before))
        if op.with_index:
            inputs.append(self._private(8))
            before.rows.append(TileIndex(inputs[-1]))
        arena = self._private(body.arena_bytes)
        for n, axis, origin in zip(step.outputs, op.output_axes, origins, strict=True):
            if isinstance(axis, str):
                self._partial(COMBINE[axis], plan.buffers[n].spec, works, places[n], first, later, origin)
            else:
                self._joined(op, plan.buffers[n].spec, axis, places[n], n in strided, first, later, origin)
        programs: list[tuple[Row, ...]] = []
        for part in (first, later):  # a worker runs one after the other: they use the same memory
            mark = self._free
            programs.append((*before.rows, *self.body(works, inputs, part.places, arena, part.added), *part.rows))
            self._free = mark
        return programs[0], programs[1], first.places

    def _tile_input(
        self,
        op: Tiled,
        number: int,
        spec: TensorSpec,
        axis: int | None,
        place: Place,
        works: InPlace,
        before: _TileRows,
    ) -> Place:
        """Where a tile finds its part of an input.

        A part that is not contiguous is copied first, unless all who read it can read it where it is.
        """
        if axis is None:
            return place
        part, stride = _part(spec, axis, op.tiles)
        if not _is_strided(spec, axis):
            return replace(place, per_tile=stride)
        moving = replace(place, per_tile=stride, strided=True)
        if works.take(number, spec):
            return moving
        private, origin = self._private(part.nbytes), next((s.origin for s in works.readers(number)), Origin())
        before.rows.append(self._move(spec, axis, op.tiles, moving, private, False, origin))
        return private

    def _strided_outputs(self, op: Tiled, plan: Plan, step: Step, works: InPlace) -> set[int]:
        """The numbers of the buffers of which tiles write their parts into the whole."""
        found: set[int] = set()
        for made, number, axis in zip(works.plan.outputs, step.outputs, op.output_axes, strict=True):
            spec = plan.buffers[number].spec
            if isinstance(axis, int) and _is_strided(spec, axis) and works.take(made, spec):
                found.add(number)
        return found

    def _joined(
        self,
        op: Tiled,
        spec: TensorSpec,
        axis: int,
        place: Place,
        in_whole: bool,
        first: _TileRows,
        later: _TileRows,
        origin: Origin,
    ) -> None:
        """A tile writes its part of a result where it belongs; others than those `in_whole` are copied there."""
        part, stride = _part(spec, axis, op.tiles)
        strided = _is_strided(spec, axis)
        target = replace(place, per_tile=stride, strided=strided)
        if strided and not in_whole:
            moving, target = target, self._private(part.nbytes)
            row = self._move(spec, axis, op.tiles, target, moving, True, origin)
            first.rows.append(row)
            later.rows.append(row)
        first.places.append(target)
        later.places.append(target)

    def _partial(
        self,
        op: Op,
        spec: TensorSpec,
        works: InPlace,
        target: Place,
        first: _TileRows,
        later: _TileRows,
        origin: Origin,
    ) -> None:
        """The first tile of a worker writes its result where the sum of the worker grows; the others are added.

        The sum of worker 0 grows where the sum of all shall be.
        """
        total = Place(PARTIAL, self.partial_bytes, home=(target.base, target.offset))
        self.partial_bytes += aligned(spec.nbytes)
        number = works.plan.outputs[len(first.places)]
        first.places.append(total)
        if isinstance(op, Add) and self._may_add(works, number):
            later.places.append(total)
            later.added.add(number)
            return
        term = self._private(spec.nbytes)
        later.places.append(term)
        later.rows.append(self.call(op, (spec, spec), (spec,), (total, term, total), origin))

    def _combine(
        self, op: Op, spec: TensorSpec, partial: Place, target: Place, workers: int, origin: Origin
    ) -> list[Row]:
        """The results of all workers, in their order; of large ones each worker adds up a share of the elements."""
        share = spec.size // workers // WHOLE_LINES * WHOLE_LINES if spec.size >= SHARED_ELEMENTS else 0
        if workers == 1 or not share:
            return [Serial(tuple(self._add_up(op, spec, partial, target, workers, origin)))]
        itemsize = spec.nbytes // spec.size
        part, rest = TensorSpec((share,), spec.dtype), TensorSpec((spec.size - share * workers,), spec.dtype)
        first, goal = (replace(place, per_tile=part.nbytes) for place in (partial, target))
        shared = tuple(self._add_up(op, part, first, goal, workers, origin))
        first, goal = (place.ahead(share * workers * itemsize) for place in (partial, target))
        left = self._add_up(op, rest, first, goal, workers, origin) if rest.size else []
        return [Tiles(workers, shared, (), None), *([Serial(tuple(left))] if left else [])]

    def _add_up(
        self, op: Op, spec: TensorSpec, partial: Place, target: Place, workers: int, origin: Origin
    ) -> list[Row]:
        parts = [replace(partial, worker=number) for number in range(workers)]
        return [self.call(op, (spec, spec), (spec,), (target, part, target), origin) for part in parts[1:]]

    def _move(
        self, spec: TensorSpec, axis: int, parts: int, source: Place, target: Place, into_whole: bool, origin: Origin
    ) -> Row:
        kernel = self._mover(spec, axis, parts, into_whole)
        if kernel is None:
            raise NotCoveredError("a part that is not contiguous")
        part, _ = _part(spec, axis, parts)
        whole = Slice((0,) * part.rank, part.shape, (1,) * part.rank)
        reach = (part.nbytes, spec.nbytes) if into_whole else (spec.nbytes, part.nbytes)
        return Call(kernel, (source, target), whole, (part,), (part,), None, origin, reach)


class _TileRows:
    """Places of the results of a tile, those that are added to what lies there, and rows around its body."""

    def __init__(self) -> None:
        self.places: list[Place] = []
        self.added: set[int] = set()
        self.rows: list[Row] = []


def bind(plan: Plan, inputs: Sequence[Place], outputs: Sequence[Place], arena: Place) -> tuple[list[Place], list[Row]]:
    """A place for every buffer, and the copies to be made in the end: inputs that are outputs, doubled outputs."""
    places: list[Place | None] = [*inputs, *[None] * (len(plan.buffers) - len(inputs))]
    doubled: list[tuple[Place, int]] = []
    for target, number in zip(outputs, plan.outputs, strict=True):
        if places[number] is None:
            places[number] = target
        else:
            doubled.append((target, number))
    for number, buffer in enumerate(plan.buffers):
        if places[number] is None:
            shared = None if buffer.shares is None else places[buffer.shares]
            places[number] = arena.ahead(buffer.offset) if buffer.offset is not None else shared
    known = [place for place in places if place is not None]
    copies: list[Row] = [Copy(target, known[number], plan.buffers[number].spec.nbytes) for target, number in doubled]
    return known, copies


def _inside(place: Place) -> Place:
    """The same place, as it is told inside of one more loop."""
    if place.per_outer:
        raise NotCoveredError("a loop in a loop in a loop")
    return replace(place, per_step=0, per_outer=place.per_step)


def _stepping(place: Place, nbytes: int) -> Place:
    return replace(place, per_step=nbytes)


def _output_bytes(plan: Plan) -> list[int]:
    return [plan.buffers[number].spec.nbytes for number in plan.outputs]


def _is_strided(spec: TensorSpec, axis: int) -> bool:
    """Whether a part along `axis` is more than one stretch of memory."""
    return math.prod(int(n) for n in spec.shape[:axis]) != 1


def _part(spec: TensorSpec, axis: int, tiles: int) -> tuple[TensorSpec, int]:
    """The spec of a tile's part along `axis`, and the bytes from the start of one part to that of the next."""
    shape = (*spec.shape[:axis], int(spec.shape[axis]) // tiles, *spec.shape[axis + 1 :])
    stride = math.prod(int(n) for n in shape[axis:]) * TensorSpec((), spec.dtype).nbytes
    return TensorSpec(shape, spec.dtype), stride
