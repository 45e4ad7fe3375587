"""place: offsets in one arena for blocks of known size and lifetime."""

from __future__ import annotations

import heapq
import random
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from graphnn.plan.plan import aligned

SMALL = 1000  # blocks; above it only the sweep runs, whose time does not grow with the number alive at once
SEARCH_STEPS = 1_000_000  # pairs of blocks that a search for a better order looks at: 0.1 s or less

Attempt = tuple[int, list[int]]  # arena size, offset of each block


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

    Interval packing is NP-hard. Several ways are tried, from the fastest on, until one needs no more than is alive at
    once; the smallest arena wins. Deterministic.
    """
    needed = live_peak(blocks)
    best: Attempt | None = None
    for attempt in _attempts(blocks, needed):
        if best is None or attempt[0] < best[0]:
            best = attempt
        if best[0] <= needed:
            break
    size, offsets = best or (0, [])
    for block, offset in zip(blocks, offsets, strict=True):
        block.offset = offset
    return size


def _attempts(blocks: Sequence[Block], needed: int) -> Iterator[Attempt]:
    yield _sweep(blocks)
    yield _sweep([Block(b.nbytes, -b.last, -b.first, b.external) for b in blocks])  # from the last step to the first
    if len(blocks) <= SMALL:
        keys: tuple[Callable[[Block], tuple[int, int]], ...] = (_by_size, _by_area, _by_span)
        orders = [sorted(range(len(blocks)), key=lambda i, key=key: (key(blocks[i]), i)) for key in keys]
        yield from (_place_in_order(blocks, order) for order in orders)
        yield from (_place_in_order(blocks, _search(blocks, order, needed)) for order in orders)


def _by_size(block: Block) -> tuple[int, int]:
    return -block.nbytes, block.first - block.last


def _by_area(block: Block) -> tuple[int, int]:
    return -(block.last - block.first + 1) * block.nbytes, block.first


def _by_span(block: Block) -> tuple[int, int]:
    return block.first - block.last, -block.nbytes


def _search(blocks: Sequence[Block], order: Sequence[int], needed: int) -> list[int]:
    """A better order of the large blocks, by small changes; the small ones follow and fill the gaps.

    Again and again one block moves in front of another that is alive with it; what is no worse stays.
    """
    large = [i for i in order if aligned(blocks[i].nbytes) * 64 >= needed]
    rest = [i for i in order if aligned(blocks[i].nbytes) * 64 < needed]
    chance = random.Random(0)  # a fixed seed: the same program always gets the same plan
    size, offsets = _place_in_order(blocks, large)
    for _ in range(SEARCH_STEPS // max(1, len(large)) ** 2):
        if size <= needed:
            break
        changed = _changed(blocks, large, size, offsets, chance)
        new_size, new_offsets = _place_in_order(blocks, changed)
        if new_size <= size:
            large, size, offsets = changed, new_size, new_offsets
    return [*large, *rest]


def _changed(
    blocks: Sequence[Block], order: list[int], size: int, offsets: Sequence[int], chance: random.Random
) -> list[int]:
    """One block moved forward: in three of ten cases one that reaches the top of the arena, else any."""
    highest = [place for place, i in enumerate(order) if offsets[i] + aligned(blocks[i].nbytes) == size]
    movable = highest if chance.random() < 0.3 else range(len(order))
    place = movable[int(chance.random() * len(movable))]
    block = blocks[order[place]]
    before = [p for p, i in enumerate(order[:place]) if blocks[i].first <= block.last and block.first <= blocks[i].last]
    target = before[int(chance.random() * len(before))] if before else 0
    return [*order[:target], order[place], *order[target:place], *order[place + 1 :]]


def _place_in_order(blocks: Sequence[Block], order: Sequence[int]) -> Attempt:
    """One block after the other, each at the lowest gap that fits it."""
    offsets = [0] * len(blocks)
    placed: list[tuple[int, int, int, int]] = []  # offset, end, first, last; sorted
    for index in order:
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


def _sweep(blocks: Sequence[Block]) -> Attempt:
    """Blocks in order of time, like a memory allocator: freed gaps are joined, the tightest gap that fits is taken."""
    offsets = [0] * len(blocks)
    gaps = _Gaps()
    alive: list[tuple[int, int, int]] = []  # last step, offset, bytes
    for index in sorted(range(len(blocks)), key=lambda i: (blocks[i].first, -blocks[i].nbytes, i)):
        block, nbytes = blocks[index], aligned(blocks[index].nbytes)
        if not nbytes:
            continue
        while alive and alive[0][0] < block.first:
            _, offset, freed = heapq.heappop(alive)
            gaps.give_back(offset, freed)
        offsets[index] = gaps.take(nbytes)
        heapq.heappush(alive, (block.last, offsets[index], nbytes))
    return gaps.size, offsets


class _Gaps:
    """Free parts of an arena that grows; neighbours are joined."""

    def __init__(self) -> None:
        self.size = 0
        self._by_offset: list[tuple[int, int]] = []  # offset, bytes; sorted, never touching
        self._by_bytes: list[tuple[int, int]] = []  # bytes, offset; sorted

    def take(self, nbytes: int) -> int:
        """An offset in the tightest gap that fits, else behind all, using a gap at the end."""
        place = bisect_left(self._by_bytes, (nbytes, 0))
        if place < len(self._by_bytes):
            available, offset = self._by_bytes[place]
            self._remove(offset, available)
            self._add(offset + nbytes, available - nbytes)
            return offset
        offset = self.size
        if self._by_offset and sum(self._by_offset[-1]) == self.size:
            offset, available = self._by_offset[-1]
            self._remove(offset, available)
        self.size = offset + nbytes
        return offset

    def give_back(self, offset: int, nbytes: int) -> None:
        """Make a part free again."""
        index = bisect_left(self._by_offset, (offset, 0))
        for before in reversed(self._by_offset[max(index - 1, 0) : index + 1]):
            if before[0] == offset + nbytes or sum(before) == offset:
                self._remove(*before)
                offset, nbytes = min(offset, before[0]), nbytes + before[1]
        self._add(offset, nbytes)

    def _add(self, offset: int, nbytes: int) -> None:
        if nbytes:
            insort(self._by_offset, (offset, nbytes))
            insort(self._by_bytes, (nbytes, offset))

    def _remove(self, offset: int, nbytes: int) -> None:
        del self._by_offset[bisect_left(self._by_offset, (offset, nbytes))]
        del self._by_bytes[bisect_left(self._by_bytes, (nbytes, offset))]


def live_peak(blocks: Sequence[Block]) -> int:
    """The most aligned bytes of `blocks` alive at one step."""
    changes = sorted(
        change
        for block in blocks
        for change in ((block.first, aligned(block.nbytes)), (block.last + 1, -aligned(block.nbytes)))
    )  # at the same step what dies comes first
    live = peak = 0
    for _, change in changes:
        live += change
        peak = max(peak, live)
    return peak
