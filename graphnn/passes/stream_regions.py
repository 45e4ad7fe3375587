"""Regions of a program around values that are much larger than all that they are made of, as scores of attention are.

A region is made of all instructions that read or write such values, and of what stands between these. What a backward
region would read of a forward one it computes again, so that no large value goes from one to the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from graphnn.ir.program import Instruction, Kind, Phase, Program, Value, users
from graphnn.ops.creation import Fill
from graphnn.ops.linalg import MatMul
from graphnn.ops.op import Op
from graphnn.ops.shape import Reshape, Transpose
from graphnn.passes.flow import POINTWISE
from graphnn.passes.partition_tile import follows_from_positions

BLOWN = 4  # times as large as both operands: a product of that size is better made again than kept
LONGEST = 24  # instructions that are made again for one region
Copies = dict[Value, Value]


@dataclass(frozen=True, eq=False)
class Region:
    """Instructions that are to stand in one loop.

    Args:
        members: in an order where inputs come first; some are new, made of instructions of other regions.
        products: those of `members` that make large values out of small ones.
        large: the values that must not be kept.
    """

    members: tuple[Instruction, ...]
    products: tuple[Instruction, ...]
    large: frozenset[Value]


def regions(program: Program, least: int) -> list[Region]:
    """All regions around products of more than `least` bytes, forward ones first where they belong together."""
    table = _Table(program)
    found: list[Region] = []
    seen: set[Value] = set()
    for instruction in program.instructions:
        value = instruction.outputs[0]
        if value in seen or not _is_blown(instruction) or value.spec.nbytes <= least:
            continue
        large = table.connected(value)
        seen |= large
        if large.isdisjoint(program.results):
            found += _of_phases(table, frozenset(large)) or ()
    return found


def _is_blown(instruction: Instruction) -> bool:
    made, given = instruction.outputs[0].spec, sum(value.spec.nbytes for value in instruction.inputs)
    return isinstance(instruction.op, MatMul) and made.rank > 1 and made.nbytes >= BLOWN * given


class _Table:
    """Who makes and who reads what."""

    def __init__(self, program: Program):
        self.instructions = program.instructions
        self.position = {instruction: number for number, instruction in enumerate(program.instructions)}
        self.maker = {value: i for i in program.instructions for value in i.outputs}
        self.readers = users(program)

    def connected(self, start: Value) -> set[Value]:
        """All values of the size of `start` that are made from it, or that go together with such, step by step."""
        found, waiting = {start}, [start]
        while waiting:
            value = waiting.pop()
            for instruction in self.touching(value):
                near = (*instruction.inputs, *instruction.outputs)
                new = {v for v in near if v.kind is Kind.INTERMEDIATE and v.spec.size == start.spec.size} - found
                found |= new
                waiting += new
        return found

    def touching(self, value: Value) -> Iterator[Instruction]:
        """The instruction that makes it, and those that read it."""
        yield self.maker[value]
        yield from self.readers.get(value, ())

    def closed(self, members: set[Instruction]) -> set[Instruction]:
        """With all that stands on a way from one of them to another."""
        behind, made = set[Instruction](), set[Value]()
        for instruction in self.instructions:
            if instruction in members or not made.isdisjoint(instruction.inputs):
                behind.add(instruction)
                made.update(instruction.outputs)
        ahead, needed = set[Instruction](), set[Value]()
        for instruction in reversed(self.instructions):
            if instruction in members or not needed.isdisjoint(instruction.outputs):
                ahead.add(instruction)
                needed.update(instruction.inputs)
        return behind & ahead

    def with_followers(self, members: set[Instruction], phase: Phase) -> set[Instruction]:
        """With elementwise work of the phase on what they make, and on nothing else but constants."""
        made = {value for i in members for value in i.outputs}
        found = set(members)
        for instruction in self.instructions:
            new = [v for v in instruction.inputs if not self._is_constant(v)]
            follows = new and made.issuperset(new) and isinstance(instruction.op, (*POINTWISE, Reshape))
            if follows and instruction.origin.phase is phase:
                found.add(instruction)
                made.update(instruction.outputs)
        return found

    def _is_constant(self, value: Value) -> bool:
        maker = self.maker.get(value)
        return maker is not None and isinstance(maker.op, Fill)

    def in_order(self, members: set[Instruction]) -> list[Instruction]:
        """By their places in the program."""
        return sorted(members, key=self.position.__getitem__)


def _of_phases(table: _Table, large: frozenset[Value]) -> list[Region] | None:
    """One region for each phase that touches the large values; None where they cannot stand in loops."""
    touching = {instruction for value in large for instruction in table.touching(value)}
    found: list[Region] = []
    for phase in Phase:
        own = {instruction for instruction in touching if instruction.origin.phase is phase}
        if not own:
            continue
        members = table.with_followers(table.closed(own), phase)
        fits = all(i.origin.phase is phase and isinstance(i.op, Op) and _is_plain(i.op) for i in members)
        region = _region(table, table.in_order(members), large, phase) if fits and phase is not Phase.UPDATE else None
        if region is None:
            return None
        found.append(region)
    return found


def _is_plain(op: Op) -> bool:
    """Neither a loop nor something that may refuse its inputs, which must do so where it stands."""
    return not op.may_fail and not hasattr(op, "body")


def _region(table: _Table, own: Sequence[Instruction], large: frozenset[Value], phase: Phase) -> Region | None:
    """These instructions, with copies of those that make what they read of other regions, and of cheap moves."""
    again = _Again(table, large.difference(value for i in own for value in i.outputs), phase)
    members = [again.reading(instruction) for instruction in own]
    if len(again.made) > LONGEST or not all(_is_blown(i) for i in again.made if isinstance(i.op, MatMul)):
        return None
    members = _with_givens(table, [*again.made, *members], phase)
    made = {value for i in members for value in i.outputs}
    inside = frozenset(large & made | {value for i in again.made for value in i.outputs})
    products = tuple(i for i in members if isinstance(i.op, MatMul) and i.outputs[0] in inside and _is_blown(i))
    return Region(tuple(members), products, inside) if products else None


class _Again:
    """Copies of the instructions that lead to large values of other regions."""

    def __init__(self, table: _Table, foreign: frozenset[Value], phase: Phase):
        self._table, self._foreign, self._phase = table, foreign, phase
        self._known: Copies = {}
        self.made: list[Instruction] = []

    def reading(self, instruction: Instruction) -> Instruction:
        """The instruction on copies of the foreign values that it reads."""
        inputs = tuple(self._copy(value) for value in instruction.inputs)
        return instruction if inputs == instruction.inputs else replace(instruction, inputs=inputs)

    def _copy(self, value: Value) -> Value:
        if value not in self._foreign or len(self.made) > LONGEST:
            return value
        if value not in self._known:
            maker = self.reading(self._table.maker[value])
            outputs = tuple(Value(f"{made.name}_again", made.spec, made.kind) for made in maker.outputs)
            self._known.update(zip(self._table.maker[value].outputs, outputs, strict=True))
            origin = replace(maker.origin, phase=self._phase)
            self.made.append(Instruction(maker.op, maker.inputs, outputs, origin))
        return self._known[value]


def _with_givens(table: _Table, members: Sequence[Instruction], phase: Phase) -> list[Instruction]:
    """With copies of what is best made where it is used.

    Constants, masks of positions, and the transposes of what large products read row by row: it is cut as it lies.
    """
    copying = _Copying(table.maker, _sources_of_rows(table, members), phase)
    own = {value for i in members for value in i.outputs}
    copies = {v: copying.copy(v) for v in dict.fromkeys(v for i in members for v in i.inputs if v not in own)}
    return [*copying.made, *(renamed(i, copies) for i in members)]


def _sources_of_rows(table: _Table, members: Sequence[Instruction]) -> set[Value]:
    makers = (table.maker.get(i.inputs[0]) for i in members if _is_blown(i))
    return {maker.inputs[0] for maker in makers if maker is not None and isinstance(maker.op, Transpose)}


class _Copying:
    """Copies of instructions, each made once."""

    def __init__(self, maker: Mapping[Value, Instruction], sources: set[Value], phase: Phase):
        self._maker, self._sources, self._phase = maker, sources, phase
        self._known: Copies = {}
        self.made: list[Instruction] = []

    def copy(self, value: Value) -> Value:
        """The value as a copy makes it, or itself."""
        maker = self._maker.get(value)
        if maker is None or not self._is_copied(maker):
            return value
        if value not in self._known:
            inputs = tuple(map(self.copy, maker.inputs))
            self._known[value] = Value(f"{value.name}_here", value.spec, value.kind)
            origin = replace(maker.origin, phase=self._phase)
            self.made.append(Instruction(maker.op, inputs, (self._known[value],), origin))
        return self._known[value]

    def _is_copied(self, maker: Instruction) -> bool:
        turned = isinstance(maker.op, Transpose) and maker.inputs[0] in self._sources
        return turned or isinstance(maker.op, Fill) or follows_from_positions(maker, self._maker)


def renamed(instruction: Instruction, table: Mapping[Value, Value]) -> Instruction:
    """The instruction on other values."""
    if table.keys().isdisjoint(instruction.inputs):
        return instruction
    return replace(instruction, inputs=tuple(table.get(value, value) for value in instruction.inputs))
