"""Time grows with the size of a program, not with its square; the numbers are printed (pytest -s)."""

import gc
import sys
import time
from itertools import pairwise

import numpy as np
import pytest

from graphnn import layers
from graphnn.autodiff import append_gradients
from graphnn.backends.reference import ReferenceBackend
from graphnn.graph.graph import Graph
from graphnn.graph.layer import Input
from graphnn.graph.lower import lower
from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.program import Kind, Program
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.model import Model
from graphnn.ops import tanh
from graphnn.ops.op import Tensor
from graphnn.passes.pipeline import run_passes
from graphnn.plan.memory import make_plan
from graphnn.plan.plan import Plan

ROW = TensorSpec((16,))  # one cache line
SIZES = (1_000, 10_000, 100_000)
SLOWEST = 40.0  # times as long for ten times the size, on a busy machine; the square would be 100


def timed(what, function, *arguments):
    """Without the garbage collector, which looks at all that other tests have left in this process."""
    gc.collect()
    gc.disable()
    try:
        start = time.perf_counter()
        result = function(*arguments)
        seconds = time.perf_counter() - start
    finally:
        gc.enable()
    print(f"{what:<40} {seconds:8.3f} s")
    return result, seconds


def forward_chain(n: int) -> Program:
    builder = ProgramBuilder()
    x = Tensor(builder, builder.input("x", ROW))
    for _ in range(n):
        x = tanh(x)
    return builder.build([x.value])


def training_chain(n: int) -> Program:
    """x <- tanh(x * p) with a p of its own each time: all activations stay alive until the backward comes."""
    builder = ProgramBuilder()
    x = Tensor(builder, builder.input("x", ROW))
    parameters = [Tensor(builder, builder.input(f"p{index}", ROW, Kind.PARAMETER)) for index in range(n // 10)]
    for p in parameters:
        x = tanh(x * p)
    loss = x.sum()
    found = append_gradients(builder, {loss.value: loss.fill(1.0, ())}, [p.value for p in parameters])
    for p in parameters:
        builder.update(p.value, (p - found[p.value] * 0.1).value)
    return builder.build([loss.value])


def plan_and_check(make, n) -> float:
    program = make(n)
    plan, seconds = timed(f"plan of {make.__name__}, {len(program.instructions):,} steps", make_plan, program)
    assert plan.arena_bytes <= 1.05 * plan.peak_bytes
    return seconds


@pytest.mark.parametrize("make", [forward_chain, training_chain])
def test_planning_takes_time_in_proportion_to_the_program(make):
    """100,000 steps forward only are planned below."""
    sizes = SIZES if make is training_chain else SIZES[:2]
    seconds = [plan_and_check(make, n) for n in sizes]
    for small, large in pairwise(seconds):
        assert large < SLOWEST * max(small, 0.02)


def test_plans_of_chains_take_the_memory_that_they_must():
    assert make_plan(forward_chain(1000)).arena_bytes == 64
    plan = make_plan(training_chain(1000))
    assert 100 * 64 <= plan.arena_bytes <= 104 * 64  # one tanh per parameter, and what the step at hand needs


def test_a_program_of_100_000_nodes_runs():
    """Lowered, rewritten, planned and run at the default recursion limit."""
    assert sys.getrecursionlimit() <= 1000
    x = Input(("batch", 4), name="x")
    y, act = x, layers.Tanh(name="act")
    for _ in range(SIZES[-1]):
        y = act(y)
    graph, specs = Graph(x, y), {"x": TensorSpec((2, 4))}
    lowered, _ = timed("lower", lambda: lower(graph, specs))
    program = lowered.builder.build([tensor.value for tensor in lowered.outputs])
    program, _ = timed("passes", run_passes, program)
    plan, _ = timed("plan", make_plan, program)
    assert isinstance(plan, Plan)
    run = ReferenceBackend().compile(plan)
    (value,), _ = timed("run", run, [np.full((2, 4), 0.5, "float32")])
    (again,), _ = timed("run again", run, [np.full((2, 4), 0.5, "float32")])
    wanted = np.full((2, 4), 0.5, "float32")
    for _ in range(SIZES[-1]):
        wanted = np.tanh(wanted)
    assert value.tobytes() == again.tobytes() == wanted.tobytes()


def test_models_are_made_run_and_differentiated_in_time_in_proportion_to_their_nodes():
    def whole(n):
        x = Input(("batch", 4), name="x")
        y = x
        for index in range(n):
            y = layers.Linear(4, name=f"fc_{index}")(y)
        model = Model(Graph(x, y))
        model.freeze("fc_1*")
        model.forward(np.ones((1, 4)), retain=True)
        model.backward(np.ones((1, 4)))
        assert len(model.derived_variables) == 2 * n
        assert len(str(model.summary())) > 40 * n

    _, small = timed("model of 100 nodes", whole, 100)
    _, large = timed("model of 1,000 nodes", whole, 1_000)
    assert large < SLOWEST * max(small, 0.05)
