"""make_plan: a place in one arena for every value, known before anything runs."""

from __future__ import annotations

from collections import Counter

from graphnn.ir.program import Instruction, Kind, Program, Value
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops.op import Op
from graphnn.plan.order import UNCHANGED, Overwriting, may_fail, order_for_memory
from graphnn.plan.place import Block, live_peak, place
from graphnn.plan.plan import Buffer, Plan, Step


def make_plan(program: Program) -> Plan:
    """Order the program for the least memory, let results reuse dying inputs, and place all blocks in one arena.

    Outputs and the caller's arrays lie outside of the arena. A new value of a parameter or state is written straight
    into it where no later step reads the old one or may fail. Of the program's own order and the one that
    `order_for_memory` finds, that with the smaller arena is taken.
    """
    ordered = order_for_memory(program)
    plan = _plan_as_it_stands(ordered)
    if ordered is program or plan.arena_bytes <= plan.peak_bytes:
        return plan
    return min(plan, _plan_as_it_stands(program), key=lambda candidate: candidate.arena_bytes)


def _plan_as_it_stands(program: Program) -> Plan:
    numbers = {value: index for index, value in enumerate(_all_values(program))}
    assignment = _Assignment(program)
    blocks = [assignment.block_of[value] for value in numbers]
    placed = list({id(block): block for block in blocks if not block.external}.values())
    arena_bytes = place(placed)
    buffers = tuple(
        Buffer(
            value.spec,
            block.offset,
            assignment.first[value],
            assignment.last[value],
            _number(numbers, assignment, value),
        )
        for value, block in zip(numbers, blocks, strict=True)
    )
    steps = tuple(
        Step(_op(i), tuple(numbers[v] for v in i.inputs), tuple(numbers[v] for v in i.outputs), i.origin)
        for i in program.instructions
    )
    updates = tuple((numbers[old], numbers[new]) for old, new in program.updates)
    outputs = tuple(numbers[value] for value in program.outputs)
    return Plan(program.inputs, buffers, steps, outputs, updates, arena_bytes, live_peak(placed))


def _op(instruction: Instruction) -> Op:
    if not isinstance(instruction.op, Op):
        raise TypeError(instruction.op)
    return instruction.op


def _number(numbers: dict[Value, int], assignment: _Assignment, value: Value) -> int | None:
    shared = assignment.shares.get(value)
    return None if shared is None else numbers[shared]


def _all_values(program: Program) -> list[Value]:
    return [*program.inputs, *(value for i in program.instructions for value in i.outputs)]


class _Assignment:
    """Which values share a block, and from when to when each value and block is alive."""

    def __init__(self, program: Program):
        self.program = program
        self.end = len(program.instructions)
        self.outputs, self.results, self._over = set(program.outputs), set(program.results), Overwriting()
        self.first: dict[Value, int] = dict.fromkeys(program.inputs, -1)
        self.last: dict[Value, int] = dict.fromkeys(program.inputs, self.end)
        self.shares: dict[Value, Value] = {}
        self.block_of: dict[Value, Block] = {}
        self._find_lifetimes()
        self.new_of = {new: old for old, new in program.updates}
        self.last_risky = max((i for i, found in enumerate(program.instructions) if may_fail(found.op)), default=-1)
        for value in program.inputs:
            self.block_of[value] = Block(value.spec.nbytes, -1, self.end, True)
        for index, instruction in enumerate(program.instructions):
            dying = self._dying(index, instruction)
            for value in instruction.outputs:
                self._assign(index, instruction, value, dying)

    def _find_lifetimes(self) -> None:
        self.last_read: dict[Value, int] = {}
        for index, instruction in enumerate(self.program.instructions):
            self.last_read.update(dict.fromkeys(instruction.inputs, index))
            self.first.update(dict.fromkeys(instruction.outputs, index))
        for value in self.first:
            if value.kind is Kind.INTERMEDIATE:
                self.last[value] = self.last_read.get(value, self.first[value])
        self.last.update(dict.fromkeys(self.results, self.end))

    def _dying(self, index: int, instruction: Instruction) -> dict[TensorSpec, list[Value]]:
        """Inputs, by spec, that are read for the last time and under one name: an op may read a view in any order."""
        names = Counter(id(self.block_of[value]) for value in dict.fromkeys(instruction.inputs))
        found: dict[TensorSpec, list[Value]] = {}
        for source in dict.fromkeys(instruction.inputs):
            if source.kind is Kind.INTERMEDIATE and source not in self.results:
                block = self.block_of[source]
                if block.last == index and names[id(block)] == 1:
                    found.setdefault(source.spec, []).append(source)
        return found

    def _assign(self, index: int, instruction: Instruction, value: Value, dying: dict[TensorSpec, list[Value]]) -> None:
        source = self._updated(index, instruction, value) or self._reusable(instruction, value, dying)
        if source is None:
            external = value in self.outputs
            self.block_of[value] = Block(value.spec.nbytes, index, self.last[value], external)
            return
        block = self.block_of[source]
        self.shares[value], self.block_of[value] = source, block
        block.last = max(block.last, self.last[value])

    def _updated(self, index: int, instruction: Instruction, value: Value) -> Value | None:
        """The parameter or state that `value` replaces, if it can be written straight into its memory."""
        old = self.new_of.get(value)
        if old is None or value in self.outputs or old in self.results:
            return None
        if index <= self.last_risky:  # a run that fails changes nothing
            return None
        last_read = self.last_read.get(old, -1)
        return old if last_read < index or (last_read == index and self._over.may(instruction, old, value)) else None

    def _reusable(self, instruction: Instruction, value: Value, dying: dict[TensorSpec, list[Value]]) -> Value | None:
        """An input that dies here, whose memory the output takes over; or, for a view, its source."""
        if value in self.results:
            return None
        if _op(instruction).is_view:
            sources = dict.fromkeys(instruction.inputs)
            return next((s for s in sources if s.kind in UNCHANGED and s not in self.results), None)
        candidates = dying.get(value.spec, [])
        found = next((source for source in candidates if self._over.may(instruction, source, value)), None)
        if found is not None:
            candidates.remove(found)  # the next output needs another place
        return found
