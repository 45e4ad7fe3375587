"""rewrite_bodies: the passes, inside of loops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from graphnn.ir.program import Instruction, Program
from graphnn.ir.verify import verify
from graphnn.scan import Scan


def rewrite_bodies(program: Program, rewrite: Callable[[Program], Program]) -> Program:
    """`program` with `rewrite` applied to the body of every scan, and to the scans in it, innermost first."""
    instructions = tuple(_rewritten(instruction, rewrite) for instruction in program.instructions)
    return replace(program, instructions=instructions)


def _rewritten(instruction: Instruction, rewrite: Callable[[Program], Program]) -> Instruction:
    if not isinstance(instruction.op, Scan):
        return instruction
    body = verify(rewrite(rewrite_bodies(instruction.op.body, rewrite)))
    return replace(instruction, op=replace(instruction.op, body=body))
