"""The roofline: how much of the time of each node its operations and bytes would need on this machine at best.

Williams, Waterman and Patterson 2009, "Roofline: an insightful visual performance model for multicore architectures".
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from graphnn.profiler import Profile
from graphnn.profiler import Row as ProfileRow
from graphnn.render.units import bytes_text, flops_text, seconds_text

COPIED = 64 * 2**20  # bytes: more than a cache of one core
REPEATS = 5
MOST_ROWS = 30
NAME_WIDTH = 34
HEADER = ("node", "phase", "kernels", "time", "share", "operations", "bytes", "GFLOP/s", "roof")


@dataclass(frozen=True)
class Row:
    """What one node costs in one phase.

    Args:
        name: its path.
        phase: "forward", "backward" or "update".
        steps: number of kernels that it has a part in.
        seconds: of all workers, divided by their number; a kernel's time is shared among the nodes in it.
        flops: operations.
        bytes: sizes of all operands and results.
        roof: the least time that operations or bytes need, as a share of the real one. What stays in a cache does not
            go through memory, so it may be above 1.
    """

    name: str
    phase: str
    steps: int
    seconds: float
    flops: int
    bytes: int
    roof: float


@dataclass(frozen=True)
class Machine:
    """What a machine can do at best.

    Args:
        flops: multiply-adds on registers, counted twice, a second.
        bandwidth: bytes read and written a second.
    """

    flops: float
    bandwidth: float

    def seconds(self, flops: float, nbytes: float) -> float:
        """The least time: that of the operations or that of the bytes, whichever is longer."""
        return max(flops / self.flops, nbytes / self.bandwidth)


def bandwidth(threads: int) -> float:
    """Bytes read and written a second by copies larger than a cache, one for each thread; the best of some."""
    # NumPy copies on one thread: two threads reach about twice as much while the memory can follow.
    source, target = np.ones(COPIED, "uint8"), np.empty(COPIED, "uint8")
    best = min(_seconds(source, target) for _ in range(REPEATS))
    return threads * 2 * COPIED / best


def _seconds(source: np.ndarray, target: np.ndarray) -> float:
    begin = time.perf_counter()
    np.copyto(target, source)
    return time.perf_counter() - begin


def rows_of(profile: Profile, machine: Machine) -> list[Row]:
    """A row for each node and phase, the longest time first."""
    return sorted((_row(row, machine) for row in profile.rows), key=lambda row: -row.seconds)


def _row(row: ProfileRow, machine: Machine) -> Row:
    moved = row.bytes_read + row.bytes_written
    roof = machine.seconds(row.flops, moved) / row.seconds if row.seconds else 0.0
    return Row(row.path, row.phase, row.steps, row.seconds, row.flops, moved, roof)


def roofline_text(title: str, profile: Profile, machine: Machine) -> str:
    """A table of the nodes that take longest, and what else there is."""
    return "\n".join(_lines(title, profile, rows_of(profile, machine), machine))


def _lines(title: str, profile: Profile, rows: Sequence[Row], machine: Machine) -> Iterator[str]:
    cells = [HEADER, *(_cells(row, profile.seconds) for row in rows[:MOST_ROWS])]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEADER))]
    yield title
    yield f"{seconds_text(profile.seconds)} in kernels, {profile.how()}"
    for line in cells:
        texts = (t.ljust(w) if c < 2 else t.rjust(w) for c, (t, w) in enumerate(zip(line, widths, strict=True)))
        yield "  ".join(texts).rstrip()
    if rest := rows[MOST_ROWS:]:
        yield f"and {len(rest)} more, {seconds_text(sum(row.seconds for row in rest))} in all"
    best = f"{machine.flops / 1e9:.0f} GFLOP/s and {bytes_text(machine.bandwidth)}/s"
    yield f"roof: at best {best}; above 100 %: caches are faster"


def _cells(row: Row, total: float) -> tuple[str, ...]:
    return (
        row.name[-NAME_WIDTH:],
        row.phase,
        f"{row.steps}",
        seconds_text(row.seconds),
        f"{row.seconds / (total or 1.0):.1%}",
        flops_text(row.flops),
        bytes_text(row.bytes),
        f"{row.flops / (row.seconds or 1.0) / 1e9:.1f}",
        f"{row.roof:.0%}",
    )
