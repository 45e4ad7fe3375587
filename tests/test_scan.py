"""scan: its value against a Python loop, its gradients against differences, and what passes may remove from it."""

import numpy as np
import pytest

from graphnn.errors import GraphError, ShapeError
from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.dimension import parse_size
from graphnn.ir.program import Program
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ir.verify import verify
from graphnn.ops.elementwise import sigmoid, tanh
from graphnn.ops.op import Tensor
from graphnn.passes.dead import remove_dead
from graphnn.scan import Scan, scan
from ops.helpers import check_gradient, evaluate, gradient_program, trace

LENGTHS = (0, 1, 5)


def state_space(carries, slices, constants):
    """h = tanh(x + h @ u), n = n + 2: a step with a float and an integer carry, all constants used, two outputs."""
    (h, n), (x,), (u, scale) = carries, slices, constants
    new = tanh(x + h @ u)
    return (new, n + 2), (new * scale * n.cast("float64"), sigmoid(h))


def recurrence(reverse=False):
    def outputs(h, n, x, u, scale):
        last, steps = scan(state_space, (h, n), (x,), (u, scale), reverse=reverse)
        return (*last, *steps)

    return outputs


def arrays(length, seed=0):
    rng = np.random.default_rng(seed)
    shapes = ((2, 3), None, (length, 2, 3), (3, 3), (3,))
    return [np.array(1) if shape is None else 0.5 * rng.normal(size=shape) for shape in shapes]


def by_hand(reverse, h, n, x, u, scale):
    first, second = np.empty(x.shape), np.empty(x.shape)
    for t in range(len(x))[:: -1 if reverse else 1]:
        new = np.tanh(x[t] + h @ u)
        first[t], second[t] = new * scale * n, 1 / (1 + np.exp(-h))
        h, n = new, n + 2
    return h, n, first, second


def program_of_recurrence(length, reverse) -> Program:
    """All four outputs, also the integer carry."""
    builder = ProgramBuilder()
    inputs = [Tensor(builder, builder.input("", TensorSpec(x.shape, str(x.dtype)))) for x in arrays(length)]
    return verify(builder.build([y.value for y in recurrence(reverse)(*inputs)]))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", LENGTHS)
def test_value_is_that_of_a_loop(length, reverse):
    given = arrays(length)
    outputs = evaluate(program_of_recurrence(length, reverse), given)
    for actual, wanted in zip(outputs, by_hand(reverse, *given), strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=0, atol=1e-15)
        assert actual.dtype == np.asarray(wanted).dtype


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", LENGTHS)
def test_first_and_second_gradients_agree_with_differences(length, reverse):
    given = arrays(length)
    program = trace(lambda *x: recurrence(reverse)(*x), given)
    assert len(program.outputs) == 3
    check_gradient(program, given)
    rng = np.random.default_rng(1)
    cotangents = [rng.normal(size=value.spec.shape) for value in program.outputs]
    check_gradient(gradient_program(program), [*given, *cotangents])


def unrolled(h, x, u):
    """The same recurrence without scan."""
    for t in range(x.shape[0]):
        h = tanh(x.slice(0, t, t + 1).reshape(x.shape[1:]) + h @ u)
    return h


@pytest.mark.parametrize("length", [1, 5])
def test_gradients_are_those_of_the_unrolled_loop(length):
    h, _, x, u, _ = arrays(length)
    dy = np.random.default_rng(1).normal(size=h.shape)
    looped = trace(
        lambda h, x, u: scan(lambda c, s, k: ([tanh(s[0] + c[0] @ k[0])], []), [h], [x], [u])[0][0], [h, x, u]
    )
    flat = trace(unrolled, [h, x, u])
    pairs = zip(*(evaluate(gradient_program(p), [h, x, u, dy]) for p in (looped, flat)), strict=True)
    for actual, wanted in pairs:
        np.testing.assert_allclose(actual, wanted, rtol=0, atol=1e-14)


@pytest.mark.parametrize("length", LENGTHS)
def test_without_sequences_the_length_is_given(length):
    """Carries only, no step outputs, no constants."""
    x = np.array([0.3, -0.2])
    program = trace(lambda x: scan(lambda c, s, k: ([tanh(c[0] * 1.5)], []), [x], length=length)[0][0], [x])
    wanted = x
    for _ in range(length):
        wanted = np.tanh(1.5 * wanted)
    np.testing.assert_allclose(evaluate(program, [x])[0], wanted, rtol=0, atol=1e-15)
    check_gradient(program, [x])


