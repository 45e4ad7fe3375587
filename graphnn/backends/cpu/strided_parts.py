"""read_in_place: parts of an array whose rows lie apart, read where they are instead of copied.

A kernel of a matrix product takes operands of any strides. So it is told that it reads the first columns of the whole
array, and given the address of its part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from graphnn.ir.program import Instruction, Kind, Program, Value
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops.fused import Fused
from graphnn.ops.linalg import MatMul
from graphnn.ops.op import Op
from graphnn.ops.shape import Slice


def read_in_place(
    body: Program, position: int, whole: TensorSpec, supported: Callable[[Instruction], bool]
) -> Program | None:
    """The body with an input that is a part in the beginning of `whole`, its shape at most that in every axis.

    Args:
        body: of a loop over tiles.
        position: of the input.
        whole: the spec that the input shall have instead.
        supported: whether there is a kernel for an instruction.

    Returns:
        None where somebody else than products reads the input, or a product cannot.
    """
    part = body.inputs[position]
    new = replace(part, spec=whole)
    if part in body.outputs:
        return None
    instructions: list[Instruction] = []
    for instruction in body.instructions:
        if part in instruction.inputs:
            changed = _reading(instruction, part, new)
            if changed is None or not supported(changed):
                return None
            instruction = changed
        instructions.append(instruction)
    inputs = (*body.inputs[:position], new, *body.inputs[position + 1 :])
    return replace(body, inputs=inputs, instructions=tuple(instructions))


def _reading(instruction: Instruction, part: Value, whole: Value) -> Instruction | None:
    """The instruction with the part cut out of the whole inside of its group."""
    group = _as_group(instruction)
    if group is None:
        return None
    inside, table, cuts = list(group.body.inputs), dict[Value, Value](), list[Instruction]()
    for place, value in enumerate(instruction.inputs):
        if value is part:
            old = inside[place]
            inside[place] = replace(old, spec=whole.spec)
            table[old] = replace(old, kind=Kind.INTERMEDIATE)
            cuts.append(Instruction(_beginning(part.spec), (inside[place],), (table[old],), instruction.origin))
    moved = [replace(i, inputs=tuple(table.get(v, v) for v in i.inputs)) for i in group.body.instructions]
    body = replace(group.body, inputs=tuple(inside), instructions=(*cuts, *moved))
    given = tuple(whole if value is part else value for value in instruction.inputs)
    return replace(instruction, op=replace(group, body=body), inputs=given)


def _as_group(instruction: Instruction) -> Fused | None:
    """The group that an instruction is; a product by itself becomes one."""
    if isinstance(instruction.op, Fused):
        return instruction.op
    if not isinstance(instruction.op, MatMul):
        return None
    inputs = tuple(replace(value, kind=Kind.INPUT) for value in instruction.inputs)
    outputs = tuple(replace(value, kind=Kind.INTERMEDIATE) for value in instruction.outputs)
    return Fused(Program(inputs, (replace(instruction, inputs=inputs, outputs=outputs),), outputs))


def _beginning(part: TensorSpec) -> Op:
    return Slice((0,) * part.rank, part.shape, (1,) * part.rank)
