"""Planned execution equals the plain interpreter bit for bit, in an arena hardly larger than what is alive at once."""

import numpy as np
import pytest
from hypothesis import given, settings

from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.program import Kind, Program
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops import tanh
from graphnn.ops.evaluate import evaluate
from graphnn.ops.op import Tensor, emit
from graphnn.passes.pipeline import run_passes
from graphnn.plan import memory
from graphnn.plan.memory import make_plan
from graphnn.plan.plan import ALIGNMENT, Plan
from graphnn.tiled import Tiled
from module_cases import REALISTIC, SMALL, forward_program, module_programs, numbers_for, training_program
from random_programs import arrays_for, programs, run_in_junk

LARGE = (0, 16, 32, 48, 64)
SMALL_PROGRAMS = dict(module_programs(SMALL))
PLANS = {f"{name}{suffix}": make_plan(p(q)) for name, q in module_programs(REALISTIC) for suffix, p in
         (("", run_passes), ("-unsimplified", lambda program: program))}  # fmt: skip


def interpreted(program: Program, arrays) -> list[np.ndarray]:
    """Outputs and new values of parameters and states by the plain interpreter."""
    values = evaluate(np, program, [array.copy() for array in arrays])
    return [values[value] for value in program.outputs] + [values[new] for _, new in program.updates]


def assert_same_bytes(some, others):
    assert [(a.dtype, a.shape) for a in some] == [(b.dtype, b.shape) for b in others]
    assert [a.tobytes() for a in some] == [b.tobytes() for b in others]


def groups_of(plan: Plan) -> list[list[int]]:
    """Numbers of the buffers that are one piece of memory."""
    groups: dict[int, list[int]] = {}
    for number, buffer in enumerate(plan.buffers):
        root = number
        while plan.buffers[root].shares is not None:
            root = plan.buffers[root].shares
        groups.setdefault(root, []).append(number)
        assert buffer.spec.nbytes == plan.buffers[root].spec.nbytes
        assert buffer.offset == plan.buffers[root].offset
    return list(groups.values())


def lifetimes(plan: Plan) -> list[tuple[int, int]]:
    """(first, last) step at which the value of each buffer is needed; read off the steps alone."""
    end = len(plan.steps)
    first, last = [-1] * len(plan.buffers), [-1] * len(plan.buffers)
    for index, step in enumerate(plan.steps):
        for number in step.outputs:
            first[number] = last[number] = index
        for number in step.inputs:
            last[number] = index
    for number in (*range(len(plan.inputs)), *plan.outputs, *(new for _, new in plan.updates)):
        last[number] = end
    return list(zip(first, last, strict=True))


def most_alive_at_once(plan: Plan, rounding: int = 1) -> int:
    """Bytes of the arena's values alive at the worst step, each rounded up to a multiple; counted step by step."""
    alive, spans = [0] * (len(plan.steps) + 1), lifetimes(plan)
    for group in groups_of(plan):
        if plan.buffers[group[0]].offset is not None:
            nbytes = -(-plan.buffers[group[0]].spec.nbytes // rounding) * rounding
            for index in range(min(spans[n][0] for n in group), max(spans[n][1] for n in group) + 1):
                alive[index] += nbytes
    return max(alive)


def check_places(plan: Plan) -> None:
    """No two pieces of memory overlap while both are alive; within one, a value is overwritten only when it is dead."""
    spans, groups = lifetimes(plan), groups_of(plan)
    pieces = []
    for group in groups:
        offset, nbytes = plan.buffers[group[0]].offset, plan.buffers[group[0]].spec.nbytes
        if offset is not None and nbytes:
            assert offset % ALIGNMENT == 0
            assert offset + nbytes <= plan.arena_bytes
            pieces.append((offset, offset + nbytes, min(spans[n][0] for n in group), max(spans[n][1] for n in group)))
    for index, (start, end, first, last) in enumerate(pieces):
        for other_start, other_end, other_first, other_last in pieces[:index]:
            assert end <= other_start or other_end <= start or last < other_first or other_last < first
    read = [max((i for i, step in enumerate(plan.steps) if n in step.inputs), default=-1) for n in range(len(spans))]
    writer = {number: index for index, step in enumerate(plan.steps) for number in step.outputs}
    for group in groups:
        for number in group[1:]:
            index = writer[number]
            earlier = [n for n in group if spans[n][0] < index]
            if not plan.steps[index].op.is_view:  # writes over them
                assert all(read[n] <= index for n in earlier)
                assert plan.steps[index].op.may_write_input or all(read[n] < index for n in earlier)
                assert all(plan.buffers[n].spec == plan.buffers[number].spec for n in earlier if read[n] == index)


@settings(max_examples=100)
@given(programs())
def test_a_plan_gives_the_bytes_of_the_interpreter(program):
    arrays = arrays_for(program)
    assert_same_bytes(run_in_junk(make_plan(program), arrays), interpreted(program, arrays))


@settings(max_examples=100)
@given(programs())
def test_rewritten_and_planned_gives_the_same_numbers(program):
    """Up to the sign of zero, and of NaN."""
    arrays = arrays_for(program)
    with np.errstate(all="ignore"):
        pairs = zip(run_in_junk(make_plan(run_passes(program)), arrays), interpreted(program, arrays), strict=True)
        for actual, wanted in pairs:
            np.testing.assert_array_equal(actual, wanted)


@settings(max_examples=100)
@given(programs())
def test_buffers_overlap_only_where_they_share(program):
    check_places(make_plan(program))


@settings(max_examples=100)
@given(programs(sizes=LARGE))
def test_the_arena_is_hardly_larger_than_what_is_alive_at_once(program):
    plan = make_plan(program)
    needed = most_alive_at_once(plan, ALIGNMENT)
    assert plan.peak_bytes == needed
    assert needed <= plan.arena_bytes <= 1.05 * needed


@settings(max_examples=100)
@given(programs(sizes=LARGE))
def test_the_chosen_order_never_costs_memory(program):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "order_for_memory", lambda program: program)
        as_it_stands = make_plan(program)
    assert make_plan(program).arena_bytes <= as_it_stands.arena_bytes


