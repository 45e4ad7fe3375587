"""Statistics that are quickly found from the inputs alone are found before the tiles start, not between two phases.

The number of labels that count, for example, is needed by every gradient, and reads nothing but the labels.
"""

from __future__ import annotations

from collections.abc import Mapping

from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.program import Instruction, Program, Value
from graphnn.ops.creation import Fill, Iota
from graphnn.ops.reduction import Reduction
from graphnn.ops.shape import BroadcastTo, Reshape
from graphnn.passes.partition_rules import ELEMENTWISE
from graphnn.passes.partition_schedule import Schedule
from graphnn.passes.rewrite import rebuild

CHEAP = (*ELEMENTWISE, Reduction, Reshape, BroadcastTo, Fill, Iota)
MOST_ELEMENTS = 2**16  # of all values on the way; a core makes that many in some 20 microseconds
MOST_INSTRUCTIONS = 32


def statistics_first(schedule: Schedule) -> tuple[Program, set[Value]]:
    """The program with copies of the instructions that lead to such statistics; what these make is to stay outside."""
    makers = {value: i for i in schedule.program.instructions for value in i.outputs}
    awaited = {value: _cheap_way(value, makers) for value in schedule.awaited()}
    ways = {value: way for value, way in awaited.items() if way is not None}
    if not ways:
        return schedule.program, set()
    copies: dict[Value, Value] = {}
    made: set[Value] = set()

    def visit(builder: ProgramBuilder, instruction: Instruction, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
        found = [value for value in instruction.outputs if value in ways]
        if not found:
            return None
        for member in sorted((m for value in found for m in ways[value]), key=order.__getitem__):
            if member.outputs[0] not in copies:
                outputs = builder.emit(member.op, [copies.get(value, value) for value in member.inputs])
                copies.update(zip(member.outputs, outputs, strict=True))
                made.update(outputs)
        return tuple(copies[value] for value in instruction.outputs)

    order = {instruction: position for position, instruction in enumerate(schedule.program.instructions)}
    return rebuild(schedule.program, visit), made


def _cheap_way(value: Value, makers: Mapping[Value, Instruction]) -> list[Instruction] | None:
    """All instructions that `value` depends on, or None where they are too many or too dear."""
    found: dict[Instruction, None] = {}
    pending = [makers[value]]
    elements = 0
    while pending:
        instruction = pending.pop()
        if instruction in found:
            continue
        found[instruction] = None
        elements += sum(output.spec.size for output in instruction.outputs)
        if elements > MOST_ELEMENTS or len(found) > MOST_INSTRUCTIONS or not isinstance(instruction.op, CHEAP):
            return None
        pending += [makers[x] for x in instruction.inputs if x in makers]
    return list(found)
