"""Prepared steps: whatever happens between two steps, they give the bits that steps looked up anew would give."""

import numpy as np
import pytest

import graphnn as gnn
from graphnn import layers, losses, optimizers, schedules
from graphnn.errors import GraphError
from graphnn.ops.random import RandomStream
from graphnn.training.prepared import PreparedStep, taker

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
    monkeypatch.setattr(PreparedStep, "take", lambda *_: None)
    assert found == results_of("reference", event, COPIES["the same"])


def test_on_the_native_engine_too(monkeypatch):
    found = results_of("cpu", "fix a parameter", COPIES["the same"])
    monkeypatch.setattr(PreparedStep, "take", lambda *_: None)
    assert found == results_of("cpu", "fix a parameter", COPIES["the same"])


def test_each_batch_is_read_anew():
    trainer = gnn.Trainer(model_of("cpu"), losses.CrossEntropy(), optimizers.SGD(0.0))
    x, y = batch(0, 8)
    trainer.train_step(x, y)
    other = trainer.evaluate(batch(1, 8))["loss"]
    first = trainer.evaluate((x, y))["loss"]
    assert other != first
    assert trainer.evaluate(batch(1, 8))["loss"] == other


def test_only_arrays_of_the_same_specs_are_taken_as_they_are():
    trainer = gnn.Trainer(model_of("reference"), losses.CrossEntropy())
    x, y = batch(0, 4)
    trainer.train_step(x, y)
    (step,) = trainer._prepared
    others = [batch(0, 5)[0], x.astype("float64"), np.asfortranarray(x), x.tolist(), {"x": x}, (x,), None, x.view(View)]
    assert [step.take(x, y) is not None, *(step.take(other, y) for other in others)] == [True, *[None] * len(others)]
    assert step.take(x, y.astype("int32")) is None


class View(np.ndarray):
    """An array of another class."""


@pytest.mark.parametrize("tree", [(1, 2), {"a": 1, "b": 2}, {"a": 1}], ids=str)
def test_trees_are_taken_apart_in_the_order_of_the_first(tree):
    take, names = taker(tree), list(tree) if isinstance(tree, dict) else []
    assert list(take(tree)) == (list(tree.values()) if names else list(tree))
    assert names == [] or take({name: tree[name] for name in reversed(names)}) == tuple(tree.values())
    assert not take({"c": 1, "b": 2})
    assert not take({**tree, "more": 1} if names else [1, 2])


@pytest.mark.parametrize("device", ["reference", "cpu"])
def test_steps_of_a_frozen_and_of_a_free_network_take_turns(device):
    """As in adversarial training: neither pushes the other out, and both give what fresh trainers give."""
    found = []
    for forget in (False, True):
        trainer = gnn.Trainer(model_of(device), losses.CrossEntropy(), optimizers.Adam(RATE))
        for number in range(6):
            (trainer.model.freeze if number % 2 else trainer.model.unfreeze)("hidden")
            if forget:
                trainer._prepared.clear()
            trainer.train_step(*batch(number, 8))
        found.append([array.tobytes() for array in (*trainer.model.parameters.values(), *trainer.memory.values())])
        assert len(trainer._prepared) == (1 if forget else 2)
    assert found[0] == found[1]


def test_an_input_too_many_is_not_taken_for_a_target():
    x, y = (gnn.Input(("batch", 3), name=name) for name in "xy")
    model = gnn.Model(gnn.Graph((x, y), layers.Add()(layers.Linear(3)(x), y)), device="cpu")
    trainer = gnn.Trainer(model, losses.SquaredError(), "sgd")
    array = np.ones((4, 3), "float32")
    trainer.train_step((array, array), {"": array})
    for _ in range(2):
        with pytest.raises(GraphError):
            trainer.train_step((array, array, array), {"other": array})
    assert trainer.steps == 1


@pytest.mark.parametrize("layout", ["columns first", "strided", "read only"])
def test_optimizer_states_of_any_layout_are_copied(layout):
    """Native code goes through them in C order, and writes into them."""
    trained = []
    for device in ("cpu", "reference"):
        trainer = gnn.Trainer(model_of(device), losses.CrossEntropy(), optimizers.Adam(RATE))
        trainer.train_step(*batch(0, 8))
        given = {path: laid_out(array, layout) for path, array in trainer.memory.items()}
        kept = {path: array.copy() for path, array in given.items()}
        trainer.memory = given
        trained.append([trainer.train_step(*batch(number, 8)) for number in (1, 2)])
        trained[-1] += [np.array(array) for array in (*trainer.model.parameters.values(), *trainer.memory.values())]
        for path, array in given.items():
            np.testing.assert_array_equal(array, kept[path])
    for found, wanted in zip(*trained, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


def laid_out(array: np.ndarray, layout: str) -> np.ndarray:
    if layout == "columns first":
        return np.asfortranarray(array)
    if layout == "strided":
        return np.repeat(array, 2, axis=-1)[..., ::2] if array.ndim else array
    array = array.copy()
    array.flags.writeable = False
    return array
