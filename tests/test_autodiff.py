"""Gradients: their numbers against differences, the order of the backward instructions, and which nodes have any."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings

from graphnn import autodiff
from graphnn.autodiff import append_gradients, differentiate
from graphnn.errors import GradientError
from graphnn.graph.lower import lower
from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.program import Instruction, Kind, Origin, Phase, Program
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ir.verify import verify
from graphnn.ops import exp, matmul, sin, stop_gradient, tanh, top_k
from graphnn.ops.evaluate import evaluate
from graphnn.ops.op import Tensor
from graphnn.passes.pipeline import run_passes
from ops.helpers import check_gradient, gradient_program
from random_graphs import graphs, leaves_that_a_gradient_visits
from random_programs import arrays_for, programs

SMOOTH = programs(max_instructions=12, sizes=(0, 1, 2, 3), dtype="float64", smooth=True)


def small_arrays(program, scale=0.4):
    return [scale * array for array in arrays_for(program)]


def moderate(program, arrays):
    """Differences of numbers far above 1 say nothing about gradients."""
    values = evaluate(np, program, arrays).values()
    return all(np.isfinite(v).all() and np.abs(v).max(initial=0) < 30 for v in values)


@settings(max_examples=60)
@given(SMOOTH)
def test_first_gradients_agree_with_differences(program):
    program = replace(program, updates=())
    arrays = small_arrays(program)
    assume(program.outputs and moderate(program, arrays))
    check_gradient(program, arrays)


@settings(max_examples=40)
@given(programs(max_instructions=7, sizes=(1, 2, 3), dtype="float64", smooth=True))
def test_second_gradients_agree_with_differences(program):
    program = replace(program, updates=())
    arrays = small_arrays(program)
    assume(program.outputs and moderate(program, arrays))
    rng = np.random.default_rng(1)
    cotangents = [rng.normal(size=value.spec.shape) for value in program.outputs]
    check_gradient(gradient_program(program), [*arrays, *cotangents])


@given(SMOOTH)
def test_passes_keep_gradients(program):
    program = replace(program, updates=())
    arrays = small_arrays(program)
    both = differentiate(program, program.inputs)
    given_arrays = [*arrays, *(np.ones(value.spec.shape) for value in program.outputs)]
    rewritten = run_passes(both)
    assert len(rewritten.instructions) <= len(both.instructions)
    with np.errstate(all="ignore"):
        found, wanted = evaluate(np, rewritten, given_arrays), evaluate(np, both, given_arrays)
    for actual, expected in zip(rewritten.outputs, both.outputs, strict=True):
        np.testing.assert_array_equal(found[actual], wanted[expected])


def with_paths(program: Program) -> Program:
    """Each instruction comes from a node of its own."""
    instructions = [
        Instruction(i.op, i.inputs, i.outputs, Origin(f"n{index}")) for index, i in enumerate(program.instructions)
    ]
    return replace(program, instructions=tuple(instructions), updates=())


@given(programs())
def test_backward_instructions_stand_in_the_reverse_order_of_their_forward_ones(program):
    program = with_paths(program)
    outputs = [value for value in program.outputs if value.spec.is_float]
    both = verify(differentiate(program, program.inputs, outputs))
    count = len(program.instructions)
    assert both.instructions[:count] == program.instructions
    backward = [i for i in both.instructions[count:] if i.origin.path]  # the rest adds up seeds and fills in zeros
    assert all(i.origin.phase is Phase.BACKWARD for i in backward)
    numbers = [int(i.origin.path.removeprefix("n")) for i in backward]
    assert numbers == sorted(numbers, reverse=True)


def tensors(*specs, kind=Kind.INPUT):
    builder = ProgramBuilder()
    return builder, [Tensor(builder, builder.input(f"x{i}", spec, kind)) for i, spec in enumerate(specs)]


def test_contributions_of_all_users_are_added():
    builder, (x,) = tensors(TensorSpec((3,), "float64"))
    total = tanh(x) + sin(x) * x + x  # x has four users, one of them twice
    array = np.array([0.3, -1.0, 2.0])
    program = differentiate(builder.build([total.value]), [x.value])
    gradient = evaluate(np, program, [array, np.ones(3)])[program.outputs[1]]
    wanted = 1 - np.tanh(array) ** 2 + np.cos(array) * array + np.sin(array) + 1
    np.testing.assert_allclose(gradient, wanted, rtol=1e-15)


def test_an_output_that_stands_twice_and_one_inside_of_another_add_up():
    builder, (x,) = tensors(TensorSpec((), "float64"))
    y = x * 3.0
    program = differentiate(builder.build([y.value, y.value, (y * y).value]), [x.value])
    gradient = evaluate(np, program, [np.array(2.0), *map(np.array, (1.0, 10.0, 100.0))])[program.outputs[-1]]
    assert gradient == 3.0 * (1 + 10) + 100 * 2 * 6.0 * 3.0


def test_what_no_gradient_reaches_gets_zeros():
    builder, (x, unused, flat) = tensors(*[TensorSpec((2, 3), "float64")] * 3)
    y = x + stop_gradient(flat) * 2.0 + (flat > 0.0).cast("float64")
    program = differentiate(builder.build([y.value]), [x.value, unused.value, flat.value])
    values = evaluate(np, program, [np.ones((2, 3))] * 4)
    assert [values[v].tolist() for v in program.outputs[1:]] == [
        np.ones((2, 3)).tolist(),
        *[np.zeros((2, 3)).tolist()] * 2,
    ]
    assert [v.spec for v in program.outputs[1:]] == [TensorSpec((2, 3), "float64")] * 3


def test_integers_take_no_part():
    """A way that leads through an integer carries nothing, and no instruction is spent on it."""
    builder, (x,) = tensors(TensorSpec((5,), "float64"))
    values, indices = top_k(x, 2)
    y = values.sum() + (indices.cast("float64") * x.sum()).sum()
    seeds = {y.value: y.fill(1.0, ())}
    count = len(builder.instructions)
    found = append_gradients(builder, seeds, [x.value])
    assert all(value.spec.is_float for value in found)
    assert all(v.spec.is_float or v is indices.value for i in builder.instructions[count:] for v in i.inputs)
    program = builder.build([found[x.value].value])
    array = np.array([3.0, 1.0, 5.0, 2.0, 4.0])
    gradient = evaluate(np, program, [array])[program.outputs[0]]
    np.testing.assert_array_equal(gradient, np.array([0, 0, 1, 0, 1.0]) + (2 + 4))


def test_an_integer_output_has_no_gradient():
    builder, (x,) = tensors(TensorSpec((5,)))
    with pytest.raises(GradientError, match="floating-point") as caught:
        differentiate(builder.build([top_k(x, 2)[1].value]), [x.value])
    assert "int" in caught.value.got


def test_only_what_leads_to_wrt_is_computed():
    """The gradient by the second matrix needs no product with the first one's transpose."""
    builder, (x, a, b) = tensors(*[TensorSpec((4, 4))] * 3)
    y = matmul(tanh(matmul(x, a)), b)
    count = len(builder.instructions)
    found = append_gradients(builder, {y.value: y.fill(1.0, y.shape)}, [b.value])
    assert set(found) == {y.value, b.value}
    assert all(a.value not in i.inputs for i in builder.instructions[count:])


