"""Light work waits for the phase that needs it, where fewer bytes then have to be kept between two phases."""

from __future__ import annotations

from graphnn.ir.program import Instruction, Program, Value, users
from graphnn.ops.indexing import GatherAlong, OneHot, ScatterAddAlong
from graphnn.ops.reduction import Reduction
from graphnn.ops.shape import BroadcastTo, Reshape
from graphnn.passes.partition_rules import ELEMENTWISE
from graphnn.passes.partition_schedule import Schedule
from graphnn.passes.partition_state import Cut

LIGHT = (*ELEMENTWISE, Reduction, BroadcastTo, Reshape, GatherAlong, ScatterAddAlong, OneHot)


def delay(schedule: Schedule) -> Schedule:
    """The schedule with light instructions in the first phase that uses them, if that keeps no more bytes."""
    program: Program = schedule.program
    readers, results, given = users(program), set(program.results), _of_inputs_alone(schedule)
    for instruction in reversed(program.instructions):
        local = schedule.locals.get(instruction)
        if local is None or not _is_light(instruction):
            continue
        cut = all(isinstance(state, Cut) for state in local.outputs)
        if not cut or any(value in results for value in instruction.outputs):
            continue
        (value,), at = instruction.outputs, schedule.at[instruction.outputs[0]]
        limit = min((_last_chance(schedule, value, reader) for reader in readers.get(value, ())), default=at)
        if limit > at and _newly_kept(schedule, instruction, readers, results | given) <= value.spec.nbytes:
            schedule.at[value] = schedule.ready[value] = limit
    return _sorted_again(schedule)


def _of_inputs_alone(schedule: Schedule) -> set[Value]:
    """Values that can be had in any phase: light work on cut inputs, such as on labels."""
    found: set[Value] = set()
    for instruction in schedule.program.instructions:
        light = instruction in schedule.locals and _is_light(instruction)
        if light and all(value in found or _is_there_at_first(schedule, value) for value in instruction.inputs):
            found.update(instruction.outputs)
    return found


def _is_there_at_first(schedule: Schedule, value: Value) -> bool:
    """Whether it is an input, or a whole value that no phase is needed for."""
    return schedule.ready.get(value, 0) < (1 if schedule.states.get(value) is None else 0)


def _is_light(instruction: Instruction) -> bool:
    """What may fail does so as early as it can: what is updated before it needs memory of its own."""
    return isinstance(instruction.op, LIGHT) and not instruction.op.may_fail


def _last_chance(schedule: Schedule, value: Value, reader: Instruction) -> int:
    """The last phase that ends before, or is, the one where the reader runs."""
    local = schedule.locals.get(reader)
    pairs = zip(reader.inputs, local.inputs if local is not None else (), strict=local is not None)
    as_it_is = local is not None and all(state == schedule.states[x] for x, state in pairs if x is value)
    return schedule.at[reader.outputs[0]] - (0 if as_it_is else 1)


def _newly_kept(
    schedule: Schedule, instruction: Instruction, readers: dict[Value, list[Instruction]], kept: set[Value]
) -> int:
    """Bytes of inputs that nothing else keeps beyond their own phase, but for those `kept` in any case."""
    return sum(
        value.spec.nbytes
        for value in dict.fromkeys(instruction.inputs)
        if isinstance(schedule.states.get(value), Cut) and value not in kept
        if schedule.ready[value] >= 0 and not _is_kept(schedule, value, instruction, readers[value])
    )


def _is_kept(schedule: Schedule, value: Value, except_for: Instruction, readers: list[Instruction]) -> bool:
    others = [reader for reader in readers if reader is not except_for]
    own = schedule.ready[value]
    return any(reader not in schedule.locals or schedule.at[reader.outputs[0]] > own for reader in others)


def _sorted_again(schedule: Schedule) -> Schedule:
    schedule.phases = [[] for _ in schedule.phases]
    for instruction in schedule.program.instructions:
        if instruction in schedule.locals:
            schedule.phases[schedule.at[instruction.outputs[0]]].append(instruction)
    return schedule
