"""Which rows wait for which: no barrier too few by a model of the workers, and none too many in plain cases."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphnn.backends.cpu.arrange import arrange
from graphnn.backends.cpu.kernel import Kernel
from graphnn.backends.cpu.table import (
    ARENA,
    FIRST_EXTERNAL,
    PARTIAL,
    PRIVATE,
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
from graphnn.ir.program import Origin
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops.arithmetic import Add
from graphnn.ops.indexing import GatherAlong
from graphnn.plan.plan import Step

WORKERS = 3
STEP = Step(Add(), (), (), Origin())


def call(reads: list[Place], writes: list[Place], elements: int = 1) -> Call:
    """A kernel that reads and writes so many numbers at each place."""
    specs = tuple((TensorSpec((elements,), "float32"),) * len(side) for side in (reads, writes))
    return Call(Kernel("; nothing"), (*reads, *writes), Add(), *specs, None, Origin())


def arena(number: int, **moves: int) -> Place:
    return Place(ARENA, 4 * number, **moves)


def parts(number: int, run: int, tiles: int, stretches: int = 2, strided: bool = True) -> tuple[Place, int]:
    """A tile's part of an array, `run` numbers in each stretch of those of all tiles, and how far all of them reach."""
    return arena(number, per_tile=4 * run, strided=strided), 4 * run * stretches * tiles


@st.composite
def places(draw, moving: bool) -> Place:
    base = draw(st.sampled_from([ARENA, ARENA, PRIVATE, PARTIAL, FIRST_EXTERNAL]))
    place = Place(base, 4 * draw(st.integers(0, 9)))
    if moving and base in (ARENA, FIRST_EXTERNAL):
        place = replace(place, per_tile=4 * draw(st.integers(0, 2)))
    if base == PARTIAL:
        place = replace(place, home=(ARENA, 4 * draw(st.integers(0, 9))))
    return place


@st.composite
def levels(draw, moving: bool, depth: int = 0) -> list[Row]:
    rows: list[Row] = []
    for kind in draw(st.lists(st.sampled_from(["call", "call", "copy", "index", "loop"]), min_size=1, max_size=3)):
        one, other = draw(places(moving)), draw(places(moving))
        if kind == "copy":
            rows.append(Copy(one, other, 4))
        elif kind == "index" and moving:
            rows.append(TileIndex(Place(PRIVATE, 4 * draw(st.integers(0, 9)))))
        elif kind == "loop" and not depth:
            stepping = call([replace(one, per_step=4 * draw(st.integers(0, 2)))], [other])
            rows.append(Repeat(draw(st.integers(1, 3)), (stepping, *draw(levels(moving, 1))), False, STEP))
        else:
            rows.append(call([one, draw(places(moving))], [other], draw(st.integers(1, 2))))
    return rows


@st.composite
def on_parts(draw, tiles: int) -> Call:
    """A kernel that reads one strided part and writes another."""
    run = st.sampled_from([1, 1, 2])
    (read, far), (written, wide) = (parts(draw(st.integers(0, 9)), draw(run), tiles) for _ in range(2))
    return replace(call([read], [written]), reach=(far, wide))


@st.composite
def programs(draw) -> list[Row]:
    rows: list[Row] = []
    for _ in range(draw(st.integers(1, 6))):
        if draw(st.booleans()):
            rows.append(Serial(tuple(draw(levels(False)))))
        else:
            tiles = draw(st.integers(1, 4))
            first = [*draw(levels(True)), *draw(st.lists(on_parts(tiles), max_size=2))]
            later = draw(levels(True)) if tiles > WORKERS else []
            rows.append(Tiles(tiles, tuple(first), tuple(later), None))
    return rows


# -- what a worker touches, written anew: one number of four bytes at a time -------------------------------------------

Word = tuple[object, int]


