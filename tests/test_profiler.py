"""Profiles: counts by hand, times that add up, the slow node found, and nothing changed."""

import json
import time

import numpy as np
import pytest

import graphnn as gnn
from graphnn import layers, losses
from graphnn.backends.reference import ReferenceBackend
from graphnn.plans import plans_of, programs_of
from graphnn.profiler import profile
from graphnn.tiled import Tiled


class Slow(gnn.NumericLayer):
    """The identity, five milliseconds late."""

    def output_spec(self, x):
        return x

    def forward(self, xp, x):
        time.sleep(0.005)
        return x * 1

    def backward(self, xp, inputs, outputs, cotangents):
        return (cotangents[0],)


def network(slow=False):
    x = gnn.Input(("batch", 8, 8, 3), name="image")
    h = layers.Conv2D(4, kernel_shape=3, pad="same", name="conv")(x)
    h = layers.BatchNorm2D(name="norm")(h)
    h = Slow(name="slow")(h) if slow else h
    return gnn.Graph(x, layers.Linear(5, name="dense")(layers.GlobalAveragePool(name="pool")(h)), name="net")


IMAGES = np.random.default_rng(0).normal(size=(6, 8, 8, 3)).astype("float32")
LABELS = np.arange(6) % 5


def everything(model):
    stores = (model.parameters, model.states, model.gradients)
    return [array.tobytes() for store in stores for array in store.values()], model.step, model.derived_variables


def test_products_are_counted_by_hand():
    """Of the convolution every tap counts, those in the padding too: 3 * 3 * 3 for each of 4 channels and 64 places."""
    found = profile(gnn.Model(network(), device="reference"), IMAGES, runs=1)
    rows = {(row.path, row.phase): row for row in found.rows}
    conv = 2 * 6 * 64 * 4 * 27
    assert rows["conv", "forward"].flops == conv + 6 * 64 * 4  # the bias
    assert rows["conv", "backward"].flops == 2 * conv + 6 * 64 * 4  # by input and weight; the bias sums
    assert rows["dense", "forward"].flops == 2 * 6 * 4 * 5 + 6 * 5
    assert rows["dense", "backward"].flops == 2 * (2 * 6 * 4 * 5) + 6 * 5
    assert found.flops == sum(row.flops for row in found.rows)
    assert (found.what, found.uncounted) == ("forward and backward", ())


def test_the_native_engine_does_the_same_operations_and_adds_up_its_tiles():
    """Each tile has a gradient of its own for the 25 parameters of the dense layer."""
    model = gnn.Model(network())
    rows = {(row.path, row.phase): row for row in profile(model, IMAGES, runs=1).rows}
    steps = plans_of(model, IMAGES)["backward"].steps
    tiles = next((step.op.tiles for step in steps if isinstance(step.op, Tiled)), 1)
    assert rows["conv", "forward"].flops == 2 * 6 * 64 * 4 * 27 + 6 * 64 * 4
    assert rows["dense", "forward"].flops == 2 * 6 * 4 * 5 + 6 * 5
    assert rows["dense", "backward"].flops == 2 * (2 * 6 * 4 * 5) + 6 * 5 + (tiles - 1) * (20 + 5)


def test_every_node_of_a_fused_group_has_a_row_and_a_part_of_its_time():
    """One kernel multiplies, adds the bias and takes the tanh, whose part is by far the smaller."""
    x = gnn.Input(("batch", 256), name="x")
    graph = gnn.Graph(x, layers.Tanh(name="act")(layers.Linear(256, name="dense")(x)))
    found = profile(gnn.Model(graph), np.ones((64, 256), "float32"), runs=5)
    dense, act = (next(r for r in found.rows if (r.path, r.phase) == (p, "forward")) for p in ("dense", "act"))
    assert dense.shared
    assert act.shared
    assert (dense.flops, act.flops) == (2 * 64 * 256 * 256 + 64 * 256, 64 * 256)
    assert (dense.bytes_read, act.bytes_written) == (4 * (64 * 256 + tiled(found) * (256 * 256 + 256)), 4 * 64 * 256)
    assert 0 < 100 * act.seconds < dense.seconds < found.seconds
    assert "shared by their operations and bytes" in str(found)


def tiled(found):
    """How many workers read the weights."""
    return int(found.backend.partition(", ")[2].split()[0])


@pytest.mark.parametrize("device", ["cpu", "reference"])
def test_a_training_step_has_three_phases(device):
    model = gnn.Model(network(), device=device)
    trainer = gnn.Trainer(model, losses.CrossEntropy(), "sgd")
    before = everything(model)
    found = profile(trainer, IMAGES, LABELS, runs=2)
    assert everything(model) == before
    assert trainer.steps == 0
    (plan,) = plans_of(trainer, IMAGES, LABELS).values()
    phases = {row.path: [] for row in found.rows}
    for row in found.rows:
        phases[row.path].append(row.phase)
    assert phases["conv"] == phases["norm"] == phases["dense"] == ["forward", "backward", "update"]
    assert phases["pool"] == phases["loss"] == ["forward", "backward"]
    assert found.arena_bytes == plan.arena_bytes
    assert found.backend.startswith(device)
    if device == "reference":
        assert sum(row.steps for row in found.rows) == len(plan.steps)
    assert profile(trainer, IMAGES, LABELS, runs=1, training=False).what == "one evaluation step"


def test_profiling_a_model_changes_nothing():
    model = gnn.Model(network())
    model.forward(IMAGES, training=True)
    model.backward(np.ones((6, 5)))
    before = everything(model)
    profile(model, IMAGES, runs=1)
    assert everything(model) == before


