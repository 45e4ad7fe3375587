"""recompute: values that are cheaper to compute again in each group that reads them than to store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphnn.ir.program import Value
from graphnn.ops.arithmetic import Divide
from graphnn.ops.comparison import Comparison
from graphnn.ops.creation import Cast
from graphnn.ops.elementwise import Absolute, Negative, Sqrt, Where
from graphnn.ops.op import Op
from graphnn.ops.random import RandomBits
from graphnn.passes.epilogue import is_epilogue, weight
from graphnn.passes.flow import POINTWISE, Flow, Role
from graphnn.passes.gather_groups import is_nest

LONGEST = 8  # instructions that are computed again for one value
SMALLER = 16  # a value so many times smaller is stored without a second thought
# What computing one element costs, in bytes that could be moved in the same time (measured for float32 in L2).
CHEAP, ROOT, FUNCTION, RANDOM = 0.25, 1.0, 8.0, 4.0
COSTS: tuple[tuple[tuple[type[Op], ...], float], ...] = (
    ((RandomBits,), RANDOM),
    ((Divide, Sqrt), ROOT),
    ((Comparison, Where, Cast, Negative, Absolute), CHEAP),
)


@dataclass(frozen=True)
class Copies:
    """A group: its members in program order, some of them copies of another group's, and what it gives to others."""

    members: tuple[int, ...]
    outputs: tuple[Value, ...]


def recompute(flow: Flow, groups: Sequence[Sequence[int]]) -> list[Copies]:
    """The groups, with cheap instructions copied into the readers of a value where that moves fewer bytes.

    Storing a value costs its bytes once for writing and once for each group that reads it; a bool counts as much as
    four bytes, since it is packed and unpacked. Computing it again costs, in each reading group, the bytes of what that
    does not read anyway, and the time of the instructions in bytes (`COSTS`). What the copies start from must be stored
    anyway, or so small that storing it does not count. Values that results or other ops read are stored in any case.
    """
    return _Recomputation(flow, groups).run()


class _Recomputation:
    def __init__(self, flow: Flow, groups: Sequence[Sequence[int]]):
        self._flow = flow
        self._members = [list(group) for group in groups]
        self._home = {number: at for at, group in enumerate(groups) for number in group}
        self._stored = [dict.fromkeys(flow.outputs(group)) for group in groups]
        self._copies: dict[int, set[int]] = {}  # the groups into which an instruction was copied

    def run(self) -> list[Copies]:
        """Ask for each stored value, in program order."""
        for at, stored in enumerate(self._stored):
            for value in list(stored):
                self._consider(at, value)
        return [self._finish(at) for at in range(len(self._members))]

    def _consider(self, at: int, value: Value) -> None:
        readers = self._readers(value)
        if readers is None or not readers or value.spec.size <= 1:
            return
        chain = self._chain(value)
        if chain is None:
            return
        start, promoted = chain
        stored = weight(value) * (1 + len(readers))
        again = sum(self._cost(reader, start) for reader in readers) + 2 * sum(v.spec.nbytes for v in promoted)
        if again < stored and all(self._may_copy(reader, start) for reader in readers):
            for reader in readers:
                self._copy(reader, start)
            del self._stored[at][value]
            for small in promoted:
                self._stored[self._home[self._flow.maker[small]]][small] = None

    def _readers(self, value: Value) -> list[int] | None:
        """The groups that read a value of another group; None where it must be stored."""
        flow, home = self._flow, self._home[self._flow.maker[value]]
        inside = {home, *self._copies.get(flow.maker[value], ())}
        if value in flow.stored:
            return None
        found: dict[int, None] = {}
        for number in flow.readers.get(value, ()):
            for at in (self._home[number], *sorted(self._copies.get(number, ()))):
                if at not in inside:
                    if flow.roles[number] is not Role.LOOP:
                        return None
                    found[at] = None
        return list(found)

    def _chain(self, value: Value) -> tuple[list[int], list[Value]] | None:
        """The instructions to repeat for `value`, and small values that must be stored for that as well."""
        flow, needed, promoted, waiting = self._flow, set[int](), dict[Value, None](), [value]
        while waiting:
            number = flow.maker[waiting.pop()]
            if not isinstance(flow.instruction(number).op, (*POINTWISE, RandomBits)) or len(needed) >= LONGEST:
                return None
            needed.add(number)
            for source in flow.sources[number]:
                maker = flow.maker.get(source)
                if maker is None or source in self._stored[self._home[maker]]:
                    continue
                if source.spec.size * SMALLER <= value.spec.size:
                    promoted[source] = None
                elif maker not in needed:
                    waiting.append(source)
        return sorted(needed), list(promoted)

    def _cost(self, reader: int, chain: Sequence[int]) -> float:
        """What repeating the chain in a group costs, in bytes."""
        flow, made = self._flow, {self._flow.value(number) for number in chain}
        known = {value for number in self._members[reader] for value in flow.sources[number]} - made
        known |= {value for number in self._members[reader] for value in flow.instruction(number).outputs}
        read = {value for number in chain for value in flow.sources[number]} - made - known
        return sum(v.spec.nbytes for v in read) + sum(effort(flow, number) for number in chain)

    def _may_copy(self, reader: int, chain: Sequence[int]) -> bool:
        return self._is_legal(sorted({*self._members[reader], *chain}), list(self._stored[reader]))

    def _copy(self, reader: int, chain: Sequence[int]) -> None:
        for number in chain:
            if number not in self._members[reader]:
                self._copies.setdefault(number, set()).add(reader)
        self._members[reader] = sorted({*self._members[reader], *chain})

    def _finish(self, at: int) -> Copies:
        """Without members that nothing needs any more, where that leaves one nest."""
        flow, live, kept = self._flow, set(self._stored[at]), []
        for number in reversed(self._members[at]):
            outputs = flow.instruction(number).outputs
            if any(value in live for value in outputs) or flow.roles[number] is not Role.LOOP:
                kept.append(number)
                live.update(flow.sources[number])
        outputs = sorted((value for value in self._stored[at] if value in live), key=flow.maker.__getitem__)
        members = kept[::-1]
        if 0 < len(members) < len(self._members[at]) and not self._is_legal(members, outputs):
            members = self._members[at]
        return Copies(tuple(members), tuple(outputs))

    def _is_legal(self, members: Sequence[int], outputs: Sequence[Value]) -> bool:
        flow = self._flow
        contraction = next((number for number in members if flow.roles[number] is Role.CONTRACTION), None)
        if contraction is not None:
            return is_epilogue(flow, members, contraction)
        return is_nest(flow, members, outputs, False)


def effort(flow: Flow, number: int) -> float:
    """The time of an instruction, in bytes that could be moved instead."""
    instruction = flow.instruction(number)
    other = CHEAP if getattr(instruction.op, "ufunc", "") in ("add", "subtract", "multiply") else FUNCTION
    cost = next((cost for kinds, cost in COSTS if isinstance(instruction.op, kinds)), other)
    return cost * instruction.outputs[0].spec.size
