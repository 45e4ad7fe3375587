"""TensorBoard: the numbers of each epoch in event files that TensorBoard reads."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from typing import Any

from graphnn.errors import BackendError
from graphnn.training.callbacks import Callback, Training

NOT_WRITTEN = ("epoch", "step", "seconds")  # the events have a step and a time of their own


class TensorBoard(Callback):
    """Writes loss, metrics, their "val_..." and the learning rate of each epoch, over the training steps.

    Each `fit` writes an event file of its own into the folder; what an epoch gave is in it when the next one starts.

    Args:
        folder: made when training begins; `tensorboard --logdir` shows all below it.

    Raises:
        BackendError: tensorboardX is not installed.
    """

    def __init__(self, folder: str | os.PathLike[str]):
        self.folder = os.fspath(folder)
        self._open = _writer_class()
        self._writer: Any = None

    def on_train_begin(self, trainer: Training) -> None:
        """Open an event file."""
        self.on_train_end(trainer)  # of a `fit` that ended by an error
        # tensorboardX names files by the second: without a suffix two short fits would write over each other.
        self._writer = self._open(self.folder, filename_suffix=f".{secrets.token_hex(4)}")

    def on_epoch_end(self, trainer: Training, row: Mapping[str, Any]) -> None:
        """Write all numbers of the epoch."""
        for name, value in row.items():
            if isinstance(value, int | float) and name not in NOT_WRITTEN:
                self._writer.add_scalar(name, value, global_step=row["step"])
        self._writer.flush()

    def on_train_end(self, trainer: Training) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _writer_class() -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        fix = 'pip install "graphnn[tensorboard]"'
        raise BackendError("event files need tensorboardX", where="TensorBoard", got=str(error), fix=fix) from error
    return SummaryWriter
