"""merge_common: instructions that compute the same thing become one."""

from __future__ import annotations

import math

from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.program import Instruction, Operation, Program, Value
from graphnn.passes.rewrite import rebuild


def merge_common(program: Program) -> Program:
    """Of instructions with equal op (attributes included) and equal inputs only the first stays.

    All ops are pure: random bits too, they depend on their inputs and attributes alone.
    """
    seen: dict[object, tuple[Value, ...]] = {}

    def visit(builder: ProgramBuilder, instruction: Instruction, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
        key = (instruction.op, _signs(instruction.op), inputs)
        earlier = seen.get(key)
        if earlier is None:
            seen[key] = instruction.outputs
        return earlier

    return rebuild(program, visit)


def _signs(op: Operation) -> tuple[float, ...]:
    """Signs of the numbers among the attributes: 0.0 and -0.0 are equal, but not the same."""
    return tuple(math.copysign(1.0, number) for number in vars(op).values() if isinstance(number, float))
