"""order_for_memory: the order of a Program's instructions that keeps the fewest bytes alive."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import replace

from graphnn.ir.program import Instruction, Kind, Operation, Program, Value
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops.op import Op
from graphnn.plan.plan import aligned

UNCHANGED = (Kind.INTERMEDIATE, Kind.INPUT)  # views may show these: no new value of a parameter is written over them


def order_for_memory(program: Program) -> Program:
    """The same instructions in an order with the smaller peak: as they stand, or greedily freeing.

    The greedy order runs, of all instructions whose inputs are ready, the one that frees most and allocates least; ties
    go to the one whose results need not stay to the end, then to the program's order. What makes a new parameter or
    state waits for those that stand before it and read the old one, so that it can write over that. Deterministic;
    O(n log n).
    """
    memory = _Memory(program)
    greedy = tuple(_greedy_order(program, memory))
    if greedy == program.instructions or _peak(memory, program.instructions) <= _peak(memory, greedy):
        return program
    return replace(program, instructions=greedy)


def peak_bytes(program: Program) -> int:
    """The most bytes of the arena in use at once, when instructions run as they stand.

    Outputs lie outside of the arena. Views take nothing; nor does a new parameter or state where nobody reads the old
    one any more, nor an elementwise result that is written over an input which dies.
    """
    return _peak(_Memory(program), program.instructions)


def _peak(memory: _Memory, instructions: Sequence[Instruction]) -> int:
    memory.restart()
    live = peak = 0
    for instruction in instructions:
        live += memory.taken(instruction)
        peak = max(peak, live - memory.overwritten(instruction))
        live -= memory.freed(instruction) + memory.unread(instruction)
        memory.run(instruction)
    return peak


class Overwriting:
    """Whether instructions may write an output over an input while they read it.

    Where values stand is found once for each instruction: a loop over tiles has thousands of inputs.
    """

    def __init__(self) -> None:
        self._places: dict[Instruction, tuple[dict[Value, list[int]], dict[Value, int]]] = {}

    def may(self, instruction: Instruction, source: Value, value: Value) -> bool:
        """Whether the op may write its output `value` over `source`, if that is an input of it, of the same spec."""
        op = instruction.op
        if not isinstance(op, Op) or source.spec != value.spec:
            return False
        inputs, outputs = self._places_of(instruction)
        return source in inputs and all(op.may_overwrite(position, outputs[value]) for position in inputs[source])

    def _places_of(self, instruction: Instruction) -> tuple[dict[Value, list[int]], dict[Value, int]]:
        if instruction not in self._places:
            inputs: dict[Value, list[int]] = {}
            for position, given in enumerate(instruction.inputs):
                inputs.setdefault(given, []).append(position)
            self._places[instruction] = inputs, {made: position for position, made in enumerate(instruction.outputs)}
        return self._places[instruction]


def may_fail(op: Operation) -> bool:
    """Whether it raises for some numbers; a loop does where its body does."""
    body = getattr(op, "body", None)
    inside = body.instructions if isinstance(body, Program) else ()
    return isinstance(op, Op) and (op.may_fail or any(may_fail(instruction.op) for instruction in inside))


class _Memory:
    """What instructions take from the arena and give back, as they run one by one.

    A view shares the memory of its source: both have the same root.
    """

    def __init__(self, program: Program):
        self._results, self._outputs, self._over = set(program.results), set(program.outputs), Overwriting()
        self._old_of = {new: old for old, new in program.updates}
        self._root: dict[Value, Value] = {}
        self.producer: dict[Value, Instruction] = {}
        for instruction in program.instructions:
            for value in instruction.outputs:
                self._root[value] = self._find_root(instruction, value)
                self.producer[value] = instruction
        self.new_of = {old: new for old, new in program.updates if new in self.producer}
        self.readers: dict[Value, list[Instruction]] = {}
        self._roots: dict[Instruction, tuple[Value, ...]] = {}  # the memory that each instruction reads, each once
        for instruction in program.instructions:
            roots = dict.fromkeys(self._root.get(value, value) for value in instruction.inputs)
            self._roots[instruction] = tuple(roots)
            for root in roots:
                self.readers.setdefault(root, []).append(instruction)
        self._risky_at_first = sum(may_fail(instruction.op) for instruction in program.instructions)
        self._bytes = {value: aligned(value.spec.nbytes) for value in self.producer}
        self.restart()

    def restart(self) -> None:
        """Nothing has run."""
        self._risky = self._risky_at_first  # instructions that may fail and have not run
        self.left = {root: len(readers) for root, readers in self.readers.items()}

    def _find_root(self, instruction: Instruction, value: Value) -> Value:
        op = instruction.op
        source = instruction.inputs[0] if isinstance(op, Op) and op.is_view else value
        shares = source.kind in UNCHANGED and source not in self._results and value not in self._results
        return self._root.get(source, source) if shares else value

    def taken(self, instruction: Instruction) -> int:
        """Bytes that its outputs need."""
        return sum([self._needs(instruction, value) for value in instruction.outputs])

    def _needs(self, instruction: Instruction, value: Value) -> int:
        if value in self._outputs or self._root[value] is not value:
            return 0
        old = self._old_of.get(value)
        if old is not None and old not in self._results and not self._risky:
            left = self.left.get(old, 0)
            if not left or (left == 1 and self._over.may(instruction, old, value)):
                return 0  # written straight into the parameter or state
        return self._bytes[value]

    def freed(self, instruction: Instruction) -> int:
        """Bytes whose last reader it is."""
        return sum([self._bytes[root] for root in self._roots[instruction] if self._dies(root)])

    def _dies(self, root: Value) -> bool:
        return root.kind is Kind.INTERMEDIATE and root not in self._results and self.left[root] == 1

    def unread(self, instruction: Instruction) -> int:
        """Bytes of outputs that nobody reads."""
        own = (v for v in instruction.outputs if v not in self._results and self._root[v] is v)
        return sum(self._bytes[value] for value in own if value not in self.readers)

    def overwritten(self, instruction: Instruction) -> int:
        """Bytes of its outputs that lie over inputs which die."""
        roots = {v: self._root.get(v, v) for v in instruction.inputs}
        free = {root for root in roots.values() if self._dies(root)}
        dying: dict[TensorSpec, list[Value]] = {}
        for v in roots if free else ():
            if roots[v] in free:
                dying.setdefault(v.spec, []).append(v)
        total = 0
        for value in instruction.outputs if free else ():
            sources = (v for v in dying.get(value.spec, ()) if roots[v] in free)
            fits = (roots[v] for v in sources if self._over.may(instruction, v, value))
            over = None if value in self._results else next(fits, None)
            free.discard(over)  # the next output needs another place
            total += 0 if over is None else self._bytes[value]
        return total

    def cost(self, instruction: Instruction) -> tuple[int, int]:
        """(bytes taken less bytes freed by running it now, bytes that stay to the end)."""
        needs = [(self._needs(instruction, value), value in self._results) for value in instruction.outputs]
        return sum([n for n, _ in needs]) - self.freed(instruction), sum([n for n, stays in needs if stays])

    def makers_of(self, instruction: Instruction) -> Iterator[Instruction]:
        """The instructions that make what this one reads."""
        return (self.producer[value] for value in instruction.inputs if value in self.producer)

    def earlier_readers(self, instruction: Instruction, position: dict[Instruction, int]) -> Iterator[Instruction]:
        """Those that read an old parameter or state, and stand before this one, which makes the new one."""
        replaced = (self._old_of[value] for value in instruction.outputs if value in self._old_of)
        for old in replaced:
            yield from (r for r in self.readers.get(old, ()) if position[r] < position[instruction])

    def run(self, instruction: Instruction) -> Iterator[Instruction]:
        """Count its reads as done; the instructions whose costs may have fallen by that."""
        changed: list[Instruction] = []
        if self._risky and may_fail(instruction.op):
            self._risky -= 1
            changed += [] if self._risky else [self.producer[new] for new in self.new_of.values()]
        for root in self._roots[instruction]:
            self.left[root] -= 1
            if self.left[root] == 1:  # the one reader that is left frees it
                changed += self.readers[root]
            if self.left[root] <= 1 and root in self.new_of:  # a new parameter may be written into the old one
                changed.append(self.producer[self.new_of[root]])
        return iter(changed)


def _greedy_order(program: Program, memory: _Memory) -> list[Instruction]:
    position = {instruction: index for index, instruction in enumerate(program.instructions)}
    behind: dict[Instruction, list[Instruction]] = {}
    waiting: dict[Instruction, int] = {}
    for instruction in program.instructions:
        ahead = dict.fromkeys((*memory.makers_of(instruction), *memory.earlier_readers(instruction, position)))
        waiting[instruction] = len(ahead)
        for other in ahead:
            behind.setdefault(other, []).append(instruction)
    ready = [(memory.cost(i), position[i]) for i in program.instructions if not waiting[i]]
    heapq.heapify(ready)
    done: set[int] = set()
    order: list[Instruction] = []
    while ready:
        _, index = heapq.heappop(ready)
        if index in done:  # an entry from before its cost fell
            continue
        done.add(index)
        instruction = program.instructions[index]
        order.append(instruction)
        for changed in dict.fromkeys((*memory.run(instruction), *_released(behind.get(instruction, ()), waiting))):
            if not waiting[changed] and position[changed] not in done:
                heapq.heappush(ready, (memory.cost(changed), position[changed]))
    return order


def _released(behind: Sequence[Instruction], waiting: dict[Instruction, int]) -> Iterator[Instruction]:
    """Of the instructions that waited for one that has run now, those that waited for it alone."""
    for instruction in behind:
        waiting[instruction] -= 1
        if not waiting[instruction]:
            yield instruction
