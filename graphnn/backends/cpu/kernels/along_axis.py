"""Kernels of running sums and of the first largest element along an axis; sums are made in the reference's order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from graphnn.backends.cpu.emit import I32, I64, TYPES, Function, Value, const
from graphnn.backends.cpu.kernel import Emitter, Kernel, Specs
from graphnn.backends.cpu.kernels.ordering import wins
from graphnn.backends.cpu.kernels.vectors import (
    Lines,
    added,
    element_kind,
    lines_of,
    load_kind,
    row_at,
    splat,
    store_kind,
    strips,
)
from graphnn.backends.cpu.target import Target
from graphnn.ir.tensor_spec import FLOATS
from graphnn.ops.indexing import CumulativeSum
from graphnn.ops.op import Op
from graphnn.ops.reduction import ArgMax

CHAINS = 8  # lines that are summed at once: as many as hide the latency of an addition


def emit_cumulative_sum(op: Op, inputs: Specs, outputs: Specs, target: Target) -> Kernel | None:
    """Vectors of neighbouring lines where there are elements behind the axis; otherwise several lines at once."""
    if not isinstance(op, CumulativeSum):
        return None
    (x,) = inputs
    f, lines = Function(target), lines_of(x, op.axis)
    before, count, behind = lines
    if count and behind > 1:
        _sum_strips(f, op, lines, x.dtype)
        return Kernel(f.finish(), (before,))
    together = before // CHAINS * CHAINS
    if count and behind:
        for chains, stop, start in ((CHAINS, f.size(0), const(0)), (1, f.size(1), f.size(0))):
            with f.loop(stop, start=start, step=chains) as line:
                places = [row_at(f, f.pointer(n), line.index, count, x.dtype) for n in (0, 1)]
                _sum_chains(f, op, places, (count, 1), [n * count for n in range(chains)], 1, x.dtype)
    return Kernel(f.finish(), (together, before))


def _sum_strips(f: Function, op: CumulativeSum, lines: Lines, dtype: str) -> None:
    _, count, behind = lines
    with f.loop(f.size(0)) as line:
        bases = [row_at(f, f.pointer(n), line.index, count * behind, dtype) for n in (0, 1)]
        for start, stop, width in strips(behind, f.target.lanes(dtype)):
            with f.loop(stop, start=start, step=width) as loop:
                places = [f.at(base, loop.index, dtype) for base in bases]
                _sum_chains(f, op, places, (count, behind), [0], width, dtype)


def _sum_chains(
    f: Function,
    op: CumulativeSum,
    places: Sequence[Value],
    steps: tuple[int, int],
    starts: Sequence[int],
    width: int,
    dtype: str,
) -> None:
    """Running sums from `starts` on, in `steps` = (count, stride) of source and target, each in `width` lanes."""
    (count, stride), (source, result), b = steps, places, f.builder
    # -0 + x has the bits of x, as the first sum must have
    first = splat(f, ir.Constant(TYPES[dtype], -0.0 if dtype in FLOATS else 0), width)
    with f.loop(count, [first] * len(starts)) as loop:
        at = b.mul(b.sub(const(count - 1), loop.index) if op.reverse else loop.index, const(stride))
        loop.results = []
        for start, total in zip(starts, loop.carried, strict=True):
            here = b.add(at, const(start))
            after = added(f, total, load_kind(f, source, here, dtype, width), dtype)
            store_kind(f, total if op.exclusive else after, result, here, dtype, width)
            loop.results.append(after)
    zero, edge = ir.Constant(element_kind(dtype, width), None), (count - 1) * stride if op.reverse else 0
    for start in starts if op.exclusive else ():
        store_kind(f, zero, result, const(start + edge), dtype, width)


def emit_argmax(op: Op, inputs: Specs, outputs: Specs, target: Target) -> Kernel | None:
    """The first largest element, or the first NaN: in vectors along the last axis, else of neighbouring lines."""
    if not isinstance(op, ArgMax):
        return None
    (x,) = inputs
    f, (before, count, behind) = Function(target), lines_of(x, op.axis)
    lanes = min(target.lanes(x.dtype), target.lanes("int32"))
    with f.loop(f.size(0)) as line:
        here = row_at(f, f.pointer(0), line.index, count * behind, x.dtype)
        there = row_at(f, f.pointer(1), line.index, behind, "int64")
        if behind == 1:
            f.store(_first_in_row(f, here, count, lanes, x.dtype), there, 0, "int64")
        for start, stop, width in strips(behind, lanes) if behind > 1 else []:
            with f.loop(stop, start=start, step=width) as loop:
                place = _first_in_columns(f, f.at(here, loop.index, x.dtype), (count, behind), width, x.dtype)
                store_kind(f, place, there, loop.index, "int64", width)
    return Kernel(f.finish(), (before,))


def _first_in_columns(f: Function, source: Value, steps: tuple[int, int], width: int, dtype: str) -> Value:
    """Places of the first largest in neighbouring lines, with steps = (count, stride) along each."""
    count, stride = steps
    best = load_kind(f, source, const(0), dtype, width), ir.Constant(element_kind("int64", width), None)

    def look(index: Value) -> tuple[Value, Value]:
        return load_kind(f, source, f.builder.mul(index, const(stride)), dtype, width), splat(f, index, width)

    return _search(f, best, (1, count, 1), look, dtype)[1]


def _first_in_row(f: Function, source: Value, count: int, lanes: int, dtype: str) -> Value:
    """Each lane finds the first largest of its elements; then the best of the lanes meets what is left of the row."""
    scalar = f.load(source, 0, dtype), const(0)
    start = 1
    if lanes * 2 <= count < 2**31:
        ramp = ir.Constant(ir.VectorType(I32, lanes), list(range(lanes)))

        def look(index: Value) -> tuple[Value, Value]:
            here = f.builder.add(f.splat(f.builder.trunc(index, I32), lanes), ramp)
            return f.load_vector(source, index, dtype, lanes), here

        start = count // lanes * lanes
        best = _search(f, (f.load_vector(source, 0, dtype, lanes), ramp), (lanes, start, lanes), look, dtype)
        scalar = _best_lane(f, best, dtype)
    return _search(f, scalar, (start, count, 1), lambda index: (f.load(source, index, dtype), index), dtype)[1]


def _search(
    f: Function,
    best: tuple[Value, Value],
    steps: tuple[int, int, int],
    look: Callable[[Value], tuple[Value, Value]],
    dtype: str,
) -> tuple[Value, Value]:
    """(largest, its place), from `best` on, over look(index) for index in range(*steps)."""
    start, stop, by = steps
    with f.loop(stop, best, start=start, step=by) as loop:
        number, place = look(loop.index)
        better = wins(f, number, loop.carried[0], dtype)
        pairs = zip((number, place), loop.carried, strict=True)
        loop.results = [f.builder.select(better, new, old) for new, old in pairs]
    return loop.carried[0], loop.carried[1]


def _best_lane(f: Function, best: tuple[Value, Value], dtype: str) -> tuple[Value, Value]:
    """The largest of all lanes and its place as 64 bits; of equal ones, that of the lower place."""
    b = f.builder
    numbers: Any
    numbers, places = best
    while (lanes := numbers.type.count) > 1:
        halves = [ir.Constant(ir.VectorType(I32, lanes // 2), list(range(n, n + lanes // 2))) for n in (0, lanes // 2)]
        low, high = (b.shuffle_vector(numbers, numbers, half) for half in halves)
        low_place, high_place = (b.shuffle_vector(places, places, half) for half in halves)
        tie = b.not_(wins(f, low, high, dtype))
        earlier = b.and_(tie, b.icmp_signed("<", high_place, low_place))
        better = b.or_(wins(f, high, low, dtype), earlier)
        numbers, places = b.select(better, high, low), b.select(better, high_place, low_place)
    return b.extract_element(numbers, I32(0)), b.sext(b.extract_element(places, I32(0)), I64)


EMITTERS: dict[type[Op], Emitter] = {CumulativeSum: emit_cumulative_sum, ArgMax: emit_argmax}
