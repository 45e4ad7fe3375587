"""A Tiled in a Tiled: drawn loops and sums against the reference in poisoned memory."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphnn.ir.program import Kind, Program
from graphnn.ops import tanh
from graphnn.ops.op import Tensor
from graphnn.passes.fuse import fuse
from graphnn.plan.memory import make_plan
from graphnn.tiled import COMBINING
from guarded_runs import results_of
from nested_programs import nested_programs
from tiled_programs import (
    CHAINS,
    SUMMED,
    WORKERS,
    Axis,
    Rewrite,
    Tensors,
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

# -- drawn programs ----------------------------------------------------------------------------------------------------


@rewrites
@pytest.mark.parametrize("loops", [1, 2])
@given(data=st.data())
@settings(many, max_examples=60)
def test_drawn_loops_in_loops_are_native_and_agree_with_the_reference(
    rewrite: Rewrite, loops: int, data: st.DataObject
):
    check(rewrite(data.draw(nested_programs(loops))))


@given(program=nested_programs(3))
@settings(many, max_examples=20)
def test_drawn_loops_that_are_too_deep_agree_too(program: Program):
    check(program, (1, 3), native=False)


@rewrites
@pytest.mark.parametrize("chain", CHAINS)
def test_tiles_and_scans_in_each_other(chain: str, rewrite: Rewrite):
    """As many as a place has strides for are native; strided parts, which are copied, need none."""
    check(rewrite(loops_of(chain, 0)), native=CHAINS[chain])
    check(rewrite(loops_of(chain, 1)), native=CHAINS[chain])
    assert is_native(compiled(rewrite(loops_of(chain, 0)), 2)) is CHAINS[chain]


# -- sums --------------------------------------------------------------------------------------------------------------


@rewrites
@pytest.mark.parametrize("tiles", [1, 2, 5])
@pytest.mark.parametrize("name", SUMMED)
def test_sums_begin_with_what_the_first_turn_writes(name: str, tiles: int, rewrite: Rewrite):
    """Memory is NaN before, so whoever reads a total that is not there yet is found."""
    for combine in COMBINING:
        for around in (0, *COMBINING):
            function = partial(combined, SUMMED[name], combine, around, tiles)
            check(rewrite(program_of(function, "float32 30 6", "float32 6")), (1, 2))


def parts_of_a_sum(axis: int, x: Tensor, y: Tensor) -> Tensors:
    """Each tile of examples makes its terms of a product in parts, by rows or by columns."""

    def inner(x: Tensor, y: Tensor) -> Tensors:
        return [x.transpose((1, 0)) @ y]

    def outer(x: Tensor, y: Tensor) -> Tensors:
        return tiled(inner, 3, [(x, None if axis else 1), (y, 1 if axis else None)], (axis,))

    return tiled(outer, 6, [(x, 0), (y, 0)], ("sum",))


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("workers", WORKERS)
def test_parts_of_a_large_sum(workers: int, axis: int):
    """Of more elements than one worker adds up alone."""
    check(fuse(program_of(partial(parts_of_a_sum, axis), "float32 24 66", "float32 24 69")), (workers,))


def counted(x: Tensor) -> Tensors:
    """Numbers of tiles at three levels, of which each makes another digit."""

    def innermost(part: Tensor, number: Tensor) -> Tensors:
        return [part * 10 + number]

    def inner(part: Tensor, number: Tensor) -> Tensors:
        return tiled(innermost, 4, [(part * 10 + number, 1)], (1,), True)

    def outer(part: Tensor, number: Tensor) -> Tensors:
        return tiled(inner, 3, [(part * 10 + number, 0)], (0,), True)

    return tiled(outer, 2, [(x, 1)], (1,), True)


@pytest.mark.parametrize("workers", WORKERS)
def test_each_level_counts_its_own_turns(workers: int):
    program = program_of(counted, "int64 3 8")
    (found,) = results_of(compiled(program, workers), program, [np.zeros((3, 8), "int64")])[:1]
    outer, inner, innermost = np.arange(8) // 4, np.arange(3)[:, None], np.arange(8) % 4
    np.testing.assert_array_equal(found, 100 * outer + 10 * inner + innermost)


@pytest.mark.parametrize("shape", ["4 6 0", "4 0 6", "0 4 6", "1 1 1"])
def test_empty_and_tiny_parts(shape: str):
    """Of what has no elements, whichever axis is cut."""

    def inner(part: Tensor) -> Tensors:
        return [tanh(part), part.sum(0), part.sum()]

    def outer(part: Tensor, tiles: int) -> Tensors:
        return tiled(inner, tiles, [(part, 1)], (1, 0, "sum"))

    def whole(x: Tensor) -> Tensors:
        tiles = 1 if shape == "1 1 1" else 2
        return tiled(partial(outer, tiles=tiles), tiles, [(x, 2)], (2, "max", "sum"))

    check(program_of(whole, f"float32 {shape}"), (1, 2))


@pytest.mark.parametrize("inner_axis", [0, 1])
@pytest.mark.parametrize("outer_axis", [0, 1])
@pytest.mark.parametrize("workers", WORKERS)
def test_a_parameter_is_changed_where_it_lies_by_parts_of_parts(workers: int, outer_axis: int, inner_axis: int):
    def inner(w: Tensor, x: Tensor, dy: Tensor) -> Tensors:
        return [w * 0.5 - x.transpose((1, 0)) @ dy]

    def outer(w: Tensor, x: Tensor, dy: Tensor) -> Tensors:
        return tiled(inner, 3, cuts(inner_axis, w, x, dy), (inner_axis,))

    def cuts(axis: int, w: Tensor, x: Tensor, dy: Tensor) -> list[tuple[Tensor, Axis]]:
        return [(w, axis), (x, None if axis else 1), (dy, 1 if axis else None)]

    def changed(w: Tensor, x: Tensor, dy: Tensor) -> Tensors:
        (new,) = tiled(outer, 4, cuts(outer_axis, w, x, dy), (outer_axis,))
        w.builder.update(w.value, new.value)
        return []

    program = fuse(program_of(changed, "float32 12 24", "float32 7 12", "float32 7 24", kinds=[Kind.PARAMETER]))
    plan = make_plan(program)
    assert all(plan.buffers[new].shares == old for old, new in plan.updates)
    check(program, (workers,))


OVER: dict[str, Callable[[Tensor], Tensors]] = {  # by parts of rows, for the same rows
    "elementwise": lambda x: [tanh(x) * 0.5],
    "read before": lambda x: [x + tanh(x * 2.0)],
    "read by a sum before": lambda x: [x - x.sum(1, keep=True)],
    "read by another one": lambda x: [x * 2.0, tanh(x)],
    "read by a sum": lambda x: [x * 2.0, x.sum(1, keep=True)],
    "read by a product": lambda x: [x * 2.0, x.transpose((1, 0)) @ x],
    "made by a product": lambda x: [x @ (x.transpose((1, 0)) @ x)],
    "a view": lambda x: [x.reshape((1, x.spec.size)).reshape(x.shape) * 2.0],
    "an input": lambda x: [x * 2.0, x],
    "twice": lambda x: [tanh(x)] * 2,
}


@rewrites
@pytest.mark.parametrize("dies_inside", [False, True])
@pytest.mark.parametrize("name", OVER)
def test_results_are_written_over_nothing_that_is_read_later(name: str, dies_inside: bool, rewrite: Rewrite):
    def loop(function: Callable[[Tensor], Tensors], x: Tensor) -> Tensors:
        return tiled(function, 3, [(x, 0)], lambda made: [0] * len(made))

    def outer(part: Tensor) -> Tensors:
        return [tanh(y) for y in loop(OVER[name], tanh(part))] if dies_inside else loop(OVER[name], part)

    def whole(x: Tensor) -> Tensors:
        return [tanh(y) for y in loop(outer, tanh(x))]

    check(rewrite(program_of(whole, "float64 18 5")), (1, 2))
