"""arrange: which serial rows different workers run beside each other, and where the workers must wait.

Rows come in the order of the plan. Two of them that touch no common bytes, or only read these, may run at the same
time. So serial rows that have nothing to do with each other are shared by the workers, and a barrier stands only where
a worker would read or overwrite what another one has written or read since the last barrier. Of arrays that two loops
cut alike, each worker touches its own parts in both.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from graphnn.backends.cpu.table import (
    PARTIAL,
    PRIVATE,
    SCRATCH,
    Barrier,
    Call,
    Copy,
    Place,
    Repeat,
    Row,
    Serial,
    TileIndex,
    Tiles,
)
from graphnn.plan.order import may_fail

ROW_COST = 2**13  # bytes that a worker moves in the time that the driver and a small kernel need for a row


class Shares(NamedTuple):
    """How bytes of an array are shared by tiles: equal shares give the same tiles the same bytes.

    Args:
        tiles: number of tiles.
        nbytes: from a tile to the next.
        start: where the first one begins within the bytes of all.
    """

    tiles: int
    nbytes: int
    start: int


@dataclass(frozen=True)
class Access:
    """Bytes that a row touches.

    Args:
        base: as in `Place`.
        start: the first byte.
        stop: behind the last one.
        writes: whether they may be written.
        shares: how they are shared by tiles; None: any tile, or another row, may touch any of them.
    """

    base: int
    start: int
    stop: int
    writes: bool
    shares: Shares | None = None


def arrange(rows: Sequence[Row], workers: int, kept: Container[int] = ()) -> tuple[Row, ...]:
    """The rows with the barriers that they need; neighbouring serial rows as few, each for one worker.

    Args:
        rows: of the outermost level, without barriers: serial rows and tiles.
        workers: that run them.
        kept: bases of arrays that a run leaves as they are if a kernel refuses its inputs, as parameters and states:
            no row writes into them before all that may refuse have run.
    """
    arranged: list[Row] = []
    window, risky = Touched(), False  # of the rows since the last barrier; whether one may refuse
    for group in _groups(rows, kept):
        touched = Touched.of(accesses(group, private=False))
        if window.conflicts(touched) or (risky and _writes(group, kept)):
            arranged.append(Barrier())
            window, risky = Touched(), False
        window.add(touched)
        risky = risky or any(map(_may_refuse, group))
        arranged += spread(group, workers) if isinstance(group[0], Serial) else group
    return tuple(arranged)


def _groups(rows: Sequence[Row], kept: Container[int]) -> list[list[Row]]:
    """Each row by itself, but serial ones with their neighbours, if none of these may refuse before one writes."""
    groups: list[list[Row]] = []
    risky = False
    for row in rows:
        if not isinstance(row, Serial):
            groups.append([row])
            continue
        for inner in row.rows:
            if not groups or not isinstance(groups[-1][0], Serial) or (risky and _writes([inner], kept)):
                groups.append([])
                risky = False
            groups[-1].append(Serial((inner,)))
            risky = risky or _may_refuse(inner)
    return groups


def _writes(rows: Iterable[Row], kept: Container[int]) -> bool:
    return any(access.writes and access.base in kept for access in accesses(rows))


def _may_refuse(row: Row) -> bool:
    """Whether a kernel in it may find that its inputs are not acceptable."""
    if isinstance(row, Tiles):
        return any(map(_may_refuse, (*row.first, *row.later)))
    if isinstance(row, Serial | Repeat):
        return any(map(_may_refuse, row.rows))
    return isinstance(row, Call) and may_fail(row.op)


# -- serial rows, shared -----------------------------------------------------------------------------------------------


def spread(group: Sequence[Row], workers: int) -> list[Row]:
    """Serial rows for one worker each: what has to do with each other stays in order, the longest goes first."""
    rows = [row for serial in group if isinstance(serial, Serial) for row in serial.rows]
    chains = [[rows[number] for number in chain] for chain in _chains(rows)]
    loads, shares = [0] * workers, [list[int]() for _ in range(workers)]
    for number in sorted(range(len(chains)), key=lambda n: -_cost(chains[n])):
        worker = loads.index(min(loads))
        loads[worker] += _cost(chains[number])
        shares[worker].append(number)
    shared = [tuple(row for number in sorted(share) for row in chains[number]) for share in shares]
    return [Serial(part, worker) for worker, part in enumerate(shared) if part]


def _chains(rows: Sequence[Row]) -> list[list[int]]:
    """Numbers of rows that touch a stretch of memory that one of them writes, directly or by way of others."""
    leader = list(range(len(rows)))

    def find(number: int) -> int:
        while leader[number] != number:
            leader[number] = number = leader[leader[number]]
        return number

    found = sorted(
        (access.base, access.start, access.stop, access.writes, number)
        for number, row in enumerate(rows)
        for access in accesses([row])
    )
    for stretch in _stretches(found):
        if any(writes for *_, writes, _ in stretch):
            for *_, number in stretch:
                leader[find(number)] = find(stretch[0][-1])
    chains: dict[int, list[int]] = {}
    for number in range(len(rows)):
        chains.setdefault(find(number), []).append(number)
    return list(chains.values())


def _stretches(found: Iterable[tuple[int, int, int, bool, int]]) -> Iterator[list[tuple[int, int, int, bool, int]]]:
    """Sorted accesses, cut where no two overlap."""
    stretch: list[tuple[int, int, int, bool, int]] = []
    end = 0
    for access in found:
        base, start, stop, *_ = access
        if stretch and (base != stretch[0][0] or start >= end):
            yield stretch
            stretch = []
        end = max(end, stop) if stretch else stop
        stretch.append(access)
    if stretch:
        yield stretch


def _cost(rows: Sequence[Row]) -> int:
    moved = sum(access.stop - access.start for access in accesses(rows))
    return moved + ROW_COST * len(rows)


# -- what rows touch ---------------------------------------------------------------------------------------------------


def accesses(rows: Iterable[Row], private: bool = True, turns: tuple[int, int, int] = (1, 1, 1)) -> Iterator[Access]:
    """All bytes that rows touch.

    Args:
        rows: of a level.
        private: False leaves out what each worker has for itself.
        turns: of the tiles, of the loop and of the loop around it that the rows stand in.
    """
    for row in rows:
        for place, nbytes, writes in _touched(row):
            if place.base == SCRATCH or (place.base == PRIVATE and not private):
                continue
            inside = nbytes + place.per_step * (turns[1] - 1) + place.per_outer * (turns[2] - 1)
            reach = inside if place.strided else inside + place.per_tile * (turns[0] - 1)
            shares = _shares(place, inside, turns[0])
            yield Access(place.base, place.offset, place.offset + reach, writes, shares)
            if place.home is not None and place.worker <= 0:  # no other worker has its sum there
                yield Access(place.home[0], place.home[1], place.home[1] + reach, writes)
        tiles, loop, _ = turns
        if isinstance(row, Serial):
            yield from accesses(row.rows, private, turns)
        elif isinstance(row, Repeat):
            yield from accesses(row.rows, private, (tiles, row.turns, loop))
        elif isinstance(row, Tiles):
            yield from accesses((*row.first, *row.later), private, (row.tiles, 1, 1))


def _shares(place: Place, nbytes: int, tiles: int) -> Shares | None:
    """How `nbytes` for each tile from there on are shared by the tiles, if no tile touches what is another one's."""
    if tiles == 1 or not place.per_tile or place.home is not None or place.base == PARTIAL:
        return None
    alone = not (place.per_step or place.per_outer) if place.strided else nbytes <= place.per_tile
    return Shares(tiles, place.per_tile, place.offset % (tiles * place.per_tile)) if alone else None


