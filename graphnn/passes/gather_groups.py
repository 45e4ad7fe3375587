"""Gathering: which instructions of a program stand in one group."""

from __future__ import annotations

from collections.abc import Sequence

from graphnn.ir.program import Value
from graphnn.ops.creation import Fill
from graphnn.passes.epilogue import epilogue_of, follows, is_epilogue
from graphnn.passes.flow import POINTWISE, Flow, Role, body_of_group
from graphnn.passes.groups import Groups
from graphnn.passes.loop_nest import LoopNest, analyse

MOST_MEMBERS = 64  # of a group: bounds the time of `analyse` and the size of a kernel
MOST_ARRAYS = 24  # inputs and outputs of a group: each is a pointer, and a stream from memory
SIBLINGS = 4  # readers of one value that are asked to join


class Gathering:
    """A greedy walk in program order: each instruction joins the groups with which it shares most bytes.

    What stands behind a contraction is said by `epilogue_of`. For all others the candidates are the loop nests that
    make what the instruction reads, and the last ones that read the same. A value that need not be stored any more
    counts twice, for it is neither written nor read; an input that is read once instead of twice counts once. Two
    groups join if they are of one phase, stay free of cycles, and are legal together. Scalar work never joins larger
    work, where it would be done for each element.
    """

    def __init__(self, flow: Flow):
        self._flow = flow
        self._groups = Groups()
        self._roots: dict[int, int] = {}  # the contraction of a group
        self._flat: dict[int, tuple[object, ...]] = {}  # the shape of groups of elementwise work of one shape
        self._epilogue: dict[int, int] = {}  # instructions that go behind a contraction, and which
        self._iterations = [iterations(flow, number) for number in range(len(flow.roles))]
        self._last_readers: dict[Value, list[int]] = {}

    def run(self) -> list[list[int]]:
        """The members of each group, in program order."""
        for number, role in enumerate(self._flow.roles):
            if role is not Role.FREE:
                self._place(number, role)
        return list(self._groups.members.values())

    def _place(self, number: int, role: Role) -> None:
        flow = self._flow
        makers = [flow.maker[value] for value in flow.sources[number] if value in flow.maker]
        group = self._groups.add(number, makers)
        if role is Role.CONTRACTION:
            self._roots[group] = number
            self._epilogue.update(dict.fromkeys(epilogue_of(flow, number, self._epilogue), number))
        if role is Role.LOOP:
            if self._is_flat(number):
                self._flat[group] = flow.value(number).spec.shape
            behind = self._epilogue.get(number)
            for other in self._candidates(number, group) if behind is None else [behind]:
                self._try(number, self._groups.of(other))
        for value in flow.sources[number] if role is Role.LOOP else ():
            self._last_readers.setdefault(value, []).append(number)

    def _is_flat(self, number: int) -> bool:
        instruction = self._flow.instruction(number)
        read = (value for value in instruction.inputs if value not in self._flow.sources[number])
        direct = all(value in self._flow.maker and self._is_scalar_fill(value) for value in read)
        return isinstance(instruction.op, POINTWISE) and direct

    def _is_scalar_fill(self, value: Value) -> bool:
        return isinstance(self._flow.instruction(self._flow.maker[value]).op, Fill) and not value.spec.shape

    def _candidates(self, number: int, own: int) -> list[int]:
        """Instructions whose groups may take this one in, the most bytes in common first."""
        flow, shared, is_scalar = self._flow, {}, self._iterations[number] <= 1
        for value in flow.sources[number]:
            nbytes = value.spec.nbytes
            if value in flow.maker:
                group = self._groups.of(flow.maker[value])
                shared[group] = shared.get(group, 0) + 2 * nbytes
            for reader in self._last_readers.get(value, [])[-SIBLINGS:] if value.spec.size > 1 or is_scalar else ():
                group = self._groups.of(reader)
                shared[group] = shared.get(group, 0) + nbytes
        nests = (g for g in shared if g != own and g not in self._roots)
        return sorted(nests, key=lambda g: (-shared[g], -g))

    def _try(self, number: int, other: int) -> None:
        group = self._groups.of(number)
        if group == other or not self._are_alike(group, other) or not self._groups.can_join(group, other):
            return
        members = sorted(self._groups.members[group] + self._groups.members[other])
        flat = self._common_shape(number, group, other)
        contraction = self._roots.get(group, self._roots.get(other))
        if not self._is_legal(members, contraction, flat):
            return
        joined = self._groups.join(group, other)
        for name in (group, other):
            self._flat.pop(name, None)
            self._roots.pop(name, None)
        if flat is not None:
            self._flat[joined] = flat
        if contraction is not None:
            self._roots[joined] = contraction

    def _common_shape(self, number: int, a: int, b: int) -> tuple[object, ...] | None:
        """The shape of all elementwise work in both groups, if a value of that shape connects them."""
        flow, shape = self._flow, self._flat.get(a)
        if shape is None or shape != self._flat.get(b):
            return None
        known = {value for member in self._groups.members[b] for value in (*flow.sources[member], flow.value(member))}
        return shape if any(v.spec.shape == shape and v in known for v in flow.sources[number]) else None

    def _are_alike(self, a: int, b: int) -> bool:
        """Phases that go together, bounded size, not two contractions, not a scalar with something larger."""
        flow, first, second = self._flow, self._groups.members[a], self._groups.members[b]
        if len(first) + len(second) > MOST_MEMBERS or (a in self._roots and b in self._roots):
            return False
        phases = [flow.phases[members[0]] for members in sorted((first, second))]
        same = follows(*phases) if a in self._roots or b in self._roots else phases[0] is phases[1]
        scalar = [self._iterations[members[0]] <= 1 for members in (first, second)]
        lonely = Role.OTHER in (flow.roles[first[0]], flow.roles[second[0]])
        return not lonely and same and scalar[0] == scalar[1]

    def _is_legal(self, members: Sequence[int], contraction: int | None, flat: tuple[object, ...] | None) -> bool:
        if contraction is not None:
            return is_epilogue(self._flow, members, contraction)
        return is_nest(self._flow, members, self._flow.outputs(members), flat is not None)


def iterations(flow: Flow, number: int) -> int:
    """Elements that an instruction goes through."""
    instruction = flow.instruction(number)
    return max(value.spec.size for value in (*flow.sources[number], *instruction.outputs))


def is_nest(flow: Flow, members: Sequence[int], outputs: Sequence[Value], is_flat: bool) -> bool:
    """Whether the members can run as one loop nest in which nothing is computed more often than on its own."""
    if len(members) > MOST_MEMBERS or len(outputs) > MOST_ARRAYS:
        return False
    if is_flat:
        read = set().union(*(flow.sources[number] for number in members))
        return len(read.difference(map(flow.value, members))) + len(outputs) <= MOST_ARRAYS
    body = body_of_group(flow, members, outputs)
    if len(body.inputs) + len(body.outputs) > MOST_ARRAYS:
        return False
    nest = analyse(body.program)
    return nest is not None and not _repeats(nest)


def _repeats(nest: LoopNest) -> bool:
    """Whether something smaller than the domain would be computed once for each element of a loop around it."""
    for instruction in nest.body.instructions:
        if isinstance(instruction.op, POINTWISE):
            axes = nest.depends[instruction.outputs[0]]
            if axes != tuple(range(len(axes))):
                return True
    return False
