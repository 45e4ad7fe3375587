"""Callbacks: what runs between the steps of a training; and early stopping."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

from graphnn.errors import OptionError
from graphnn.model import Model

MODES = ("auto", "min", "max")


class Training(Protocol):
    """What callbacks see of a Trainer."""

    model: Model
    stop_requested: bool  # True ends the training after the step or epoch at hand


class Callback:
    """Does nothing at each point of a training; override what you need. To end the training, set `stop_requested`."""

    def on_train_begin(self, trainer: Training) -> None:
        """Before the first epoch of a `fit`."""

    def on_epoch_begin(self, trainer: Training, epoch: int) -> None:
        """Before the first batch of an epoch; within a `fit` they count from 0."""

    def on_batch_end(self, trainer: Training, step: int, values: Mapping[str, float]) -> None:
        """After step number `step` of an epoch, from 0 on; `values` holds its loss and metrics."""

    def on_epoch_end(self, trainer: Training, row: Mapping[str, Any]) -> None:
        """After an epoch and its validation; `row` is the epoch's line of the history."""

    def on_train_end(self, trainer: Training) -> None:
        """After the last epoch, also when the training was stopped."""


class EarlyStopping(Callback):
    """Ends the training when a number has not improved for `patience` epochs in a row.

    Args:
        monitor: column of the history.
        patience: number of epochs without improvement after which to stop, 1 or more.
        mode: "min" or "max" is better; "auto" takes "max" for accuracies, else "min".
        min_delta: an improvement is by more than this.
        restore_best: at the end, put back parameters and states of the best epoch.

    Attributes:
        best: the best number so far, None before the first.
        best_epoch: its epoch.

    Raises:
        OptionError: an argument does not fit; when an epoch ends: the history has no such column.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 5,
        mode: str = "auto",
        min_delta: float = 0.0,
        restore_best: bool = False,
    ):
        if not isinstance(patience, int) or patience < 1 or not min_delta >= 0:
            expected = "patience an integer >= 1, min_delta >= 0"
            raise OptionError(
                "arguments do not fit", where="EarlyStopping", expected=expected, got=(patience, min_delta)
            )
        self.monitor = monitor
        self.patience = patience
        self.mode = resolve_mode(mode, monitor)
        self.min_delta = min_delta
        self.restore_best = restore_best
        self._reset()

    def _reset(self) -> None:
        self.best: float | None = None
        self.best_epoch: int | None = None
        self._waited = 0
        self._saved: list[dict[str, Any]] = []

    def on_train_begin(self, trainer: Training) -> None:
        """Each `fit` starts anew."""
        self._reset()

    def on_epoch_end(self, trainer: Training, row: Mapping[str, Any]) -> None:
        """Compare with the best so far; NaN is no improvement."""
        if self.monitor not in row:
            fix = "pass validation= to fit, or monitor another column"
            expected = ", ".join(row)
            raise OptionError("no such column", where="EarlyStopping", expected=expected, got=self.monitor, fix=fix)
        value = float(row[self.monitor])
        if is_better(value, self.best, self.mode, self.min_delta):
            self.best, self.best_epoch, self._waited = value, row.get("epoch"), 0
            if self.restore_best:
                self._saved = [{path: a.copy() for path, a in store.items()} for store in _stores(trainer.model)]
            return
        self._waited += 1
        if self._waited >= self.patience:
            trainer.stop_requested = True

    def on_train_end(self, trainer: Training) -> None:
        """Put the best epoch back, if asked for; all or nothing was saved, so nothing can be missing."""
        for store, saved in zip(_stores(trainer.model), self._saved or ({}, {}), strict=True):
            for path, array in saved.items():
                store[path] = array


def _stores(model: Model) -> tuple[Any, Any]:
    return model.parameters, model.states


def resolve_mode(mode: str, monitor: str) -> str:
    """Which is better, "min" or "max"; "auto" takes "max" for accuracies.

    Raises:
        OptionError: another word.
    """
    if mode not in MODES:
        raise OptionError("unknown mode", expected=", ".join(MODES), got=repr(mode))
    return mode if mode != "auto" else "max" if "accuracy" in monitor else "min"


def is_better(value: float, best: float | None, mode: str, min_delta: float = 0.0) -> bool:
    """Whether `value` improves on `best` by more than `min_delta`; NaN never does."""
    if math.isnan(value):
        return False
    if best is None:
        return True
    return value < best - min_delta if mode == "min" else value > best + min_delta
