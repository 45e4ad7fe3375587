"""The rule of the partition pass for scans: the same loop over a body for one tile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from graphnn.ir.program import Instruction, Program, Value
from graphnn.ops.op import Op
from graphnn.passes.dead import remove_dead
from graphnn.passes.partition_rules import RULES, local_of
from graphnn.passes.partition_state import Cut, Local, Site, State, part_spec
from graphnn.passes.partition_tile import TileBuilder, site_of
from graphnn.scan import Scan


def part_of_batch(site: Site) -> Local | None:
    """How one tile does an instruction of which some inputs are cut or parts of a sum; None where it cannot."""
    return local_of(site, {**RULES, Scan: scan})


class _Wish(Exception):  # noqa: N818 - no error, but a word to the loop above
    """An input of the body must have another state; the analysis starts again with it, or ends (None)."""

    def __init__(self, position: int | None = None, state: State = None):
        super().__init__(position, state)
        self.position, self.state = position, state


def scan(site: Site) -> Local | None:
    """Carries, slices and constants are cut as the body wants them; the time axis is never cut.

    A carry that starts at 0 and to which parts of a sum are added is itself a part of a sum.
    """
    op = cast(Scan, site.op)
    states = _inner_states(op, site)
    if states is None:
        return None
    states = _carries_follow(op, site, states)
    for _ in range(len(states) + 1):  # each turn settles one input
        try:
            return _outer(op, *_Attempt(op, site, states).run())
        except _Wish as wish:
            if wish.position is None or states[wish.position] is not None:
                return None
            states[wish.position] = wish.state
    return None


def _inner_states(op: Scan, site: Site) -> list[State] | None:
    """The states of the body's inputs: a slice of a sequence has one axis less; None where time itself is cut."""
    carries, sequences, constants = op.split(site.states)
    through_time = any(isinstance(state, Cut) and state.axis == 0 for state in sequences)
    if through_time or any(isinstance(state, str) for state in site.states):
        return None
    inner = [Cut(state.axis - 1, state.blocks) if isinstance(state, Cut) else state for state in sequences]
    return [*carries, *inner, *constants]


def _carries_follow(op: Scan, site: Site, states: list[State]) -> list[State]:
    """A carry that starts whole, as zeros do, is cut where the body computes it from what is cut."""
    for _ in range(op.n_carries):
        table: dict[Value, State] = dict(zip(op.body.inputs, states, strict=True))
        for instruction in op.body.instructions:
            seen = site_of(instruction, [table.get(value) for value in instruction.inputs], site.tiles, {})
            local = part_of_batch(seen) if seen is not None else None
            table.update(zip(instruction.outputs, local.outputs, strict=True) if local is not None else ())
        after = [table.get(value) for value in op.body.outputs[: op.n_carries]]
        found = [new if old is None and isinstance(new, Cut) else old for old, new in zip(states, after, strict=False)]
        if found == states[: op.n_carries]:
            break
        states = [*found, *states[op.n_carries :]]
    return states


def _outer(op: Scan, body: Program, before: Sequence[State], after: Sequence[State]) -> Local:
    """The loop for one tile; an output that is whole in every tile counts as a maximum over the tiles."""
    carries, sequences, constants = op.split(before)
    starts = [state if isinstance(state, Cut) else None for state in carries]
    kept = carries if op.keep_carries else ()
    stacked = [_stacked(state) for state in (*after[op.n_carries :], *kept)]
    outputs = tuple("max" if state is None else state for state in (*after[: op.n_carries], *stacked))
    return Local(replace(op, body=body), (*starts, *map(_stacked, sequences), *constants), outputs)


def _stacked(state: State) -> State:
    return Cut(state.axis + 1, state.blocks) if isinstance(state, Cut) else state


class _Attempt:
    """The body of one tile for given states of its inputs; raises _Wish where they must be others."""

    def __init__(self, op: Scan, site: Site, states: Sequence[State]):
        self.op, self.tiles, self.given = op, site.tiles, states
        self.zeros = site.zeros[: op.n_carries]
        self.makers: dict[Value, Instruction] = {}  # of whole values
        self.states: dict[Value, State] = dict(zip(op.body.inputs, states, strict=True))
        self.positions = {value: position for position, value in enumerate(op.body.inputs)}
        self.tile = TileBuilder(self.tiles, self.makers, self._leaf, None)
        for value, state in self.states.items():
            self.tile.parts[value, state] = self.tile.builder.input(
                value.name, part_spec(value.spec, state, self.tiles)
            )

    def _leaf(self, value: Value, state: State) -> Value:
        raise _Wish(self.positions.get(value), state)

    def run(self) -> tuple[Program, Sequence[State], list[State]]:
        """The body, and the states of its inputs and outputs."""
        for instruction in self.op.body.instructions:
            self._add(instruction)
        after = [self.states[value] for value in self.op.body.outputs]
        for position, state in enumerate(self.given[: self.op.n_carries]):
            after[position] = self._settle(position, state, after[position])
        outputs = [self.tile.get(value, state) for value, state in zip(self.op.body.outputs, after, strict=True)]
        return remove_dead(self.tile.builder.build(outputs)), self.given, after

    def _settle(self, position: int, before: State, after: State) -> State:
        """The state of a carry, which must be the same before and after a step."""
        if before == after or (after is None and isinstance(before, Cut)):
            return before
        if before is None and (isinstance(after, Cut) or (after == "sum" and self.zeros[position])):
            raise _Wish(position, after)
        raise _Wish

    def _add(self, instruction: Instruction) -> None:
        states = [self.states[value] for value in instruction.inputs]
        if not any(states):
            self.makers.update((value, instruction) for value in instruction.outputs)
            local = Local(cast(Op, instruction.op), tuple(states), (None,) * len(instruction.outputs))
        else:
            local = self._local(instruction, states)
        self.states.update(zip(instruction.outputs, local.outputs, strict=True))
        self.tile.add(instruction, local)

    def _local(self, instruction: Instruction, states: Sequence[State]) -> Local:
        site = site_of(instruction, states, self.tiles, self.makers)
        local = part_of_batch(site) if site is not None else None
        if local is None:
            raise _Wish(self._accumulator(instruction, states), "sum")
        return local

    def _accumulator(self, instruction: Instruction, states: Sequence[State]) -> int | None:
        """The position of a carry from 0 that parts of a sum meet here."""
        positions = [
            self.positions.get(value) for value, state in zip(instruction.inputs, states, strict=True) if state is None
        ]
        if "sum" not in states or any(isinstance(state, Cut) for state in states) or len(positions) != 1:
            return None
        (position,) = positions
        return position if position is not None and position < len(self.zeros) and self.zeros[position] else None
