"""in_order: instructions sorted so that inputs come first."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from graphnn.ir.program import Instruction


def in_order(units: Sequence[tuple[int, Instruction]]) -> tuple[Instruction, ...]:
    """Inputs first; of those that are ready, the one whose number is the least."""
    maker = {value: unit for unit, (_, instruction) in enumerate(units) for value in instruction.outputs}
    readers: dict[int, list[int]] = {}
    waiting: list[int] = []
    for unit, (_, instruction) in enumerate(units):
        makers = {maker[value] for value in instruction.inputs if value in maker}
        waiting.append(len(makers))
        for made in makers:
            readers.setdefault(made, []).append(unit)
    ready = [(place, unit) for unit, (place, _) in enumerate(units) if not waiting[unit]]
    heapq.heapify(ready)
    order: list[Instruction] = []
    while ready:
        _, unit = heapq.heappop(ready)
        order.append(units[unit][1])
        for reader in readers.get(unit, ()):
            waiting[reader] -= 1
            if not waiting[reader]:
                heapq.heappush(ready, (units[reader][0], reader))
    return tuple(order)
