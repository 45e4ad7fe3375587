"""place: offsets in one arena for blocks of known size and lifetime."""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from graphnn.plan.plan import aligned

SMALL = 4000  # blocks; above it only the sweep runs, whose time does not grow with the number alive at once


@dataclass
class Block:
    """Memory shared by a chain of values: the first, and those that view it or are written over it.

    Alive from step `first` to step `last`, both included; `external` blocks belong to the caller.
    """

    nbytes: int
    first: int
    last: int
    external: bool
    offset: int | None = None


def place(blocks: Sequence[Block]) -> int:
    """Give every block an offset so that blocks alive at the same step do not overlap; returns the arena's size.

    Interval packing is NP-hard. Several greedy orders are tried, each block at the lowest gap that fits it, and the
    smallest arena wins.
    """
    attempts = [_sweep(blocks)]
    if len(blocks) <= SMALL:
        attempts += [_place_in_order(blocks, key) for key in (_by_size, _by_area, _by_span)]
    size, offsets = min(attempts, key=lambda attempt: attempt[0])
    for block, offset in zip(blocks, offsets, strict=True):
        block.offset = offset
    return size


def _by_size(block: Block) -> tuple[int, int]:
    return -block.nbytes, block.first - block.last


def _by_area(block: Block) -> tuple[int, int]:
    return -(block.last - block.first + 1) * block.nbytes, block.first


def _by_span(block: Block) -> tuple[int, int]:
    return block.first - block.last, -block.nbytes


def _place_in_order(blocks: Sequence[Block], key: Callable[[Block], tuple[int, int]]) -> tuple[int, list[int]]:
    offsets = [0] * len(blocks)
    placed: list[tuple[int, int, int, int]] = []  # offset, end, first, last; sorted
    for index in sorted(range(len(blocks)), key=lambda i: (key(blocks[i]), i)):
        block = blocks[index]
        offset = _lowest_gap(placed, block)
        offsets[index] = offset
        insort(placed, (offset, offset + aligned(block.nbytes), block.first, block.last))
    return max((end for _, end, _, _ in placed), default=0), offsets


def _lowest_gap(placed: Sequence[tuple[int, int, int, int]], block: Block) -> int:
    offset, nbytes = 0, aligned(block.nbytes)
    for start, end, first, last in placed:
        if first <= block.last and block.first <= last:
            if start - offset >= nbytes:
                break
            offset = max(offset, end)
    return offset


def _sweep(blocks: Sequence[Block]) -> tuple[int, list[int]]:
    """Blocks in order of time, like a memory allocator: freed gaps are joined, the tightest gap that fits is taken."""
    offsets, size = [0] * len(blocks), 0
    gaps: list[tuple[int, int]] = []  # offset, bytes; sorted, never touching
    alive: list[tuple[int, int, int]] = []  # last step, offset, bytes
    for index in sorted(range(len(blocks)), key=lambda i: (blocks[i].first, -blocks[i].nbytes, i)):
        block, nbytes = blocks[index], aligned(blocks[index].nbytes)
        while alive and alive[0][0] < block.first:
            _, offset, freed = heapq.heappop(alive)
            _give_back(gaps, offset, freed)
        offsets[index], size = _take(gaps, nbytes, size)
        heapq.heappush(alive, (block.last, offsets[index], nbytes))
    return size, offsets


def _take(gaps: list[tuple[int, int]], nbytes: int, size: int) -> tuple[int, int]:
    """(offset, new arena size): from the tightest gap, else behind all, using a gap at the end."""
    fitting = min((gap for gap in gaps if gap[1] >= nbytes), key=lambda gap: gap[1], default=None)
    if fitting is None:
        if gaps and sum(gaps[-1]) == size:
            offset, _ = gaps.pop()
            return offset, offset + nbytes
        return size, size + nbytes
    gaps.remove(fitting)
    offset, available = fitting
    if available > nbytes:
        insort(gaps, (offset + nbytes, available - nbytes))
    return offset, size


def _give_back(gaps: list[tuple[int, int]], offset: int, nbytes: int) -> None:
    if not nbytes:
        return
    index = bisect_left(gaps, (offset, 0))
    if index < len(gaps) and gaps[index][0] == offset + nbytes:
        nbytes += gaps.pop(index)[1]
    if index and sum(gaps[index - 1]) == offset:
        offset, before = gaps.pop(index - 1)
        nbytes += before
    insort(gaps, (offset, nbytes))


def live_peak(blocks: Sequence[Block], end: int) -> int:
    """The most aligned bytes of `blocks` alive at one step."""
    change = [0] * (end + 3)
    for block in blocks:
        change[block.first + 1] += aligned(block.nbytes)
        change[block.last + 2] -= aligned(block.nbytes)
    live = peak = 0
    for delta in change:
        live += delta
        peak = max(peak, live)
    return peak
