"""Light work waits for the phase that needs it, where fewer bytes then have to be kept between two phases."""

from __future__ import annotations

from graphnn.ir.program import Instruction, Program, Value, users
from graphnn.ops.shape import BroadcastTo, Reshape
from graphnn.passes.partition_rules import ELEMENTWISE
from graphnn.passes.partition_schedule import Schedule
from graphnn.passes.partition_state import Cut

LIGHT = (*ELEMENTWISE, BroadcastTo, Reshape)


def delay(schedule: Schedule) -> Schedule:
    """The schedule with elementwise instructions in the first phase that uses them, if that keeps no more bytes."""
    program: Program = schedule.program
    readers, results = users(program), set(program.results)
    for instruction in reversed(program.instructions):
        local = schedule.locals.get(instruction)
        if local is None or not isinstance(instruction.op, LIGHT):
            continue
        cut = all(isinstance(state, Cut) for state in local.outputs)
        if not cut or any(value in results for value in instruction.outputs):
            continue
        (value,), at = instruction.outputs, schedule.ready[instruction.outputs[0]]
        limit = min((_last_chance(schedule, reader) for reader in readers.get(value, ())), default=at)
        if limit > at and _newly_kept(schedule, instruction, readers, results) <= value.spec.nbytes:
            schedule.ready[value] = limit
    return _sorted_again(schedule)


def _last_chance(schedule: Schedule, reader: Instruction) -> int:
    """The last phase that ends before, or is, the one where the reader runs."""
    place = schedule.ready[reader.outputs[0]]
    return place if reader in schedule.locals else place - 1


def _newly_kept(
    schedule: Schedule, instruction: Instruction, readers: dict[Value, list[Instruction]], results: set[Value]
) -> int:
    """Bytes of inputs that nothing else keeps beyond their own phase."""
    return sum(
        value.spec.nbytes
        for value in dict.fromkeys(instruction.inputs)
        if isinstance(schedule.states.get(value), Cut) and value not in results
        if schedule.ready[value] >= 0 and not _is_kept(schedule, value, instruction, readers[value])
    )


def _is_kept(schedule: Schedule, value: Value, except_for: Instruction, readers: list[Instruction]) -> bool:
    others = [reader for reader in readers if reader is not except_for]
    own = schedule.ready[value]
    return any(reader not in schedule.locals or schedule.ready[reader.outputs[0]] > own for reader in others)


def _sorted_again(schedule: Schedule) -> Schedule:
    schedule.phases = [[] for _ in schedule.phases]
    for instruction in schedule.program.instructions:
        if instruction in schedule.locals:
            schedule.phases[schedule.ready[instruction.outputs[0]]].append(instruction)
    return schedule
