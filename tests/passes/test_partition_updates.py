"""partition_updates: the optimizer in parts of equal size, with the same bits where nothing is summed."""

import numpy as np
import pytest

import graphnn as gnn
from graphnn import layers, optimizers
from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.program import Kind, Origin, Phase
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ir.verify import verify
from graphnn.ops.creation import Fill
from graphnn.ops.evaluate import evaluate
from graphnn.ops.op import Tensor
from graphnn.passes.partition import partition, sharded_inputs
from graphnn.passes.partition_updates import partition_updates
from graphnn.tiled import Tiled
from training_steps import classifying_step


def loops(program):
    return [i.op for i in program.instructions if isinstance(i.op, Tiled)]


def results(program, arrays):
    values = evaluate(np, program, arrays)
    return [values[value] for value in program.results]


def check(program, arrays, workers, least, tolerance=0.0):
    tiled = verify(partition_updates(program, workers, least))
    for op in loops(tiled):
        verify(op.body)
    for actual, wanted in zip(results(tiled, arrays), results(program, arrays), strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=0, atol=tolerance)
    return tiled


def step_program(optimizer):
    """An MLP with weights (48, 96), (96, 15) and small biases: its step in float64."""
    x = gnn.Input(("batch", 48))
    graph = gnn.Graph(x, layers.Linear(15, name="b")(layers.ReLU()(layers.Linear(96, name="a")(x))))
    program, arrays = classifying_step(graph, (32, 48), 15, optimizer)
    return partition(program, 4, sharded_inputs(program, 32)), arrays


OPTIMIZERS = [
    optimizers.SGD(0.1, momentum=0.9),
    optimizers.Adam(),
    optimizers.AdamW(amsgrad=True),
    optimizers.AdaGrad(),
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda optimizer: type(optimizer).__name__)
def test_all_large_updates_are_one_loop_with_the_same_bits(optimizer):
    program, arrays = step_program(optimizer)
    tiled = check(program, arrays, 2, 500)
    _, updates = loops(tiled)
    large = {new for old, new in program.updates if old.spec.size >= 500}
    assert large <= {value for i in tiled.instructions if i.op is updates for value in i.outputs}
    assert set(updates.input_axes) <= {0, None}
    assert set(updates.output_axes) == {0}


def test_parameters_and_moments_may_be_written_in_place():
    program, _ = step_program(optimizers.Adam())
    tiled = partition_updates(program, 2, 500)
    _, loop = (i for i in tiled.instructions if isinstance(i.op, Tiled))
    pairs = [(loop.inputs.index(old), loop.outputs.index(new)) for old, new in tiled.updates if new in loop.outputs]
    assert len(pairs) == 6
    assert all(loop.op.may_overwrite(*pair) for pair in pairs)


def test_a_clipping_factor_parts_the_updates_in_two():
    program, arrays = step_program(optimizers.Adam(clip_norm=0.1))
    _, norm, updates = loops(check(program, arrays, 2, 500, 1e-14))
    assert set(norm.output_axes) == {"sum"}  # nothing of the moments is computed before the factor is known, and kept
    assert set(updates.output_axes) == {0}


@pytest.mark.parametrize(("shape", "axis"), [((8, 9), 0), ((3, 3, 8), 2), ((9, 8), 1), ((72,), 0)])
@pytest.mark.parametrize("workers", [2, 4, 8])
def test_arrays_are_cut_along_the_first_axis_that_divides(shape, axis, workers):
    builder = ProgramBuilder()
    spec = TensorSpec(shape, "float64")
    p, v, g = (Tensor(builder, builder.input(name, spec, Kind.PARAMETER)) for name in "pvg")
    rate = Tensor(builder, builder.input("rate", TensorSpec((1,), "float64")))
    with builder.at(Origin("", Phase.UPDATE)):
        velocity = v * 0.9 + g * rate
        builder.update(v.value, velocity.value)
        builder.update(p.value, (p - velocity).value)
        total = (g * g).sum()
    program = builder.build([total.value])
    arrays = [np.random.default_rng(i).normal(size=value.spec.shape) for i, value in enumerate(program.inputs)]
    tiled = check(program, arrays, workers, 18, 1e-12)
    (op,) = loops(tiled)
    assert op.output_axes == (axis, axis, "sum")
    assert all(isinstance(i.op, Tiled | Fill) for i in tiled.instructions)
    assert bool(loops(partition_updates(program, workers, 72))) is (axis == 0)  # copies have to be worth it


def test_small_or_indivisible_arrays_stay_outside():
    program, _ = step_program(optimizers.Adam())
    assert len(loops(program)) == 1
    assert len(loops(partition_updates(program, 2, 48 * 96 + 1))) == 1
    assert len(loops(partition_updates(program, 7, 500))) == 1
    assert partition_updates(program, 1, 500) is program


def test_arrays_that_are_cut_otherwise_do_not_meet_in_a_tile():
    builder = ProgramBuilder()
    p, row = (Tensor(builder, builder.input(n, TensorSpec(s, "float64"))) for n, s in [("p", (6, 3, 8)), ("r", (3, 8))])
    with builder.at(Origin("", Phase.UPDATE)):
        program = builder.build([(p * (row * 2.0)).value])  # row is cut along axis 1, p along axis 0
    arrays = [np.random.default_rng(i).normal(size=value.spec.shape) for i, value in enumerate(program.inputs)]
    assert len(loops(check(program, arrays, 2, 6))) == 1


def test_only_updates_are_cut():
    builder = ProgramBuilder()
    x = Tensor(builder, builder.input("x", TensorSpec((8, 9))))
    program = builder.build([(x * x + x).value])
    assert partition_updates(program, 2, 8) is program