@pytest.mark.parametrize("name", SMALL_PROGRAMS)
def test_modules_give_the_bytes_of_the_interpreter(name):
    program = SMALL_PROGRAMS[name]
    arrays = numbers_for(program)
    assert_same_bytes(run_in_junk(make_plan(program), arrays), interpreted(program, arrays))
    simple = run_passes(program)
    assert len(simple.instructions) <= len(program.instructions)
    for actual, wanted in zip(run_in_junk(make_plan(simple), arrays), interpreted(program, arrays), strict=True):
        np.testing.assert_array_equal(actual, wanted)


@pytest.mark.parametrize("name", PLANS)
def test_arenas_of_modules_of_realistic_size(name):
    plan = PLANS[name]
    needed = most_alive_at_once(plan)
    print(f"{name}: {plan.arena_bytes / 2**20:.3f} MiB for {needed / 2**20:.3f} MiB alive")
    assert 2**19 < needed <= plan.arena_bytes <= 1.05 * needed
    check_places(plan)


def test_training_takes_the_arena_of_the_backward_not_of_the_updates():
    """New parameters are written straight into the old ones, and each gradient goes as soon as it is used."""
    plan = make_plan(run_passes(training_program(SMALL[1])))
    assert plan.updates
    kinds = {plan.inputs[old].kind for old, new in plan.updates if plan.buffers[new].shares == old}
    assert kinds == {Kind.PARAMETER, Kind.STATE}
    assert all(plan.buffers[new].shares == old for old, new in plan.updates)


def test_views_and_elementwise_results_take_no_new_memory():
    builder = ProgramBuilder()
    x = Tensor(builder, builder.input("x", TensorSpec((16, 16))))
    y = tanh(tanh(tanh(x + x).reshape((256,)))).reshape((8, 32))
    plan = make_plan(builder.build([y.sum().value]))
    assert plan.arena_bytes == 16 * 16 * 4
    assert len({b.offset for b in plan.buffers if b.offset is not None}) == 1


def test_what_an_op_also_reads_through_a_view_is_not_overwritten():
    """Each tile replaces its own part of v, which is safe but for w: a view of all of it."""
    body = ProgramBuilder()
    part, whole = (Tensor(body, body.input(name, TensorSpec(shape))) for name, shape in (("v", (2, 6)), ("w", (6, 8))))
    loop = Tiled(body.build([(part * whole.slice(0, 4, 6).slice(1, 2, 8)).value]), 4, (0, None), (0,))
    for with_view in (False, True):
        builder = ProgramBuilder()
        v, other = (Tensor(builder, builder.input(name, TensorSpec((8, 6)))) for name in "xy")
        v = tanh(v)
        y = emit(loop, [v, v.reshape((6, 8)) if with_view else other.reshape((6, 8))])[0]
        plan = make_plan(builder.build([y.sum().value]))
        (step,) = (step for step in plan.steps if step.op is loop)
        roots = {number: group[0] for group in groups_of(plan) for number in group}
        assert (roots[step.outputs[0]] == roots[step.inputs[0]]) is not with_view


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_a_plan_is_a_function_of_the_program(case):
    first, second = (make_plan(forward_program(case, True)) for _ in range(2))
    assert [(b.offset, b.shares) for b in first.buffers] == [(b.offset, b.shares) for b in second.buffers]
    assert [(s.inputs, s.outputs) for s in first.steps] == [(s.inputs, s.outputs) for s in second.steps]


def swap(updates, outputs=()):
    """A program with two parameters a, b and c = a + b whose updates are `updates`, by name."""
    builder = ProgramBuilder()
    a, b = (Tensor(builder, builder.input(name, TensorSpec((3,)), Kind.PARAMETER)) for name in "ab")
    named = {"a": a, "b": b, "c": a + b, "d": a * b}
    for old, new in updates:
        builder.update(named[old].value, named[new].value)
    return builder.build([named[name].value for name in outputs])


@pytest.mark.parametrize(
    ("updates", "outputs"),
    [
        ([("a", "b"), ("b", "a")], "ab"),
        ([("a", "b"), ("b", "c")], "ca"),
        ([("a", "c"), ("b", "c")], ""),
        ([("a", "c"), ("b", "c")], "cca"),
        ([("a", "c"), ("b", "d")], ""),
        ([("a", "d"), ("b", "c")], "dc"),
        ([("a", "a")], "a"),
        ([("a", "c")], "a"),
        ([("a", "c"), ("b", "a")], ""),
        ([("b", "d"), ("a", "b")], "b"),
    ],
)
def test_updates_read_old_values_and_outputs_are_of_before(updates, outputs):
    program = swap(updates, outputs)
    arrays = arrays_for(program)
    assert_same_bytes(run_in_junk(make_plan(program), arrays), interpreted(program, arrays))
