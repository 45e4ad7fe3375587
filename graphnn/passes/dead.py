"""remove_dead: instructions whose results nobody needs go away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from graphnn.ir.program import Instruction, Program, Value
from graphnn.scan import Scan, drop_unused


def remove_dead(program: Program) -> Program:
    """Keep what outputs and updates need; scans also lose step outputs and kept carries that nobody reads."""
    live: set[Value] = set(program.results)
    kept: list[Instruction] = []
    for instruction in reversed(program.instructions):
        used = [value in live for value in instruction.outputs]
        if any(used):
            kept.append(_trim(instruction, used))
            live.update(instruction.inputs)
    return replace(program, instructions=tuple(reversed(kept)))


def _trim(instruction: Instruction, used: Sequence[bool]) -> Instruction:
    smaller = drop_unused(instruction.op, used) if isinstance(instruction.op, Scan) else None
    if smaller is None:
        return instruction
    op, positions = smaller
    body = remove_dead(op.body)
    outputs = tuple(instruction.outputs[position] for position in positions)
    return Instruction(replace(op, body=body), instruction.inputs, outputs, instruction.origin)