def _touched(row: Row) -> Iterator[tuple[Place, int, bool]]:
    """(place, bytes from there on, whether they are written) for each argument of a row without rows."""
    if isinstance(row, Call):
        sizes = row.reach or [spec.nbytes for spec in (*row.inputs, *row.outputs)]
        for number, (place, nbytes) in enumerate(zip(row.arguments, sizes, strict=False)):  # scratch memory is behind
            yield place, nbytes, number >= len(row.inputs)
    elif isinstance(row, Copy):
        yield row.source, row.nbytes, False
        yield row.target, row.nbytes, True
    elif isinstance(row, TileIndex):
        yield row.target, 8, True


Stretches: TypeAlias = dict[int, dict[Shares | None, list[tuple[int, int]]]]  # by base and shares: disjoint, in order


@dataclass
class Touched:
    """Bytes that are written, and all that are touched."""

    written: Stretches = field(default_factory=dict)
    any: Stretches = field(default_factory=dict)

    @staticmethod
    def of(found: Iterable[Access]) -> Touched:
        """What these touch."""
        touched = Touched()
        for access in found:
            for table in (touched.any, touched.written) if access.writes else (touched.any,):
                table.setdefault(access.base, {}).setdefault(access.shares, []).append((access.start, access.stop))
        for table in (touched.any, touched.written):
            for by_shares in table.values():
                by_shares.update({shares: _joined(stretches) for shares, stretches in by_shares.items()})
        return touched

    def add(self, other: Touched) -> None:
        """Those of the other too."""
        for mine, its in ((self.written, other.written), (self.any, other.any)):
            for base, by_shares in its.items():
                own = mine.setdefault(base, {})
                own.update({shares: _joined([*own.get(shares, []), *found]) for shares, found in by_shares.items()})

    def conflicts(self, other: Touched) -> bool:
        """Whether a worker may write in the one what another worker touches in the other."""
        pairs = ((self.written, other.any), (self.any, other.written))
        return any(
            _overlap(many, few)
            for mine, its in pairs
            for base, by_shares in its.items()
            for shares, few in by_shares.items()
            for own, many in mine.get(base, {}).items()
            if shares is None or shares != own
        )


def _joined(stretches: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for start, stop in sorted(stretches):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(stop, joined[-1][1])
        elif stop > start:
            joined.append((start, stop))
    return joined


def _overlap(many: Sequence[tuple[int, int]], few: Sequence[tuple[int, int]]) -> bool:
    if len(many) < len(few):
        many, few = few, many
    for start, stop in few:
        ahead = bisect_left(many, (stop, stop))  # the first that begins behind it
        if ahead and many[ahead - 1][1] > start:
            return True
    return False
