"""LiveCurve: the curves of a training, drawn again after each epoch in a notebook."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from graphnn.render.mime import bundle
from graphnn.training.callbacks import Callback, Training
from graphnn.training.history import History


class LiveCurve(Callback):
    """Shows the curves of the running `fit` in a notebook, in one place that changes after each epoch.

    Outside of a notebook it shows nothing, so the same program runs anywhere.

    Args:
        columns: of the history; by default "loss" and, where there is one, "val_loss".
        log: logarithmic vertical axis.

    Raises:
        OptionError: when an epoch ends: the history has no such column.
    """

    def __init__(self, *columns: str, log: bool = False):
        self.columns = columns
        self.log = log
        self._start()

    def _start(self) -> None:
        self._history = History()
        self._place: Any = None  # where the notebook shows the curve, from the first epoch on

    def on_train_begin(self, trainer: Training) -> None:
        """Each `fit` has a curve of its own."""
        self._start()

    def on_epoch_end(self, trainer: Training, row: Mapping[str, Any]) -> None:
        """Draw with the new epoch."""
        self._history.append(row)
        for column in self.columns:
            _ = self._history[column]  # a column that is not there is an error everywhere, not only in a notebook
        display = notebook_display()
        if display is None:
            return
        contents = bundle(repr(self._history), lambda: self._history.to_svg(*self.columns, log=self.log))
        if self._place is None:
            self._place = display(contents, raw=True, display_id=True)
        else:
            self._place.update(contents, raw=True)


def notebook_display() -> Any:
    """The function `display` of IPython where a kernel runs, else None.

    A kernel has imported IPython before it runs a cell; so where it is not imported there is none, and nothing needs to
    be imported to see that.
    """
    ipython: Any = sys.modules.get("IPython")
    if ipython is None or getattr(ipython.get_ipython(), "kernel", None) is None:
        return None
    return ipython.display.display
