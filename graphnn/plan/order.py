"""order_for_memory: the order of a Program's instructions that keeps the fewest bytes alive."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import replace

from graphnn.ir.program import Instruction, Kind, Program, Value, users


def order_for_memory(program: Program) -> Program:
    """The same instructions in an order with the smaller peak: as they stand, or greedily freeing.

    The greedy order runs, of all instructions whose inputs are ready, the one that frees most and allocates least;
    ties go to the program's order. Deterministic; O(n log n).
    """
    greedy = replace(program, instructions=tuple(_greedy_order(program)))
    return min((program, greedy), key=peak_bytes)


def peak_bytes(program: Program) -> int:
    """The most bytes of intermediate values alive at once, when instructions run as they stand."""
    remaining = _use_counts(program)
    live = peak = 0
    for instruction in program.instructions:
        live += sum(value.spec.nbytes for value in instruction.outputs)
        peak = max(peak, live)
        for value in (*dict.fromkeys(instruction.inputs), *instruction.outputs):
            remaining[value] = remaining.get(value, 0) - (value in instruction.inputs)
            if remaining[value] <= 0 and value.kind is Kind.INTERMEDIATE:
                live -= value.spec.nbytes
    return peak


def _use_counts(program: Program) -> dict[Value, int]:
    """Number of instructions that read each value; results count once more, so that they never die."""
    counts = {value: len(readers) for value, readers in users(program).items()}
    for value in program.results:
        counts[value] = counts.get(value, 0) + 1
    return counts


def _greedy_order(program: Program) -> list[Instruction]:
    readers, counts = users(program), _use_counts(program)
    position = {instruction: index for index, instruction in enumerate(program.instructions)}
    waiting = {i: len({v for v in i.inputs if v.kind is Kind.INTERMEDIATE}) for i in program.instructions}
    ready = [(_cost(i, counts), position[i]) for i in program.instructions if not waiting[i]]
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
        for changed in _advance(instruction, readers, counts, waiting):
            if position[changed] not in done:
                heapq.heappush(ready, (_cost(changed, counts), position[changed]))
    return order


def _advance(
    instruction: Instruction,
    readers: dict[Value, list[Instruction]],
    counts: dict[Value, int],
    waiting: dict[Instruction, int],
) -> Sequence[Instruction]:
    """Mark `instruction` as run; the ready instructions that are new, or whose cost has fallen."""
    changed: dict[Instruction, None] = {}
    for value in instruction.outputs:
        for reader in readers.get(value, ()):
            waiting[reader] -= 1
            if not waiting[reader]:
                changed[reader] = None
    for value in dict.fromkeys(instruction.inputs):
        counts[value] -= 1
        if counts[value] == 1:  # the one reader that is left frees the value
            changed.update(dict.fromkeys(r for r in readers[value] if not waiting[r]))
    return list(changed)


def _cost(instruction: Instruction, counts: dict[Value, int]) -> int:
    """Bytes allocated less bytes freed by running it now."""
    allocated = sum(value.spec.nbytes for value in instruction.outputs)
    inputs = dict.fromkeys(instruction.inputs)
    freed = sum(v.spec.nbytes for v in inputs if v.kind is Kind.INTERMEDIATE and counts[v] == 1)
    return allocated - freed