def trace(rows: tuple[Row, ...], worker: int) -> list[list[tuple[int, frozenset, frozenset]]]:
    """For each stretch between barriers: (outermost row, words read, words written) by what the worker runs."""
    stretches: list[list] = [[]]
    for number, row in enumerate(rows):
        if isinstance(row, Barrier):
            stretches.append([])
        elif isinstance(row, Serial):
            if row.worker == worker:
                stretches[-1] += ((number, *leaf) for leaf in leaves(row.rows, worker, 0, 0, 0))
        elif isinstance(row, Tiles):
            sharing = min(WORKERS, row.tiles)
            if worker < sharing:
                low, high = (w * row.tiles // sharing for w in (worker, worker + 1))
                for tile in range(low, high):
                    inside = row.first if tile == low else row.later
                    stretches[-1] += ((number, *leaf) for leaf in leaves(inside, worker, tile, 0, 0, row.tiles))
    return stretches


def leaves(rows, worker: int, tile: int, step: int, outer: int, tiles: int = 1) -> Iterator[tuple]:
    for row in rows:
        if isinstance(row, Repeat):
            for turn in range(row.turns):
                yield from leaves(row.rows, worker, tile, turn, step, tiles)
            continue
        if isinstance(row, Call):
            count = row.inputs[0].size
            reads, writes = row.arguments[: len(row.inputs)], row.arguments[len(row.inputs) :]
        else:
            count, reads, writes = 1, [row.source] if isinstance(row, Copy) else [], [row.target]
        yield tuple(
            frozenset(word for place in side for word in words_of(place, count, worker, tile, step, outer, tiles))
            for side in (reads, writes)
        )


def words_of(place: Place, count: int, worker: int, tile: int, step: int, outer: int, tiles: int) -> Iterator[Word]:
    base: object = place.base
    offset = place.offset
    if place.home is not None and worker == 0:
        base, offset = place.home
    elif place.base in (PRIVATE, PARTIAL):
        base = (place.base, worker)
    start = offset + tile * place.per_tile + step * place.per_step + outer * place.per_outer
    if place.strided:
        run = place.per_tile // 4
        yield from (
            (base, start // 4 + stretch * tiles * run + number) for stretch in range(2) for number in range(run)
        )
        return
    for number in range(count):
        yield base, start // 4 + number


@settings(max_examples=400, deadline=None)
@given(programs())
def test_workers_never_meet_between_two_barriers(rows):
    """But for tiles of one row: that these have nothing to do with each other is what tiles are."""
    stretches = [trace(arrange(rows, WORKERS), worker) for worker in range(WORKERS)]
    for of_workers in zip(*stretches, strict=True):
        for one, other in combinations(of_workers, 2):
            for row, read, written in one:
                for another, others_read, others_written in other:
                    assert row == another or not written & (others_read | others_written) | read & others_written


@settings(max_examples=400, deadline=None)
@given(programs())
def test_each_row_runs_once_and_behind_what_it_needs(rows):
    """Whatever two leaf rows of a stretch of serial rows have in common, they keep their order."""
    arranged = arrange(rows, WORKERS)
    serial = [row for group in rows if isinstance(group, Serial) for row in group.rows]
    found = [row for group in arranged if isinstance(group, Serial) for row in group.rows]
    assert sorted(map(id, serial)) == sorted(map(id, found))
    for group in arranged:
        if isinstance(group, Serial):
            order = [next(n for n, row in enumerate(serial) if row is mine) for mine in group.rows]
            assert order == sorted(order)
    assert [row for row in arranged if isinstance(row, Tiles)] == [row for row in rows if isinstance(row, Tiles)]


def kinds(rows) -> list[str]:
    return [type(row).__name__ for row in rows]


def test_serial_rows_that_have_nothing_in_common_are_shared():
    shared = arrange([Serial((call([arena(0)], [arena(1)]), call([arena(0)], [arena(2)])))], WORKERS)
    assert [(row.worker, len(row.rows)) for row in shared if isinstance(row, Serial)] == [(0, 1), (1, 1)]


def test_the_longest_chain_goes_to_the_first_worker_and_the_others_fill_up():
    short = [call([arena(10 + n)], [arena(20 + n)]) for n in range(3)]
    long = call([Place(FIRST_EXTERNAL)], [Place(FIRST_EXTERNAL + 1)], 10**4)
    shared = arrange([Serial((*short, long))], 2)
    assert [row.rows for row in shared if isinstance(row, Serial)] == [(long,), tuple(short)]


@pytest.mark.parametrize(
    ("second", "waits"),
    [
        (call([arena(1)], [arena(2)]), True),  # reads what was written
        (call([arena(5)], [arena(1)]), True),  # writes it again
        (call([arena(5)], [arena(0)]), True),  # writes what was read
        (call([arena(0)], [arena(2)]), False),  # reads the same
        (call([Place(FIRST_EXTERNAL, 4)], [Place(FIRST_EXTERNAL + 1, 4)]), False),  # another memory
    ],
)
def test_a_barrier_stands_where_it_is_needed(second, waits):
    first = Serial((call([arena(0)], [arena(1)]),))
    tiles = Tiles(2, (second,), (), None)
    expected = ["Serial", *(["Barrier"] if waits else []), "Tiles"]
    assert kinds(arrange([first, tiles], 2)) == expected
    assert kinds(arrange([tiles, first], 2)) == [expected[-1], *expected[1:-1], "Serial"]


def test_what_tiles_reach_counts_to_the_last_tile():
    tiles = Tiles(4, (call([arena(50)], [arena(0, per_tile=4)]),), (), None)
    assert kinds(arrange([tiles, Serial((call([arena(3)], [arena(60)]),))], 2)) == ["Tiles", "Barrier", "Serial"]
    assert kinds(arrange([tiles, Serial((call([arena(4)], [arena(60)]),))], 2)) == ["Tiles", "Serial"]


def test_a_strided_copy_reaches_over_the_whole():
    moving = replace(call([arena(0, per_tile=4, strided=True)], [Place(PRIVATE)]), reach=(40, 4))
    tiles = Tiles(2, (moving,), (), None)
    assert kinds(arrange([tiles, Serial((call([arena(50)], [arena(9)]),))], 2)) == ["Tiles", "Barrier", "Serial"]
    assert kinds(arrange([tiles, Serial((call([arena(50)], [arena(10)]),))], 2)) == ["Tiles", "Serial"]


@pytest.mark.parametrize("strided", [True, False])
@pytest.mark.parametrize(
    ("tiles", "number", "run", "waits"),
    [(2, 0, 4, False), (2, 8, 4, False), (2, 4, 4, True), (4, 0, 4, True), (2, 0, 2, True)],
)
def test_a_worker_does_not_wait_for_parts_that_are_its_own(strided, tiles, number, run, waits):
    """Only for other parts: shifted by one, of more tiles, or narrower."""
    (made, far), (read, wide) = parts(0, 4, 2, 4, strided), parts(number, run, tiles, 4, strided)
    reaches = (far, wide) if strided else (16, 4 * run)
    first = Tiles(2, (replace(call([Place(PRIVATE)], [made]), reach=(4, reaches[0])),), (), None)
    second = Tiles(tiles, (replace(call([read], [Place(PRIVATE)]), reach=(reaches[1], 4)),), (), None)
    overlap = strided or number != 8
    assert ("Barrier" in kinds(arrange([first, second], 4))) == (waits and overlap)


@pytest.mark.parametrize(("elements", "waits"), [(1, False), (2, True)])
def test_parts_that_overlap_are_no_worker_s_own(elements, waits):
    place = arena(0, per_tile=4)
    rows = [call([Place(PRIVATE)], [place], elements), call([place], [Place(PRIVATE)], elements)]
    assert ("Barrier" in kinds(arrange([Tiles(2, (row,), (), None) for row in rows], 2))) == waits


def refusing(number: int) -> Call:
    """A kernel that may find an index out of range."""
    found = call([Place(PRIVATE)], [arena(number)])
    return replace(found, op=GatherAlong(0))


@pytest.mark.parametrize("as_tiles", [False, True])
def test_nothing_that_is_kept_is_written_before_all_that_may_refuse(as_tiles):
    """Whatever bytes they touch, and in whichever order serial rows would be shared."""
    update, other = call([Place(PRIVATE)], [Place(FIRST_EXTERNAL)]), call([Place(PRIVATE)], [arena(7)])
    last = Tiles(2, (update,), (), None) if as_tiles else Serial((update,))
    rows = [Serial((other, refusing(0), refusing(3))), last]
    assert "Barrier" not in kinds(arrange(rows, 2))
    arranged = arrange(rows, 2, range(FIRST_EXTERNAL, FIRST_EXTERNAL + 1))
    assert kinds(arranged).count("Barrier") == 1
    behind = arranged[kinds(arranged).index("Barrier") + 1 :]
    assert [row for group in behind for row in getattr(group, "rows", None) or group.first] == [update]
    assert kinds(arrange([Serial((other,)), last], 2, range(FIRST_EXTERNAL, FIRST_EXTERNAL + 1))).count("Barrier") == 0


def test_sums_are_waited_for():
    """Each worker sums up in its own memory, or at home; one of them adds up."""
    total = Place(PARTIAL, 0, home=(ARENA, 8))
    tiles = Tiles(2, (call([arena(0)], [total]),), (), None)
    of_worker_1 = Place(PARTIAL, 0, worker=1, home=(ARENA, 8))
    assert "Barrier" in kinds(arrange([tiles, Serial((call([of_worker_1], [arena(40)]),))], 2))
    assert "Barrier" in kinds(arrange([tiles, Serial((call([arena(2)], [arena(40)]),))], 2))


def test_empty_serial_rows_go():
    assert arrange([Serial(()), Serial(())], 2) == ()
    assert kinds(arrange([Serial(()), Serial((call([arena(0)], [arena(1)]),))], 1)) == ["Serial"]
