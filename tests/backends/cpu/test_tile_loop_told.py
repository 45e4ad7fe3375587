"""A Tiled in a Tiled: traces, refusals, and what rows are said to touch."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphnn.backends.cpu.arrange import Access, accesses
from graphnn.backends.cpu.executable import Interpreted
from graphnn.backends.cpu.kernel import Kernel
from graphnn.backends.cpu.table import (
    ARENA,
    FIRST_EXTERNAL,
    PARTIAL,
    SCRATCH,
    Call,
    Copy,
    Place,
    Repeat,
    Row,
    Serial,
    TileIndex,
    Tiles,
)
from graphnn.backends.reference import ReferenceBackend
from graphnn.errors import OptionError
from graphnn.ir.program import Kind, Origin, Program
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops import gather, tanh
from graphnn.ops.arithmetic import Add
from graphnn.ops.op import Tensor
from graphnn.passes.fuse import fuse
from graphnn.plan.memory import make_plan
from graphnn.plan.plan import Step
from graphnn.scan import Scan
from graphnn.tiled import COMBINING, Tiled
from nested_programs import nested_programs
from tiled_programs import (
    CHAINS,
    SUMMED,
    Draw,
    Rewrite,
    Tensors,
    arrays_for,
    check,
    combined,
    compiled,
    is_native,
    loops_of,
    many,
    program_of,
    rewrites,
    tiled,
)

# -- what is told of runs ----------------------------------------------------------------------------------------------

Played = tuple[tuple[Step, ...], Call]


def played(rows: Sequence[Row], worker: int, workers: int, within: tuple[Step, ...] = ()) -> Iterator[Played]:
    """The kernels that a worker runs, in order, each with the loops around it: the driver, written anew."""
    for row in rows:
        match row:
            case Call():
                yield within, row
            case Serial():
                yield from played(row.rows, worker, workers, within) if row.worker == worker else ()
            case Repeat():
                for _ in range(row.start, row.turns):
                    yield from played(row.rows, worker, workers, (*within, row.step))
            case Tiles():
                sharing = min(row.tiles, workers)
                low, high = (number * row.tiles // sharing for number in (worker, worker + 1))
                inside = within if row.step is None else (*within, row.step)
                for tile in range(low, high) if worker < sharing else ():
                    yield from played(row.first if tile == low else row.later, worker, workers, inside)
            case _:
                pass


def times(step: Step) -> int:
    return step.op.tiles if isinstance(step.op, Tiled) else int(step.op.length) if isinstance(step.op, Scan) else 1


TRACED = {chain: partial(loops_of, chain, 0) for chain, native in CHAINS.items() if native}
TRACED |= {
    f"{name}, {combine}, {tiles} inner tiles": partial(
        program_of, partial(combined, SUMMED[name], combine, "sum", tiles), "float32 30 6", "float32 6"
    )
    for name in ("product", "product that is read", "elementwise")
    for combine, tiles in (("sum", 5), ("max", 5), ("sum", 2))
}


@rewrites
@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("name", TRACED)
def test_each_run_of_a_kernel_in_inner_loops_is_written_down_as_its_own(name: str, workers: int, rewrite: Rewrite):
    program = rewrite(TRACED[name]())
    made = compiled(program, workers)
    arrays = arrays_for(program)
    plain = [array.tobytes() for array in made(arrays)]
    outputs, runs = made.run_traced(arrays)
    assert [array.tobytes() for array in outputs] == plain
    (rows,) = made.assembled.segments
    assert not isinstance(rows, Interpreted)
    for worker in range(workers):
        own = [run.call for run in runs if run.worker == worker]
        for told, (within, call) in zip(own, played(rows, worker, workers), strict=True):
            assert (told.within, told.step) == (within, call.step)
            if told.step is None:
                assert (told.op, told.inputs, told.ir) == (call.op, call.inputs, str(call.kernel.ir))
    assert Counter(run.call for run in runs) == {call: call.runs for call in made.calls}
    for call in made.calls:
        assert call.step is None or call.runs == prod(map(times, call.within))


@pytest.mark.parametrize("combine", COMBINING)
def test_kernels_that_never_run_are_not_made(combine: str):
    """An inner loop of one tile has no later ones."""
    function = partial(combined, SUMMED["elementwise"], combine, "sum", 1)
    made = compiled(program_of(function, "float32 30 6", "float32 6"), 2)
    assert all(call.runs for call in made.calls)


def test_a_copy_of_parts_stands_once():
    """Though the first tile of a worker has rows of its own."""

    def outer(part: Tensor) -> Tensors:
        (y,) = tiled(lambda part: [tanh(part)], 3, [(part, 1)], (1,))
        return [y, y.sum(0)]

    made = compiled(program_of(lambda x: tiled(outer, 4, [(x, 0)], (0, "sum")), "float32 8 6"), 2)
    assert [call.runs for call in made.calls if call.op.name == "slice"] == [12, 12]


def test_a_fourth_loop_on_its_own_memory_is_native():
    def innermost(a: Tensor) -> Tensors:
        return [tanh(z) for z in tiled(lambda part: [tanh(part)], 2, [(tanh(a), 0)], (0,))]

    def inside(function: Callable[..., Tensors]) -> Callable[..., Tensors]:
        return lambda a: tiled(function, 2, [(a, 0)], (0,))

    program = program_of(inside(inside(inside(innermost))), "float64 16 3")
    assert is_native(compiled(program, 2))
    check(program, (1, 2))


# -- kernels that refuse -----------------------------------------------------------------------------------------------


def taken(where: str, loops: int, p: Tensor, table: Tensor, indices: Tensor) -> Tensors:
    """Rows of a table, in so many loops; a parameter changes before, in the same loop or behind."""
    before = p + 1.0
    found, inside = chosen(where, loops, indices, p, table)
    new = inside if where.startswith("in it") else before if where == "before" else p + 1.0
    p.builder.update(p.value, new.value)
    return [found]


def chosen(where: str, loops: int, indices: Tensor, p: Tensor, table: Tensor) -> Tensors:
    if loops:
        return tiled(partial(chosen, where, loops - 1), 2, [(indices, 0), (p, 0), (table, None)], (0, 0))
    found = gather(table, indices)
    return [found, p * 0.5 + (found.sum() if where == "in it" else 1.0)]


@pytest.mark.parametrize("loops", [2, 3, 4])
@pytest.mark.parametrize("where", ["before", "in it", "in it, but of nothing", "behind"])
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_refusal_in_an_inner_loop_is_the_reference_s_and_changes_nothing(workers: int, where: str, loops: int):
    texts = ("float32 32 5", "float32 7 3", "int64 16")
    program = program_of(partial(taken, where, loops), *texts, kinds=[Kind.PARAMETER])
    made, reference = compiled(program, workers), ReferenceBackend().compile(make_plan(program))
    p, table, indices = arrays_for(program)
    for position in (0, 3, 8, 15):
        wrong = np.where(np.arange(16) == position, 7, indices)
        told: list[str] = []
        for executable in (made, reference):
            given_arrays = [p.copy(), table.copy(), wrong.copy()]
            with pytest.raises(OptionError, match="out of range") as caught:
                executable(given_arrays)
            told.append(str(caught.value))
            assert [a.tobytes() for a in given_arrays] == [a.tobytes() for a in (p, table, wrong)]
        assert told[0] == told[1]
    check(program, (workers,), native=loops < 4)
    arguments = [p.copy(), table, indices]
    made(arguments)  # and it goes on
    assert (arguments[0] != p).all()


# -- what rows touch ---------------------------------------------------------------------------------------------------

STEP = Step(Add(), (), (), Origin())


@st.composite
def drawn_places(draw: Draw) -> Place:
    base = draw(st.sampled_from([ARENA, PARTIAL, FIRST_EXTERNAL]))
    steps = {name: 4 * draw(st.integers(0, 5)) for name in ("per_tile", "per_step", "per_outer")}
    place = Place(base, 4 * draw(st.integers(0, 30)), **steps)
    home = (ARENA, 4 * draw(st.integers(0, 30))) if base == PARTIAL else None
    return replace(place, home=home, strided=bool(place.per_tile) and draw(st.integers(0, 3)) == 0)


@st.composite
def drawn_rows(draw: Draw, tiles: int, loops: int) -> list[Row]:
    """Kernels, copies and indices, and loops whose turns begin with 0 or 1."""
    rows: list[Row] = []
    for kind in draw(st.lists(st.sampled_from(["call", "copy", "index"]), min_size=1, max_size=2)):
        one, other = draw(drawn_places()), draw(drawn_places())
        if kind == "call":
            whole = [tiles * place.per_tile if place.strided else 4 for place in (one, other)]
            reach = tuple(draw(st.integers(1, 3)) * nbytes for nbytes in whole)
            spec = TensorSpec((1,), "float32")
            rows.append(Call(Kernel("; nothing"), (one, other), Add(), (spec,), (spec,), None, Origin(), reach))
        else:
            one, other = (replace(place, strided=False) for place in (one, other))
            rows.append(
                Copy(one, other, 4 * draw(st.integers(1, 3))) if kind == "copy" else TileIndex(one, bool(loops))
            )
    if loops:
        start = draw(st.integers(0, 1))
        inside = tuple(draw(drawn_rows(tiles, loops - 1)))
        rows.append(Repeat(draw(st.integers(start + 1, 4)), inside, not start and draw(st.booleans()), STEP, start))
    return rows


Stretch = tuple[int, int, int]  # base, first byte, that behind the last one


def stretches(
    rows: Sequence[Row], tile: int, tiles: int, step: int = 0, outer: int = 0
) -> Iterator[tuple[bool, Stretch]]:
    """All that is touched in one tile, and whether it is written, address by address."""
    for row in rows:
        if isinstance(row, Repeat):
            for turn in range(row.start, row.turns):
                now = row.turns - 1 - turn if row.backwards else turn
                yield from stretches(row.rows, tile, tiles, now, step)
        elif isinstance(row, Serial):
            yield from stretches(row.rows, tile, tiles, step, outer)
        for place, nbytes, writes in arguments_of(row):
            ahead = tile * place.per_tile + step * place.per_step + outer * place.per_outer
            for base, start in {(place.base, place.offset), place.home or (place.base, place.offset)}:
                if not place.strided:
                    yield writes, (base, start + ahead, start + ahead + nbytes)
                    continue
                for run in range(nbytes // (tiles * place.per_tile)):
                    first = start + ahead + run * tiles * place.per_tile
                    yield writes, (base, first, first + place.per_tile)


def arguments_of(row: Row) -> Iterator[tuple[Place, int, bool]]:
    match row:
        case Call():
            sizes = row.reach or [spec.nbytes for spec in (*row.inputs, *row.outputs)]
            for number, (place, nbytes) in enumerate(zip(row.arguments, sizes, strict=False)):
                if place.base != SCRATCH:
                    yield place, nbytes, number >= len(row.inputs)
        case Copy():
            yield from ((row.source, row.nbytes, False), (row.target, row.nbytes, True))
        case TileIndex():
            yield row.target, 8, True
        case _:
            pass


def is_told(touched: Stretch, writes: bool, tile: int, told: Sequence[Access]) -> bool:
    base, start, stop = touched
    return any(
        (access.base, access.writes or not writes) == (base, True)
        and access.start <= start <= stop <= access.stop
        and (access.shares is None or {owner(byte, access) for byte in (start, stop - 1)} == {tile})
        for access in told
    )


def owner(byte: int, access: Access) -> int:
    """The tile that alone touches a byte of shares."""
    assert access.shares is not None
    return (byte - access.shares.start) // access.shares.nbytes % access.shares.tiles


def all_is_told(row: Row) -> None:
    told = list(accesses([row]))
    tiles = row.tiles if isinstance(row, Tiles) else 1
    for tile in range(tiles):
        inside = (*row.first, *row.later) if isinstance(row, Tiles) else [row]
        for writes, touched in set(stretches(inside, tile, tiles)):
            assert is_told(touched, writes, tile, told), (touched, told)


@given(st.data())
@settings(many, max_examples=300)
def test_what_rows_are_said_to_touch_holds_all_that_they_touch(data: st.DataObject):
    tiles = data.draw(st.integers(1, 4))
    first, later = (tuple(data.draw(drawn_rows(tiles, data.draw(st.integers(0, 2))))) for _ in range(2))
    all_is_told(Tiles(tiles, first, later, None))
    all_is_told(Serial(tuple(data.draw(drawn_rows(1, 2)))))


@given(program=nested_programs(2))
@settings(many, max_examples=20)
def test_what_drawn_programs_are_said_to_touch_holds_all_that_they_touch(program: Program):
    for segment in compiled(fuse(program), 3).assembled.segments:
        for row in () if isinstance(segment, Interpreted) else segment:
            all_is_told(row)
