"""The table that the driver walks: rows as a tree while they are made, numbers in the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from graphnn.backends.cpu.driver import ARGUMENT, ROW, RowKind
from graphnn.backends.cpu.kernel import Kernel, Specs
from graphnn.ir.program import Origin
from graphnn.ops.op import Op
from graphnn.plan.plan import Step

ARENA, PRIVATE, PARTIAL, SCRATCH, FIRST_EXTERNAL = range(5)  # bases; those between have a part for each worker
OWN = -1  # the part of the worker that runs the row


@dataclass(frozen=True)
class Place:
    """Where the bytes of a buffer are, for a tile and a step of a loop.

    Args:
        base: ARENA, PRIVATE, PARTIAL, SCRATCH, or FIRST_EXTERNAL + number of an array of the caller.
        offset: bytes from there.
        per_tile: bytes from a tile to the next.
        per_step: bytes from a turn of a loop to the next.
        per_outer: bytes from a turn of the loop around that loop to the next.
        worker: of the bases that have a part for each worker: which one's.
        home: of a sum that each worker makes for itself: (base, offset) where worker 0 has it, in place of a part.
        strided: a tile's part is not one stretch, but `per_tile` bytes in each stretch of those of all tiles; what is
            said to be touched are the bytes of the whole.
    """

    base: int
    offset: int = 0
    per_tile: int = 0
    per_step: int = 0
    per_outer: int = 0
    worker: int = OWN
    home: tuple[int, int] | None = None
    strided: bool = False

    def ahead(self, nbytes: int) -> Place:
        """The place `nbytes` behind it."""
        home = None if self.home is None else (self.home[0], self.home[1] + nbytes)
        return replace(self, offset=self.offset + nbytes, home=home)


@dataclass(frozen=True, eq=False)
class Call:
    """A kernel with its inputs, outputs and scratch memory.

    Args:
        kernel: the native code.
        arguments: places of inputs, outputs and scratch memory.
        op: what the kernel computes.
        inputs: specs of the inputs.
        outputs: specs of the outputs.
        step: None: work that no step of the plan asked for.
        origin: of the step, or of the value that is worked on.
        reach: bytes behind the start of each argument that the kernel touches, of a strided one those of all tiles; as
            the specs say if empty.
    """

    kernel: Kernel
    arguments: tuple[Place, ...]
    op: Op
    inputs: Specs
    outputs: Specs
    step: Step | None
    origin: Origin
    reach: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Copy:
    """Bytes from one place to another."""

    target: Place
    source: Place
    nbytes: int


@dataclass(frozen=True, eq=False)
class Repeat:
    """A loop over steps: turns start..turns-1."""

    turns: int
    rows: tuple[Row, ...]
    backwards: bool
    step: Step
    start: int = 0


@dataclass(frozen=True, eq=False)
class Tiles:
    """Tiles that the workers share; the first tile of a worker may run other rows than those behind it."""

    tiles: int
    first: tuple[Row, ...]
    later: tuple[Row, ...]
    step: Step | None  # None: the sums of what the workers have


@dataclass(frozen=True, eq=False)
class Serial:
    """Rows for one worker alone."""

    rows: tuple[Row, ...]
    worker: int = 0


@dataclass(frozen=True, eq=False)
class Barrier:
    """All workers wait for each other."""


@dataclass(frozen=True, eq=False)
class TileIndex:
    """The number of the tile, or of the turn of the loop, is written here."""

    target: Place
    of_turn: bool = False


Row: TypeAlias = Call | Copy | Repeat | Tiles | Serial | Barrier | TileIndex


@dataclass(frozen=True, eq=False)
class Table:
    """A finished table.

    Args:
        rows: (rows, ROW) int64; the first `top` are walked, the others belong to loops.
        arguments: (arguments, ARGUMENT) int64.
        sizes: int64.
        top: rows of the outermost level.
        calls: row number and call of every kernel; the address of its function goes into column 1 of the row.
    """

    rows: np.ndarray
    arguments: np.ndarray
    sizes: np.ndarray
    top: int
    calls: tuple[tuple[int, Call], ...]


def flatten(rows: Sequence[Row], worker_bytes: Sequence[int]) -> Table:
    """The table of a tree of rows.

    Args:
        rows: of the outermost level.
        worker_bytes: for each base the bytes of one worker's part; 0 where there is one for all.
    """
    return _Flattening(worker_bytes).run(rows)


class _Flattening:
    def __init__(self, worker_bytes: Sequence[int]):
        self._worker_bytes = worker_bytes
        self._rows: list[list[int]] = []
        self._arguments: list[tuple[int, ...]] = []
        self._known: dict[Place, int] = {}
        self._sizes: list[int] = []
        self._calls: list[tuple[int, Call]] = []

    def run(self, rows: Sequence[Row]) -> Table:
        waiting = [(self._reserve(len(rows)), rows)]
        while waiting:
            first, level = waiting.pop()
            for number, row in enumerate(level, first):
                self._rows[number] = self._numbers(number, row, waiting)
        arrays = (
            np.array(self._rows, "int64").reshape(-1, ROW),
            np.array(self._arguments, "int64").reshape(-1, ARGUMENT),
        )
        return Table(*arrays, np.array([*self._sizes, 0], "int64"), len(rows), tuple(sorted(self._calls, key=_first)))

    def _reserve(self, count: int) -> int:
        first = len(self._rows)
        self._rows += [[0] * ROW for _ in range(count)]
        return first

    def _numbers(self, number: int, row: Row, waiting: list[tuple[int, Sequence[Row]]]) -> list[int]:
        numbers = list(self._kind_and_numbers(number, row, waiting))
        return numbers + [0] * (ROW - len(numbers))

    def _kind_and_numbers(self, number: int, row: Row, waiting: list[tuple[int, Sequence[Row]]]) -> Iterator[int]:
        match row:
            case Call():
                self._calls.append((number, row))
                yield from (RowKind.CALL, 0, self._in_a_row(row.arguments), len(row.arguments), len(self._sizes))
                self._sizes += row.kernel.sizes
            case Copy():
                yield from (RowKind.COPY, self._argument(row.target), self._argument(row.source), row.nbytes)
            case Repeat():
                yield from (RowKind.LOOP, row.turns, *self._range(row.rows, waiting), int(row.backwards), row.start)
            case Tiles():
                ranges = (*self._range(row.first, waiting), *self._range(row.later, waiting))
                yield from (RowKind.TILES, row.tiles, *ranges)
            case Serial():
                yield from (RowKind.SERIAL, *self._range(row.rows, waiting), row.worker)
            case Barrier():
                yield RowKind.BARRIER
            case TileIndex():
                yield from (RowKind.INDEX, self._argument(row.target), int(row.of_turn))

    def _range(self, rows: Sequence[Row], waiting: list[tuple[int, Sequence[Row]]]) -> tuple[int, int]:
        first = self._reserve(len(rows))
        waiting.append((first, rows))
        return first, first + len(rows)

    def _in_a_row(self, places: Sequence[Place]) -> int:
        first = len(self._arguments)
        self._arguments += [self._resolved(place) for place in places]
        return first

    def _argument(self, place: Place) -> int:
        return self._in_a_row([place])

    def _resolved(self, place: Place) -> tuple[int, ...]:
        part = self._worker_bytes[place.base] if place.base < FIRST_EXTERNAL else 0
        start, per_count = place.offset, (place.per_tile, place.per_step, place.per_outer)
        if place.home is not None:
            start -= part  # worker 0 needs none
        if place.worker == OWN:
            return place.base, start, *per_count, part, *(place.home or (place.base, start))
        own = (place.base, start + place.worker * part) if place.worker or place.home is None else place.home
        return *own, *per_count, 0, *own


def _first(pair: tuple[int, Call]) -> int:
    return pair[0]
