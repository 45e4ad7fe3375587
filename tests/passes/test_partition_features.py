"""Layers cut by features: the same numbers, each weight updated where its worker has it, and only where it pays."""

import numpy as np
import pytest

import graphnn as gnn
from graphnn import layers, losses, optimizers
from graphnn.backends.cpu.backend import CpuBackend, shared_engine
from graphnn.backends.cpu.table import Barrier, Call, Tiles
from graphnn.backends.cpu.threads import Pool
from graphnn.ir.program import Program
from graphnn.ir.verify import verify
from graphnn.ops.evaluate import evaluate
from graphnn.ops.linalg import MatMul
from graphnn.ops.shape import Slice
from graphnn.passes.fuse import fuse
from graphnn.passes.partition import partition, sharded_inputs
from graphnn.passes.partition_features import by_features, pairs_of
from graphnn.passes.pipeline import clean_bodies, run_passes
from graphnn.plan.memory import make_plan
from graphnn.tiled import Tiled
from training_steps import classifying_step

BATCH, WIDE = 12, 768  # 2 to 4 workers get at least 1 KiB of so many float64


def mlp(*sizes, act="relu", between=None) -> gnn.Graph:
    x = h = gnn.Input(("batch", 20), name="x")
    for number, size in enumerate(sizes):
        h = layers.Linear(size, act_fn=act, name=f"d{number}")(h)
        h = between(h) if between is not None else h
    return gnn.Graph(x, layers.Linear(5, name="last")(h))


def step_of(graph, optimizer="adam", batch=BATCH, freeze=(), dtype="float64") -> tuple[Program, list[np.ndarray]]:
    return classifying_step(graph, (batch, 20), 5, optimizer, freeze, dtype)


def cut(program: Program, workers: int, batch: int = BATCH) -> Program:
    return partition(program, workers, sharded_inputs(program, batch), by_features(program, batch, workers))


def names(program: Program, workers: int = 2, batch: int = BATCH) -> list[tuple[str, str]]:
    return [
        tuple(layer.forward.origin.path for layer in (pair.first, pair.second))
        for pair in pairs_of(program, batch, workers)
    ]


GRAPHS = {
    "two": (mlp(WIDE, 24), [("d0", "d1")]),
    "three": (mlp(WIDE, 24, WIDE), [("d0", "d1"), ("d2", "last")]),
    "four": (mlp(WIDE, 24, WIDE, 36), [("d0", "d1"), ("d2", "d3")]),
    "tanh": (mlp(WIDE, 24, act="tanh"), [("d0", "d1")]),
    "gelu": (mlp(WIDE, 24, act="gelu"), [("d0", "d1")]),
}


@pytest.mark.parametrize("workers", [2, 3, 4])
@pytest.mark.parametrize(("graph", "pairs"), GRAPHS.values(), ids=GRAPHS)
def test_the_numbers_stay(graph, pairs, workers):
    program, arrays = step_of(graph)
    found = [pair for pair in names(program, workers) if pair[1] != "last"]
    assert found == [pair for pair in pairs if pair[1] != "last"]
    tiled = verify(cut(program, workers))
    wanted, made = evaluate(np, program, arrays), evaluate(np, tiled, arrays)
    for old, new in zip(program.results, tiled.results, strict=True):
        np.testing.assert_allclose(made[new], wanted[old], rtol=0, atol=1e-12)


