"""Which kernel stands in which row of a table, and what the workers have written down while they ran them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from graphnn.backends.calls import KernelCall, KernelRun
from graphnn.backends.cpu.driver import LOGGED
from graphnn.backends.cpu.table import Call, Repeat, Row, Serial, Table, Tiles
from graphnn.plan.plan import Plan, Step

NANOSECONDS = 1e-9
INTERPRETED = 0  # the row of a step without a kernel, in the log of its segment


@dataclass(frozen=True)
class Placed:
    """A call with the loops around it, and how often it runs there."""

    call: Call
    within: tuple[Step, ...]
    runs: int


@dataclass(frozen=True, eq=False)
class Calls:
    """All calls of an executable.

    Args:
        calls: in order of execution; a step whose first tile runs in another row than those behind it stands once.
        by_row: for each segment the call in each row of its table.
        runs: for each segment how many kernels run in one run of it, in all.
    """

    calls: tuple[KernelCall, ...]
    by_row: tuple[dict[int, KernelCall], ...]
    runs: tuple[int, ...]

    @staticmethod
    def of(segments: Sequence[tuple[Row, ...] | KernelCall], tables: Sequence[Table | None], workers: int) -> Calls:
        """Those of segments of rows with their tables, or of calls that are interpreted.

        Args:
            segments: in order of execution.
            tables: those of the segments; None for an interpreted one.
            workers: that share the tiles.
        """
        found: dict[object, KernelCall] = {}
        keys: list[dict[int, object]] = []
        runs: list[int] = []
        for segment, table in zip(segments, tables, strict=True):
            placed: list[Placed] = []
            rows: dict[int, object] = {INTERPRETED: segment}
            if isinstance(segment, KernelCall):
                found[segment] = segment
            elif table is not None:
                placed = list(_walk(segment, (), 1, workers))
                known = {id(each.call): _key(each) for each in placed}
                rows = {row: known[id(call)] for row, call in table.calls}
            for each in placed:
                old = found.get(_key(each))
                found[_key(each)] = _described(each) if old is None else replace(old, runs=old.runs + each.runs)
            keys.append(rows)
            runs.append(sum(each.runs for each in placed) or 1)
        by_row = tuple({row: found[key] for row, key in rows.items()} for rows in keys)
        return Calls(tuple(found.values()), by_row, tuple(runs))


def _key(placed: Placed) -> object:
    """What stands once among the calls: a step in its loops; of other work, a kernel on its arguments in its loops."""
    call = placed.call
    return (placed.within, call.step) if call.step is not None else (placed.within, id(call.kernel), call.arguments)


def interpreted_call(plan: Plan, step: Step, missing: str) -> KernelCall:
    """The call of a step without a kernel; `missing` names the op that has none."""
    inputs, outputs = (tuple(plan.buffers[n].spec for n in numbers) for numbers in (step.inputs, step.outputs))
    notes = f"by its reference in NumPy: there is no kernel for {missing}"
    return KernelCall(step.op, inputs, outputs, step, (), step.origin, 1, notes)


def _described(placed: Placed) -> KernelCall:
    call, kernel = placed.call, placed.call.kernel
    origin = call.origin
    for step in reversed(placed.within):  # instructions of a scan's body belong to the node of the scan
        origin = origin if origin.path else step.origin
    known = (call.op, call.inputs, call.outputs, call.step, placed.within, origin, placed.runs)
    return KernelCall(*known, kernel.notes, kernel.scratch_bytes, str(kernel.ir))


def _walk(rows: Sequence[Row], within: tuple[Step, ...], times: int, workers: int) -> Iterator[Placed]:
    """All calls, in order of execution."""
    for row in rows:
        match row:
            case Call():
                yield Placed(row, within, times)
            case Serial():
                yield from _walk(row.rows, within, times, workers)
            case Repeat():
                yield from _walk(row.rows, (*within, row.step), times * (row.turns - row.start), workers)
            case Tiles():
                first, inside = min(row.tiles, workers), within if row.step is None else (*within, row.step)
                yield from _walk(row.first, inside, times * first, workers)
                yield from _walk(row.later, inside, times * (row.tiles - first), workers)
            case _:
                pass


class Log:
    """What the workers write down during one run of a segment.

    Args:
        runs: of kernels, in all.
        workers: each may be the one that makes them all.
    """

    def __init__(self, runs: int, workers: int):
        self.words = np.zeros((workers, 1 + LOGGED * runs), "int64")

    def interpreted(self, begin: int) -> None:
        """The one step of the segment has begun then, and has ended now."""
        self.words[0, :] = 1, INTERPRETED, begin, time.monotonic_ns() - begin

    def read(self, by_row: dict[int, KernelCall], begin: int) -> Iterator[KernelRun]:
        """What was written, in order for each worker; times count from `begin`."""
        for worker, words in enumerate(self.words):
            entries = words[1 : 1 + LOGGED * words[0]].reshape(-1, LOGGED)
            for row, start, nanoseconds in entries.tolist():
                seconds = ((start - begin) * NANOSECONDS, nanoseconds * NANOSECONDS)
                yield KernelRun(by_row[row], worker, *seconds)