def test_limit_leaves_later_instructions_alone():
    builder, (x,) = tensors(TensorSpec((), "float64"))
    y = exp(x)
    count = len(builder.instructions)
    later = y * y
    found = append_gradients(builder, {y.value: y.fill(1.0, ()), later.value: y.fill(5.0, ())}, [x.value], count)
    program = builder.build([found[x.value].value])
    assert evaluate(np, program, [np.array(0.0)])[program.outputs[0]] == 1.0


def test_a_gradient_penalty_trains():
    """d/dw of (|dy/dx| - 1)**2: a gradient inside of a loss, as in WGAN-GP; exact against the formula by hand."""
    builder, (x, w) = tensors(TensorSpec((3,), "float64"), TensorSpec((3,), "float64"))
    y = tanh(x * w).sum()
    inner = append_gradients(builder, {y.value: y.fill(1.0, ())}, [x.value])[x.value]
    penalty = ((inner * inner).sum() - 1.0) * ((inner * inner).sum() - 1.0)
    check_gradient(builder.build([penalty.value]), [np.array([0.5, -1.0, 0.2]), np.array([1.0, 0.3, -0.7])])


@settings(max_examples=60)
@given(graphs())
def test_exactly_the_scheduled_nodes_are_visited_in_reverse_order(graph):
    specs = {node.name: node.spec.bind({"batch": 2}) for node in graph.inputs}
    lowered = lower(graph, specs, training=True)
    visited: list[str] = []
    accumulate = autodiff._accumulate

    def record(builder, instruction, active, cotangents):
        visited.append(instruction.origin.path)
        accumulate(builder, instruction, active, cotangents)

    seeds = {t.value: t.fill(1.0, t.shape) for t in lowered.outputs if t.spec.is_float}
    count = len(lowered.builder.instructions)
    parameters = [value for value in lowered.context.values.values() if value.kind is Kind.PARAMETER]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(autodiff, "_accumulate", record)
        append_gradients(lowered.builder, seeds, [*(t.value for t in lowered.inputs.values()), *parameters])
    leaves = list(dict.fromkeys(visited))
    lowered_to = {i.origin.path for i in lowered.builder.instructions[:count]}  # Add of one input does nothing
    assert leaves == [path for path in leaves_that_a_gradient_visits(graph)[::-1] if path in lowered_to]
    busy = {path.split("/")[0] for path in lowered_to}
    scheduled = [node.name for node in graph.backward_schedule() if node.name in busy]
    assert list(dict.fromkeys(path.split("/")[0] for path in leaves)) == scheduled
    backward = [i for i in lowered.builder.instructions[count:] if i.origin.phase is Phase.BACKWARD]
    assert {i.origin.path for i in backward} <= set(leaves)