def test_the_columns_of_one_weight_and_the_rows_of_the_next_are_cut():
    tiled = cut(step_of(mlp(WIDE, 24))[0], 2)
    loops = [i for i in tiled.instructions if isinstance(i.op, Tiled)]
    axes = {
        value.name: axis
        for loop in loops
        for value, axis in zip(loop.inputs, loop.op.input_axes, strict=True)
        if value.spec.rank == 2
    }
    assert (axes["d0/W"], axes["d1/W"]) == (1, 0)
    assert (axes["d0/W/m"], axes["d1/W/v"]) == (1, 0)
    shapes = {i.outputs[0].spec.shape for loop in loops for i in loop.op.body.instructions if isinstance(i.op, MatMul)}
    assert {(20, WIDE // 2), (WIDE // 2, 24), (BATCH, WIDE // 2)} <= shapes  # both gradients, and the features
    assert (BATCH, WIDE) not in shapes


def compiled_step(workers: int, graph=None):
    program, _ = step_of(graph or mlp(WIDE, 24), dtype="float32")
    plan = make_plan(fuse(run_passes(cut(program, workers), (clean_bodies,))))
    return plan, CpuBackend(Pool(workers, shared_engine().code)).compile(plan)


@pytest.mark.parametrize("workers", [2, 3])
def test_nothing_is_copied_and_weights_are_written_in_place(workers):
    plan, made = compiled_step(workers)
    assert all(plan.buffers[new].shares == old for old, new in plan.updates)
    tiles = [row for row in made.assembled.segments[0] if isinstance(row, Tiles)]
    copies = [r for t in tiles for r in t.first if isinstance(r, Call) and isinstance(r.op, Slice) and r.step is None]
    assert not copies


def test_workers_wait_only_for_sums_and_for_the_gradient_of_these():
    _, made = compiled_step(2)
    rows = made.assembled.segments[0]
    assert sum(isinstance(row, Barrier) for row in rows) <= 3


def test_what_follows_from_labels_alone_is_computed_where_it_is_used():
    """Not in the first loop, whose body does not know the logits."""
    loops = [i.op.body for i in cut(step_of(mlp(WIDE, 24))[0], 2).instructions if isinstance(i.op, Tiled)]
    names = [{i.op.name for i in body.instructions} for body in loops]
    assert sum("scatter_add_along" in found for found in names) == 1
    assert all("exp" in found for found in names if "scatter_add_along" in found)


# -- where it is not done ----------------------------------------------------------------------------------------------


def test_a_long_batch_is_cut_by_examples():
    def chosen(batch):
        return by_features(step_of(mlp(WIDE, 24), batch=batch)[0], batch, 2).locals

    assert chosen(12)
    assert not chosen(1024)


def residual(h):
    return layers.Add()(h, layers.Linear(WIDE, act_fn="relu", name="beside")(h))


OTHERS = {
    "short runs": (mlp(200, 24), {}),
    "features that no number of workers divides": (mlp(WIDE + 1, 24), {}),
    "a norm over features": (mlp(WIDE, 24, between=lambda h: layers.LayerNorm()(h)), {}),
    "dropout": (mlp(WIDE, 24, between=lambda h: layers.Dropout(0.5)(h)), {}),
    "gradients are clipped": (mlp(WIDE, 24), {"optimizer": optimizers.Adam(clip_norm=1.0)}),
    "the first weight stays": (mlp(WIDE, 24), {"freeze": ("d0",)}),
    "the second weight stays": (mlp(WIDE, 24), {"freeze": ("d1",)}),
    "two read the features": (mlp(WIDE, 24, between=lambda h: residual(h) if h.shape[-1] == WIDE else h), {}),
}


@pytest.mark.parametrize(("graph", "options"), OTHERS.values(), ids=OTHERS)
def test_other_layers_are_cut_by_examples(graph, options):
    program, arrays = step_of(graph, **options)
    assert not [pair for pair in names(program) if "d0" in pair]
    made = evaluate(np, cut(program, 2), arrays)
    for value, wanted in evaluate(np, program, arrays).items():
        if value in program.results:
            np.testing.assert_allclose(made.get(value, wanted), wanted, rtol=0, atol=1e-12)


def test_features_that_are_returned_are_cut_by_examples():
    x = gnn.Input(("batch", 20), name="x")
    h = layers.Linear(WIDE, name="d0")(x)
    model = gnn.Model(gnn.Graph(x, {"y": layers.Linear(24, name="d1")(h), "h": h}), device="reference")
    trainer = gnn.Trainer(model, {"y": losses.SquaredError(), "h": losses.SquaredError()}, "adam")
    targets = {"y": np.zeros((BATCH, 24)), "h": np.zeros((BATCH, WIDE))}
    program = trainer.prepare(np.ones((BATCH, 20)), targets)[0].program
    assert not names(program)


def test_explain_knows_the_kernel_of_each_step():
    """Also of those that read and write parts of columns where they are."""
    before = gnn.num_threads()
    try:
        gnn.set_num_threads(2)
        trainer = gnn.Trainer(gnn.Model(mlp(WIDE, 24), device="cpu"), losses.CrossEntropy(), "adam")
        (section,) = trainer.explain(np.ones((48, 20), "float32"), np.zeros(48, "int64")).sections  # enough for two
    finally:
        gnn.set_num_threads(before)
    steps = [entry for top in section.entries for entry in top.walk() if not entry.entries and not entry.is_view]
    assert {entry.number for entry in steps} <= section.kernels.keys()
    wider = [e for e in steps if section.kernels[e.number].outputs != tuple(operand.spec for operand in e.writes)]
    assert len(wider) == 2  # the features, and the first weight with its moments


# -- trained -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2, 3, 5])
@pytest.mark.parametrize("optimizer", ["adam", "sgd", "adamw"])
def test_training_is_that_of_the_reference(optimizer, workers):
    before = gnn.num_threads()
    random = np.random.default_rng(1)
    x, y = random.normal(size=(30, 20)), random.integers(0, 5, 30)
    trained = {}
    try:
        gnn.set_num_threads(workers)
        for device in ("cpu", "reference"):
            model = gnn.Model(mlp(960, 64, 960, 64), seed=0, dtype="float64", device=device)
            trainer = gnn.Trainer(model, losses.CrossEntropy(), optimizer)
            kept = [trainer.train_step(x, y) for _ in range(4)]
            trained[device] = [*kept, *map(np.array, model.parameters.values())]
    finally:
        gnn.set_num_threads(before)
    for found, wanted in zip(trained["cpu"], trained["reference"], strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-10)
