"""Kernels of the ops that read and add at positions given by integers.

All indices are checked before anything is read with them; one that is out of range ends the kernel with 1. Sums are
made in the order of the reference, so they have its bits.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from graphnn.backends.cpu.emit import I64, TYPES, Function, Value, const
from graphnn.backends.cpu.kernel import Emitter, Kernel, Specs
from graphnn.backends.cpu.kernels import along_axis
from graphnn.backends.cpu.kernels.copying import emit_copy, emit_fill, fill_sizes, integer, plan_copy
from graphnn.backends.cpu.kernels.vectors import Lines, added, lines_of, row_at, strips
from graphnn.backends.cpu.target import Target
from graphnn.ir.tensor_spec import ITEM_BYTES, TensorSpec
from graphnn.ops.indexing import Gather, GatherAlong, OneHot, ScatterAdd, ScatterAddAlong
from graphnn.ops.op import Op


def load_index(f: Function, base: Value, index: Value, dtype: str) -> Value:
    """One index as a 64-bit integer."""
    found, b = f.load(base, index, dtype), f.builder
    if ITEM_BYTES[dtype] == 8:
        return found
    return b.zext(found, I64) if dtype.startswith("u") else b.sext(found, I64)


def emit_check(f: Function, base: Value, count: Value, limit: Value | int, dtype: str) -> None:
    """Return 1 from the kernel where an index is not below the limit; a negative one is large without its sign."""
    b = f.builder
    with f.loop(count, [ir.Constant(I64, 0)]) as loop:
        found = load_index(f, base, loop.index, dtype)
        loop.results = [b.select(b.icmp_unsigned(">", found, loop.carried[0]), found, loop.carried[0])]
    limit = const(limit) if isinstance(limit, int) else limit
    wrong = b.and_(b.icmp_unsigned(">=", loop.carried[0], limit), b.icmp_signed(">", count, const(0)))
    with b.if_then(wrong, likely=False):
        b.ret(const(1))


# -- one index for a whole row ----------------------------------------------------------------------------------------


def emit_gather(op: Op, inputs: Specs, outputs: Specs, target: Target) -> Kernel | None:
    """Rows of x, one copy each; sizes: lines before the axis, indices, elements along the axis."""
    if not isinstance(op, Gather):
        return None
    x, indices = inputs
    f = Function(target)
    before, along, behind = lines_of(x, op.axis)
    lines, count, limit = (f.size(n) for n in range(3))
    source, positions, result = (f.pointer(n) for n in range(3))
    emit_check(f, positions, count, limit, indices.dtype)
    row = plan_copy((behind,), (1,), (1,), x.dtype)
    with f.loop(lines) as line, f.loop(count) as loop:
        b = f.builder
        found = load_index(f, positions, loop.index, indices.dtype)
        here = b.add(b.mul(line.index, limit), found)
        there = b.add(b.mul(line.index, count), loop.index)
        emit_copy(f, row_at(f, source, here, behind, x.dtype), row_at(f, result, there, behind, x.dtype), row)
    return Kernel(f.finish(), (before, indices.size, along))


def emit_scatter_add(op: Op, inputs: Specs, outputs: Specs, target: Target) -> Kernel | None:
    """Zeros, then the rows in order; half precision is added up in float32 and rounded once, as the reference does."""
    if not isinstance(op, ScatterAdd):
        return None
    (updates, indices), (y,) = inputs, outputs
    f = Function(target)
    before, _, behind = lines_of(updates, op.axis, indices.rank)
    lines, count, limit = (f.size(n) for n in range(3))
    emit_check(f, f.pointer(1), count, limit, indices.dtype)
    total, sizes = _zeroed(f, y, 3)
    wide = _wide(y.dtype)
    with f.loop(lines) as line, f.loop(count) as loop:
        b = f.builder
        found = load_index(f, f.pointer(1), loop.index, indices.dtype)
        here = b.add(b.mul(line.index, count), loop.index)
        there = b.add(b.mul(line.index, limit), found)
        row = row_at(f, f.pointer(0), here, behind, updates.dtype)
        _add_row(f, row, row_at(f, total, there, behind, wide), behind, updates.dtype, wide)
    return _finished(f, y, total, (before, indices.size, op.size.__index__(), *sizes))


def _wide(dtype: str) -> str:
    return "float32" if dtype == "float16" else dtype


def _zeroed(f: Function, y: TensorSpec, position: int) -> tuple[Value, tuple[int, ...]]:
    """(where sums are made: the output, or scratch of a wider type; the sizes from `position` on)."""
    total = f.pointer(3 if y.dtype == "float16" else 2)
    unit = ITEM_BYTES[_wide(y.dtype)]
    sizes = fill_sizes(y.size, unit, f.target.vector_bytes)
    emit_fill(f, total, integer(unit)(0), y.size, unit, unit, f.size(position) if sizes else None)
    return total, sizes


def _finished(f: Function, y: TensorSpec, total: Value, sizes: tuple[int, ...]) -> Kernel:
    """The kernel, with the sums rounded where they are wider than the output."""
    if y.dtype != "float16":
        return Kernel(f.finish(), sizes)
    with f.loop(y.size) as loop:
        number = f.builder.fptrunc(f.load(total, loop.index, "float32"), TYPES["float16"])
        f.store(number, f.pointer(2), loop.index, "float16")
    return Kernel(f.finish(), sizes, 4 * y.size)


def _add_row(f: Function, source: Value, target: Value, count: int, dtype: str, wide: str) -> None:
    """target[i] += source[i]."""
    for start, stop, width in strips(count, f.target.lanes(wide)):
        with f.loop(stop, start=start, step=width) as loop:
            found = f.load_vector(source, loop.index, dtype, width)
            if dtype != wide:
                found = f.builder.fpext(found, ir.VectorType(TYPES[wide], width))
            total = f.load_vector(target, loop.index, wide, width)
            f.store_vector(added(f, total, found, wide), target, loop.index, wide)


# -- one index for each element ---------------------------------------------------------------------------------------


def emit_gather_along(op: Op, inputs: Specs, outputs: Specs, target: Target) -> Kernel | None:
    """Element by element."""
    if not isinstance(op, GatherAlong):
        return None
    x, indices = inputs
    f = Function(target)
    before, along, behind = lines_of(x, op.axis)
    count = lines_of(indices, op.axis)[1]
    source, positions, result = (f.pointer(n) for n in range(3))

    def move(place: Value, there: Value) -> None:
        f.store(f.load(source, there, x.dtype), result, place, x.dtype)

    _along(f, positions, (before, count, behind), along, indices.dtype, move)
    return Kernel(f.finish(), (before, indices.size))


def emit_scatter_add_along(op: Op, inputs: Specs, outputs: Specs, target: Target) -> Kernel | None:
    """Zeros, then element by element in order."""
    if not isinstance(op, ScatterAddAlong):
        return None
    (updates, indices), (y,) = inputs, outputs
    f = Function(target)
    lines = lines_of(indices, op.axis)
    wide = _wide(y.dtype)
    state: list[tuple[Value, tuple[int, ...]]] = []

    def start() -> None:
        state.append(_zeroed(f, y, 2))

    def move(place: Value, there: Value) -> None:
        found = f.load(f.pointer(0), place, updates.dtype)
        found = found if wide == updates.dtype else f.builder.fpext(found, TYPES[wide])
        total = state[0][0]
        f.store(added(f, f.load(total, there, wide), found, wide), total, there, wide)

    _along(f, f.pointer(1), lines, op.size.__index__(), indices.dtype, move, start)
    total, sizes = state[0]
    return _finished(f, y, total, (lines[0], indices.size, *sizes))


def _along(
    f: Function,
    positions: Value,
    lines: Lines,
    limit: int,
    dtype: str,
    move: Callable[[Value, Value], None],
    start: Callable[[], None] = lambda: None,
) -> None:
    """move(place of the index, place that it names) for each index in C order; `start` comes behind the check.

    The kernel's first sizes are the lines before the axis and the number of indices.
    """
    _, count, behind = lines
    emit_check(f, positions, f.size(1), limit, dtype)
    start()
    with f.loop(f.size(0)) as line, f.loop(count) as row, f.loop(behind) as loop:
        b = f.builder
        place = b.add(b.mul(b.add(b.mul(line.index, const(count)), row.index), const(behind)), loop.index)
        found = b.add(b.mul(line.index, const(limit)), load_index(f, positions, place, dtype))
        move(place, b.add(b.mul(found, const(behind)), loop.index))


def emit_one_hot(op: Op, inputs: Specs, outputs: Specs, target: Target) -> Kernel | None:
    """Zeros, then a 1 for each index."""
    if not isinstance(op, OneHot):
        return None
    (indices,), (y,) = inputs, outputs
    f, unit, depth = Function(target), ITEM_BYTES[y.dtype], op.depth.__index__()
    emit_check(f, f.pointer(0), f.size(0), depth, indices.dtype)
    sizes = fill_sizes(y.size, unit, target.vector_bytes)
    emit_fill(f, f.pointer(1), integer(unit)(0), y.size, unit, unit, f.size(1) if sizes else None)
    one = TYPES[y.dtype](1)
    with f.loop(f.size(0)) as loop:
        found = load_index(f, f.pointer(0), loop.index, indices.dtype)
        f.store(one, f.pointer(1), f.builder.add(f.builder.mul(loop.index, const(depth)), found), y.dtype)
    return Kernel(f.finish(), (indices.size, *sizes))


EMITTERS: dict[type[Op], Emitter] = {
    Gather: emit_gather,
    ScatterAdd: emit_scatter_add,
    GatherAlong: emit_gather_along,
    ScatterAddAlong: emit_scatter_add_along,
    OneHot: emit_one_hot,
    **along_axis.EMITTERS,
}
