"""The register tile: sums of rows * vectors that stay in registers over all k, and what is stored of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from llvmlite import ir

from graphnn.backends.cpu.contraction import Epilogue
from graphnn.backends.cpu.contraction_pack import Index, number, plus, times
from graphnn.backends.cpu.emit import FIRST_LEVEL, I32, TYPES, Function, Value, const
from graphnn.backends.cpu.expression import from_memory, to_memory

Fetch: TypeAlias = Callable[[Index], None]

STRAIGHT = 160  # vector instructions of an epilogue that are written out; longer ones run in a loop over rows
BUSY = 16  # sums that keep the multiply-adders busy
UNROLLED = 32  # multiply-adds of the innermost loop's body


@dataclass(frozen=True)
class Sum:
    """One loop of k of a tile: how many, and the elements of A and B from one to the next."""

    count: Index
    a: int
    b: int


@dataclass(frozen=True)
class Register:
    """The shape of a tile.

    Args:
        dtype: of A, B and the sums.
        rows: number of rows.
        vectors: vectors in a row.
        lanes: elements of a vector.
        row: elements of A from row to row.
        a_column: 1 where A is read in vectors too.
        masks: for each vector the columns that exist; None: all.
        masked_b: B must be read through the masks.
    """

    dtype: str
    rows: int
    vectors: int
    lanes: int
    row: int
    a_column: int
    masks: tuple[Value | None, ...]
    masked_b: bool

    @property
    def kind(self) -> ir.VectorType:
        """The type of a sum."""
        return ir.VectorType(TYPES[self.dtype], self.lanes)


def merged(loops: Sequence[Sum]) -> list[Sum]:
    """Without loops of one turn, and with neighbours that both tensors walk through as one made one."""
    kept: list[Sum] = []
    for loop in loops:
        if isinstance(loop.count, int) and loop.count == 1:
            continue
        if kept and (count := _together(kept[-1], loop)):
            kept[-1] = Sum(count, loop.a, loop.b)
        else:
            kept.append(loop)
    return kept


def _together(outer: Sum, inner: Sum) -> int:
    """Turns of the one loop that does the work of both; 0 if there is none."""
    if not (isinstance(outer.count, int) and isinstance(inner.count, int)):
        return 0
    return outer.count * inner.count if (outer.a, outer.b) == (inner.a * inner.count, inner.b * inner.count) else 0


# -- sums --------------------------------------------------------------------------------------------------------------


def start_sums(
    f: Function, register: Register, move: int | None, base: Value | None, offset: Index, fresh: Value | None
) -> list[Value]:
    """Zeros, or the sums of earlier blocks of k unless `fresh`."""
    if move is None or base is None or fresh is None:
        return [ir.Constant(register.kind, None)] * (register.rows * register.vectors)
    go_on = f.splat(f.builder.not_(fresh), register.lanes)
    sums = []
    for row in range(register.rows):
        for vector, mask in enumerate(register.masks):
            at = plus(f, offset, row * move + vector * register.lanes)
            wanted = go_on if mask is None else f.builder.and_(go_on, mask)
            sums.append(f.load_masked(base, at, register.dtype, wanted))
    return sums


def add_products(
    f: Function, register: Register, loops: Sequence[Sum], a: Value, b: Value, sums: list[Value], fetch: Fetch | None
) -> list[Value]:
    """The sums after all k of `loops`; `a` and `b` are the addresses of the first k, row and column.

    A small tile is summed in several chains, so that its multiply-adds need not wait for each other. What `fetch` asks
    for, row by row, is asked for in the course of a long sum, or else ahead of it: much at once is in A's and B's way.
    """
    count, chains = len(sums), _chains(register, loops)
    if fetch is not None and chains == 1 and loops and _is_long(loops[0], register.rows):
        return _products_by_parts(f, register, loops, (a, b), sums, fetch)
    if fetch is not None:
        with f.loop(register.rows) as loop:
            fetch(loop.index)
    zeros = [ir.Constant(register.kind, None)] * count
    totals = _all_products(f, register, loops, a, b, [*sums, *zeros * (chains - 1)])
    while len(totals) > count:
        half = len(totals) // 2
        totals = [f.builder.fadd(x, y) for x, y in zip(totals[:half], totals[half:], strict=True)]
    return totals


def _is_long(loop: Sum, parts: int) -> bool:
    return isinstance(loop.count, int) and loop.count >= parts


def _products_by_parts(
    f: Function, register: Register, loops: Sequence[Sum], ends: tuple[Value, Value], sums: list[Value], fetch: Fetch
) -> list[Value]:
    """As many parts of the outermost loop as the tile has rows, each with a fetch in front of it, and what is left."""
    first, inner = loops[0], loops[1:]
    size, left = divmod(int(first.count), register.rows)

    def products(start: Index, count: int, before: list[Value]) -> list[Value]:
        here, there = (
            f.at(end, times(f, start, move), register.dtype) for end, move in zip(ends, (first.a, first.b), strict=True)
        )
        return _all_products(f, register, [replace(first, count=count), *inner], here, there, before)

    with f.loop(register.rows, sums) as part:
        fetch(part.index)
        part.results = products(times(f, part.index, size), size, list(part.carried))
    return products(size * register.rows, left, list(part.carried)) if left else part.carried


def _all_products(
    f: Function, register: Register, loops: Sequence[Sum], a: Value, b: Value, sums: list[Value]
) -> list[Value]:
    if not loops:
        return _one_k(f, register, a, b, (0, 0), sums)
    first = loops[0]
    if isinstance(first.count, int) and first.count == 0:
        return sums
    turns = _turns(register, first, len(sums)) if len(loops) == 1 else 1
    count = first.count // turns if isinstance(first.count, int) else first.count
    with f.loop(count, sums) as loop:
        here = f.at(a, times(f, loop.index, first.a * turns), register.dtype)
        there = f.at(b, times(f, loop.index, first.b * turns), register.dtype)
        inner = list(loop.carried)
        if len(loops) > 1:
            loop.results = _all_products(f, register, loops[1:], here, there, inner)
        else:
            loop.results = _some_k(f, register, (here, there), first, turns, inner)
    return loop.carried


def _some_k(
    f: Function, register: Register, ends: tuple[Value, Value], loop: Sum, turns: int, sums: list[Value]
) -> list[Value]:
    """The next `turns` k, which go round the chains."""
    size = register.rows * register.vectors
    for turn in range(turns):
        start = turn * size % len(sums)
        chain = _one_k(f, register, *ends, (turn * loop.a, turn * loop.b), sums[start : start + size])
        sums = [*sums[:start], *chain, *sums[start + size :]]
    return sums


def _chains(register: Register, loops: Sequence[Sum]) -> int:
    """Sums that are kept for each element: enough for two multiply-adds a cycle of a latency of four."""
    count = loops[-1].count if loops else 1
    fits = (n for n in (4, 2) if n * register.rows * register.vectors <= BUSY and isinstance(count, int))
    return next((n for n in fits if count % n == 0 and count), 1)


def _turns(register: Register, loop: Sum, sums: int) -> int:
    """Turns of the innermost loop that are written out."""
    chains = sums // (register.rows * register.vectors)
    if not isinstance(loop.count, int):
        return 1
    fits = [turns for turns in (4, 2) if loop.count % turns == 0 and turns >= chains]
    return next((turns for turns in fits if turns * register.rows * register.vectors <= UNROLLED), chains)


def dot_products(f: Function, register: Register, depth: int, a: Value, b: Value) -> list[Value]:
    """The sum over k of A * B for each row, in the first lane; both are contiguous along k."""
    lanes, zeros = register.lanes, ir.Constant(register.kind, None)
    whole = depth // lanes * lanes
    with f.loop(whole, [zeros] * register.rows, step=lanes) as loop:
        loop.results = _dot_step(f, register, a, b, loop.index, None, loop.carried)
    sums = loop.carried
    if depth > whole:
        sums = _dot_step(f, register, a, b, whole, f.tail_mask(const(depth - whole), lanes), sums)
    return [_across(f, value, lanes) for value in sums]


def _dot_step(
    f: Function, register: Register, a: Value, b: Value, k: Index, mask: Value | None, sums: list[Value]
) -> list[Value]:
    factor = _load(f, b, k, register, mask)
    rows = (_load(f, a, plus(f, k, row * register.row), register, mask) for row in range(register.rows))
    return [f.fma(value, factor, total) for value, total in zip(rows, sums, strict=True)]


def _across(f: Function, value: Value, lanes: int) -> Value:
    """The sum of all lanes, in each of them."""
    distance = lanes // 2
    while distance:
        order = ir.Constant(ir.VectorType(I32, lanes), [lane ^ distance for lane in range(lanes)])
        value = f.builder.fadd(value, f.builder.shuffle_vector(value, value, order))
        distance //= 2
    return value


def _one_k(
    f: Function, register: Register, a: Value, b: Value, shift: tuple[int, int], sums: list[Value]
) -> list[Value]:
    vectors = [_b_vector(f, register, b, shift[1], vector) for vector in range(register.vectors)]
    results = []
    for row in range(register.rows):
        at = shift[0] + row * register.row
        scalar = None if register.a_column else f.splat(f.load(a, at, register.dtype), register.lanes)
        for vector in range(register.vectors):
            factor = scalar if scalar is not None else _a_vector(f, register, a, at, vector)
            results.append(f.fma(factor, vectors[vector], sums[row * register.vectors + vector]))
    return results


def _b_vector(f: Function, register: Register, b: Value, at: int, vector: int) -> Value:
    mask = register.masks[vector] if register.masked_b else None
    return _load(f, b, at + vector * register.lanes, register, mask)


def _a_vector(f: Function, register: Register, a: Value, at: int, vector: int) -> Value:
    return _load(f, a, at + vector * register.lanes, register, register.masks[vector])


def _load(f: Function, base: Value, at: Index, register: Register, mask: Value | None) -> Value:
    if mask is None:
        return f.load_vector(base, at, register.dtype, register.lanes)
    return f.load_masked(base, at, register.dtype, mask)


# -- results -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sink:
    """Where the results of a tile go.

    Args:
        epilogue: what becomes of the sums.
        bases: addresses of its inputs and outputs.
        offsets: of the first row and column in each of them.
        rows: elements of each of them from row to row.
    """

    epilogue: Epilogue
    bases: tuple[Value, ...]
    offsets: tuple[Index, ...]
    rows: tuple[int, ...]


def finish_tile(f: Function, register: Register, sink: Sink, sums: list[Value], skip: Index, spill: Value) -> None:
    """Apply the epilogue and store all rows but the first `skip`, which an earlier tile has written.

    `spill` is room for the sums in memory.
    """
    long = sink.epilogue.weight * len(sums) > STRAIGHT
    if isinstance(skip, int) and not long:
        return _straight(f, register, sink, sums)
    if long:
        return _row_by_row(f, register, sink, sums, skip, spill)
    whole = f.builder.icmp_signed("==", number(skip), number(0))
    with f.when(whole):
        _straight(f, register, sink, sums)
    with f.when(f.builder.not_(whole)):
        _row_by_row(f, register, sink, sums, skip, spill)


def fetch_of(f: Function, register: Register, sink: Sink) -> Fetch | None:
    """Asks for what the epilogue of a row reads and writes, so that it comes from memory while sums are made."""
    epilogue, count = sink.epilogue, len(sink.epilogue.inputs)
    places, twice = (*epilogue.inputs, *epilogue.outputs), {count + output for _, output in epilogue.over}
    wide = [i for i, place in enumerate(places) if place.column and sink.rows[i] and i not in twice]
    if not any(i < count for i in wide):
        return None  # stores alone hold nothing up
    written = {*range(count, len(places)), *(position for position, _ in epilogue.over)}

    def fetch(row: Index) -> None:
        for i in wide:
            first = plus(f, sink.offsets[i], times(f, row, sink.rows[i]))
            for vector in range(register.vectors):
                address = f.at(sink.bases[i], plus(f, first, vector * register.lanes), places[i].dtype)
                f.prefetch(address, FIRST_LEVEL, i in written)

    return fetch


def _straight(f: Function, register: Register, sink: Sink, sums: list[Value]) -> None:
    kept: dict[tuple[int, int], Value] = {}
    for row in range(register.rows):
        for vector in range(register.vectors):
            operands = []
            for i, move in enumerate(sink.rows[: len(sink.epilogue.inputs)]):
                if move or (i, vector) not in kept:
                    kept[i, vector] = _operand(f, register, sink, i, row * move, vector)
                operands.append(kept[i, vector])
            _store(
                f,
                register,
                sink,
                [row * move for move in sink.rows],
                vector,
                sums[row * register.vectors + vector],
                operands,
            )


def _row_by_row(f: Function, register: Register, sink: Sink, sums: list[Value], skip: Index, spill: Value) -> None:
    for i, value in enumerate(sums):
        f.store_vector(value, spill, i * register.lanes, register.dtype)
    with f.loop(register.rows, start=skip) as loop:
        shifts = [times(f, loop.index, move) for move in sink.rows]
        for vector in range(register.vectors):
            at = plus(f, times(f, loop.index, register.vectors * register.lanes), vector * register.lanes)
            operands = [_operand(f, register, sink, i, shifts[i], vector) for i in range(len(sink.epilogue.inputs))]
            value = f.load_vector(spill, at, register.dtype, register.lanes)
            _store(f, register, sink, shifts, vector, value, operands)


def _operand(f: Function, register: Register, sink: Sink, i: int, shift: Index, vector: int) -> Value:
    place = sink.epilogue.inputs[i]
    at = plus(f, sink.offsets[i], shift)
    if not place.column:
        return f.splat(from_memory(f, f.load(sink.bases[i], at, place.dtype), place.dtype), register.lanes)
    at, mask = plus(f, at, vector * register.lanes), register.masks[vector]
    if mask is None:
        loaded = f.load_vector(sink.bases[i], at, place.dtype, register.lanes)
    else:
        loaded = f.load_masked(sink.bases[i], at, place.dtype, mask)
    return from_memory(f, loaded, place.dtype)


def _store(
    f: Function,
    register: Register,
    sink: Sink,
    shifts: Sequence[Index],
    vector: int,
    value: Value,
    operands: list[Value],
) -> None:
    epilogue, skipped = sink.epilogue, len(sink.epilogue.inputs)
    results = [value] if epilogue.compute is None else epilogue.compute(f, value, operands)
    mask = register.masks[vector]
    for i, (place, result) in enumerate(zip(epilogue.outputs, results, strict=True), start=skipped):
        at = plus(f, plus(f, sink.offsets[i], shifts[i]), vector * register.lanes)
        stored = result if epilogue.compute is None else to_memory(f, result, place.dtype)
        if mask is None:
            f.store_vector(stored, sink.bases[i], at, place.dtype)
        else:
            f.store_masked(stored, sink.bases[i], at, place.dtype, mask)
