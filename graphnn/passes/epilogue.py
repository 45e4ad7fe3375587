"""epilogue: which elementwise instructions run on the output of a contraction while it is in registers."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator

from graphnn.ir.program import Phase, Value
from graphnn.ops.creation import Fill
from graphnn.passes.flow import POINTWISE, Flow, Role

SEARCH_LIMIT = 128  # instructions that one question may look at
MOST_IN_EPILOGUE = 24  # instructions: all of them run on what is in registers


def epilogue_of(flow: Flow, contraction: int, taken: Collection[int]) -> list[int]:
    """The instructions to put behind a contraction, in program order.

    Of all elementwise instructions of its output's shape that follow from it, or from what is there already, a first
    part is taken: the one with which the fewest bytes move. For that the others are thought of as one loop nest,
    together with the reductions that read the same, as in the gradient of a layer norm.

    Args:
        flow: the program.
        contraction: number of the instruction.
        taken: instructions that stand behind another contraction.
    """
    all_of_them = _followers(flow, contraction, taken)
    best = min(
        range(len(all_of_them) + 1), key=lambda count: (_bytes_moved(flow, contraction, all_of_them, count), -count)
    )
    return all_of_them[:best]


def is_epilogue(flow: Flow, members: Collection[int], contraction: int) -> bool:
    """Whether the members but the contraction are elementwise work on its output that it does not depend on."""
    shape = flow.value(contraction).spec.shape
    made = {value for number in members for value in flow.instruction(number).outputs}
    if len(members) > 1 + MOST_IN_EPILOGUE or any(value in made for value in flow.sources[contraction]):
        return False
    return all(_fits(flow, number, shape, made) for number in members if number != contraction)


def _fits(flow: Flow, number: int, shape: tuple[object, ...], made: Collection[Value]) -> bool:
    instruction = flow.instruction(number)
    if not isinstance(instruction.op, POINTWISE) or instruction.outputs[0].spec.shape != shape:
        return False
    return all(value in flow.sources[number] or _may_enter(flow, value, made) for value in instruction.inputs)


def _may_enter(flow: Flow, value: Value, made: Collection[Value]) -> bool:
    """A constant scalar, or a view of something outside."""
    maker = flow.instruction(flow.maker[value])
    is_constant = isinstance(maker.op, Fill) and not value.spec.shape
    return is_constant or (maker.op.name == "reshape" and flow.root[value] not in made)


def _followers(flow: Flow, contraction: int, taken: Collection[int]) -> list[int]:
    """Elementwise instructions of the same shape and phase that follow from the contraction, with what they need."""
    found: dict[int, None] = {contraction: None}
    waiting = list(flow.readers.get(flow.value(contraction), ()))
    heapq.heapify(waiting)
    while waiting and len(found) <= MOST_IN_EPILOGUE:
        number = heapq.heappop(waiting)
        if number in found or number in taken or not _is_alike(flow, contraction, number):
            continue
        side = _side_chain(flow, contraction, number, found, taken)
        if side is not None and len(found) + len(side) <= 1 + MOST_IN_EPILOGUE:
            found.update(dict.fromkeys(side))
            for value in map(flow.value, side):
                for reader in flow.readers.get(value, ()):
                    heapq.heappush(waiting, reader)
    del found[contraction]
    return sorted(found)


def _is_alike(flow: Flow, contraction: int, number: int) -> bool:
    may_follow = follows(flow.phases[contraction], flow.phases[number])
    return may_follow and _fits(flow, number, flow.value(contraction).spec.shape, {flow.value(contraction)})


def follows(contraction: Phase, other: Phase) -> bool:
    """Whether elementwise work of a phase may stand behind a contraction of another: a gradient updates its weight."""
    return other is contraction or (contraction is Phase.BACKWARD and other is Phase.UPDATE)


def _side_chain(
    flow: Flow, contraction: int, number: int, found: Collection[int], taken: Collection[int]
) -> list[int] | None:
    """The instruction and those later than the contraction that it needs; None where it cannot come in."""
    chain: dict[int, None] = {}
    waiting = [number]
    while waiting:
        current = waiting.pop()
        if current in taken or not _is_alike(flow, contraction, current) or len(chain) > MOST_IN_EPILOGUE:
            return None
        chain[current] = None
        for maker in _later_makers(flow, contraction, current):
            if maker in found or maker in chain:
                continue
            if maker not in taken and _is_alike(flow, contraction, maker):
                waiting.append(maker)
            elif not _is_free_of_contractions(flow, contraction, maker, ()):
                return None
    return list(chain)


def _later_makers(flow: Flow, contraction: int, number: int) -> list[int]:
    """Instructions behind the contraction whose values an instruction reads."""
    makers = (flow.maker.get(value, -1) for value in flow.sources[number])
    return [maker for maker in makers if maker > contraction]


def _is_free_of_contractions(flow: Flow, contraction: int, number: int, known: Collection[int]) -> bool:
    """Whether an instruction follows neither from this contraction nor from a later one, but by what is `known`.

    A later one is the better place for it. False where finding out takes long.
    """
    seen, waiting = {number}, [number]
    while waiting:
        current = waiting.pop()
        if current == contraction or flow.roles[current] is Role.CONTRACTION or len(seen) > SEARCH_LIMIT:
            return False
        makers = (flow.maker.get(value, -1) for value in flow.sources[current])
        new = [maker for maker in makers if maker >= contraction and maker not in seen and maker not in known]
        seen.update(new)
        waiting += new
    return True


def _bytes_moved(flow: Flow, contraction: int, followers: list[int], count: int) -> int:
    """Bytes written and read by the contraction with the first `count` followers, and by a nest of all the others."""
    inside, rest = {contraction, *followers[:count]}, set(followers[count:])
    made = [flow.value(number) for number in (contraction, *followers)]
    behind = _readers_behind(flow, contraction, followers) - inside
    total = sum(map(weight, _read(flow, followers[:count], made)))
    for value in made:
        mine = flow.maker[value] in inside
        others = set(flow.readers.get(value, ())) - (inside if mine else rest | behind)
        total += weight(value) * ((value in flow.stored or bool(others)) + (mine and not behind.isdisjoint(others)))
    return total + sum(map(weight, _read(flow, sorted(rest), made)))


def _readers_behind(flow: Flow, contraction: int, followers: Collection[int]) -> set[int]:
    """Instructions that may stand in one loop nest with followers."""
    known, phase = {contraction, *followers}, flow.phases[contraction]
    readers = {number for maker in known for number in flow.readers.get(flow.value(maker), ())}
    alike = {n for n in readers if flow.roles[n] is Role.LOOP and flow.phases[n] is phase}
    return {n for n in alike if n in known or _is_free_of_contractions(flow, contraction, n, known)}


def _read(flow: Flow, numbers: Collection[int], made: Collection[Value]) -> Iterator[Value]:
    inside = set(made)
    return iter({v: None for number in numbers for v in flow.sources[number] if v not in inside})


def weight(value: Value) -> int:
    """Bytes of a value, those of bools as of float32: they are packed and unpacked."""
    return 4 * value.spec.nbytes if value.spec.dtype == "bool" else value.spec.nbytes
