"""Regions of a program around values that are much larger than all that they are made of, as scores of attention are.

A region is made of all instructions that read or write such values, of what stands between these, and of elementwise
work that follows from them alone. What a backward region would read of a forward one it computes again, so that no
large value goes from one to the other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from graphnn.ir.program import Instruction, Kind, Phase, Program, Value, users
from graphnn.ops.creation import Fill
from graphnn.ops.linalg import MatMul
from graphnn.ops.op import Op
from graphnn.ops.shape import Reshape, Transpose
from graphnn.passes.flow import POINTWISE
from graphnn.passes.partition_tile import from_positions

BLOWN = 4  # times as large as both operands: a product of that size is better made again than kept
LONGEST = 24  # instructions that are made again for one region
Copies = dict[Value, Value]


@dataclass(frozen=True, eq=False)
class Region:
    """Instructions that are to stand in one loop.

    Args:
        component: regions of one number belong together: if a backward one is left as it is, so are all.
        own: the instructions of the program that the loop replaces.
        members: what the loop computes, in an order where inputs come first; some are copies of other instructions.
        products: those of `members` that make large values out of small ones.
        large: the values that must not be kept.
    """

    component: int
    own: frozenset[Instruction]
    members: tuple[Instruction, ...]
    products: tuple[Instruction, ...]
    large: frozenset[Value]

    @property
    def given(self) -> list[Value]:
        """What it reads, each once."""
        made = {value for i in self.members for value in i.outputs}
        return list(dict.fromkeys(value for i in self.members for value in i.inputs if value not in made))


class Table:
    """Who makes and who reads what in a program."""

    def __init__(self, program: Program):
        self.program = program
        self.position = {instruction: number for number, instruction in enumerate(program.instructions)}
        self.maker = {value: i for i in program.instructions for value in i.outputs}
        self.readers = users(program)
        self.results = set(program.results)
        self.positions = from_positions(program.instructions)

    def touching(self, value: Value) -> Iterator[Instruction]:
        """The instruction that makes it, and those that read it."""
        yield self.maker[value]
        yield from self.readers.get(value, ())

    def by_place(self, members: Collection[Instruction]) -> list[Instruction]:
        """By their places in the program."""
        return sorted(members, key=self.position.__getitem__)

    def connected(self, start: Value) -> set[Value]:
        """All values of the size of `start` that are made from it, or that go together with such, step by step."""
        found, waiting = {start}, [start]
        while waiting:
            for instruction in self.touching(waiting.pop()):
                near = (*instruction.inputs, *instruction.outputs)
                new = {v for v in near if v.kind is Kind.INTERMEDIATE and v.spec.size == start.spec.size} - found
                found |= new
                waiting += new
        return found

    def closed(self, members: Collection[Instruction]) -> set[Instruction]:
        """With all that stands on a way from one of them to another."""
        ordered = self.by_place(members)
        between = self.program.instructions[self.position[ordered[0]] : self.position[ordered[-1]] + 1]
        behind, made = set[Instruction](), set[Value]()
        for instruction in between:
            if instruction in members or not made.isdisjoint(instruction.inputs):
                behind.add(instruction)
                made.update(instruction.outputs)
        ahead, needed = set[Instruction](), set[Value]()
        for instruction in reversed(between):
            if instruction in members or not needed.isdisjoint(instruction.outputs):
                ahead.add(instruction)
                needed.update(instruction.inputs)
        return behind & ahead

    def with_followers(self, members: Collection[Instruction], phase: Phase) -> set[Instruction]:
        """With elementwise work of the phase on what they make, and on nothing else but constants."""
        found, made = set(members), {value for i in members for value in i.outputs}
        waiting = [reader for value in made for reader in self.readers.get(value, ())]
        while waiting:
            instruction = waiting.pop()
            alike = isinstance(instruction.op, (*POINTWISE, Reshape)) and instruction.origin.phase is phase
            if instruction in found or not alike:
                continue
            if all(value in made or self._is_constant(value) for value in instruction.inputs):
                found.add(instruction)
                made.update(instruction.outputs)
                waiting += [reader for value in instruction.outputs for reader in self.readers.get(value, ())]
        return found

    def _is_constant(self, value: Value) -> bool:
        maker = self.maker.get(value)
        return maker is not None and isinstance(maker.op, Fill)


def blown_up(program: Program, least: int) -> list[Value]:
    """Products of more than `least` bytes that are much larger than both operands."""
    return [i.outputs[0] for i in program.instructions if _is_blown(i) and i.outputs[0].spec.nbytes > least]


def regions(table: Table, starts: Collection[Value]) -> list[Region]:
    """All regions around these products, in the order of the program.

    No instruction is in two of them: the largest values are looked at first.
    """
    found: list[Region] = []
    seen, taken = set[Value](), set[Instruction]()
    for number, start in enumerate(sorted(starts, key=lambda value: -value.spec.nbytes)):
        if start in seen:
            continue
        large = table.connected(start)
        seen |= large
        new = _of_phases(table, frozenset(large), number) if large.isdisjoint(table.results) else ()
        if all(taken.isdisjoint(region.own) for region in new):
            found += new
            taken.update(instruction for region in new for instruction in region.own)
    return sorted(found, key=lambda region: min(map(table.position.__getitem__, region.own)))


def _is_blown(instruction: Instruction) -> bool:
    if not isinstance(instruction.op, MatMul):
        return False
    made, given = instruction.outputs[0].spec, sum(value.spec.nbytes for value in instruction.inputs)
    return made.rank > 1 and made.nbytes >= BLOWN * given


def _makes_large(instruction: Instruction, large: Collection[Value]) -> bool:
    """Whether it is a product of two small values that is large."""
    is_large = isinstance(instruction.op, MatMul) and instruction.outputs[0] in large
    return is_large and not any(value in large for value in instruction.inputs)


def _of_phases(table: Table, large: frozenset[Value], component: int) -> Sequence[Region]:
    """One region for each phase that touches the large values; none where they cannot stand in loops."""
    touching = {instruction for value in large for instruction in table.touching(value)}
    found: list[Region] = []
    for phase in Phase:
        own = {instruction for instruction in touching if instruction.origin.phase is phase}
        if not own:
            continue
        members = table.with_followers(table.closed(own), phase)
        fits = all(i.origin.phase is phase and isinstance(i.op, Op) and _is_plain(i.op) for i in members)
        region = _region(table, members, large, phase, component) if fits and phase is not Phase.UPDATE else None
        if region is None:
            return ()
        found.append(region)
    return found


def _is_plain(op: Op) -> bool:
    """Neither a loop nor something that may refuse its inputs, which must do so where it stands."""
    return not op.may_fail and not hasattr(op, "body")


def _region(
    table: Table, own: Collection[Instruction], large: frozenset[Value], phase: Phase, component: int
) -> Region | None:
    """These instructions, with copies of those that make what they read of other regions, and of cheap moves."""
    foreign = large.difference(value for i in own for value in i.outputs)
    needed = _needed_again(table, foreign, own)
    if needed is None or any(isinstance(i.op, MatMul) and not _makes_large(i, large) for i in needed):
        return None
    again: Copies = {}
    copied = [_copy(i, again, "again", phase) for i in table.by_place(needed)]
    members = [*copied, *(renamed(i, again) for i in table.by_place(own))]
    inside = frozenset([*large.difference(foreign), *again.values()])
    products = tuple(i for i in members if _makes_large(i, inside))
    if not products:
        return None
    members = _with_givens(table, members, products, phase)
    products = tuple(i for i in members if _makes_large(i, inside))
    return Region(component, frozenset(own), tuple(members), products, inside)


def _needed_again(table: Table, foreign: Collection[Value], own: Collection[Instruction]) -> set[Instruction] | None:
    """The instructions that lead to the foreign values that are read; None where they are too many."""
    found = set[Instruction]()
    waiting = [value for i in own for value in i.inputs if value in foreign]
    while waiting:
        maker = table.maker[waiting.pop()]
        if maker in found:
            continue
        found.add(maker)
        waiting += [value for value in maker.inputs if value in foreign]
        if len(found) > LONGEST:
            return None
    return found


def _copy(instruction: Instruction, known: Copies, name: str, phase: Phase) -> Instruction:
    """A copy that reads copies, as far as they are known."""
    outputs = tuple(Value(f"{made.name}_{name}", made.spec, made.kind) for made in instruction.outputs)
    inputs = tuple(known.get(value, value) for value in instruction.inputs)
    known.update(zip(instruction.outputs, outputs, strict=True))
    return Instruction(instruction.op, inputs, outputs, replace(instruction.origin, phase=phase))


def _with_givens(
    table: Table, members: Sequence[Instruction], products: Sequence[Instruction], phase: Phase
) -> list[Instruction]:
    """With copies of what is best made where it is used.

    Constants, masks of positions, and the transposes of what large products read row by row: it is cut as it lies.
    """
    makers = (table.maker.get(i.inputs[0]) for i in products)
    sources = {maker.inputs[0] for maker in makers if maker is not None and isinstance(maker.op, Transpose)}
    made = {value for i in members for value in i.outputs}
    found, waiting = set[Instruction](), [v for i in members for v in i.inputs if v not in made]
    while waiting:
        maker = table.maker.get(waiting.pop())
        if maker is None or maker in found:
            continue
        turned = isinstance(maker.op, Transpose) and maker.inputs[0] in sources
        if turned or isinstance(maker.op, Fill) or maker.outputs[0] in table.positions:
            found.add(maker)
            waiting += [] if turned else maker.inputs
    here: Copies = {}
    copied = [_copy(i, here, "here", phase) for i in table.by_place(found)]
    return [*copied, *(renamed(i, here) for i in members)]


def renamed(instruction: Instruction, table: Mapping[Value, Value]) -> Instruction:
    """The instruction on other values."""
    if table.keys().isdisjoint(instruction.inputs):
        return instruction
    return replace(instruction, inputs=tuple(table.get(value, value) for value in instruction.inputs))
