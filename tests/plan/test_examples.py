"""The training steps of the examples: planned equals unplanned, in an arena hardly larger than what is alive."""

import numpy as np
import pytest

import graphnn as gnn
from example_cases import bilstm, causal, digits, masked, wavenet
from graphnn import losses
from graphnn.ops.evaluate import evaluate
from graphnn.plan.plan import aligned


def most_alive_at_once(plan):
    """The most bytes of the arena in use at one step, counted place by place and step by step."""
    first, last = {}, {}
    end = len(plan.steps)
    for index, step in enumerate(plan.steps):
        for number in (*step.inputs, *step.outputs):
            root = number
            while plan.buffers[root].shares is not None:
                root = plan.buffers[root].shares
            first.setdefault(root, index)
            last[root] = index
    for number in (new for _, new in plan.updates):
        while plan.buffers[number].shares is not None:
            number = plan.buffers[number].shares
        last[number] = end
    sizes = {root: aligned(plan.buffers[root].spec.nbytes) for root in first if plan.buffers[root].offset is not None}
    return max(sum(size for root, size in sizes.items() if first[root] <= t <= last[root]) for t in range(end))


@pytest.mark.parametrize("make", [digits, wavenet, bilstm, causal, masked], ids=lambda make: make.__name__)
def test_training_step(make):
    graph, x, y = make()
    trainer = gnn.Trainer(gnn.Model(graph, device="reference"), losses.CrossEntropy(ignore_label=-1), "adam")
    compiled, given = trainer.prepare(x, y)
    plan, program = compiled.executable.plan, compiled.program
    needed = most_alive_at_once(plan)
    print(f"{make.__name__}: {plan.arena_bytes:,} bytes for {needed:,} alive; {len(plan.steps)} steps")
    assert 0 < needed <= plan.arena_bytes <= 1.05 * needed
    arrays = [np.array(given[name]) for name in compiled.inputs]
    values = evaluate(np, program, [array.copy() for array in arrays])
    wanted = [values[value] for value in (*program.outputs, *(new for _, new in program.updates))]
    outputs = compiled.executable(arrays)  # the arrays of parameters and states take the new values
    changed = [arrays[old] for old, _ in plan.updates]
    for actual, expected in zip([*outputs, *changed], wanted, strict=True):
        np.testing.assert_array_equal(actual, expected)
