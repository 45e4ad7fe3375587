"""Kernels that order lines: a stable merge sort of unsigned keys that carry their index.

A key is the element's bits, changed so that unsigned order is the wanted order: NaN last where ascending, first where
descending; -0 and 0 are equal. Elements of up to 4 bytes share 64 bits with their index; those of 8 bytes have it
beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llvmlite import ir

from graphnn.backends.cpu.emit import I64, TYPES, Function, Value, const
from graphnn.backends.cpu.kernel import Emitter, Kernel, Specs
from graphnn.backends.cpu.kernels.copying import integer
from graphnn.backends.cpu.kernels.ordering import is_nan
from graphnn.backends.cpu.kernels.vectors import lines_of
from graphnn.backends.cpu.target import Target
from graphnn.ir.tensor_spec import FLOATS, ITEM_BYTES
from graphnn.ops.op import Op
from graphnn.ops.sorting import Sort, TopK


@dataclass(frozen=True)
class _Line:
    """A line of the input: where it starts, the distance of its elements, and how it is to be ordered."""

    dtype: str
    stride: int
    count: int
    descending: bool

    @property
    def columns(self) -> int:
        """Arrays of 64-bit numbers that are moved together: keys with indices, or keys and indices."""
        return 2 if ITEM_BYTES[self.dtype] == 8 else 1


def emit_sort(op: Op, inputs: Specs, outputs: Specs, target: Target) -> Kernel | None:
    """All elements of each line."""
    if not isinstance(op, Sort):
        return None
    return _sort_kernel(op.axis, op.descending, inputs, None, target)


def emit_top_k(op: Op, inputs: Specs, outputs: Specs, target: Target) -> Kernel | None:
    """The head of each line in descending order."""
    if not isinstance(op, TopK):
        return None
    return _sort_kernel(op.axis, True, inputs, op.k.__index__(), target)


def _sort_kernel(axis: int, descending: bool, inputs: Specs, kept: int | None, target: Target) -> Kernel | None:
    (x,) = inputs
    before, count, behind = lines_of(x, axis)
    kept = count if kept is None else kept
    if count >= 2**31:
        return None  # an index has 32 bits beside its key
    f, line = Function(target), _Line(x.dtype, behind, count, descending)
    b, scratch = f.builder, f.pointer(3)
    size = count + 1  # a merge looks at one key behind the end
    buffers = [[f.at(scratch, const(n * size), "int64") for n in range(2 * line.columns)][i::2] for i in (0, 1)]
    with f.loop(f.size(0)) as outer, f.loop(behind) as inner:
        start = b.add(b.mul(outer.index, const(count * behind)), inner.index)
        source = f.at(f.pointer(0), start, x.dtype)
        _emit_keys(f, line, source, buffers[0])
        ordered = _emit_merges(f, buffers, count)
        there = b.add(b.mul(outer.index, const(kept * behind)), inner.index)
        results = f.at(f.pointer(1), there, x.dtype), f.at(f.pointer(2), there, "int64")
        _emit_results(f, line, source, ordered, results, kept)
    return Kernel(f.finish(), (before,), 8 * 2 * line.columns * size)


def _emit_keys(f: Function, line: _Line, source: Value, columns: Sequence[Value]) -> None:
    b = f.builder
    with f.loop(line.count) as loop:
        number = f.load(source, b.mul(loop.index, const(line.stride)), line.dtype)
        key = _key(f, number, line.dtype)
        key = b.xor(key, ir.Constant(key.type, -1)) if line.descending else key
        shared = line.columns == 1
        row = [b.or_(b.shl(b.zext(key, I64), const(32)), loop.index)] if shared else [key, loop.index]
        for column, entry in zip(columns, row, strict=True):
            f.store(entry, column, loop.index, "int64")


def _key(f: Function, number: Value, dtype: str) -> Value:
    """An unsigned integer as wide as the element, in the order of the elements."""
    b, kind = f.builder, integer(ITEM_BYTES[dtype])
    sign = ir.Constant(kind, 1 << (kind.width - 1))
    if dtype not in FLOATS:
        return number if dtype.startswith("u") else b.xor(number, sign)
    bits = b.bitcast(b.fadd(number, ir.Constant(TYPES[dtype], 0.0)), kind)  # -0 + 0 is 0
    negative = b.ashr(bits, ir.Constant(kind, kind.width - 1))  # all ones or zeros
    key = b.xor(bits, b.or_(negative, sign))
    return b.select(is_nan(f, number), ir.Constant(kind, -1), key)


def _emit_merges(f: Function, buffers: Sequence[Sequence[Value]], count: int) -> Sequence[Value]:
    """Sorted runs of 1, 2, 4, ... elements from one buffer to the other; the buffer that holds the last one."""
    passes, b, columns = (count - 1).bit_length() if count else 0, f.builder, len(buffers[0])
    with f.loop(passes, [const(1), *buffers[0], *buffers[1]]) as loop:
        width, here, there = loop.carried[0], loop.carried[1 : 1 + columns], loop.carried[1 + columns :]
        both = b.shl(width, const(1))
        runs = b.udiv(b.add(const(count - 1), both), both)
        with f.loop(runs) as run:
            first = b.mul(run.index, both)
            middle, last = (_capped(f, b.add(first, n), count) for n in (width, both))
            _emit_merge(f, here, there, (first, middle, last))
        loop.results = [both, *there, *here]
    return loop.carried[1 : 1 + columns]


def _capped(f: Function, number: Value, limit: int) -> Value:
    return f.builder.select(f.builder.icmp_signed("<", number, const(limit)), number, const(limit))


def _emit_merge(f: Function, here: Sequence[Value], there: Sequence[Value], bounds: tuple[Value, Value, Value]) -> None:
    """Two sorted runs, side by side between the bounds, as one; of equal keys that of the left run goes first."""
    b, (first, middle, last) = f.builder, bounds
    with f.loop(last, [first, middle], start=first) as loop:
        left, right = loop.carried
        smaller = b.icmp_unsigned("<", f.load(here[0], right, "int64"), f.load(here[0], left, "int64"))
        none_left = b.icmp_signed(">=", left, middle)
        take_right = b.and_(b.icmp_signed("<", right, last), b.or_(none_left, smaller))
        taken, step = b.select(take_right, right, left), b.zext(take_right, I64)
        for source, target in zip(here, there, strict=True):
            f.store(f.load(source, taken, "int64"), target, loop.index, "int64")
        loop.results = [b.add(left, b.sub(const(1), step)), b.add(right, step)]


def _emit_results(
    f: Function, line: _Line, source: Value, ordered: Sequence[Value], results: tuple[Value, Value], kept: int
) -> None:
    """The elements and their indices; elements are copied as bits."""
    b, bits = f.builder, f"uint{8 * ITEM_BYTES[line.dtype]}"
    with f.loop(kept) as loop:
        index = f.load(ordered[-1], loop.index, "int64")
        index = b.and_(index, const(2**32 - 1)) if line.columns == 1 else index
        place = b.mul(loop.index, const(line.stride))
        f.store(f.load(source, b.mul(index, const(line.stride)), bits), results[0], place, bits)
        f.store(index, results[1], place, "int64")


EMITTERS: dict[type[Op], Emitter] = {Sort: emit_sort, TopK: emit_top_k}
