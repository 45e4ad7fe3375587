from types import SimpleNamespace

import numpy as np
import pytest

from graphnn.arrays import ArrayStore
from graphnn.errors import OptionError
from graphnn.training.callbacks import Callback, EarlyStopping, is_better


def run(callback, values, monitor="val_loss"):
    """Epochs whose numbers are `values`; the model's arrays hold the number of the epoch. Returns the trainer."""
    model = SimpleNamespace(parameters=ArrayStore({"W": np.zeros(2)}), states=ArrayStore({"mean": np.zeros(1)}))
    trainer = SimpleNamespace(model=model, stop_requested=False, epochs=0)
    callback.on_train_begin(trainer)
    for epoch, value in enumerate(values, start=1):
        for store in (model.parameters, model.states):
            for array in store.values():
                array[...] = epoch
        trainer.epochs = epoch
        callback.on_epoch_end(trainer, {"epoch": epoch, monitor: value})
        if trainer.stop_requested:
            break
    callback.on_train_end(trainer)
    return trainer


@pytest.mark.parametrize(
    ("options", "values", "stopped_after", "best_epoch"),
    [
        ({"patience": 1}, [3, 2, 2, 1], 3, 2),
        ({"patience": 2}, [3, 2, 2, 1, 2, 2], 6, 4),
        ({"patience": 2}, [3, 2, 1, 0], None, 4),
        ({"patience": 2}, [3, float("nan"), float("nan"), 1], 3, 1),
        ({"patience": 1}, [float("nan"), 5], 1, None),
        ({"patience": 1, "min_delta": 0.5}, [3, 2.4, 2.0], 3, 2),
        ({"patience": 1, "mode": "max"}, [1, 2, 3, 3], 4, 3),
        ({"patience": 1, "monitor": "val_accuracy"}, [0.1, 0.2, 0.1], 3, 2),
        ({"patience": 1, "monitor": "val_accuracy", "mode": "min"}, [0.1, 0.2], 2, 1),
    ],
)
def test_training_stops_after_epochs_without_improvement(options, values, stopped_after, best_epoch):
    callback = EarlyStopping(**options)
    trainer = run(callback, values, callback.monitor)
    assert (trainer.epochs if trainer.stop_requested else None) == stopped_after
    assert callback.best_epoch == best_epoch
    assert callback.best == (None if best_epoch is None else values[best_epoch - 1])


@pytest.mark.parametrize(("restore", "expected"), [(True, 2), (False, 4)])
def test_the_best_epoch_is_put_back_if_asked_for(restore, expected):
    model = run(EarlyStopping(patience=2, restore_best=restore), [2, 1, 3, 3]).model
    assert model.parameters["W"].tolist() == [expected, expected]
    assert model.states["mean"].tolist() == [expected]


def test_each_fit_starts_anew():
    callback = EarlyStopping(patience=1, restore_best=True)
    run(callback, [1, 2])
    trainer = run(callback, [9, 8])
    assert not trainer.stop_requested
    assert callback.best == 8
    assert run(callback, [float("nan")]).model.parameters["W"].tolist() == [1, 1]  # nothing of the last fit is restored


def test_a_callback_does_nothing_until_it_is_told_what():
    run(Callback(), [1, 2])
    assert is_better(1.0, None, "min")
    assert not is_better(float("nan"), None, "min")


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: EarlyStopping(patience=0), "EarlyStopping: arguments do not fit"),
        (lambda: EarlyStopping(min_delta=-1), "EarlyStopping: arguments do not fit"),
        (lambda: EarlyStopping(mode="least"), "unknown mode"),
        (
            lambda: run(EarlyStopping(), [1.0], "loss"),
            "no such column\n  expected: epoch, loss\n  got: val_loss\n  fix:",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make, text):
    with pytest.raises(OptionError, match=text):
        make()
