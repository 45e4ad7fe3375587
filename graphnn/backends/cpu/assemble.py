"""assemble: from a Plan to the rows of the driver's table."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from graphnn.backends.cpu.kernel import Kernel, Specs
from graphnn.backends.cpu.strided_parts import InPlace, Work
from graphnn.backends.cpu.table import PRIVATE, SCRATCH, Call, Copy, Place, Repeat, Row
from graphnn.backends.cpu.tile_loop import Part, TileLoop
from graphnn.ir.program import Origin
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops.fused import Fused
from graphnn.ops.op import Op
from graphnn.ops.shape import Slice
from graphnn.passes.accumulate import accumulating
from graphnn.plan.memory import make_plan
from graphnn.plan.plan import Plan, Step, aligned
from graphnn.scan import Scan
from graphnn.tiled import Tiled

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
        if isinstance(step.op, Tiled):
            own = {*step.inputs, *step.outputs}
            inside = [_inside(place) if number in own else place for number, place in enumerate(places)]
            return TileLoop(self, works.plan, step, inside).repeated()
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

    def may_add(self, works: InPlace, number: int) -> bool:
        """Whether a result of a tile, which nothing else reads, can be added to the sum of the worker as it is made."""
        maker = works.maker_of_result(number)
        return maker is not None and self._adding(works.of(maker), [maker.outputs.index(number)])[0] is not None

    def private(self, nbytes: int) -> Place:
        """New memory of each worker."""
        place = Place(PRIVATE, self._free)
        self._free += aligned(nbytes)
        self.private_bytes = max(self.private_bytes, self._free)
        return place

    @contextmanager
    def memory(self) -> Generator[None]:
        """What is taken of a worker's memory in this block is free behind it."""
        start = self._free
        try:
            yield
        finally:
            self._free = start

    # -- loops --------------------------------------------------------------------------------------------------------

    def _scan(self, step: Step, op: Scan, inputs: Sequence[Place], outputs: Sequence[Place]) -> list[Row]:
        """Carries live at the places of the last carries; what the body makes of them is copied there after a turn."""
        plan = make_plan(op.body)
        _, sequences, constants = op.split([_inside(place) for place in inputs])
        last, stacked, kept = op.split_outputs([_inside(place) for place in outputs])
        n_c, n_s = op.n_carries, op.n_sequences
        sizes = [buffer.spec.nbytes for buffer in plan.buffers[: len(plan.inputs)]]
        slices = [_stepping(place, size) for place, size in zip(sequences, sizes[n_c : n_c + n_s], strict=True)]
        steps = [
            _stepping(place, value) for place, value in zip(stacked, _output_bytes(plan)[n_c:], strict=True)
        ]  # fmt: skip
        rows: list[Row] = [Copy(_stepping(k, n), c, n) for k, c, n in zip(kept, last, sizes, strict=False)]
        with self.memory():
            new = [self.private(size) for size in sizes[:n_c]]
            arena = self.private(plan.arena_bytes)
            rows += self.body(self.works(plan), [*last, *slices, *constants], [*new, *steps], arena)
        rows += [Copy(c, x, n) for c, x, n in zip(last, new, sizes, strict=False)]
        begin = [Copy(c, x, n) for c, x, n in zip(outputs[:n_c], inputs[:n_c], sizes, strict=False)]
        return [*begin, Repeat(op.length.__index__(), tuple(rows), op.reverse, step)]

    def move(self, part: Part, places: tuple[Place, Place], out: bool, origin: Origin) -> Call:
        """The row that copies a part from one place to another, out of the whole array or, for `out`, into it."""
        kernel = self._mover(part.whole, part.axis, part.parts, out)
        if kernel is None:
            raise NotCoveredError("a part that is not contiguous")
        own, whole = part.spec, part.whole
        copy = Slice((0,) * own.rank, own.shape, (1,) * own.rank)
        reach = (own.nbytes, whole.nbytes) if out else (whole.nbytes, own.nbytes)
        return Call(kernel, places, copy, (own,), (own,), None, origin, reach)


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
