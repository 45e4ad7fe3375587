"""stream: values much larger than all that they are made of, as scores of attention, are made part by part.

Each region around such values becomes a loop over its leading axes and over rows (docs/decisions/0017-streaming.md).
Behind the cut along the batch, before fusing.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from graphnn.ir.program import Instruction, Kind, Program, Value
from graphnn.ops.shape import Transpose
from graphnn.passes.bodies import with_body
from graphnn.passes.dead import remove_dead
from graphnn.passes.order import in_order
from graphnn.passes.partition import partition
from graphnn.passes.partition_tiles import divisors
from graphnn.passes.stream_regions import Region, Table, blown_up, regions, renamed
from graphnn.tiled import Tiled

LEAST = 2  # caches: values up to there are left as they are; of twice that size one is as quick in either way
LEVELS = 2  # of loops in the loop over the batch: as many as a driver counts
FEWEST_ROWS = 8  # of a part: below, products are slower than the memory that they save


def stream(program: Program, workers: int, l2_bytes: int) -> Program:
    """The program with loops in which no more than a part of each large value is alive; results as before.

    Sums over the rows of a part are added in the order of the parts, so gradients differ by rounding. What no loop can
    be made of stays as it is: large values that are results, sizes that nothing divides, ops that mix rows.

    Args:
        program: differentiated; its batch is cut.
        workers: that share a loop of the outermost level.
        l2_bytes: cache of one of them.
    """
    instructions = tuple(_deeper(i, l2_bytes, LEVELS) for i in program.instructions)
    if instructions != program.instructions:
        program = replace(program, instructions=instructions)
    return _streamed(program, workers, l2_bytes, LEVELS)


def _streamed(program: Program, workers: int, l2_bytes: int, levels: int) -> Program:
    """With a loop for each region, and loops in it as far as `levels` go."""
    starts = blown_up(program, LEAST * l2_bytes)
    if not starts:
        return program
    table, loops = Table(program), list[_Loop]()
    left, gone, needed = set[int](), set[Instruction](), set(table.results)
    for region in reversed(regions(table, starts)):  # backward ones first: then no other reads forward ones
        fragment = _Fragment(table, region, gone, needed)
        made = None if region.component in left else _cut(fragment, workers, l2_bytes, levels)
        if made is None:
            left.add(region.component)
            continue
        loops.append(_Loop(region, tuple(_deeper(i, l2_bytes, levels - 1) for i in made.instructions)))
        gone |= region.own
        needed.update(region.given)
    return _assembled(table, loops)


@dataclass(frozen=True, eq=False)
class _Loop:
    """A region, and what was made of it."""

    region: Region
    instructions: tuple[Instruction, ...]


def _deeper(instruction: Instruction, l2_bytes: int, levels: int) -> Instruction:
    """With so many levels of loops in the loop that it is."""
    if not levels or not isinstance(instruction.op, Tiled):
        return instruction
    return with_body(instruction, lambda body: _streamed(body, 1, l2_bytes, levels))


def _assembled(table: Table, loops: Sequence[_Loop]) -> Program:
    """The program with the loops in the places of their regions, without those that would wait for each other."""
    if not loops:
        return table.program
    program = _in_their_places(table, loops)
    if program is not None:
        return program
    kept: list[_Loop] = []
    for component in dict.fromkeys(loop.region.component for loop in loops):
        more = [*kept, *(loop for loop in loops if loop.region.component == component)]
        kept = more if _in_their_places(table, more) is not None else kept
    return _in_their_places(table, kept) or table.program


def _in_their_places(table: Table, loops: Sequence[_Loop]) -> Program | None:
    gone = {instruction for loop in loops for instruction in loop.region.own}
    units = [(place, i) for i, place in table.position.items() if i not in gone]
    for loop in loops:
        last = max(map(table.position.__getitem__, loop.region.own))
        units += [(last, i) for i in loop.instructions]
    instructions = in_order(units)
    return remove_dead(replace(table.program, instructions=instructions)) if len(instructions) == len(units) else None


# -- where to cut ------------------------------------------------------------------------------------------------------


def _cut(fragment: _Fragment, workers: int, l2_bytes: int, levels: int) -> Program | None:
    """The first way that leaves no large value whole; None if there is none."""
    ways = _ways(fragment, workers, l2_bytes, levels)
    return next((made for axis, parts in ways if (made := fragment.cut(axis, parts)) is not None), None)


def _ways(fragment: _Fragment, workers: int, l2_bytes: int, levels: int) -> Iterator[tuple[int, int]]:
    """(axis of the large values, number of parts): the one leading axis there is, then rows."""
    shape = fragment.shape
    leading = [axis for axis, size in enumerate(shape[:-2]) if size > 1]
    if levels > 1 and len(leading) == 1 and shape[leading[0]] % workers == 0:
        yield leading[0], shape[leading[0]]
    axis = len(shape) - 2
    parts = [n for n in divisors(shape[axis], shape[axis] // FEWEST_ROWS) if n > 1]
    for fits in ([n for n in parts if n % workers == 0], parts):
        small = [n for n in fits if fragment.nbytes // n <= l2_bytes // 2]  # as few parts as fit the cache
        if fits:
            yield axis, small[0] if small else fits[-1]


class _Fragment:
    """A region as a program of its own.

    Args:
        table: of the program that it is of.
        region: the region.
        gone: instructions of other regions, which are loops already.
        needed: values that those read, or that are results.
    """

    def __init__(self, table: Table, region: Region, gone: Container[Instruction], needed: Container[Value]):
        self.region = region
        spec = max((i.outputs[0].spec for i in region.products), key=lambda spec: spec.nbytes)
        self.shape, self.nbytes = tuple(map(int, spec.shape)), spec.nbytes
        outputs = [value for i in table.by_place(region.own) for value in i.outputs]
        self._returned = [
            value
            for value in outputs
            if value in needed or any(i not in gone and i not in region.own for i in table.readers.get(value, ()))
        ]

    def cut(self, axis: int, parts: int) -> Program | None:
        """In `parts` along an axis of the large values; None where these would still be there as wholes."""
        inputs = {value: Value(value.name, value.spec, Kind.INPUT) for value in self.region.given}
        members = [renamed(i, inputs) for i in self.region.members]
        program = Program(tuple(inputs.values()), tuple(members), tuple(self._returned))
        cuts = self._cuts(axis, inputs)
        made = partition(program, parts, cuts)
        large = self._large()
        loops = [i for i in made.instructions if isinstance(i.op, Tiled)]
        whole = any(not large.isdisjoint((*i.inputs, *i.outputs)) for i in made.instructions)
        if len(loops) != 1 or whole:
            return None
        back = {new: old for old, new in inputs.items()}
        origin = self.region.products[0].origin
        named = (replace(i, origin=origin) if isinstance(i.op, Tiled) else i for i in made.instructions)
        return replace(made, instructions=tuple(renamed(i, back) for i in named))

    def _cuts(self, axis: int, inputs: Mapping[Value, Value]) -> dict[Value, int]:
        """Where the operands of the large products are cut: the left one as the product, the right one if it can be."""
        makers = {value: i for i in self.region.members for value in i.outputs}
        found: dict[Value, int] = {}
        for product in self.region.products:
            sides = product.inputs if axis < len(self.shape) - 2 else product.inputs[:1]
            for value in sides:
                place = _through_transposes(value, axis - len(self.shape) + value.spec.rank, makers)
                if place is not None and place[0] in inputs:
                    found.setdefault(inputs[place[0]], place[1])
        return found

    def _large(self) -> set[Value]:
        """What follows from the large products, and is as large."""
        found: set[Value] = set()
        for instruction in self.region.members:
            if instruction in self.region.products or not found.isdisjoint(instruction.inputs):
                found.update(value for value in instruction.outputs if value in self.region.large)
        return found


def _through_transposes(value: Value, axis: int, makers: Mapping[Value, Instruction]) -> tuple[Value, int] | None:
    """The value that this one is a transpose of, and the place of the axis there."""
    while axis >= 0 and (maker := makers.get(value)) is not None:
        if not isinstance(maker.op, Transpose):
            return None
        value, axis = maker.inputs[0], maker.op.order[axis]
    return (value, axis) if axis >= 0 else None
