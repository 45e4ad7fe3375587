"""in_place: parts of an array whose rows lie apart, read and written where they are instead of copied.

A kernel of a matrix product takes operands of any strides. So it is told that it reads the first columns of the whole
array, or writes these, and given the address of its part.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from graphnn.ir.program import Instruction, Kind, Program, Value, users
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops.fused import Fused
from graphnn.ops.linalg import MatMul
from graphnn.ops.op import Op
from graphnn.ops.shape import Slice
from graphnn.passes.fuse import contraction_of


class InPlace:
    """The body of a loop over tiles, whose inputs and results become parts of larger arrays one by one.

    Args:
        body: as it is with parts that are contiguous.
        supported: whether there is a kernel for an instruction. One whose output is larger than what its group makes
            writes the beginning of it, and leaves the rest as it is.
    """

    def __init__(self, body: Program, supported: Callable[[Instruction], bool]):
        self._body, self._supported = body, supported
        self._readers, self._results = users(body), Counter(body.outputs)
        self._makers = {value: i for i in body.instructions for value in i.outputs}
        self._wholes: dict[Value, Value] = {}
        self._changed: dict[Instruction, Instruction] = {}

    def take(self, part: Value, whole: TensorSpec) -> bool:
        """Let an input or a result be the beginning of `whole`; False where somebody else than products touches it.

        Args:
            part: an input or an output of the body; its shape is at most that of the whole in every axis.
            whole: the spec that the value shall have instead.
        """
        maker, new = self._makers.get(part), replace(part, spec=whole)
        if self._results[part] > (0 if maker is None else 1):
            return False
        changes = {i: _reading(self._now(i), part, new) for i in dict.fromkeys(self.readers(part))}
        if maker is not None:
            changes[maker] = _writing(self._now(maker), part, new)
        known = {old: changed for old, changed in changes.items() if changed is not None}
        if len(known) < len(changes) or not all(map(self._supported, known.values())):
            return False
        self._changed |= known
        self._wholes[part] = new
        return True

    def readers(self, value: Value) -> Sequence[Instruction]:
        """Who reads a value of the body."""
        return self._readers.get(value, ())

    def _now(self, instruction: Instruction) -> Instruction:
        return self._changed.get(instruction, instruction)

    def body(self) -> Program:
        """With all that was taken."""
        inputs, outputs = (
            tuple(self._wholes.get(value, value) for value in side) for side in (self._body.inputs, self._body.outputs)
        )
        return replace(
            self._body, inputs=inputs, outputs=outputs, instructions=tuple(map(self._now, self._body.instructions))
        )


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