@pytest.mark.parametrize("length", LENGTHS)
def test_a_scan_without_carries_maps(length):
    x = np.random.default_rng(0).normal(size=(length, 2))
    scale = np.array([2.0, -1.0])
    program = trace(lambda x, k: scan(lambda c, s, k: ([], [tanh(s[0]) * k[0]]), (), [x], [k])[1][0], [x, scale])
    np.testing.assert_allclose(evaluate(program, [x, scale])[0], np.tanh(x) * scale, rtol=0, atol=1e-15)
    check_gradient(program, [x, scale])


def test_outputs_may_be_inputs_of_the_body():
    """Carries that swap, a step output that is a carry, one that is a slice, twice the same value."""
    a, b, x = np.array([1.0, 2.0]), np.array([3.0, 5.0]), np.arange(6.0).reshape(3, 2)

    def swap(a, b, x):
        last, steps = scan(lambda c, s, k: ([c[1], c[0]], [c[0], s[0], c[0]]), [a, b], [x])
        return (*last, *steps)

    program = trace(swap, [a, b, x])
    outputs = evaluate(program, [a, b, x])
    for actual, wanted in zip(outputs, [b, a, [a, b, a], x, [a, b, a]], strict=True):
        np.testing.assert_array_equal(actual, wanted)
    check_gradient(program, [a, b, x])


def test_integer_sequences_and_constants_get_no_gradient():
    x, n, k = np.random.default_rng(0).normal(size=(4, 2)), np.arange(4), np.array(3)

    def weighted(x, n, k):
        return scan(
            lambda c, s, k: ([c[0] + s[0] * (s[1] * k[0]).cast("float64")], []), [x.fill(0, (2,))], [x, n], [k]
        )[0]

    program = trace(weighted, [x, n, k])
    np.testing.assert_allclose(evaluate(program, [x, n, k])[0], 3 * (n @ x))
    check_gradient(program, [x, n, k])


def cumulative(outer_reverse, inner_reverse):
    """A scan over rows whose body scans over columns."""

    def inner(row, total):
        last, steps = scan(
            lambda c, s, k: ([tanh(c[0] + s[0])], [c[0] * k[0]]), [total], [row], [total], None, inner_reverse
        )
        return last[0], steps[0]

    def outer(x, start):
        def body(carries, slices, constants):
            last, steps = inner(slices[0], carries[0])
            return [last], [steps, last]

        last, steps = scan(body, [start], [x], reverse=outer_reverse)
        return (*last, *steps)

    return outer


@pytest.mark.parametrize(("outer_reverse", "inner_reverse"), [(False, False), (True, False), (False, True)])
def test_scans_nest(outer_reverse, inner_reverse):
    rng = np.random.default_rng(0)
    x, start = rng.normal(size=(3, 4)), np.array(0.5)
    program = trace(cumulative(outer_reverse, inner_reverse), [x, start])
    last, steps = start, np.empty((3, 4))
    for i in range(3)[:: -1 if outer_reverse else 1]:
        first = last
        for j in range(4)[:: -1 if inner_reverse else 1]:
            steps[i, j] = last * first
            last = np.tanh(last + x[i, j])
    outputs = evaluate(program, [x, start])
    np.testing.assert_allclose(outputs[0], last, rtol=0, atol=1e-15)
    np.testing.assert_allclose(outputs[1], steps, rtol=0, atol=1e-15)
    check_gradient(program, [x, start])
    check_gradient(gradient_program(program), [x, start, *(rng.normal(size=y.spec.shape) for y in program.outputs)])


def scans(program: Program) -> list[Scan]:
    return [instruction.op for instruction in program.instructions if isinstance(instruction.op, Scan)]


@pytest.mark.parametrize("kept", [(0,), (2,), (3,), (0, 3), (0, 1, 2, 3)])
@pytest.mark.parametrize("length", LENGTHS)
def test_what_nobody_reads_is_removed_and_the_rest_stays_equal(length, kept):
    program, given = program_of_recurrence(length, reverse=False), arrays(length)
    wanted = evaluate(program, given)
    smaller = verify(
        remove_dead(Program(program.inputs, program.instructions, tuple(program.outputs[i] for i in kept)))
    )
    for actual, index in zip(evaluate(smaller, given), kept, strict=True):
        np.testing.assert_array_equal(actual, wanted[index])
    (op,) = scans(smaller)
    assert not op.keep_carries
    assert len(op.body.outputs) == 2 + sum(index >= 2 for index in kept)


