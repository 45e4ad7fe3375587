"""Position: one vector of the row at which values are computed; Shape: how a row is cut into vectors."""

from __future__ import annotations

from dataclasses import dataclass, field

from llvmlite import ir

from graphnn.backends.cpu.emit import I1, Value, const
from graphnn.backends.cpu.kernels.loops.schedule import Schedule
from graphnn.backends.cpu.target import Target
from graphnn.ir.program import Value as IrValue
from graphnn.ir.tensor_spec import ITEM_BYTES
from graphnn.ops.random import RandomBits
from graphnn.passes.loop_nest import Axes

MOST_POSITIONS = 8  # of a row that is written out without a loop
MOST_WEIGHT = 256  # instructions of such a row: more would take long to compile ...
MOST_WEIGHT_ONCE = 64  # ... also where nothing of the row is needed again, in a later sweep or by the next row


@dataclass
class Position:
    """Neighbouring elements of the innermost axis.

    Args:
        start: index of the first.
        mask: lanes that exist; None for all.
        indices: of the other axes of the row, by axis.
        values: computed so far.
        offsets: by axes.
    """

    start: Value
    mask: Value | None
    indices: dict[int, Value] = field(default_factory=dict)
    values: dict[IrValue, Value] = field(default_factory=dict)
    offsets: dict[Axes, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class Shape:
    """How a row is cut.

    Args:
        lanes: elements of a vector.
        positions: number of vectors of a row that is written out; 0 for a loop.
    """

    lanes: int
    positions: int


def row_shape(schedule: Schedule, target: Target) -> Shape:
    """The cut that suits the dtypes, the length and the cost of an element."""
    nest = schedule.nest
    if not nest.sizes:
        return Shape(1, 0)
    widest = max((max(ITEM_BYTES[d], 4 * (d == "float16")) for d in schedule.dtypes), default=4)
    lanes = target.vector_bytes // widest
    length, is_fixed = nest.sizes[-1], len(nest.sizes) > 1
    if any(isinstance(i.op, RandomBits) for i in schedule.generators):
        lanes = max(4, target.vector_bytes // max(widest, 4)) * 4
        while is_fixed and lanes >= 2 * length and lanes > 4:
            lanes //= 2
    count = -(-length // lanes)
    most = MOST_WEIGHT if schedule.last > 0 or schedule.column_folds else MOST_WEIGHT_ONCE
    is_short = count <= MOST_POSITIONS and count * schedule.weight <= most
    if not schedule.row_totals and len(schedule.column_folds) * count > target.registers // 2:
        is_short = False  # too many sums of rows for the registers: in memory, several rows at once
    if nest.outer == len(nest.sizes) - 1 and nest.outer and is_short:
        return Shape(lanes, count)
    return Shape(lanes, 0)


def unroll_of(schedule: Schedule, sweep: int, lanes: int) -> int:
    """Vectors in one turn of the loop over a row: more where there is little to do for each."""
    weight, sizes = schedule.sweep_weight(sweep), schedule.nest.sizes
    unroll = 4 if weight <= 8 else 2 if weight <= 24 else 1
    while len(sizes) > 1 and unroll > 1 and unroll * lanes > sizes[-1]:
        unroll //= 2
    return unroll


def fixed_position(number: int, length: int, lanes: int) -> Position:
    """Vector `number` of a row that is written out."""
    start = number * lanes
    rest = length - start
    return Position(const(start), first_lanes(rest, lanes) if rest < lanes else None)


def first_lanes(count: int, lanes: int) -> Value:
    """A constant mask."""
    return ir.Constant(ir.VectorType(I1, lanes), [int(lane < count) for lane in range(lanes)])
