"""evaluate: the plain interpreter of a Program, one op after the other, nothing planned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphnn.errors import GraphnnError
from graphnn.ir.program import Instruction, Program, Value
from graphnn.ops.op import Array, ArrayModule, Op


def evaluate(xp: ArrayModule, program: Program, arrays: Sequence[Array]) -> dict[Value, Array]:
    """All values of the program for these inputs; what every backend must agree with.

    Args:
        xp: numpy or cupy.
        program: with integer sizes.
        arrays: one per `program.inputs`.
    """
    values = dict(zip(program.inputs, arrays, strict=True))
    with np.errstate(all="ignore"):  # infinities and NaN are values here, looked for where a user asks
        for instruction in program.instructions:
            results = run_instruction(xp, instruction, [values[value] for value in instruction.inputs])
            values.update(zip(instruction.outputs, results, strict=True))
    return values


def run_instruction(xp: ArrayModule, instruction: Instruction, arrays: Sequence[Array]) -> list[Array]:
    """The outputs of one instruction as arrays of exactly the inferred dtype and shape; errors name its node."""
    op = instruction.op
    if not isinstance(op, Op):
        raise TypeError(op)
    try:
        result = op.reference(xp, *arrays)
    except GraphnnError as error:  # such as an index out of range
        raise error.locate(instruction.origin.path) from None
    results = result if isinstance(result, tuple) else (result,)
    return [xp.asarray(array, order="C") for array in results]  # as a plan holds them: BLAS rounds views otherwise
