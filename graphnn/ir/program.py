"""Program: a typed list of primitive ops in an order where inputs come first."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, Protocol

from graphnn.ir.tensor_spec import TensorSpec


class Kind(Enum):
    """Where a value comes from."""

    INPUT = "input"  # given by the caller on every run
    PARAMETER = "parameter"  # trained array, owned by the caller, changed by updates
    STATE = "state"  # running statistics, optimizer moments: owned by the caller, changed by updates
    INTERMEDIATE = "intermediate"  # made by an instruction


class Phase(Enum):
    """The part of a training step that an instruction belongs to."""

    FORWARD = "forward"
    BACKWARD = "backward"
    UPDATE = "update"


@dataclass(frozen=True, slots=True)
class Origin:
    """The node path that an instruction was lowered from, and its phase."""

    path: str = ""
    phase: Phase = Phase.FORWARD


@dataclass(frozen=True, eq=False, slots=True)
class Value:
    """One tensor of a Program; compared by identity, with no pointer to its producer."""

    name: str
    spec: TensorSpec
    kind: Kind

    def __repr__(self) -> str:
        return f"%{self.name}: {self.spec}"


class Operation(Protocol):
    """What the ir knows of an op; the class itself lives in graphnn.ops."""

    name: ClassVar[str]  # in the registry, such as `tanh`

    def infer(self, *specs: TensorSpec) -> tuple[TensorSpec, ...]:
        """Output specs, or a typed error."""
        ...

    def vjp(self, inputs: Any, outputs: Any, cotangents: Any) -> Any:
        """Cotangents of the inputs, in tensors of the program under construction."""
        ...


@dataclass(frozen=True, eq=False, slots=True)
class Instruction:
    """`outputs = op(inputs)`."""

    op: Operation
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    origin: Origin = Origin()


@dataclass(frozen=True, eq=False, slots=True)
class Program:
    """Typed straight-line code.

    Args:
        inputs: INPUT, PARAMETER and STATE values, in call order.
        instructions: each input of an instruction is defined before it.
        outputs: the values that a run returns.
        updates: (PARAMETER or STATE, the value that replaces it after the run).
    """

    inputs: tuple[Value, ...]
    instructions: tuple[Instruction, ...]
    outputs: tuple[Value, ...]
    updates: tuple[tuple[Value, Value], ...] = ()

    @property
    def results(self) -> tuple[Value, ...]:
        """Outputs and the new values of updates: everything that must be computed."""
        return self.outputs + tuple(new for _, new in self.updates)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        from graphnn.render.notebook import program_bundle

        return program_bundle(self)


def users(program: Program) -> dict[Value, list[Instruction]]:
    """For each value the instructions that read it, in order; an instruction that reads it twice stands once."""
    table: dict[Value, list[Instruction]] = {}
    for instruction in program.instructions:
        for value in dict.fromkeys(instruction.inputs):
            table.setdefault(value, []).append(instruction)
    return table
