"""ProgramBuilder: the only way to make values and instructions."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager

from graphnn.ir.program import Instruction, Kind, Operation, Origin, Program, Value
from graphnn.ir.tensor_spec import TensorSpec


class ProgramBuilder:
    """Collects inputs, instructions and updates; `origin` marks what is emitted next."""

    def __init__(self, start: Program | None = None):
        self.inputs: list[Value] = list(start.inputs) if start else []
        self.instructions: list[Instruction] = list(start.instructions) if start else []
        self.updates: list[tuple[Value, Value]] = list(start.updates) if start else []
        self.origin = Origin()
        self._count = len(self.inputs) + sum(len(i.outputs) for i in self.instructions)

    def input(self, name: str, spec: TensorSpec, kind: Kind = Kind.INPUT) -> Value:
        """Declare a value that the caller provides."""
        value = Value(name, spec, kind)
        self.inputs.append(value)
        self._count += 1
        return value

    def emit(self, op: Operation, inputs: Sequence[Value]) -> tuple[Value, ...]:
        """Append `op(inputs)`; the op's own rule checks the inputs and gives the output specs."""
        outputs = []
        for spec in op.infer(*(value.spec for value in inputs)):
            outputs.append(Value(str(self._count), spec, Kind.INTERMEDIATE))
            self._count += 1
        self.instructions.append(Instruction(op, tuple(inputs), tuple(outputs), self.origin))
        return tuple(outputs)

    def update(self, old: Value, new: Value) -> None:
        """`new` replaces `old` (PARAMETER or STATE) after the run."""
        self.updates.append((old, new))

    @contextmanager
    def at(self, origin: Origin) -> Generator[None, None, None]:
        """Instructions emitted inside carry `origin`."""
        previous, self.origin = self.origin, origin
        try:
            yield
        finally:
            self.origin = previous

    def build(self, outputs: Sequence[Value]) -> Program:
        """The finished Program."""
        return Program(tuple(self.inputs), tuple(self.instructions), tuple(outputs), tuple(self.updates))
