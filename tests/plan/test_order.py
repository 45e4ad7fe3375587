"""Orders: valid, never worse than the program's own, and a function of the program alone."""

from hypothesis import given, settings

from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.program import Kind, Program
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ir.text import to_text
from graphnn.ir.verify import verify
from graphnn.ops import absolute, ceil, cos, exp, floor, sigmoid, sin, tanh
from graphnn.ops.op import Tensor
from graphnn.plan import memory
from graphnn.plan.memory import make_plan
from graphnn.plan.order import order_for_memory, peak_bytes
from random_programs import programs

LINE = TensorSpec((16,))  # 64 bytes


def builder_with(*names, kind=Kind.INPUT):
    builder = ProgramBuilder()
    return builder, [Tensor(builder, builder.input(name, LINE, kind)) for name in names]


@settings(max_examples=100)
@given(programs())
def test_an_order_has_the_same_instructions_inputs_first_and_no_larger_peak(program):
    ordered = verify(order_for_memory(program))
    assert set(ordered.instructions) == set(program.instructions)
    assert (ordered.inputs, ordered.outputs, ordered.updates) == (program.inputs, program.outputs, program.updates)
    assert peak_bytes(ordered) <= peak_bytes(program)
    assert to_text(order_for_memory(program)) == to_text(ordered)


@settings(max_examples=100)
@given(programs())
def test_the_peak_is_that_of_the_plan(program):
    """The costs that orders are compared by are those that the plan will have."""
    order, memory.order_for_memory = memory.order_for_memory, lambda program: program
    try:
        assert make_plan(program).peak_bytes == peak_bytes(program)
    finally:
        memory.order_for_memory = order


def wide(n: int) -> Program:
    """n branches, all begun before the first is finished."""
    builder, (x,) = builder_with("x")
    branches = [exp(x * float(k)).reshape((1, 16)).broadcast_to((8, 16)) for k in range(n)]
    total = branches[0].sum()
    for branch in branches[1:]:
        total = total + branch.sum()
    return builder.build([total.value])


def test_branches_are_finished_one_by_one():
    assert peak_bytes(wide(12)) > 12 * 8 * 64
    assert peak_bytes(order_for_memory(wide(12))) < 3 * 8 * 64 + 12 * 64


def test_the_last_reader_of_a_large_value_comes_at_once():
    builder, (x,) = builder_with("x")
    large = x.reshape((1, 16)).broadcast_to((8, 16))
    first = large.sum(0)
    others = [op(first) for op in (exp, tanh, sin, cos, absolute, floor, ceil, sigmoid)]
    total = large.max(0)
    for other in others:
        total = total + other
    program = builder.build([total.sum().value])
    assert peak_bytes(program) > (8 + 6) * 64
    assert peak_bytes(order_for_memory(program)) < (8 + 3) * 64


def test_a_parameter_is_replaced_as_soon_as_nobody_reads_the_old_one():
    """The gradients of p, q and r need no place at the same time, although the updates stand at the end."""
    builder, tensors = builder_with("p", "q", "r", kind=Kind.PARAMETER)
    gradients = [(p * p).transpose((0,)) for p in tensors]
    for p, gradient in zip(tensors, gradients, strict=True):
        builder.update(p.value, (p - gradient).value)
    program = builder.build([])
    assert peak_bytes(program) == 4 * 64
    assert peak_bytes(order_for_memory(program)) == 2 * 64


def test_a_parameter_that_is_still_read_waits():
    """Writing the new p at once would save nothing: the old one is read once more, so both would be alive."""
    builder, (p, x) = builder_with("p", "x", kind=Kind.PARAMETER)
    builder.update(p.value, (p - x).value)
    program = builder.build([tanh((p * x).transpose((0,))).value])
    plan = make_plan(program)
    assert [step.op.name for step in plan.steps][-1] in {"subtract", "tanh"}
    assert all(plan.buffers[new].shares == old for old, new in plan.updates)
