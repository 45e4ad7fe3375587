"""Lifetimes: which part of the arena holds what from which step to which, and how many bytes are alive."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from graphnn.ir.program import Phase
from graphnn.plan.plan import Plan, Step, aligned


@dataclass(frozen=True)
class Region:
    """A part of the arena, from when it is first written to when it is last read; buffers that share it follow in turn.

    Args:
        offset: bytes from the start of the arena.
        nbytes: aligned size.
        first: step that writes it.
        last: last step that reads it; the number of steps less 1 where its value is needed after them all.
        buffers: numbers of the buffers in it, in the order in which they are written.
    """

    offset: int
    nbytes: int
    first: int
    last: int
    buffers: tuple[int, ...]


@dataclass(frozen=True)
class Span:
    """The steps `start` to `end` (not included) in which a region holds the value of one buffer."""

    region: Region
    buffer: int
    start: int
    end: int


def regions(plan: Plan) -> tuple[Region, ...]:
    """All parts of the arena with their lifetimes, in the order in which they are written."""
    members: dict[int, list[int]] = {}
    roots: dict[int, int] = {}
    for number, buffer in enumerate(plan.buffers):
        roots[number] = number if buffer.shares is None else roots[buffer.shares]
        if plan.buffers[roots[number]].offset is not None:
            members.setdefault(roots[number], []).append(number)
    return tuple(_region(plan, numbers) for numbers in members.values())


def _region(plan: Plan, numbers: Sequence[int]) -> Region:
    root = plan.buffers[numbers[0]]
    last = min(max(plan.buffers[number].last_step for number in numbers), len(plan.steps) - 1)
    ordered = sorted(numbers, key=lambda number: plan.buffers[number].first_step)
    return Region(root.offset or 0, aligned(root.spec.nbytes), root.first_step, last, tuple(ordered))


def spans(region: Region, plan: Plan) -> Iterator[Span]:
    """The buffers of a region, each until the next one takes over, the last one to the end."""
    starts = [plan.buffers[number].first_step for number in region.buffers]
    for number, start, end in zip(region.buffers, starts, [*starts[1:], region.last + 1], strict=True):
        if end > start:
            yield Span(region, number, start, end)


def live_bytes(plan: Plan) -> tuple[int, ...]:
    """Aligned bytes of the arena that are alive at each step; the largest is `plan.peak_bytes`."""
    changes = [0] * (len(plan.steps) + 1)
    for region in regions(plan):
        changes[region.first] += region.nbytes
        changes[region.last + 1] -= region.nbytes
    return tuple(accumulate(changes[:-1]))


def producers(plan: Plan) -> dict[int, tuple[int, Step]]:
    """The step that writes each buffer, with its number."""
    return {output: (number, step) for number, step in enumerate(plan.steps) for output in step.outputs}


def kept_for_backward(plan: Plan) -> set[int]:
    """Buffers that a forward step writes and a backward step reads, directly or through a view."""
    made = producers(plan)
    kept: set[int] = set()
    for step in plan.steps:
        for number in step.inputs if step.origin.phase is Phase.BACKWARD else ():
            while number in made and made[number][1].origin.phase is Phase.FORWARD and number not in kept:
                kept.add(number)
                source = plan.buffers[number].shares
                if source is None or not made[number][1].op.is_view:
                    break
                number = source
    return kept