def test_the_slow_node_is_found_and_its_operations_are_not_guessed():
    found = profile(gnn.Model(network(slow=True)), IMAGES, runs=3)
    overlay = found.overlay()
    assert max(overlay.values, key=overlay.values.__getitem__) == "slow"
    assert overlay.unit == "ms"
    assert 5 <= overlay.values["slow"] <= 1e3 * found.seconds
    assert found.uncounted == ("slow",)
    assert "without the operations of slow" in str(found)
    assert any(text.startswith("slow by its reference in NumPy") for text in found.interpreted)


def test_overlays_equal_the_profile():
    trainer = gnn.Trainer(gnn.Model(network()), losses.CrossEntropy(), "sgd")
    found = profile(trainer, IMAGES, LABELS, runs=1)
    for what, size, number in (
        ("seconds", {"µs": 1e-6, "ms": 1e-3, "s": 1}, lambda row: row.seconds),
        ("flops", {"FLOP": 1, "kFLOP": 1e3, "MFLOP": 1e6}, lambda row: row.flops),
        ("bytes", {"B": 1, "KiB": 2**10, "MiB": 2**20}, lambda row: row.bytes_read + row.bytes_written),
    ):
        overlay = found.overlay(what)
        assert list(overlay.values) == ["conv", "norm", "pool", "dense"]
        for path, value in overlay.values.items():
            expected = sum(number(row) for row in found.rows if row.path == path)
            assert value * size[overlay.unit] == pytest.approx(expected)
        assert "not drawn" in overlay.notes[-1]  # the loss
    with pytest.raises(gnn.OptionError, match="seconds, flops, bytes"):
        found.overlay("joules")


def test_details_have_the_phases_of_nodes_of_modules_and_of_all():
    x = gnn.Input(("batch",), dtype="int64", name="x")
    inner = gnn.Graph(x, layers.Tanh(name="tanh")(layers.Embedding(4, 9, name="table")(x)), name="inner")
    ids = gnn.Input(("batch",), dtype="int64", name="ids")
    graph = gnn.Graph(ids, layers.Linear(3, name="dense")(inner(ids)), name="net")
    trainer = gnn.Trainer(gnn.Model(graph, device="reference"), losses.CrossEntropy(), "sgd")
    found = profile(trainer, np.arange(6) % 9, np.arange(6) % 3, runs=1)
    details = found.overlay("flops").details
    assert (details.title, details.columns) == ("operations", ("", "of all"))
    for path, rows in details.rows.items():
        own = [
            row for row in found.rows if row.layer and (row.path == path or row.path.startswith(path and f"{path}/"))
        ]
        sums = {
            phase: sum(row.flops for row in own if row.phase == phase) for phase in ("forward", "backward", "update")
        }
        present = [phase for phase in sums if any(row.phase == phase for row in own)]
        assert [name for name, *_ in rows] == [*present, "in all"]
        for name, text, share in rows:
            number = sums.get(name, sum(sums.values()))
            assert share == f"{number / found.flops:.1%}"
            assert text == f"{number:,} FLOP" if found.overlay("flops").unit == "FLOP" else text.endswith("kFLOP")
    assert list(details.rows) == ["inner/table", "inner", "", "inner/tanh", "dense"]
    assert [name for name, *_ in details.rows["inner"]] == ["forward", "backward", "update", "in all"]


def test_the_table_and_the_data_say_the_same():
    found = profile(gnn.Model(network()), IMAGES, runs=1)
    data = json.loads(json.dumps(found.to_dict()))
    assert data["seconds"] == found.seconds == pytest.approx(sum(row["seconds"] for row in data["rows"]))
    lines = str(found).splitlines()
    assert [line.split()[0] for line in lines[4:8]] == ["conv", "norm", "pool", "dense"]
    assert lines[4].split()[1] == "Conv2D"
    assert "100.0%" in lines[9]


def test_a_timed_run_gives_what_a_call_gives():
    model = gnn.Model(network())
    plan, program = (found(model, IMAGES, training=False)["forward"] for found in (plans_of, programs_of))
    executable = ReferenceBackend(np).compile(plan)
    given = {"image": IMAGES, **model.parameters, **model.states}
    arrays = [given[value.name] for value in program.inputs]
    outputs, seconds = executable.run_timed(arrays)
    assert len(seconds) == len(plan.steps)
    assert min(seconds) > 0
    for timed, called in zip(outputs, executable(arrays), strict=True):
        np.testing.assert_array_equal(timed, called)


@pytest.mark.parametrize("runs", [0, -1, True, 1.5])
def test_a_number_of_runs_is_positive(runs):
    with pytest.raises(gnn.OptionError, match="not a number of runs"):
        profile(gnn.Model(network()), IMAGES, runs=runs)


def test_only_models_and_trainers_have_plans():
    with pytest.raises(gnn.OptionError, match="a Model or a Trainer"):
        plans_of(network(), IMAGES)
    with pytest.raises(gnn.OptionError, match="expected: x, y"):
        plans_of(gnn.Trainer(gnn.Model(network()), losses.CrossEntropy()), IMAGES)


def test_outputs_without_gradients_have_no_backward():
    x = gnn.Input(("batch", 3), dtype="int64", name="x")
    model = gnn.Model(gnn.Graph(x, layers.Reshape((3, -1))(x)))
    assert list(plans_of(model, np.zeros((2, 3), "int64"))) == ["forward"]
    assert profile(model, np.zeros((2, 3), "int64"), runs=1).what == "forward"
