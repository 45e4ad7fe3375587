"""Regions against a count, step by step and byte by byte, of what the plan says of each buffer."""

import itertools

import numpy as np
from hypothesis import given

from graphnn.ir.program import Phase
from graphnn.plan.lifetimes import kept_for_backward, live_bytes, producers, regions, spans
from graphnn.plan.memory import make_plan
from graphnn.render.memory import memory_svg
from module_cases import SMALL, module_programs
from random_programs import programs


@given(programs())
def test_regions_are_what_is_alive(program):
    plan = make_plan(program)
    found, arena = regions(plan), np.full((max(len(plan.steps), 1), plan.arena_bytes), -1)
    for index, region in enumerate(found):
        part = arena[region.first : region.last + 1, region.offset : region.offset + region.nbytes]
        assert (part == -1).all()  # nobody else is there
        part[...] = index
        parts = list(spans(region, plan))
        assert all(a.end == b.start for a, b in itertools.pairwise(parts))
        assert not parts or (parts[0].start, parts[-1].end) == (region.first, region.last + 1)
    assert live_bytes(plan) == tuple((arena[step] >= 0).sum() for step in range(len(plan.steps)))
    assert max(live_bytes(plan), default=0) == plan.peak_bytes
    for number, buffer in enumerate(plan.buffers):
        if buffer.offset is not None and buffer.spec.nbytes:
            steps = range(buffer.first_step, min(buffer.last_step + 1, len(plan.steps)))
            (region,) = [region for region in found if number in region.buffers]
            assert all((arena[step, buffer.offset] == found.index(region)) for step in steps)
    assert memory_svg(plan) == memory_svg(plan)


def test_what_is_kept_is_what_backward_reads():
    for _, program in module_programs(SMALL):
        plan = make_plan(program)
        made = producers(plan)
        read = {number for step in plan.steps if step.origin.phase is Phase.BACKWARD for number in step.inputs}
        forward = {number for number, (_, step) in made.items() if step.origin.phase is Phase.FORWARD}
        assert kept_for_backward(plan) >= read & forward
        assert kept_for_backward(plan) <= forward
