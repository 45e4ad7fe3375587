"""Which instructions run in tiles, in which phase, and which stay outside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from graphnn.ir.program import Instruction, Program, Value
from graphnn.passes.partition_state import NOTHING, Cut, Decided, Local, Site, State
from graphnn.passes.partition_tile import site_of


class Schedule:
    """Every instruction as early as possible: outside level 0, tiles of phase 0, outside level 1, tiles of phase 1...

    A new phase begins where something needs a sum over all tiles, or a cut value as a whole.

    Args:
        program: in any order where inputs come first.
        cuts: of those inputs that are cut.
        tiles: number of tiles.
        rule: how one tile does an instruction, or None where it cannot.
        decided: what no rule is asked.
        whole_too: ask the rule also where no input is cut or part of a sum.
    """

    def __init__(
        self,
        program: Program,
        cuts: Mapping[Value, Cut],
        tiles: int,
        rule: Callable[[Site], Local | None],
        decided: Decided = NOTHING,
        whole_too: bool = False,
    ):
        self.program, self.tiles, self._rule, self._whole_too = program, tiles, rule, whole_too
        self.decided = decided
        self.states: dict[Value, State] = {**cuts}  # of values that are cut or to be combined, as others see them
        self.ready: dict[Value, int] = dict.fromkeys(cuts, -1)  # phase of those, level of all others (0 if missing)
        self.ends: dict[Value, State] = {}  # of values made in tiles, as a tile makes them
        self.at: dict[Value, int] = {}  # phase or level of the instruction that makes it
        self.makers: dict[Value, Instruction] = {}  # of values made outside
        self.locals: dict[Instruction, Local] = {}
        self.phases: list[list[Instruction]] = []
        self.levels: list[list[Instruction]] = [[]]
        for instruction in self._in_order():
            local = decided.locals.get(instruction.outputs[0])
            if local is not None:
                self._place_as_decided(instruction, local)
            else:
                self._place(instruction, forced=instruction.outputs[0] in decided.outside)

    def _in_order(self) -> list[Instruction]:
        """As in the program, but those that must come behind others, and what follows from them, in the end."""
        late = set(self.decided.behind)
        for instruction in self.program.instructions:
            if not late.isdisjoint((*instruction.inputs, *instruction.outputs)):
                late.update(instruction.outputs)
        return sorted(self.program.instructions, key=lambda instruction: instruction.outputs[0] in late)

    def _place_as_decided(self, instruction: Instruction, local: Local) -> None:
        pairs = zip(instruction.inputs, local.inputs, strict=True)
        ready = [self._from(value, self.states.get(value) == wanted) for value, wanted in pairs]
        behind = [self.at[other] + 1 for other in self.decided.behind.get(instruction.outputs[0], ())]
        self._put(instruction, local, max([*ready, *behind], default=0))

    def _from(self, value: Value, as_it_is: bool) -> int:
        """The first phase, or level, that can use a value, as it is in a tile or as a whole."""
        state, at = self.states.get(value), self.ready.get(value, 0)
        return at if as_it_is or state is None or value in self.decided.recut else at + 1

    def _place(self, instruction: Instruction, forced: bool) -> None:
        states = [self.states.get(value) for value in instruction.inputs]
        ready = [self.ready.get(value, 0) for value in instruction.inputs]
        local = None if forced else self._combined(instruction, states, ready)
        if local is None:
            whole = [state if isinstance(state, Cut) else None for state in states]
            local = None if forced else self._local(instruction, whole)
            pairs = zip(instruction.inputs, states, strict=True)
            ready = [self._from(value, isinstance(state, Cut) and local is not None) for value, state in pairs]
        self._put(instruction, local, max(ready, default=0))

    def _combined(self, instruction: Instruction, states: Sequence[State], ready: Sequence[int]) -> Local | None:
        """Parts of sums that stay parts of a sum, if all are of one phase."""
        if not states or not all(isinstance(state, str) for state in states) or len(set(ready)) > 1:
            return None
        return self._local(instruction, states)

    def _local(self, instruction: Instruction, states: Sequence[State]) -> Local | None:
        asked = self._whole_too or any(states)
        site = site_of(instruction, states, self.tiles, self.makers) if asked else None
        return self._rule(site) if site is not None else None

    def _put(self, instruction: Instruction, local: Local | None, at: int) -> None:
        at = max(at, 0)
        places = self.levels if local is None else self.phases
        places.extend([] for _ in range(at + 1 - len(places)))
        places[at].append(instruction)
        for known in (self.at, self.ready):
            known.update((value, at) for value in instruction.outputs)
        if local is None:
            self.makers.update((value, instruction) for value in instruction.outputs)
            return
        self.locals[instruction] = local
        self.ends.update(zip(instruction.outputs, local.outputs, strict=True))
        self.states.update(zip(instruction.outputs, local.outputs, strict=True))
        for value in instruction.outputs:
            if value in self.decided.recut:  # seen as cut when the phase is over
                self.states[value], self.ready[value] = self.decided.recut[value], at + 1

    def awaited(self) -> set[Value]:
        """Combined values that tiles of a later phase depend on."""
        needed: set[Value] = set()
        for instruction in reversed(self.program.instructions):
            if instruction in self.locals:
                own = self.at[instruction.outputs[0]]
                needed.update(value for value in instruction.inputs if self._comes_before(value, own))
            elif any(value in needed for value in instruction.outputs):
                needed.update(instruction.inputs)
        return {value for value in needed if isinstance(self.states.get(value), str)}

    def _comes_before(self, value: Value, phase: int) -> bool:
        state = self.states.get(value)
        return state is None or (isinstance(state, str) and self.ready[value] < phase)
