"""Flow: who reads what in a Program, seen by the fuse pass; and the bodies of its groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache

from graphnn.ir.program import Instruction, Kind, Phase, Program, Value
from graphnn.ops.convolution import ConvolutionOp
from graphnn.ops.creation import Cast, Fill, Iota, StopGradient
from graphnn.ops.elementwise import Elementwise, Where
from graphnn.ops.linalg import MatMul
from graphnn.ops.random import RandomBits
from graphnn.ops.reduction import Max, Min, Sum
from graphnn.ops.shape import BroadcastTo, Reshape, Transpose

CONTRACTIONS = (MatMul, ConvolutionOp)
POINTWISE = (Elementwise, Where, Cast)
FREE = (Fill, BroadcastTo, Reshape, StopGradient)
LOOPED = (*POINTWISE, Sum, Max, Min, Iota, RandomBits)


class Role(Enum):
    """What an instruction is to the fuse pass."""

    LOOP = "loop"  # computed element by element, or a reduction
    CONTRACTION = "contraction"  # a matrix product, a convolution or a gradient of one
    FREE = "free"  # costs nothing inside of a group: each group that reads it gets its own copy
    OTHER = "other"  # stays alone


def role_of(instruction: Instruction) -> Role:
    """By the class of its op."""
    return _role_of_class(type(instruction.op))


@cache
def _role_of_class(kind: type) -> Role:
    for role, kinds in ((Role.CONTRACTION, CONTRACTIONS), (Role.FREE, FREE), (Role.LOOP, LOOPED)):
        if issubclass(kind, kinds):
            return role
    return Role.OTHER


@dataclass(frozen=True, eq=False)
class Flow:
    """A Program, with free instructions looked through.

    Args:
        program: in its order.
        roles: of each instruction.
        maker: number of the instruction that makes each value.
        root: for each value what it is made of by free instructions with an input alone.
        sources: for each instruction the values that it reads, as roots, each once; a contraction reads through
            transposes too. Fills are nothing to read.
        readers: for each root the instructions that read it, none of them free.
        stored: roots that results are made of.
        phases: of each instruction; those of different phases do not stand in one group.
    """

    program: Program
    roles: tuple[Role, ...]
    maker: dict[Value, int]
    root: dict[Value, Value]
    sources: tuple[tuple[Value, ...], ...]
    readers: dict[Value, tuple[int, ...]]
    stored: frozenset[Value]
    phases: tuple[Phase, ...]

    def instruction(self, number: int) -> Instruction:
        """Instruction `number`."""
        return self.program.instructions[number]

    def value(self, number: int) -> Value:
        """The first output of instruction `number`."""
        return self.program.instructions[number].outputs[0]

    def outputs(self, members: Sequence[int]) -> list[Value]:
        """What instructions of the group make and others need."""
        inside, instructions, readers = set(members), self.program.instructions, self.readers
        made = (value for number in members for value in instructions[number].outputs)
        return [v for v in made if v in self.stored or not inside.issuperset(readers.get(v, ()))]


def flow_of(program: Program, one_phase: bool = False) -> Flow:
    """The Flow of a program; linear time. With `one_phase` the phases of instructions do not count."""
    roles = tuple(map(role_of, program.instructions))
    maker = {value: number for number, i in enumerate(program.instructions) for value in i.outputs}
    root: dict[Value, Value] = {}
    sources = tuple(
        _sources(instruction, role, root, maker, program)
        for instruction, role in zip(program.instructions, roles, strict=True)
    )
    readers: dict[Value, list[int]] = {}
    for number, (values, role) in enumerate(zip(sources, roles, strict=True)):
        for value in values if role is not Role.FREE else ():
            readers.setdefault(value, []).append(number)
    stored = frozenset(root.get(value, value) for value in program.results)
    phases = tuple(Phase.FORWARD if one_phase else i.origin.phase for i in program.instructions)
    return Flow(program, roles, maker, root, sources, {v: tuple(n) for v, n in readers.items()}, stored, phases)


def _sources(
    instruction: Instruction, role: Role, root: dict[Value, Value], maker: dict[Value, int], program: Program
) -> tuple[Value, ...]:
    given = list(instruction.inputs)
    if role is Role.CONTRACTION:
        given = [_untransposed(value, maker, program) for value in given]
    roots = [root.get(value, value) for value in given]
    if role is Role.FREE:
        root[instruction.outputs[0]] = roots[0] if roots else instruction.outputs[0]
    made = [maker.get(value) for value in roots]
    kept = [v for v, number in zip(roots, made, strict=True) if not _is_fill(number, program)]
    return tuple(dict.fromkeys(kept))


def _is_fill(number: int | None, program: Program) -> bool:
    return number is not None and isinstance(program.instructions[number].op, Fill)


def _untransposed(value: Value, maker: dict[Value, int], program: Program) -> Value:
    number = maker.get(value)
    if number is None or not isinstance(program.instructions[number].op, Transpose):
        return value
    return program.instructions[number].inputs[0]


# -- bodies ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Body:
    """A group as a Program of its own, and the values outside that its inputs and outputs stand for."""

    program: Program
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]


def body_of_group(flow: Flow, members: Sequence[int], outputs: Sequence[Value]) -> Body:
    """The instructions `members`, in program order, with copies of the free instructions that they need."""
    builder = _BodyBuilder(flow, members)
    for number in members:
        builder.append(number)
    program = Program(tuple(builder.inputs.values()), tuple(builder.instructions), tuple(map(builder.inner, outputs)))
    return Body(program, tuple(builder.inputs), tuple(outputs))


class _BodyBuilder:
    """Copies instructions; values inside get new names, so that equal groups have equal text."""

    def __init__(self, flow: Flow, members: Sequence[int]):
        self.flow = flow
        self.inputs: dict[Value, Value] = {}
        self.instructions: list[Instruction] = []
        self._table: dict[Value, Value] = {}
        self._contraction = False
        self._near = self._roots_inside(members)

    def _roots_inside(self, members: Sequence[int]) -> set[Value]:
        """Roots whose reshapes are copied: made here, or read under several names."""
        if any(self.flow.roles[number] is Role.CONTRACTION for number in members):
            return set()  # a contraction reads views as they are
        near = {value for number in members for value in self.flow.instruction(number).outputs}
        names: dict[Value, Value] = {}
        for number in members:
            for value in self.flow.instruction(number).inputs:
                root = self.flow.root.get(value, value)
                if names.setdefault(root, value) is not value:
                    near.add(root)
        return near

    def inner(self, value: Value) -> Value:
        """The value inside that stands for `value`."""
        return self._table[value]

    def append(self, number: int) -> None:
        """Copy an instruction and what it needs."""
        self._contraction = self.flow.roles[number] is Role.CONTRACTION
        for value in self.flow.instruction(number).inputs:
            self._provide(value)
        self._copy(self.flow.instruction(number))

    def _provide(self, value: Value) -> None:
        chain: list[Instruction] = []
        while value not in self._table and (maker := self._copied(value)) is not None:
            chain.append(maker)
            if not maker.inputs:
                break
            value = maker.inputs[0]
        if value not in self._table and not (chain and not chain[-1].inputs):
            self._table[value] = self.inputs[value] = Value(f"in_{len(self.inputs)}", value.spec, Kind.INPUT)
        for instruction in reversed(chain):
            self._copy(instruction)

    def _copied(self, value: Value) -> Instruction | None:
        """The free instruction that makes `value`, if the group gets its own copy."""
        number = self.flow.maker.get(value)
        if number is None:
            return None
        instruction = self.flow.instruction(number)
        if isinstance(instruction.op, Transpose):
            return instruction if self._contraction else None
        if self._contraction or not isinstance(instruction.op, FREE):
            return None
        is_view = isinstance(instruction.op, Reshape | StopGradient)
        return None if is_view and self.flow.root.get(value, value) not in self._near else instruction

    def _copy(self, instruction: Instruction) -> None:
        outputs = tuple(Value(v.name, v.spec, Kind.INTERMEDIATE) for v in instruction.outputs)
        inputs = tuple(self._table[value] for value in instruction.inputs)
        self.instructions.append(Instruction(instruction.op, inputs, outputs, instruction.origin))
        self._table.update(zip(instruction.outputs, outputs, strict=True))
