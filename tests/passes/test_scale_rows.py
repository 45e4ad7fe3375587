"""scale_rows: no large quotient is left where products alone read it; all others stay, and so do the numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnn.autodiff import differentiate
from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.program import Program
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ir.verify import verify
from graphnn.ops import exp, softmax, tanh, where
from graphnn.ops.evaluate import evaluate
from graphnn.ops.op import Tensor
from graphnn.passes.pipeline import run_passes
from graphnn.passes.scale_rows import scale_rows

QUERIES, KEYS, SIZE = 9, 11, 3


def program_of(function, shapes, dtype="float64", gradients=True) -> Program:
    """The function, and with `gradients` its gradients by all floats for given cotangents."""
    builder = ProgramBuilder()
    given = []
    for n, shape in enumerate(shapes):
        kind = "bool" if n == 3 else dtype
        given.append(Tensor(builder, builder.input(f"x{n}", TensorSpec(shape, kind))))
    made = function(*given)
    program = builder.build([y.value for y in (made if isinstance(made, tuple) else (made,))])
    floats = [value for value in program.inputs if value.spec.dtype != "bool"]
    return run_passes(differentiate(program, wrt=floats) if gradients else program)


def shapes_of(lead=(2,), queries=QUERIES, keys=KEYS, size=SIZE):
    """Queries, keys, values, and a mask."""
    sizes = ((queries, size), (keys, size), (keys, size), (queries, keys))
    return [(*lead, *shape) for shape in sizes]


def scores_of(q, k):
    return q @ k.transpose((*range(q.rank - 2), q.rank - 1, q.rank - 2))


def plain(q, k, v, mask):
    return softmax(scores_of(q, k) * 0.5, -1) @ v


def masked(q, k, v, mask):
    scores = scores_of(q, k)
    return softmax(where(mask, scores, scores.lift(-np.inf)), -1) @ v


def dropped(q, k, v, mask):
    weights = softmax(scores_of(q, k), -1)
    return where(mask, weights * 1.25, weights.lift(0.0)) @ v


def read_twice(q, k, v, mask):
    weights = softmax(scores_of(q, k), -1)
    return tanh(weights @ v), weights @ (v * 2.0)


PUT_OFF = (plain, masked, dropped, read_twice)


def weights_returned(q, k, v, mask):
    weights = softmax(scores_of(q, k), -1)
    return weights @ v, weights


def weights_looked_at(q, k, v, mask):
    weights = softmax(scores_of(q, k), -1)
    return weights @ v, tanh(weights)


def along_queries(q, k, v, mask):
    return softmax(scores_of(q, k), -2) @ v


def without_a_maximum(q, k, v, mask):
    e = exp(scores_of(q, k))
    return (e / e.sum((e.rank - 1,), keep=True)) @ v


def another_maximum(q, k, v, mask):
    scores = scores_of(q, k)
    e = exp(scores - (scores * 0.5).max((scores.rank - 1,), keep=True))
    return (e / e.sum((e.rank - 1,), keep=True)) @ v


def squared(q, k, v, mask):
    weights = softmax(scores_of(q, k), -1)
    return (weights * weights) @ v


def filled_with_one(q, k, v, mask):
    weights = softmax(scores_of(q, k), -1)
    return where(mask, weights, weights.lift(1.0)) @ v


def the_other_way_round(q, k, v, mask):
    weights = softmax(scores_of(q, k), -1)
    return v.transpose((*range(v.rank - 2), v.rank - 1, v.rank - 2)) @ weights.transpose(
        (*range(v.rank - 2), v.rank - 1, v.rank - 2)
    )


LEFT = (
    weights_returned, weights_looked_at, along_queries, without_a_maximum, another_maximum, squared, filled_with_one,
    the_other_way_round,
)  # fmt: skip


def arrays_for(program: Program) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    arrays = [random.normal(size=v.spec.shape).astype(v.spec.dtype) for v in program.inputs]
    for number, value in enumerate(program.inputs):
        if value.spec.dtype == "bool":
            arrays[number] = random.random(value.spec.shape) < 0.7
            arrays[number][..., 0, :] = False  # a query that sees nothing
    return arrays


def same_numbers(before: Program, after: Program, bound: float) -> None:
    arrays = arrays_for(before)
    wanted, made = evaluate(np, before, arrays), evaluate(np, verify(after), arrays)
    for old, new in zip(before.results, after.results, strict=True):
        np.testing.assert_allclose(made[new], wanted[old], rtol=bound, atol=bound)


def large_quotients(program: Program, size: int) -> int:
    return sum(i.op.name == "divide" and i.outputs[0].spec.size >= size for i in program.instructions)


@pytest.mark.parametrize(("dtype", "bound"), [("float64", 1e-12), ("float32", 1e-5)])
@pytest.mark.parametrize("gradients", [False, True], ids=["forward", "with gradients"])
@pytest.mark.parametrize("function", PUT_OFF, ids=lambda function: function.__name__)
def test_what_products_read_is_divided_behind_them(function, gradients, dtype, bound):
    program = program_of(function, shapes_of(), dtype, gradients)
    scaled = scale_rows(program)
    same_numbers(program, scaled, bound)
    size = 2 * QUERIES * KEYS
    between = function in (dropped, read_twice) and gradients  # a product and its division: a mask, or a sum of two
    assert large_quotients(program, size) > large_quotients(scaled, size) == int(between)


def test_a_product_behind_a_sum_does_not_stand_for_it():
    def function(q, k, v, mask):
        weights = tanh(scores_of(q, k))
        total = (scores_of(q, v) * weights).sum((q.rank - 1,), keep=True)
        return plain(q, k, v, mask) + total + weights @ v

    program = program_of(function, shapes_of(), gradients=False)
    same_numbers(program, scale_rows(program), 1e-12)


def large_sums(program: Program, size: int) -> int:
    return sum(i.op.name == "sum" and i.inputs[0].spec.size >= size for i in program.instructions)


@pytest.mark.parametrize(("function", "left"), [(plain, 1), (masked, 1), (dropped, 2), (read_twice, 2)])
def test_sums_of_weights_and_their_gradients_are_those_of_results(function, left):
    """What is left is the sum of exponentials; behind a mask or a sum of products there is no such result."""
    program = program_of(function, shapes_of())
    assert large_sums(program, 2 * QUERIES * KEYS) == 2
    assert large_sums(scale_rows(program), 2 * QUERIES * KEYS) == left


@pytest.mark.parametrize("gradients", [False, True], ids=["forward", "with gradients"])
@pytest.mark.parametrize("function", LEFT, ids=lambda function: function.__name__)
def test_what_others_read_stays(function, gradients):
    program = program_of(function, shapes_of(), gradients=gradients)
    scaled = scale_rows(program)
    assert scaled.instructions == program.instructions


def test_float16_stays():
    """A sum of exponentials may be larger than its largest number."""
    program = program_of(plain, shapes_of(), "float16")
    assert scale_rows(program) is program


def test_results_that_are_not_smaller_stay():
    program = program_of(plain, [(2, 9, 3), (2, 11, 3), (2, 11, 40), (1,)], gradients=False)
    assert scale_rows(program) is program


@given(
    data=st.data(), function=st.sampled_from(PUT_OFF), lead=st.lists(st.integers(1, 3), max_size=2),
    sizes=st.tuples(st.integers(1, 7), st.integers(1, 7), st.integers(1, 4)),
)  # fmt: skip
def test_any_sizes(data, function, lead, sizes):
    program = program_of(function, shapes_of(tuple(lead), *sizes))
    same_numbers(program, scale_rows(program), 1e-11)
    if function is not read_twice:
        second = program_of(lambda *x: function(function(*x), *x[1:]), shapes_of(tuple(lead), *sizes))
        same_numbers(second, scale_rows(second), 1e-11)
