"""Prepared steps: whatever happens between two steps, they give the bits that steps looked up anew would give."""

import numpy as np
import pytest

import graphnn as gnn
from graphnn import layers, losses, optimizers, schedules
from graphnn.ops.random import RandomStream
from graphnn.training import trainer as trainer_module
from graphnn.training.prepared import PreparedStep, spec_key

RATE = schedules.Exponential(0.05, 0.5)
COPIES = {  # the same numbers in arrays of another kind
    "the same": lambda array: array,
    "another dtype": lambda array: array.astype("float64"),
    "strided": lambda array: np.stack([array, array], -1)[..., 0],
    "read only": lambda array: np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape),
}


def model_of(device: str, seed: int = 0) -> gnn.Model:
    x = gnn.Input(("batch", 6), name="x")
    h = layers.Dropout(0.4, name="drop")(layers.Linear(8, act_fn="tanh", name="hidden")(x))
    h = layers.BatchNorm(name="norm")(h)
    return gnn.Model(gnn.Graph(x, layers.Linear(3, name="logits")(h)), seed=seed, device=device)


def batch(number: int, count: int, dtype: str = "float32"):
    x = RandomStream(number, "data").normal((count, 6)).astype(dtype)
    return x, (x[:, :3]).argmax(1)


def assign(trainer):
    trainer.model.parameters["hidden/W"] = np.full((6, 8), 0.25, "float32")


def start_over(trainer):
    trainer.memory = {path: np.zeros_like(array) for path, array in trainer.memory.items()}


def reseed(trainer):
    trainer.model.seed = 7


EVENTS = {
    "freeze a node": lambda trainer: trainer.model.freeze("norm"),
    "freeze a node without parameters": lambda trainer: trainer.model.freeze("drop"),
    "unfreeze all": lambda trainer: trainer.model.unfreeze(),
    "fix a parameter": lambda trainer: trainer.model.freeze("hidden/b"),
    "assign": assign,
    "new optimizer states": start_over,
    "another seed": reseed,
    "new stores": lambda trainer: trainer.model.to_cpu(),
    "evaluate": lambda trainer: trainer.evaluate(batch(9, 8)),
}

CALLS = [*((event, "the same") for event in EVENTS), *(("assign", copy) for copy in COPIES if copy != "the same")]


def results_of(device: str, event: str, copy) -> list[bytes]:
    """Losses, parameters, states and moments after steps on batches of two sizes, with an event in the middle."""
    trainer = gnn.Trainer(model_of(device), losses.CrossEntropy(), optimizers.Adam(RATE))
    found = []
    for number, count in enumerate((8, 8, 5, 8, 5, 8)):
        if number == 3:
            EVENTS[event](trainer)
        x, y = batch(number, count)
        found.append(np.float64(trainer.train_step(copy(x), y)))
    stores = (trainer.model.parameters, trainer.model.states, trainer.memory)
    return [np.asarray(array).tobytes() for array in [*found, *(array for store in stores for array in store.values())]]


@pytest.mark.parametrize(("event", "copy"), CALLS)
def test_steps_are_those_that_are_prepared_anew_each_time(event, copy, monkeypatch):
    runs = []
    run = PreparedStep.run
    monkeypatch.setattr(PreparedStep, "run", lambda *arguments: runs.append(1) or run(*arguments))
    found = results_of("reference", event, COPIES[copy])
    assert bool(runs) == (copy not in ("strided", "another dtype"))
    monkeypatch.setattr(trainer_module, "spec_key", lambda batch: None)
    assert found == results_of("reference", event, COPIES["the same"])


def test_on_the_native_engine_too(monkeypatch):
    found = results_of("cpu", "fix a parameter", COPIES["the same"])
    monkeypatch.setattr(trainer_module, "spec_key", lambda batch: None)
    assert found == results_of("cpu", "fix a parameter", COPIES["the same"])


def test_each_batch_is_read_anew():
    trainer = gnn.Trainer(model_of("cpu"), losses.CrossEntropy(), optimizers.SGD(0.0))
    x, y = batch(0, 8)
    trainer.train_step(x, y)
    other = trainer.evaluate(batch(1, 8))["loss"]
    first = trainer.evaluate((x, y))["loss"]
    assert other != first
    assert trainer.evaluate(batch(1, 8))["loss"] == other


def test_dtypes_and_shapes_that_differ_share_no_step():
    keys = [spec_key({"x": batch(0, count, dtype)[0]}) for count in (4, 5) for dtype in ("float32", "float64")]
    assert None not in keys
    assert len(set(keys)) == 4
    assert spec_key({"x": [[1.0]]}) is None
    assert spec_key({"x": np.ones((3, 2), order="F")}) is None
