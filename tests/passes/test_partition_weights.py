"""Gradients of weights by rows of the weight: the same numbers, where it moves fewer bytes, and nowhere else."""

import numpy as np
import pytest

import graphnn as gnn
from graphnn import layers, optimizers
from graphnn.ir.program import Phase, Program
from graphnn.ir.verify import verify
from graphnn.ops.evaluate import evaluate
from graphnn.ops.linalg import MatMul
from graphnn.passes.fuse import contraction_of, fuse
from graphnn.passes.partition import partition, sharded_inputs
from graphnn.passes.partition_state import Decided
from graphnn.passes.partition_updates import partition_updates
from graphnn.passes.partition_weights import gradients_by_rows, products_by_rows
from graphnn.plan.memory import make_plan
from graphnn.tiled import Tiled
from training_steps import classifying_step

WORKERS = 2


def step_of(batch, optimizer="adam", graph=None, freeze=()) -> tuple[Program, list[np.ndarray]]:
    """A training step in float64, and its arrays; by default of an MLP with weights (48, 96) and (96, 80)."""
    if graph is None:
        x = gnn.Input(("batch", 48))
        graph = gnn.Graph(x, layers.Linear(80, name="b")(layers.ReLU()(layers.Linear(96, name="a")(x))))
    return classifying_step(graph, (batch, 48), 80, optimizer, freeze)


def cut(program: Program, batch: int, tiles: int, workers: int = WORKERS) -> Program:
    outside = {value for i in gradients_by_rows(program, tiles, workers) for value in i.outputs}
    cut_batch = partition(program, tiles, sharded_inputs(program, batch), Decided(outside))
    return partition_updates(cut_batch, workers)


def chosen(program: Program, tiles: int = WORKERS, workers: int = WORKERS) -> int:
    return sum(isinstance(i.op, MatMul) for i in gradients_by_rows(program, tiles, workers))


def loops(program: Program) -> list[Tiled]:
    return [i.op for i in program.instructions if isinstance(i.op, Tiled)]


@pytest.mark.parametrize(("tiles", "workers"), [(2, 2), (4, 2), (3, 3), (6, 3), (4, 4)])
def test_the_numbers_stay_and_each_worker_makes_its_rows(tiles, workers):
    program, arrays = step_of(24)
    tiled = verify(cut(program, 24, tiles, workers))
    _, update = loops(tiled)
    products = [i for i in update.body.instructions if isinstance(i.op, MatMul)]
    rows = sorted(i.outputs[0].spec.shape for i in products)
    assert rows == [(48 // workers, 96), (96 // workers, 80)]
    wanted, found = evaluate(np, program, arrays), evaluate(np, tiled, arrays)
    for old, new in zip(program.results, tiled.results, strict=True):
        np.testing.assert_allclose(found[new], wanted[old], rtol=0, atol=1e-12)


def test_the_gradient_is_never_stored_and_the_weight_written_in_place():
    fused = fuse(cut(step_of(24)[0], 24, 2))
    update = loops(fused)[1]
    groups = [i for i in update.body.instructions if contraction_of(getattr(i.op, "body", update.body)) is not None]
    assert [len(i.outputs) for i in groups] == [3, 3]  # weight and moments, no gradient
    plan = make_plan(fused)
    assert all(plan.buffers[new].shares == old for old, new in plan.updates)


def test_a_long_batch_is_cut_by_examples():
    assert chosen(step_of(24)[0]) == 2
    assert chosen(step_of(4096)[0]) == 0


def test_more_tiles_than_workers_speak_for_rows():
    program, _ = step_of(96)
    assert chosen(program, 2) < chosen(program, 48)


def test_rows_that_the_workers_cannot_share_stay_in_the_tiles():
    assert chosen(step_of(24)[0], 7, 7) == 0


def test_with_clipping_the_workers_sum_up_the_squares_of_their_rows():
    program, arrays = step_of(24, optimizers.Adam(clip_norm=0.1))
    tiled = verify(cut(program, 24, 2))
    _, norm, update = loops(tiled)
    assert sum(isinstance(i.op, MatMul) for i in norm.body.instructions) == 2
    assert "sum" in norm.output_axes
    assert not any(isinstance(i.op, MatMul) for i in update.body.instructions)
    wanted, found = evaluate(np, program, arrays), evaluate(np, tiled, arrays)
    for old, new in zip(program.results, tiled.results, strict=True):
        np.testing.assert_allclose(found[new], wanted[old], rtol=0, atol=1e-12)


def test_only_trained_weights_of_one_use():
    assert len(list(products_by_rows(step_of(24, freeze=("a",))[0], WORKERS))) == 1
    x = gnn.Input(("batch", 48))
    twice = layers.Linear(48, name="twice")
    program, _ = step_of(24, graph=gnn.Graph(x, layers.Linear(80, name="b")(twice(layers.Tanh()(twice(x))))))
    assert [i.origin.path for i in products_by_rows(program, WORKERS)] == ["b"]


def test_small_products_are_not_worth_it():
    x = gnn.Input(("batch", 48))
    program, _ = step_of(4, graph=gnn.Graph(x, layers.Linear(80, name="b")(layers.Linear(4, name="a")(x))))
    assert not list(products_by_rows(program, WORKERS))


def test_what_is_no_training_step_has_none():
    program, _ = step_of(24)
    forward = tuple(i for i in program.instructions if i.origin.phase is Phase.FORWARD)
    assert not gradients_by_rows(Program(program.inputs, forward, program.outputs[:1], ()), 2, WORKERS)
