"""Reverse-mode differentiation: a Program gets the instructions that compute its gradients appended.

The backward instructions stand in the reverse order of the forward ones that they belong to. Only instructions on a way
from `wrt` to a seeded value are visited; contributions of several users are added in that order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from graphnn.errors import GradientError
from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.program import Instruction, Origin, Phase, Program, Value
from graphnn.ops.op import Tensor
from graphnn.ops.shape import sum_to_shape


def append_gradients(
    builder: ProgramBuilder, seeds: Mapping[Value, Tensor], wrt: Iterable[Value], limit: int | None = None
) -> dict[Value, Tensor]:
    """Append to `builder` the cotangents of all values between `wrt` and the seeded values.

    Args:
        builder: holds the forward instructions.
        seeds: cotangents of some of its values, such as 1 for a loss.
        wrt: the values that gradients are wanted of.
        limit: number of instructions that count as forward; all by default.

    Returns:
        The cotangent of each value that one reached; a value of `wrt` that is missing has a zero gradient.
    """
    forward = builder.instructions[:limit]
    active = active_values(forward, wrt)
    cotangents = {value: seed for value, seed in seeds.items() if value in active}
    for instruction in reversed(forward):
        reached = any(value in cotangents for value in instruction.outputs)
        if reached and any(value in active for value in instruction.inputs):
            with builder.at(Origin(instruction.origin.path, Phase.BACKWARD)):
                _accumulate(builder, instruction, active, cotangents)
    return cotangents


def active_values(instructions: Sequence[Instruction], wrt: Iterable[Value]) -> set[Value]:
    """The floating-point values that depend on `wrt`, and `wrt` itself."""
    active = {value for value in wrt if value.spec.is_float}
    for instruction in instructions:
        if any(value in active for value in instruction.inputs):
            active.update(value for value in instruction.outputs if value.spec.is_float)
    return active


def _accumulate(
    builder: ProgramBuilder, instruction: Instruction, active: set[Value], cotangents: dict[Value, Tensor]
) -> None:
    inputs = tuple(Tensor(builder, value) for value in instruction.inputs)
    outputs = tuple(Tensor(builder, value) for value in instruction.outputs)
    given = tuple(cotangents[y.value] if y.value in cotangents else _zeros_like(y) for y in outputs)
    contributions = instruction.op.vjp(inputs, outputs, given)
    for x, contribution in zip(inputs, contributions, strict=True):
        if contribution is None or x.value not in active:
            continue
        contribution = sum_to_shape(contribution, x.shape)
        earlier = cotangents.get(x.value)
        cotangents[x.value] = contribution if earlier is None else earlier + contribution


def _zeros_like(y: Tensor) -> Tensor:
    return y.fill(0, y.shape)


def differentiate(program: Program, wrt: Sequence[Value], outputs: Sequence[Value] | None = None) -> Program:
    """The gradients of scalar or seeded outputs, as a new Program.

    The result has, behind the program's inputs, one INPUT per entry of `outputs` (default: all of the program's): its
    cotangent. Its outputs are the program's outputs followed by the gradient of each of `wrt`.

    Raises:
        GradientError: an output is no floating-point value.
    """
    outputs = program.outputs if outputs is None else outputs
    builder = ProgramBuilder(program)
    seeds: dict[Value, Tensor] = {}
    for index, value in enumerate(outputs):
        if not value.spec.is_float:
            raise GradientError("only floating-point outputs have a gradient", where=value.name, got=value.spec)
        seed = Tensor(builder, builder.input(f"cotangent_{index}", value.spec))
        seeds[value] = seeds[value] + seed if value in seeds else seed
    cotangents = append_gradients(builder, seeds, wrt)
    gradients = [_gradient_or_zeros(builder, cotangents, value) for value in wrt]
    return builder.build([*program.outputs, *gradients])


def _gradient_or_zeros(builder: ProgramBuilder, cotangents: Mapping[Value, Tensor], value: Value) -> Value:
    return cotangents[value].value if value in cotangents else _zeros_like(Tensor(builder, value)).value
