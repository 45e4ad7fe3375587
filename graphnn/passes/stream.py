"""stream: values much larger than all that they are made of, as scores of attention, are made part by part.

Each region around such values becomes a loop over its leading axes and over rows (docs/decisions/0017-streaming.md).
Behind the cut along the batch, before fusing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from graphnn.ir.program import Instruction, Kind, Program, Value
from graphnn.ops.shape import Transpose
from graphnn.passes.dead import remove_dead
from graphnn.passes.order import in_order
from graphnn.passes.partition import partition
from graphnn.passes.partition_tiles import divisors
from graphnn.passes.stream_regions import Region, regions, renamed
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
    tiles = [i for i in program.instructions if isinstance(i.op, Tiled)]
    inside = {i: replace(i, op=_with_streamed_body(i.op, l2_bytes)) for i in tiles if isinstance(i.op, Tiled)}
    if any(new.op is not old.op for old, new in inside.items()):
        program = replace(program, instructions=tuple(inside.get(i, i) for i in program.instructions))
    return _streamed(program, workers, l2_bytes, LEVELS)


def _with_streamed_body(op: Tiled, l2_bytes: int) -> Tiled:
    body = _streamed(op.body, 1, l2_bytes, LEVELS)
    return op if body is op.body else replace(op, body=body)


def _streamed(program: Program, workers: int, l2_bytes: int, levels: int) -> Program:
    """With a loop for each region, and loops in it as far as `levels` go."""
    for region in reversed(regions(program, LEAST * l2_bytes)):  # backward ones first: then no other reads forward ones
        fragment = _Fragment(program, region)
        cut = _where_to_cut(fragment, workers, l2_bytes, levels)
        made = fragment.cut(*cut) if cut is not None else None
        if made is None:
            continue
        if levels > 1:
            made = replace(made, instructions=tuple(_deeper(i, l2_bytes, levels - 1) for i in made.instructions))
        program = fragment.replaced(made)
    return program


def _deeper(instruction: Instruction, l2_bytes: int, levels: int) -> Instruction:
    op: Any = instruction.op
    if not isinstance(op, Tiled):
        return instruction
    return replace(instruction, op=replace(op, body=_streamed(op.body, 1, l2_bytes, levels)))


def _where_to_cut(fragment: _Fragment, workers: int, l2_bytes: int, levels: int) -> tuple[int, int] | None:
    """Axis of the large values, and number of parts: the one leading axis there is, else rows."""
    shape = fragment.shape
    leading = [axis for axis, size in enumerate(shape[:-2]) if size > 1]
    if levels > 1 and len(leading) == 1 and shape[leading[0]] % workers == 0:
        return leading[0], shape[leading[0]]
    return _rows(fragment, workers, l2_bytes)


def _rows(fragment: _Fragment, workers: int, l2_bytes: int) -> tuple[int, int] | None:
    """As few parts as fit the cache."""
    axis = len(fragment.shape) - 2
    rows = fragment.shape[axis]
    fits = [n for n in divisors(rows, rows // FEWEST_ROWS) if n > 1 and n % workers == 0]
    small = [n for n in fits if fragment.nbytes // n <= l2_bytes // 2]
    return (axis, small[0] if small else fits[-1]) if fits else None


class _Fragment:
    """A region as a program of its own."""

    def __init__(self, program: Program, region: Region):
        self.whole, self.region = program, region
        spec = region.products[0].outputs[0].spec
        self.shape, self.nbytes = tuple(map(int, spec.shape)), spec.nbytes
        made = {value for i in region.members for value in i.outputs}
        self._given = list(dict.fromkeys(v for i in region.members for v in i.inputs if v not in made))
        members = set(region.members)
        own = {value for i in program.instructions if i.outputs[0] in made for value in i.outputs}
        used = {v for i in program.instructions if i not in members and i.outputs[0] not in own for v in i.inputs}
        self._returned = [v for i in region.members for v in i.outputs if v in used or v in program.results]

    def cut(self, axis: int, parts: int) -> Program | None:
        """In `parts` along an axis of the large values; None where these would still be there as wholes."""
        inputs = {value: Value(value.name, value.spec, Kind.INPUT) for value in self._given}
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
        return replace(made, instructions=tuple(renamed(i, back) for i in made.instructions))

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

    def replaced(self, made: Program) -> Program:
        """The whole program with these instructions in the place of the region's."""
        gone = {value for i in self.region.members for value in i.outputs}
        kept = [i for i in self.whole.instructions if i.outputs[0] not in gone]
        places = {i: number for number, i in enumerate(self.whole.instructions)}
        last = max((places[i] for i in self.whole.instructions if i.outputs[0] in gone), default=0)
        units = [*((places[i], i) for i in kept), *((last, i) for i in made.instructions)]
        return remove_dead(replace(self.whole, instructions=in_order(units)))


def _through_transposes(value: Value, axis: int, makers: Mapping[Value, Instruction]) -> tuple[Value, int] | None:
    """The value that this one is a transpose of, and the place of the axis there."""
    while axis >= 0 and (maker := makers.get(value)) is not None:
        if not isinstance(maker.op, Transpose):
            return None
        value, axis = maker.inputs[0], maker.op.order[axis]
    return (value, axis) if axis >= 0 else None
