"""rewrite_bodies: the passes, inside of loops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from graphnn.ir.program import Instruction, Program
from graphnn.ir.verify import verify
from graphnn.ops.fused import Fused

Rewrite = Callable[[Program], Program]


def rewrite_bodies(program: Program, rewrite: Rewrite) -> Program:
    """`program` with `rewrite` applied to the body of every loop, and to the loops in it, innermost first.

    A loop is any op with a Program `body`, such as Scan; a Fused is none: its body stays as it is.
    """

    def inside(body: Program) -> Program:
        return rewrite(rewrite_bodies(body, rewrite))

    return replace(program, instructions=tuple(with_body(i, inside) for i in program.instructions))


def with_body(instruction: Instruction, rewrite: Rewrite) -> Instruction:
    """The instruction with the body of its loop rewritten; all others as they are."""
    op: Any = instruction.op  # a frozen dataclass, as all ops
    body = None if isinstance(op, Fused) else getattr(op, "body", None)
    if not isinstance(body, Program):
        return instruction
    rewritten = verify(rewrite(body), known=set(body.instructions))
    return instruction if _is_same(rewritten, body) else replace(instruction, op=replace(op, body=rewritten))


def _is_same(one: Program, other: Program) -> bool:
    """Whether two programs consist of the very same instructions and values."""
    fields = (one.inputs, one.instructions, one.outputs, one.updates)
    return fields == (other.inputs, other.instructions, other.outputs, other.updates)
