"""Strided copies and fills: the inner part of all kernels that move elements. Only the size of an element matters."""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from llvmlite import ir

from graphnn.backends.cpu.emit import Function, Value, const
from graphnn.backends.cpu.kernels.transposition import emit_transposition, fits_transposition
from graphnn.ir.tensor_spec import ITEM_BYTES

UNROLL = 4  # vectors in one turn of a long row
STRAIGHT = 8  # up to so many vectors, a row is copied without a loop


@dataclass(frozen=True)
class Axis:
    """`count` steps, with strides in elements: negative ones walk backwards, a source stride of 0 repeats."""

    count: int
    source: int
    target: int


@dataclass(frozen=True)
class Copy:
    """target[start + i * axis.target ...] = source[start + i * axis.source ...] over all axes, outermost first.

    Args:
        axes: no two neighbours could be one; none has one step only.
        unit: bytes of an element; small contiguous groups are one element.
        align: bytes that addresses are multiples of.
        source_start: first element that is read.
        target_start: first element that is written.
    """

    axes: tuple[Axis, ...]
    unit: int
    align: int
    source_start: int = 0
    target_start: int = 0

    @property
    def is_empty(self) -> bool:
        """Nothing to do."""
        return any(axis.count == 0 for axis in self.axes)

    def has_free_rows(self, vector_bytes: int) -> bool:
        """Code does not depend on the outermost count, so it may be passed at run time."""
        return bool(self.axes) and not self.is_empty and _inner_rank(self, vector_bytes) < len(self.axes)

    def sizes(self, vector_bytes: int) -> tuple[int, ...]:
        """What to pass in `Kernel.sizes`, for `emit_copy` to find at `position`."""
        if self.has_free_rows(vector_bytes):
            return (self.axes[0].count,)
        return (_chunks(self, vector_bytes),) if _is_long_row(self, vector_bytes) else ()


def plan_copy(
    shape: Sequence[int],
    source: Sequence[int],
    target: Sequence[int],
    dtype: str,
    source_start: int = 0,
    target_start: int = 0,
) -> Copy:
    """The copy with these counts and strides, in as few axes and as large elements as possible."""
    given = [Axis(*numbers) for numbers in zip(shape, source, target, strict=True) if numbers[0] != 1]
    axes: list[Axis] = []
    for axis in given:
        if axes and (axes[-1].source, axes[-1].target) == (axis.count * axis.source, axis.count * axis.target):
            axis = Axis(axes.pop().count * axis.count, axis.source, axis.target)
        axes.append(axis)
    unit = ITEM_BYTES[dtype]
    copy = _with_large_elements(Copy(tuple(axes), unit, unit, source_start, target_start))
    return replace(copy, axes=_matrix_last(copy.axes))


