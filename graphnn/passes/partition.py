"""partition: the work on a batch is cut into tiles, and everything between two sums over the batch becomes one loop.

Each value is whole, cut along an axis, or a part of a sum (docs/decisions/0011-tiles.md). Not one of the standard
passes: a backend that runs tiles side by side asks for it, behind differentiation and before fusing.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import replace

from graphnn.graph.scope import RANDOM_INPUT
from graphnn.ir.program import Instruction, Kind, Program, Value, users
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops.arithmetic import Multiply
from graphnn.ops.creation import Fill
from graphnn.ops.op import Op
from graphnn.ops.shape import Reshape
from graphnn.passes.partition_delay import delay
from graphnn.passes.partition_early import statistics_first
from graphnn.passes.partition_scan import part_of_batch
from graphnn.passes.partition_schedule import Schedule
from graphnn.passes.partition_state import NOTHING, Cut, Decided, State, can_cut, part_spec
from graphnn.passes.partition_tile import TileBuilder, from_positions
from graphnn.passes.rewrite import append
from graphnn.tiled import INDEX, Combine, Tiled


def partition(program: Program, tiles: int, sharded: Mapping[Value, int], decided: Decided = NOTHING) -> Program:
    """The same program, where the work on cut values stands in `Tiled` loops.

    Sums over the batch are added in the order of the tiles: results differ by rounding, and are equal from run to run.
    Instructions without a rule, or whose operands are cut in ways that do not go together, stay outside.

    Args:
        program: with integer sizes, differentiated, cleaned.
        tiles: number of parts; with 1 there is nothing to do.
        sharded: inputs that are cut, and along which axis; one that does not divide is left whole.
        decided: what is decided already, as for weights that are cut.
    """
    cuts = {value: Cut(axis) for value, axis in sharded.items() if can_cut(value.spec.shape, Cut(axis), tiles)}
    if tiles < 2 or not cuts:
        return program
    schedule = Schedule(program, cuts, tiles, part_of_batch, decided)
    if len(schedule.phases) > 1:
        program, early = statistics_first(schedule)
        if early:
            decided = replace(decided, outside={*decided.outside, *early})
            schedule = Schedule(program, cuts, tiles, part_of_batch, decided)
    return assemble(delay(schedule))


def sharded_inputs(program: Program, batch: int) -> dict[Value, int]:
    """The inputs whose axis 0 has the size of the batch. A wrong guess costs time, never a wrong result."""
    fits = [value for value in program.inputs if value.kind is Kind.INPUT and value.spec.shape[:1] == (batch,)]
    return {value: 0 for value in fits if value.name != RANDOM_INPUT}


def assemble(schedule: Schedule) -> Program:
    """The program of a schedule; it is built from its end, so that only what is needed is computed and handed over."""
    program = schedule.program
    live, backwards = set(program.results), list[Instruction]()
    again = _made_again(schedule)
    for number in reversed(range(max(len(schedule.levels), len(schedule.phases)))):
        for instruction in reversed(_Phase(schedule, number, live, again).instructions()):
            backwards.append(instruction)
            live.update(instruction.inputs)
        for instruction in reversed(schedule.levels[number] if number < len(schedule.levels) else []):
            if any(value in live for value in instruction.outputs):
                backwards.append(instruction)
                live.update(instruction.inputs)
    return Program(program.inputs, tuple(reversed(backwards)), program.outputs, program.updates)


def _made_again(schedule: Schedule) -> set[Value]:
    """Masks of positions that nothing outside of the loops needs: each tile makes what it needs of them."""
    found = from_positions(schedule.program.instructions)
    readers, results = users(schedule.program) if found else {}, set(schedule.program.results)

    def is_needed(value: Value) -> bool:
        outside = (i for i in readers.get(value, ()) if i not in schedule.locals)
        return value in results or any(found.isdisjoint(i.outputs) for i in outside)

    return {value for value in found if not is_needed(value)}


class _Phase:
    """One loop over the tiles: all instructions of a phase that lead to live values."""

    def __init__(self, schedule: Schedule, number: int, live: set[Value], again: Container[Value]):
        members = schedule.phases[number] if number < len(schedule.phases) else []
        self.schedule, self.tiles = schedule, schedule.tiles
        self.results = [value for i in members for value in i.outputs if value in live]
        self.members = _leading_to(members, self.results)
        self.tile = TileBuilder(self.tiles, schedule.makers, self._given, self._first, again)
        self.index: Value | None = None
        self.inputs: list[Value] = []
        self.input_axes: list[int | None] = []
        self.before: list[Instruction] = []
        self.behind: list[Instruction] = []

    def instructions(self) -> list[Instruction]:
        """The loop, and views before and behind it."""
        if not self.members:
            return []
        for instruction in self.members:
            self.tile.add(instruction, self.schedule.locals[instruction])
        ends = [self._end(value) for value in self.results]
        if self.index is not None:  # behind all others
            self.tile.builder.inputs.remove(self.index)
            self.tile.builder.inputs.append(self.index)
        body = self.tile.builder.build([own for own, _, _ in ends])
        axes = tuple(axis for _, axis, _ in ends)
        op = Tiled(body, self.tiles, tuple(self.input_axes), axes, self.index is not None)
        loop = Instruction(op, tuple(self.inputs), tuple(outer for _, _, outer in ends))
        return [*self.before, loop, *self.behind]

    def _given(self, value: Value, state: State) -> Value:
        """An input of the loop."""
        outer, axis = value, None
        builder, spec = self.tile.builder, part_spec(value.spec, state, self.tiles)
        if isinstance(state, Cut):
            axis = state.axis
            if state.blocks > 1:
                outer, axis = self._reshaped(value, _split(value.spec, state), "parts"), axis + 1
                self.before.append(_instruction(Reshape(outer.spec.shape), value, outer))
        self.inputs.append(outer)
        self.input_axes.append(axis)
        own = builder.input(value.name, part_spec(outer.spec, axis if axis is None else Cut(axis), self.tiles))
        return own if own.spec == spec else append(builder, Reshape(spec.shape), own)

    def _end(self, value: Value) -> tuple[Value, int | Combine, Value]:
        """A result: in the tile, how it is put together, and as the loop returns it."""
        state = self.schedule.ends[value]
        own = self.tile.get(value, state)
        if not isinstance(state, Cut):
            return own, state or "max", value
        if state.blocks == 1:
            return own, state.axis, value
        outer = self._reshaped(value, _split(value.spec, state), "joined")
        self.behind.append(_instruction(Reshape(value.spec.shape), outer, value))
        shape = _split(own.spec, state).shape
        return append(self.tile.builder, Reshape(shape), own), state.axis + 1, outer

    @staticmethod
    def _reshaped(value: Value, spec: TensorSpec, suffix: str) -> Value:
        return Value(f"{value.name}_{suffix}", spec, Kind.INTERMEDIATE)

    def _first(self, elements: int) -> Value:
        """The number of a tile's first element, where each tile has so many."""
        builder = self.tile.builder
        if self.index is None:
            self.index = builder.input("tile", INDEX)
        return append(builder, Multiply(), self.index, append(builder, Fill(elements, (), INDEX.dtype)))


def _instruction(op: Op, given: Value, made: Value) -> Instruction:
    return Instruction(op, (given,), (made,))


def _split(spec: TensorSpec, cut: Cut) -> TensorSpec:
    """The spec with the runs of the cut axis as an axis of their own."""
    run = spec.shape[cut.axis] // cut.blocks
    return TensorSpec((*spec.shape[: cut.axis], cut.blocks, run, *spec.shape[cut.axis + 1 :]), spec.dtype)


def _leading_to(members: list[Instruction], results: list[Value]) -> list[Instruction]:
    needed, found = set(results), list[Instruction]()
    for instruction in reversed(members):
        if any(value in needed for value in instruction.outputs):
            found.append(instruction)
            needed.update(instruction.inputs)
    return found[::-1]
