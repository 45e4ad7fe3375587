"""Fused: several instructions as one op, which a backend runs as one kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, final

from graphnn.errors import ShapeError
from graphnn.ir.program import Instruction, Kind, Origin, Program, Value
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops.evaluate import evaluate
from graphnn.ops.op import Array, ArrayModule, Op


@final
@dataclass(frozen=True)
class Fused(Op):
    """outputs = body(inputs); only the way they are computed differs. Made by passes behind differentiation.

    Args:
        body: without updates.
        in_place: (position of an input, position of an output): the pairs that may share memory.
    """

    name: ClassVar[str] = "fused"
    body: Program
    in_place: tuple[tuple[int, int], ...] = field(default=())

    def infer(self, *specs: TensorSpec) -> tuple[TensorSpec, ...]:
        """Those of the body's outputs; the inputs must fit the body."""
        wanted = tuple(value.spec for value in self.body.inputs)
        if specs != wanted:
            got, expected = (", ".join(map(str, side)) for side in (specs, wanted))
            raise ShapeError("inputs of a fused group do not fit its body", expected=expected, got=got)
        return tuple(value.spec for value in self.body.outputs)

    def reference(self, xp: ArrayModule, *arrays: Array) -> tuple[Array, ...]:
        """The body, op by op."""
        values = evaluate(xp, self.body, arrays)
        return tuple(values[value] for value in self.body.outputs)

    def may_overwrite(self, source: int, output: int) -> bool:
        """Whether `in_place` says so."""
        return (source, output) in self.in_place

    def __repr__(self) -> str:
        """The names of the ops in it, in order."""
        return f"Fused({', '.join(instruction.op.name for instruction in self.body.instructions)})"


def as_group(
    op: Op, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], origin: Origin | None = None
) -> Fused:
    """The op as a group of its own, or as it is if it is one."""
    if isinstance(op, Fused):
        return op
    given = tuple(Value(f"in_{n}", spec, Kind.INPUT) for n, spec in enumerate(inputs))
    made = tuple(Value(f"out_{n}", spec, Kind.INTERMEDIATE) for n, spec in enumerate(outputs))
    return Fused(Program(given, (Instruction(op, given, made, origin or Origin()),), made))
