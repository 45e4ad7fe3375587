"""Each rule of simplify fires where it should, only there, and changes no number but the sign of zero."""

import math

import numpy as np
import pytest
from hypothesis import given

from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.program import Program
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ir.verify import verify
from graphnn.ops import exp, fill, flip, negative, pad, stop_gradient
from graphnn.ops.creation import Cast
from graphnn.ops.evaluate import evaluate
from graphnn.ops.op import Tensor
from graphnn.ops.shape import BroadcastTo, Pad, Reshape, Slice, Transpose
from graphnn.passes.dead import remove_dead
from graphnn.passes.simplify import RULES, simplify
from module_cases import SMALL, module_programs, numbers_for
from random_programs import arrays_for, programs

SPECIAL = np.array([[0.0, -0.0, 1.5], [math.inf, -math.inf, math.nan]], "float32")


def program_of(function, shape=(2, 3), dtype="float32") -> Program:
    builder = ProgramBuilder()
    x = Tensor(builder, builder.input("x", TensorSpec(shape, dtype)))
    return verify(builder.build([exp(function(x)).value if dtype == "float32" else function(x).value]))


def names(program: Program) -> list[str]:
    return [instruction.op.name for instruction in program.instructions]


def constant(x, number, shape=()):
    return fill(x.builder, number, shape, x.dtype)


def pieces(x, ranges):
    """The gradient that slices of x would give: each part in its place, the rest zero."""
    parts = [pad(x.slice(1, start, stop), [(0, 0), (start, 3 - stop)]) for start, stop in ranges]
    return sum(parts[1:], start=parts[0])


FIRES = {
    "add_zero_right": (lambda x: x + 0.0, []),
    "add_zero_left": (lambda x: constant(x, 0.0) + x, []),
    "add_zeros": (lambda x: x + constant(x, 0.0, (2, 3)), []),
    "subtract_zero": (lambda x: x - 0.0, []),
    "multiply_by_one_right": (lambda x: x * 1.0, []),
    "multiply_by_one_left": (lambda x: constant(x, 1.0, (1, 3)) * x, []),
    "divide_by_one": (lambda x: x / 1.0, []),
    "negate_twice": (lambda x: negative(negative(x)), []),
    "negate_thrice": (lambda x: negative(negative(negative(x))), ["negative"]),
    "reshape_twice": (lambda x: x.reshape((6,)).reshape((3, 2)), ["reshape"]),
    "reshape_back": (lambda x: x.reshape((6,)).reshape((2, 3)), []),
    "reshape_to_itself": (lambda x: Reshape((2, 3))(x), []),
    "transpose_back": (lambda x: x.transpose((1, 0)).transpose((1, 0)), []),
    "transpose_twice": (
        lambda x: x.reshape((1, 2, 3)).transpose((1, 2, 0)).transpose((1, 2, 0)), ["reshape", "transpose"],
    ),
    "transpose_nothing": (lambda x: Transpose((0, 1))(x), []),
    "broadcast_nothing": (lambda x: BroadcastTo((2, 3))(x), []),
    "slice_nothing": (lambda x: Slice((0, 0), (2, 3), (1, 1))(x), []),
    "pad_nothing": (lambda x: Pad((0, 0), (0, 0), (0, 0))(x), []),
    "cast_nothing": (lambda x: Cast("float32")(x), []),
    "flip_twice": (lambda x: flip(flip(x, 1), 1), []),
    "fill_reshaped": (lambda x: x * constant(x, 2.0, (6,)).reshape((2, 3)), ["fill", "multiply"]),
    "fill_transposed": (lambda x: x * constant(x, 2.0, (3, 2)).transpose((1, 0)), ["fill", "multiply"]),
    "fill_broadcast": (lambda x: x * constant(x, 2.0).broadcast_to((2, 3)), ["fill", "multiply"]),
    "fill_sliced": (lambda x: x * constant(x, 2.0, (4, 3)).slice(0, 1, 3), ["fill", "multiply"]),
    "zeros_broadcast_and_added": (lambda x: x + constant(x, 0.0).broadcast_to((2, 3)), []),
    "stop_gradient": (stop_gradient, []),
    "pads_of_neighbours": (lambda x: pieces(x, [(0, 1), (1, 3)]), ["slice", "slice", "concatenate"]),
    "pads_of_three": (lambda x: pieces(x, [(2, 3), (1, 2), (0, 1)]), ["slice", "slice", "slice", "concatenate"]),
    "pads_inside": (lambda x: pieces(x, [(0, 1), (1, 2)]), ["slice", "slice", "concatenate", "pad"]),
    "a_chain": (lambda x: (negative(negative(x + 0.0) * 1.0) / 1.0).reshape((6,)).reshape((2, 3)), []),
}  # fmt: skip

