"""run_passes: a Program is verified after each pass, and a broken pass is named."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given

from graphnn.errors import PassError
from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.program import Instruction, Kind, Program, Value
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ir.text import to_text
from graphnn.ops import exp, tanh
from graphnn.ops.elementwise import Exp
from graphnn.ops.evaluate import evaluate
from graphnn.ops.op import Tensor
from graphnn.passes.dead import remove_dead
from graphnn.passes.pipeline import STANDARD_PASSES, run_passes
from graphnn.passes.rewrite import rebuild
from graphnn.passes.simplify import simplify
from module_cases import SMALL, module_programs, numbers_for
from random_programs import programs


def small_program() -> Program:
    builder = ProgramBuilder()
    x = Tensor(builder, builder.input("x", TensorSpec((2, 3))))
    p = Tensor(builder, builder.input("p", TensorSpec((3,)), Kind.PARAMETER))
    y = tanh(exp(x + p))
    builder.update(p.value, y.sum(0).value)
    return builder.build([y.value])


def first_and_last_exchanged(program: Program) -> Program:
    return replace(program, instructions=program.instructions[::-1])


def an_instruction_twice(program: Program) -> Program:
    return replace(program, instructions=(*program.instructions, program.instructions[-1]))


def an_instruction_lost(program: Program) -> Program:
    return replace(program, instructions=program.instructions[:-1])


def an_input_lost(program: Program) -> Program:
    return replace(program, inputs=program.inputs[1:])


def an_input_twice(program: Program) -> Program:
    return replace(program, inputs=(*program.inputs, program.inputs[0]))


def a_wrong_spec(program: Program) -> Program:
    *others, last = program.instructions
    wrong = Value("wrong", TensorSpec((7,)), Kind.INTERMEDIATE)
    return replace(program, instructions=(*others, Instruction(last.op, last.inputs, (wrong,))), updates=())


def a_wrong_kind(program: Program) -> Program:
    value = Value("wrong", TensorSpec((2, 3)), Kind.STATE)
    return replace(program, instructions=(*program.instructions, Instruction(Exp(), program.outputs, (value,))))


def a_refused_input(program: Program) -> Program:
    whole = Value("whole", TensorSpec((2,), "int32"), Kind.INPUT)
    made = Value("made", TensorSpec((2,), "int32"), Kind.INTERMEDIATE)
    return Program((whole,), (Instruction(Exp(), (whole,), (made,)),), (made,))


def an_update_of_an_input(program: Program) -> Program:
    return replace(program, updates=((program.inputs[0], program.outputs[0]),))


def an_update_twice(program: Program) -> Program:
    return replace(program, updates=program.updates * 2)


def an_update_of_another_shape(program: Program) -> Program:
    return replace(program, updates=((program.inputs[1], program.outputs[0]),))


def an_unknown_output(program: Program) -> Program:
    return replace(program, outputs=(Value("nowhere", TensorSpec(()), Kind.INTERMEDIATE),))


BROKEN = {
    first_and_last_exchanged: "used before it is defined",
    an_instruction_twice: "defined twice",
    an_instruction_lost: "not defined",
    an_input_lost: "used before it is defined",
    an_input_twice: "stands twice",
    a_wrong_spec: "output specs differ",
    a_wrong_kind: "not an intermediate",
    a_refused_input: "refuses its inputs",
    an_update_of_an_input: "no parameter or state",
    an_update_twice: "updated twice",
    an_update_of_another_shape: "changes its spec",
    an_unknown_output: "not defined",
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_a_broken_pass_is_named(broken):
    with pytest.raises(PassError, match=BROKEN[broken]) as caught:
        run_passes(small_program(), (remove_dead, simplify, broken, remove_dead))
    assert f"after pass {broken.__name__} (before it: remove_dead, simplify)" in str(caught.value)


def test_what_was_expected_and_got_is_told():
    with pytest.raises(PassError) as caught:
        run_passes(small_program(), [a_wrong_spec])
    assert caught.value.expected == "(TensorSpec(shape=(3,), dtype='float32'),)"
    assert "->" in str(caught.value)  # the instruction, with those around it


def test_a_pass_without_a_name_is_told_by_its_text():
    with pytest.raises(PassError, match="an_input_twice"):
        run_passes(small_program(), [partial(an_input_twice)])


def test_a_program_that_is_broken_before_all_passes_is_refused():
    with pytest.raises(PassError, match="not defined") as caught:
        run_passes(an_unknown_output(small_program()))
    assert "after pass" not in str(caught.value)


def test_each_pass_is_reported_with_its_result():
    seen = []
    result = run_passes(small_program(), on_pass=lambda name, program: seen.append((name, program)))
    assert [name for name, _ in seen] == [rewrite.__name__ for rewrite in STANDARD_PASSES]
    assert seen[-1][1] is result


@given(programs())
def test_rebuild_that_keeps_all_gives_the_same_text(program):
    copy = rebuild(program, lambda builder, instruction, inputs: None)
    assert copy is not program
    assert to_text(copy) == to_text(program)


@given(programs())
def test_passes_leave_the_program_they_get_and_settle(program):
    before = to_text(program)
    once = run_passes(program)
    assert to_text(program) == before
    assert once.inputs == program.inputs
    assert [value.spec for value in once.results] == [value.spec for value in program.results]
    assert len(run_passes(once).instructions) <= len(once.instructions) <= len(program.instructions)


@pytest.mark.parametrize("program", [pytest.param(program, id=name) for name, program in module_programs(SMALL)])
def test_modules_keep_their_numbers(program):
    rewritten, arrays = run_passes(program), numbers_for(program)
    found, wanted = evaluate(np, rewritten, arrays), evaluate(np, program, arrays)
    for actual, expected in zip(rewritten.results, program.results, strict=True):
        np.testing.assert_array_equal(found[actual], wanted[expected])