def _matrix_last(axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
    """The axis along which the source is contiguous comes last but one, where another one is for the target."""
    found = [axis for axis in axes[:-1] if axis.source == 1]
    if not found or axes[-1].source in (0, 1) or axes[-1].target != 1:
        return axes
    return (*(axis for axis in axes[:-1] if axis is not found[0]), found[0], axes[-1])


def _with_large_elements(copy: Copy) -> Copy:
    """Groups of 2, 4 or 8 contiguous bytes as one element, where all other strides are multiples of it."""
    if not copy.axes or copy.axes[-1].count * copy.unit not in (2, 4, 8) or not _is_row(copy.axes[-1]):
        return copy
    group, outer = copy.axes[-1].count, copy.axes[:-1]
    steps = [step for axis in outer for step in (axis.source, axis.target)]
    if any(step % group for step in (*steps, copy.source_start, copy.target_start)):
        return copy
    axes = tuple(Axis(axis.count, axis.source // group, axis.target // group) for axis in outer)
    starts = copy.source_start // group, copy.target_start // group
    return replace(copy, axes=axes, unit=copy.unit * group, source_start=starts[0], target_start=starts[1])


def contiguous(shape: Sequence[int]) -> list[int]:
    """Strides of an array in C order."""
    return [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]


def emit_copy(f: Function, source: Value, target: Value, copy: Copy, position: int | None = None) -> None:
    """Write the loops of a copy.

    Args:
        f: the kernel.
        source: address of the array that `copy.source_start` counts from.
        target: the same for what is written.
        copy: what to do.
        position: where `copy.sizes` stand in the sizes of the kernel; None makes all counts constants.
    """
    if copy.is_empty:
        return
    width, kind = f.target.vector_bytes, integer(copy.unit)
    source, target = (
        step(f, base, const(start), kind) for base, start in ((source, copy.source_start), (target, copy.target_start))
    )
    inner = _inner_rank(copy, width)
    outer = copy.axes[: len(copy.axes) - inner]
    first = f.size(position) if position is not None and copy.sizes(width) else None
    with ExitStack() as loops:
        for number, axis in enumerate(outer):
            count = first if number == 0 and first is not None else axis.count
            loop = loops.enter_context(f.loop(count))
            source, target = (
                step(f, base, f.builder.mul(loop.index, const(stride)), kind)
                for base, stride in ((source, axis.source), (target, axis.target))
            )
        _emit_inner(f, source, target, replace(copy, axes=copy.axes[len(outer) :]), None if outer else first)


def _inner_rank(copy: Copy, vector_bytes: int) -> int:
    """How many of the last axes are copied together."""
    if not copy.axes:
        return 0
    if _transposed(copy, vector_bytes):
        return 2
    return 1 if copy.axes[-1].target == 1 and copy.axes[-1].source in (-1, 0, 1) else 0


def _transposed(copy: Copy, vector_bytes: int) -> bool:
    """The last two axes are a matrix that is transposed, and large enough for vectors."""
    if len(copy.axes) < 2 or copy.axes[-1].target != 1 or copy.axes[-2].source != 1:
        return False
    return fits_transposition(copy.axes[-1].count, copy.axes[-2].count, copy.unit)


def _is_row(axis: Axis) -> bool:
    return axis.source == axis.target == 1


def _is_long_row(copy: Copy, vector_bytes: int) -> bool:
    lanes = vector_bytes // copy.unit
    return len(copy.axes) == 1 and _is_row(copy.axes[0]) and copy.axes[0].count > STRAIGHT * lanes


def _chunks(copy: Copy, vector_bytes: int) -> int:
    return copy.axes[0].count // (UNROLL * vector_bytes // copy.unit)


def _emit_inner(f: Function, source: Value, target: Value, copy: Copy, chunks: Value | None) -> None:
    kind = integer(copy.unit)
    if not copy.axes:
        put(f, target, 0, take(f, source, 0, kind, copy.align), kind, copy.align)
    elif len(copy.axes) == 2:
        columns, rows = copy.axes  # of the target
        emit_transposition(
            f, source, target, (rows.count, columns.count), (rows.source, columns.target), copy.unit, copy.align
        )
    elif copy.axes[0].source == 1:
        emit_row(f, source, target, copy.axes[0].count, copy.unit, copy.align, chunks)
    elif copy.axes[0].source == 0:
        emit_fill(f, target, take(f, source, 0, kind, copy.align), copy.axes[0].count, copy.unit, copy.align)
    else:
        _emit_reversed(f, source, target, copy)


def pieces(count: int, lanes: int) -> list[tuple[int, int]]:
    """(start, width) of vectors that cover `count` elements; the last may lie over the one before it."""
    if count == 0:
        return []
    width = min(lanes, 1 << (count.bit_length() - 1))
    starts = [*range(0, count - width + 1, width)]
    return [(start, width) for start in (starts if count % width == 0 else [*starts, count - width])]


@contextmanager
def _turns(f: Function, count: int, lanes: int, chunks: Value | None) -> Generator[list[tuple[Value, int]]]:
    """(start, width) of the vectors of one turn of the long loop."""
    with f.loop(const(count // (UNROLL * lanes)) if chunks is None else chunks) as loop:
        start = f.builder.mul(loop.index, const(UNROLL * lanes))
        yield [(f.builder.add(start, const(n * lanes)), lanes) for n in range(UNROLL)]


def _rest(f: Function, count: int, lanes: int, chunks: Value | None) -> list[tuple[Value, int]]:
    """(start, width) of the vectors behind the long loop; the same code whatever the number of its turns."""
    turns, rest = divmod(count, UNROLL * lanes)
    done = f.builder.mul(const(turns) if chunks is None else chunks, const(UNROLL * lanes))
    starts = [*range(0, rest - lanes + 1, lanes), *([rest - lanes] if rest % lanes else [])]
    return [(f.builder.add(done, const(start)), lanes) for start in starts]


def emit_row(
    f: Function, source: Value, target: Value, count: int, unit: int, align: int, chunks: Value | None = None
) -> None:
    """Copy `count` neighbouring elements of `unit` bytes; nothing is read or written outside of them.

    `chunks`: the number of turns of the long loop at run time, see `Copy.sizes`.
    """
    lanes = f.target.vector_bytes // unit

    def move(parts: Sequence[tuple[Value | int, int]]) -> None:
        kinds = [vector(unit, width) for _, width in parts]
        numbers = [take(f, source, at, kind, align) for (at, _), kind in zip(parts, kinds, strict=True)]
        for (at, _), number, kind in zip(parts, numbers, kinds, strict=True):
            put(f, target, at, number, kind, align)

    if count <= STRAIGHT * lanes:
        return move(pieces(count, lanes))
    with _turns(f, count, lanes, chunks) as parts:
        move(parts)
    move(_rest(f, count, lanes, chunks))


def emit_fill(
    f: Function, target: Value, number: Value, count: int, unit: int, align: int, chunks: Value | None = None
) -> None:
    """Write an integer of `unit` bytes to `count` neighbouring elements."""
    lanes = f.target.vector_bytes // unit

    def write(parts: Sequence[tuple[Value | int, int]]) -> None:
        for at, width in parts:
            put(f, target, at, f.splat(number, width), vector(unit, width), align)

    if count <= STRAIGHT * lanes:
        return write(pieces(count, lanes))
    with _turns(f, count, lanes, chunks) as parts:
        write(parts)
    write(_rest(f, count, lanes, chunks))


def fill_sizes(count: int, unit: int, vector_bytes: int) -> tuple[int, ...]:
    """The turns of the long loop of `emit_fill` or `emit_row`, where there is one."""
    lanes = vector_bytes // unit
    return (count // (UNROLL * lanes),) if count > STRAIGHT * lanes else ()


def _emit_reversed(f: Function, source: Value, target: Value, copy: Copy) -> None:
    """A row of the target, from its last source element on."""
    count, lanes = copy.axes[0].count, f.target.vector_bytes // copy.unit
    width = min(lanes, 1 << (count.bit_length() - 1))
    kind, numbers = vector(copy.unit, width), list(range(width))[::-1]
    mask = ir.Constant(ir.VectorType(ir.IntType(32), width), numbers)
    b = f.builder
    with f.loop(count, step=width) as loop:
        room = const(count - width)
        at = b.select(b.icmp_signed("<", loop.index, room), loop.index, room)
        there = b.sub(const(1 - width), at)
        found = take(f, source, there, kind, copy.align)
        put(f, target, at, b.shuffle_vector(found, found, mask), kind, copy.align)


# -- elements ---------------------------------------------------------------------------------------------------------


def integer(unit: int) -> ir.IntType:
    """The integer type of so many bytes."""
    return ir.IntType(8 * unit)


def vector(unit: int, lanes: int) -> ir.VectorType:
    """Lanes of such integers."""
    return ir.VectorType(integer(unit), lanes)


def step(f: Function, base: Value, index: Value, kind: ir.Type) -> Value:
    """The address `index` elements further on."""
    element = kind.element if isinstance(kind, ir.VectorType) else kind
    return f.builder.gep(base, [index], source_etype=element)


def take(f: Function, base: Value, index: Value | int, kind: ir.Type, align: int) -> Value:
    """A scalar or a vector from element `index` on."""
    index = const(index) if isinstance(index, int) else index
    return f.builder.load(step(f, base, index, kind), typ=kind, align=align)


def put(f: Function, base: Value, index: Value | int, number: Value, kind: ir.Type, align: int) -> None:
    """Write a scalar or a vector from element `index` on."""
    index = const(index) if isinstance(index, int) else index
    f.builder.store(number, step(f, base, index, kind), align=align)


def offset_of(numbers: Sequence[int], strides: Sequence[int]) -> int:
    """Place of an element in C order."""
    return sum(itertools.starmap(int.__mul__, zip(numbers, strides, strict=True)))
