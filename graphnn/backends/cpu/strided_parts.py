"""in_place: parts of an array whose rows lie apart, read and written where they are instead of copied.

A kernel of a matrix product takes operands of any strides. So it is told that it reads the first columns of the whole
array, or writes these, and given the address of its part.
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
from graphnn.passes.fuse import contraction_of


def in_place(body: Program, part: Value, whole: TensorSpec, supported: Callable[[Instruction], bool]) -> Program | None:
    """The body with an input or an output that is a part in the beginning of `whole`.

    Args:
        body: of a loop over tiles.
        part: an input of it, or a value that it makes; its shape is at most that of the whole in every axis.
        whole: the spec that the value shall have instead.
        supported: whether there is a kernel for an instruction. One whose output is larger than what its group makes
            writes the beginning of it, and leaves the rest as it is.

    Returns:
        None where somebody else than products reads or makes it, or a product cannot.
    """
    if part in body.inputs and part in body.outputs:
        return None
    new = replace(part, spec=whole)
    instructions: list[Instruction] = []
    for instruction in body.instructions:
        changed: Instruction | None = instruction
        if part in instruction.inputs:
            changed = _reading(instruction, part, new)
        if changed is not None and part in instruction.outputs:
            changed = _writing(changed, part, new)
        if changed is None or (changed is not instruction and not supported(changed)):
            return None
        instructions.append(changed)
    inputs, outputs = (_replaced(values, part, new) for values in (body.inputs, body.outputs))
    return replace(body, inputs=inputs, outputs=outputs, instructions=tuple(instructions))


def _replaced(values: tuple[Value, ...], part: Value, whole: Value) -> tuple[Value, ...]:
    return tuple(whole if value is part else value for value in values)


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
    return replace(instruction, op=replace(group, body=body), inputs=_replaced(instruction.inputs, part, whole))


def _writing(instruction: Instruction, part: Value, whole: Value) -> Instruction | None:
    """The instruction with the whole as its output: its group still makes the part."""
    group = _as_group(instruction)
    product = contraction_of(group.body) if group is not None else None
    if group is None or product is None or not isinstance(product.op, MatMul):
        return None
    return replace(instruction, op=group, outputs=_replaced(instruction.outputs, part, whole))


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
