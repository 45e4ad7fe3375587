"""widen_half: float16 products and convolutions compute in float32."""

from __future__ import annotations

from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.program import Instruction, Program, Value
from graphnn.ops.convolution import ConvolutionOp
from graphnn.ops.creation import Cast
from graphnn.ops.linalg import MatMul
from graphnn.ops.op import Op
from graphnn.passes.bodies import rewrite_bodies
from graphnn.passes.hoist import hoist
from graphnn.passes.rewrite import rebuild

HALF, WIDE = "float16", "float32"


def widen_half(program: Program) -> Program:
    """The program with every float16 contraction as cast(contraction(cast(a), cast(b))), also inside of loops.

    So each sum is rounded to float16 once. It differs from the exact sum of k products by at most
    2^-11 |y| + k 2^-23 sum |a b|, and by 2^-25 where y is less than 2^-14; the reference stays within the same bound
    for products and convolutions, and rounds a convolution's gradient by its input once for each kernel element. Casts
    of what a loop does not change stand in front of the loop. Without float16 contractions it is the program itself.
    """
    if not _has_half(program):
        return program
    return hoist(_widened(rewrite_bodies(program, _widened)))


def _is_half(instruction: Instruction) -> bool:
    return isinstance(instruction.op, MatMul | ConvolutionOp) and instruction.outputs[0].spec.dtype == HALF


def _has_half(program: Program) -> bool:
    bodies = (getattr(instruction.op, "body", None) for instruction in program.instructions)
    return any(map(_is_half, program.instructions)) or any(isinstance(b, Program) and _has_half(b) for b in bodies)


def _widened(program: Program) -> Program:
    wide: dict[Value, Value] = {}  # one cast of each value serves all its readers

    def visit(builder: ProgramBuilder, instruction: Instruction, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
        if not _is_half(instruction):
            return None
        for value in inputs:
            if value not in wide:
                (wide[value],) = builder.emit(_cast(WIDE), [value])
        return builder.emit(_cast(HALF), builder.emit(instruction.op, [wide[value] for value in inputs]))

    return rebuild(program, visit)


def _cast(dtype: str) -> Op:
    return Cast(dtype)
