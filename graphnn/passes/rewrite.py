"""rebuild: a new Program from an old one, instruction by instruction."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.program import Instruction, Program, Value
from graphnn.ops.op import Op

Visit = Callable[[ProgramBuilder, Instruction, tuple[Value, ...]], Sequence[Value] | None]


def rebuild(program: Program, visit: Visit) -> Program:
    """Copy `program`; where `visit` returns values, they stand for the instruction's outputs.

    Args:
        program: stays as it is.
        visit: (builder, instruction, its inputs in the new program) -> replacement outputs, or None to keep it.
    """
    builder = ProgramBuilder()
    builder.inputs = list(program.inputs)
    table: dict[Value, Value] = {value: value for value in program.inputs}
    for instruction in program.instructions:
        inputs = tuple(table[value] for value in instruction.inputs)
        builder.origin = instruction.origin
        outputs = visit(builder, instruction, inputs)
        if outputs is None:
            outputs = keep(builder, instruction, inputs)
        table.update(zip(instruction.outputs, outputs, strict=True))
    builder.updates = [(old, table[new]) for old, new in program.updates]
    return builder.build([table[value] for value in program.outputs])


def keep(builder: ProgramBuilder, instruction: Instruction, inputs: tuple[Value, ...]) -> tuple[Value, ...]:
    """The same instruction; its output values are reused, so that results can be found again after a pass."""
    if inputs != instruction.inputs:
        instruction = Instruction(instruction.op, inputs, instruction.outputs, instruction.origin)
    builder.instructions.append(instruction)
    return instruction.outputs


def append(builder: ProgramBuilder, op: Op, *inputs: Value) -> Value:
    """The output of one more instruction."""
    return builder.emit(op, inputs)[0]