STAYS = {
    "add_one": lambda x: x + 1.0,
    "subtract_from_zero": lambda x: 0.0 - x,
    "multiply_by_zero": lambda x: x * 0.0,
    "one_divided": lambda x: 1.0 / x,
    "zero_that_broadcasts": lambda x: x.sum(0) + constant(x, 0.0, (2, 3)),
    "one_that_broadcasts": lambda x: x.sum(0) * constant(x, 1.0, (2, 3)),
    "other_flips": lambda x: flip(flip(x, 1), 0),
    "a_cast_and_back": lambda x: x.cast("float64").cast("float32"),
    "pads_with_a_gap": lambda x: pieces(x, [(0, 1), (2, 3)]),
    "pads_that_overlap": lambda x: pieces(x, [(0, 2), (1, 3)]),
    "pads_on_two_axes": lambda x: pad(x, [(0, 1), (0, 0)]).slice(0, 0, 2) + pad(x.slice(1, 1, 3), [(0, 0), (0, 1)]),
    "pads_of_ones": lambda x: pad(x.slice(1, 0, 1), [(0, 0), (0, 2)], 1.0) + pad(x.slice(1, 1, 3), [(0, 0), (1, 0)]),
    "padding": lambda x: pad(x, [(0, 1), (0, 0)]),
    "reversed": lambda x: flip(x, 0),
    "broadcast": lambda x: x.reshape((1, 2, 3)).broadcast_to((2, 2, 3)),
}


@pytest.mark.parametrize("name", FIRES)
def test_rule_fires(name):
    function, left = FIRES[name]
    program = program_of(function)
    simple = verify(remove_dead(simplify(program)))
    assert names(simple) == [*left, "exp"]
    assert_equal_numbers(simple, program, [SPECIAL])


def test_every_rule_is_among_the_cases():
    fired = {type(i.op) for function, _ in FIRES.values() for i in program_of(function).instructions}
    assert set(RULES) <= fired


@pytest.mark.parametrize("name", STAYS)
def test_what_would_change_numbers_stays(name):
    program = program_of(STAYS[name])
    assert names(remove_dead(simplify(program))) == names(program)


def test_integers_are_simplified_too():
    program = program_of(lambda x: (x + 0) * 1 * 2, dtype="int32")
    assert names(remove_dead(simplify(program))) == ["fill", "multiply"]


def assert_equal_numbers(some: Program, other: Program, arrays) -> None:
    found, wanted = evaluate(np, some, arrays), evaluate(np, other, arrays)
    for actual, expected in zip(some.results, other.results, strict=True):
        np.testing.assert_array_equal(found[actual], wanted[expected])


@given(programs())
def test_random_programs_keep_their_numbers(program):
    assert_equal_numbers(verify(simplify(program)), program, arrays_for(program))


@pytest.mark.parametrize("program", [pytest.param(program, id=name) for name, program in module_programs(SMALL)])
def test_modules_keep_their_numbers(program):
    simple = verify(remove_dead(simplify(program)))
    assert len(simple.instructions) <= len(program.instructions)
    assert_equal_numbers(simple, program, numbers_for(program))
