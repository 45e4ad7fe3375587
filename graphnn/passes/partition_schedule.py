"""Which instructions run in tiles, in which phase, and which stay outside."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from graphnn.ir.program import Instruction, Program, Value
from graphnn.passes.partition_state import Cut, Local, Site, State
from graphnn.passes.partition_tile import site_of


class Schedule:
    """Every instruction as early as possible: outside level 0, tiles of phase 0, outside level 1, tiles of phase 1...

    A new phase begins where something needs a sum over all tiles, or a cut value as a whole.

    Args:
        program: in any order where inputs come first.
        cuts: of those inputs that are cut.
        tiles: number of tiles.
        rule: how one tile does an instruction, or None where it cannot.
        outside: instructions that must not run in tiles.
        whole_too: ask the rule also where no input is cut or part of a sum.
    """

    def __init__(
        self,
        program: Program,
        cuts: Mapping[Value, Cut],
        tiles: int,
        rule: Callable[[Site], Local | None],
        outside: Collection[Instruction] = (),
        whole_too: bool = False,
    ):
        self.program, self.tiles, self._rule, self._whole_too = program, tiles, rule, whole_too
        self.states: dict[Value, State] = {**cuts}  # of values that are cut or to be combined
        self.ready: dict[Value, int] = dict.fromkeys(cuts, -1)  # phase of those, level of all others (0 if missing)
        self.makers: dict[Value, Instruction] = {}  # of values made outside
        self.locals: dict[Instruction, Local] = {}
        self.phases: list[list[Instruction]] = []
        self.levels: list[list[Instruction]] = [[]]
        for instruction in program.instructions:
            self._place(instruction, forced=instruction in outside)

    def _place(self, instruction: Instruction, forced: bool) -> None:
        states = [self.states.get(value) for value in instruction.inputs]
        ready = [self.ready.get(value, 0) for value in instruction.inputs]
        local = None if forced else self._combined(instruction, states, ready)
        if local is None:
            whole = [state if isinstance(state, Cut) else None for state in states]
            local = None if forced else self._local(instruction, whole)
            cut = [isinstance(state, Cut) and local is not None for state in states]
            zipped = zip(states, ready, cut, strict=True)
            ready = [at if state is None or inside else at + 1 for state, at, inside in zipped]
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
        self.ready.update((value, at) for value in instruction.outputs)
        if local is None:
            self.makers.update((value, instruction) for value in instruction.outputs)
        else:
            self.locals[instruction] = local
            self.states.update(zip(instruction.outputs, local.outputs, strict=True))

    def awaited(self) -> set[Value]:
        """Combined values that tiles of a later phase depend on."""
        needed: set[Value] = set()
        for instruction in reversed(self.program.instructions):
            if instruction in self.locals:
                own = self.ready[instruction.outputs[0]]
                needed.update(value for value in instruction.inputs if self._comes_before(value, own))
            elif any(value in needed for value in instruction.outputs):
                needed.update(instruction.inputs)
        return {value for value in needed if isinstance(self.states.get(value), str)}

    def _comes_before(self, value: Value, phase: int) -> bool:
        state = self.states.get(value)
        return state is None or (isinstance(state, str) and self.ready[value] < phase)