@pytest.mark.parametrize("length", LENGTHS)
def test_removal_keeps_gradients_equal(length):
    program, given = trace(lambda *x: recurrence(False)(*x)[:1], arrays(length)), arrays(length)
    gradient = gradient_program(program)
    smaller = verify(remove_dead(gradient))
    given = [*given, np.random.default_rng(1).normal(size=(2, 3))]
    for actual, wanted in zip(evaluate(smaller, given), evaluate(gradient, given), strict=True):
        np.testing.assert_array_equal(actual, wanted)
    forward, backward = scans(smaller)
    assert (forward.keep_carries, len(forward.body.outputs)) == (True, 2)
    assert not backward.keep_carries
    assert sum(len(op.body.instructions) for op in scans(smaller)) < sum(
        len(op.body.instructions) for op in scans(gradient)
    )


def twice(c, s, k):
    return [tanh((s[0] + c[0] @ k[0]) @ k[0])], []


@pytest.mark.parametrize(("step", "carries"), [(lambda c, s, k: ([tanh(s[0] + c[0] @ k[0])], []), 1), (twice, 2)])
def test_a_weight_that_is_used_once_needs_no_running_sum(step, carries):
    h, _, x, u, _ = arrays(5)
    program = trace(lambda h, x, u: scan(step, [h], [x], [u])[0], [h, x, u])
    backward = scans(remove_dead(gradient_program(program)))[1]
    assert backward.n_carries == carries
    check_gradient(program, [h, x, u])
    check_gradient(gradient_program(program), [h, x, u, np.random.default_rng(1).normal(size=h.shape)])


def test_float32_stays_float32():
    given = [x.astype("float32") if x.dtype == "float64" else x for x in arrays(3)]

    def step(c, s, k):
        return [tanh(s[0] + c[0] @ k[0])], [c[0]]

    program = trace(lambda h, x, u: scan(step, [h], [x], [u])[0], [given[0], given[2], given[3]])
    gradient = gradient_program(program)
    values = evaluate(gradient, [given[0], given[2], given[3], given[0]])
    assert {x.dtype.name for x in values} == {"float32"}


def test_a_trimmed_scan_refuses_to_be_differentiated():
    smaller = remove_dead(program_of_recurrence(3, reverse=False))
    with pytest.raises(ShapeError, match="dropped its carries"):
        gradient_program(Program(smaller.inputs, smaller.instructions, smaller.outputs[:1]))


def test_named_lengths_are_inferred():
    builder = ProgramBuilder()
    time, batch = parse_size("2*time - 1"), parse_size("batch")
    x = Tensor(builder, builder.input("x", TensorSpec((time, batch, 3), "float32")))
    last, steps = scan(lambda c, s, k: ([c[0] + s[0]], [s[0].sum(1)]), [x.fill(0, (batch, 3))], [x])
    assert [str(y.spec) for y in (*last, *steps)] == ["float32[batch, 3]", f"float32[{time}, batch]"]


def test_the_body_may_read_tensors_from_outside():
    rng = np.random.default_rng(0)
    x, scale, w = rng.normal(size=(3, 2)), rng.normal(size=2), rng.normal(size=(2, 2))

    def both(x, scale, w):
        outside = tanh(scale)
        last, _ = scan(
            lambda c, s, k: ([tanh(c[0] @ w + s[0] * outside)], []), [x.slice(0, 0, 1)], [x.reshape((3, 1, 2))]
        )
        return last[0]

    program = trace(both, [x, scale, w])
    wanted = x[:1]
    for row in x:
        wanted = np.tanh(wanted @ w + row * np.tanh(scale))
    np.testing.assert_allclose(evaluate(program, [x, scale, w])[0], wanted, rtol=0, atol=1e-15)
    check_gradient(program, [x, scale, w])


def test_a_body_that_writes_outside_is_refused():
    x = np.ones((3, 2))
    with pytest.raises(GraphError, match="outside of the loop"):
        trace(lambda x: scan(lambda c, s, k: ([], [x.sum(0) + s[0]]), (), [x])[1][0], [x])


@pytest.mark.parametrize(
    ("message", "broken"),
    [
        ("needs a length", lambda x: scan(lambda c, s, k: (c, []), [x])),
        ("differ in length", lambda x: scan(lambda c, s, k: (c, []), [x], [x, x.slice(0, 0, 2)])),
        ("changes the spec of a carry", lambda x: scan(lambda c, s, k: ([c[0].sum(0)], []), [x], [x])),
        ("changes the number of carries", lambda x: scan(lambda c, s, k: ([], [c[0]]), [x], [x])),
        ("has no axis to loop over", lambda x: scan(lambda c, s, k: (c, []), [x], [x.sum()])),
    ],
)
def test_misfits_are_refused(message, broken):
    with pytest.raises(ShapeError, match=message):
        trace(lambda x: broken(x)[0][0], [np.ones((3, 2))])
