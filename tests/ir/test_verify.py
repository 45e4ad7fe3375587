"""Each invariant of a Program is broken once; the verifier must say which."""

from dataclasses import dataclass, replace

import pytest

from graphnn.errors import PassError, ShapeError
from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.program import Instruction, Kind, Origin, Program, Value
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ir.verify import instructions_within, verify
from graphnn.ops.arithmetic import Add
from graphnn.ops.elementwise import Tanh
from graphnn.ops.op import Op

SPEC = TensorSpec((2, 3))
OTHER = TensorSpec((3,))


@pytest.fixture
def program():
    """z = tanh(x) + w; w <- z."""
    builder = ProgramBuilder()
    x, w = builder.input("x", SPEC), builder.input("w", SPEC, Kind.PARAMETER)
    builder.origin = Origin("block/tanh")
    (y,) = builder.emit(Tanh(), [x])
    builder.origin = Origin("block/add")
    (z,) = builder.emit(Add(), [y, w])
    builder.update(w, z)
    return builder.build([z])


def with_instruction(program, index, **changes):
    instructions = list(program.instructions)
    instructions[index] = replace(instructions[index], **changes)
    return replace(program, instructions=tuple(instructions))


def intermediate(spec=SPEC):
    return Value("new", spec, Kind.INTERMEDIATE)


def test_a_good_program_comes_back_itself(program):
    assert verify(program) is program
    assert verify(Program((), (), ())).outputs == ()


BROKEN = {
    "an input stands twice": (
        lambda p: replace(p, inputs=(*p.inputs, p.inputs[0])),
        "is an intermediate, or stands twice",
    ),
    "an input is an intermediate": (
        lambda p: replace(p, inputs=(*p.inputs, intermediate())),
        "is an intermediate, or stands twice",
    ),
    "an input of an instruction is not defined": (
        lambda p: with_instruction(p, 1, inputs=(intermediate(), p.inputs[1])),
        "is used before it is defined",
    ),
    "instructions stand in the wrong order": (
        lambda p: replace(p, instructions=p.instructions[::-1]),
        "is used before it is defined",
    ),
    "an input of the program is not listed": (
        lambda p: replace(p, inputs=p.inputs[:1], updates=()),
        "is used before it is defined",
    ),
    "a value is defined twice": (
        lambda p: replace(p, instructions=(p.instructions[0], *p.instructions)),
        "is defined twice",
    ),
    "an instruction writes an input": (
        lambda p: with_instruction(p, 0, outputs=(p.inputs[0],)),
        "is defined twice, or is not an intermediate",
    ),
    "an instruction makes a parameter": (
        lambda p: with_instruction(p, 1, outputs=(Value("v", SPEC, Kind.PARAMETER),)),
        "is not an intermediate",
    ),
    "an output has another spec than the op gives": (
        lambda p: with_instruction(p, 1, outputs=(intermediate(OTHER),)),
        "output specs differ from the op's rule",
    ),
    "an instruction has another number of outputs": (
        lambda p: with_instruction(p, 1, outputs=(*p.instructions[1].outputs, intermediate())),
        "output specs differ from the op's rule",
    ),
    "an op refuses its inputs": (
        lambda p: replace(
            p,
            instructions=(
                *p.instructions,
                Instruction(Tanh(), (p.outputs[0],), (intermediate(SPEC.with_dtype("int32")),)),
            ),
        ),
        "output specs differ from the op's rule",
    ),
    "an op refuses the dtypes": (
        lambda p: with_instruction(
            replace(p, inputs=(*p.inputs, wrong := Value("i", SPEC.with_dtype("int32"), Kind.INPUT))),
            1,
            inputs=(p.instructions[0].outputs[0], wrong),
        ),
        "the op refuses its inputs",
    ),
    "a result is not defined": (lambda p: replace(p, outputs=(intermediate(),)), "is not defined"),
    "a new value of an update is not defined": (
        lambda p: replace(p, updates=((p.inputs[1], intermediate()),)),
        "is not defined",
    ),
    "a parameter is updated twice": (lambda p: replace(p, updates=p.updates * 2), "is updated twice"),
    "an input is updated": (
        lambda p: replace(p, updates=((p.inputs[0], p.outputs[0]),)),
        "which is no parameter or state of the program",
    ),
    "a parameter of another program is updated": (
        lambda p: replace(p, updates=((Value("v", SPEC, Kind.PARAMETER), p.outputs[0]),)),
        "which is no parameter or state of the program",
    ),
    "an update changes the spec": (
        lambda p: replace(
            p, inputs=(*p.inputs, state := Value("s", OTHER, Kind.STATE)), updates=((state, p.outputs[0]),)
        ),
        "an update changes its spec",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_invariant_is_found(program, name):
    breaker, message = BROKEN[name]
    with pytest.raises(PassError) as caught:
        verify(breaker(program))
    assert message in str(caught.value)
    verify(program)  # nothing was changed


def test_the_message_shows_the_place(program):
    broken = with_instruction(program, 1, inputs=(intermediate(), program.inputs[1]))
    with pytest.raises(PassError) as caught:
        verify(broken)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("block/add: input %new: float32[2, 3] is used before it is defined")
    around = [index for index, line in enumerate(lines) if "%2: " in line]
    assert lines[around[0]].startswith("       %2: float32[2, 3] = ")
    assert lines[around[0] + 1].startswith("    -> %3: float32[2, 3] = ")
    assert lines[around[0] + 1].endswith("(%new, %1)  # block/add")


@dataclass(frozen=True)
class Loop(Op):
    """An op with a body."""

    body: Program

    def infer(self, *specs):
        return specs

    def reference(self, xp, *arrays):
        return arrays


def loop_around(body: Program) -> Program:
    builder = ProgramBuilder()
    return builder.build(builder.emit(Loop(body), [builder.input("x", SPEC)]))


def test_bodies_are_verified(program):
    assert verify(loop_around(loop_around(program)))
    broken = with_instruction(program, 0, outputs=(intermediate(OTHER),))
    with pytest.raises(PassError):
        verify(loop_around(loop_around(broken)))


def test_the_rules_of_known_instructions_are_not_asked_again(program, monkeypatch):
    whole = loop_around(program)
    known = instructions_within(verify(whole))
    assert known == {*whole.instructions, *program.instructions}

    def refuse(op, *specs):
        raise ShapeError("asked")

    for op in (Tanh, Add, Loop):
        monkeypatch.setattr(op, "infer", refuse)
    assert verify(whole, known) is whole
    for instruction in program.instructions:
        with pytest.raises(PassError, match="asked"):
            verify(program, known - {instruction})


def test_the_wiring_of_known_instructions_is_verified(program):
    known = instructions_within(program)
    for instructions in (program.instructions[::-1], program.instructions[1:], program.instructions * 2):
        with pytest.raises(PassError):
            verify(replace(program, instructions=instructions), known)
