"""The training steps of the examples: planned equals unplanned, in an arena hardly larger than what is alive."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import graphnn as gnn
from graphnn import losses
from graphnn.ops.evaluate import evaluate
from graphnn.plan.plan import aligned

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def digits():
    (x, y), _ = example("digits").load()
    return example("digits").build(), x[:64], y[:64]


def wavenet():
    module = example("wavenet")
    return (module.build(), *next(iter(module.batches(module.read_text(None), 1, 4, seed=0))))


def bilstm():
    module = example("bilstm")
    images = np.random.default_rng(0).random((20, 8, 8))
    return (module.build(), *module.stack(images, np.arange(20) % 10, 30, seed=0))


def causal():
    module = example("attention")
    return (module.build(causal=True), *module.pieces(np.arange(9999) % 251, 16, seed=0))


def masked():
    module = example("attention")
    text = np.frombuffer(b"a line of some text that is long enough\n" * 99, "uint8").astype("int64")
    return (module.build(causal=False), *module.blotted(text, 16, seed=0))


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
    trainer = gnn.Trainer(gnn.Model(graph), losses.CrossEntropy(ignore_label=-1), "adam")
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
