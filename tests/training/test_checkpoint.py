"""Checkpoints: what is put back goes on as if there had been no break; what does not fit changes nothing."""

import json

import numpy as np
import pytest

import graphnn as gnn
from graphnn import layers
from graphnn.files.npz import load_arrays, save_arrays

X = np.random.default_rng(0).normal(size=(40, 6)).astype("float32")
DATA = (X, X[:, :3].argmax(axis=1))


def trainer(seed=0, optimizer="adam", width=8):
    x = gnn.Input(("batch", 6), name="x")
    h = layers.BatchNorm(name="norm")(layers.Dropout(0.2, name="drop")(layers.Linear(width, name="a")(x)))
    model = gnn.Model(gnn.Graph(x, layers.Linear(3, name="b")(h), name="net"), seed, device="reference")
    return gnn.Trainer(model, "cross_entropy", optimizer, ["accuracy"])


def fit(one, epochs, steps=None):
    one.fit(DATA, epochs, batch_size=8, seed=3, steps=steps, progress=False)
    return one


def numbers(one):
    rows = [{name: cell for name, cell in row.items() if name != "seconds"} for row in one.history.rows]
    return rows, one.steps, one.model.step


def same_arrays(one, two):
    stores = [(one.model.parameters, two.model.parameters), (one.model.states, two.model.states)]
    stores.append((one.memory, two.memory))
    return all(list(a) == list(b) and all(np.array_equal(a[n], b[n]) for n in a) for a, b in stores)


@pytest.mark.parametrize("steps", [0, 1, 4, 5, 7, 10, 13])
def test_a_break_anywhere_changes_no_bit(steps, tmp_path):
    """With 5 batches in an epoch: between epochs, and after each batch of one."""
    whole = fit(trainer(), 3)
    before = fit(trainer(), 3, steps)
    before.save_checkpoint(tmp_path / "run")
    after = trainer(seed=9)
    after.load_checkpoint(tmp_path / "run.npz")
    assert (after.begin is None) == (steps % 5 == 0)
    fit(after, 3 - len(after.history))
    assert numbers(after) == numbers(whole)
    assert same_arrays(after, whole)


def test_breaks_may_come_again_in_the_same_epoch(tmp_path):
    whole, part = fit(trainer(), 2), fit(trainer(), 2, 1)
    for _ in range(3):
        part.save_checkpoint(tmp_path / "run")
        part = trainer()
        part.load_checkpoint(tmp_path / "run")
        fit(part, 2, 1)
    part.save_checkpoint(tmp_path / "run")
    after = trainer()
    after.load_checkpoint(tmp_path / "run")
    assert numbers(fit(after, 2)) == numbers(whole)
    assert same_arrays(after, whole)


def test_a_training_that_goes_on_by_itself_is_not_changed_by_saving(tmp_path):
    plain, saved = fit(trainer(), 2, 7), fit(trainer(), 2, 7)
    saved.save_checkpoint(tmp_path / "run")
    assert numbers(fit(plain, 1)) == numbers(fit(saved, 1))


def damage(arrays, **changes):
    data = json.loads(arrays["training.json"].tobytes()) | changes
    return {**arrays, "training.json": np.frombuffer(json.dumps(data).encode(), "uint8")}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: {n: v for n, v in a.items() if n != "training.json"}, "no checkpoint"),
        (lambda a: {**a, "training.json": a["training.json"][:-5]}, "damaged"),
        (lambda a: damage(a, format=2), "another format"),
        (lambda a: damage(a, steps="many"), "another format"),
        (lambda a: damage(a, history=[3]), "damaged"),
        (lambda a: damage(a, cut={"batches": 1}), "damaged"),
        (lambda a: damage(a, optimizer="SGD"), "another optimizer"),
        (lambda a: {n: v for n, v in a.items() if n != "model/a/W"}, "do not fit the model"),
        (lambda a: {**a, "model/a/W": a["model/a/W"].T}, "do not fit the model"),
    ],
)
def test_what_does_not_fit_changes_nothing(change, words, tmp_path):
    fit(trainer(), 1).save_checkpoint(tmp_path / "run")
    save_arrays(tmp_path / "bad", change(load_arrays(tmp_path / "run.npz")))
    one, untouched = fit(trainer(seed=4), 1), fit(trainer(seed=4), 1)
    with pytest.raises(gnn.GraphnnError, match=words):
        one.load_checkpoint(tmp_path / "bad.npz")
    assert numbers(one) == numbers(untouched)
    assert same_arrays(one, untouched)


def test_an_optimizer_state_of_another_shape_is_found_before_it_is_used(tmp_path):
    fit(trainer(), 1).save_checkpoint(tmp_path / "run")
    arrays = load_arrays(tmp_path / "run.npz")
    save_arrays(tmp_path / "bad", {**arrays, "optimizer/a/W/m": np.zeros((1, 1), "float32")})
    one = trainer()
    one.load_checkpoint(tmp_path / "bad.npz")
    with pytest.raises(gnn.ParameterError, match="an optimizer state does not fit"):
        one.train_step(DATA[0][:8], DATA[1][:8])
