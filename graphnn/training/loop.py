"""Loop: one `fit`: epochs of batches, callbacks, rows of history."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphnn.errors import DivergenceError
from graphnn.training.callbacks import Callback
from graphnn.training.data import Batches, count_examples
from graphnn.training.interrupt import Interrupt
from graphnn.training.means import Means, Position
from graphnn.training.progress import Progress

if TYPE_CHECKING:
    from graphnn.training.trainer import Trainer


@dataclass(eq=False)
class Loop:
    """See `Trainer.fit` for the arguments."""

    trainer: Trainer
    batches: Batches
    validation: Batches | None
    steps: int | None
    epochs: int
    show_progress: bool
    callbacks: tuple[Callback, ...]
    interrupt: Interrupt

    def __post_init__(self) -> None:
        self._left = math.inf if self.steps is None else self.steps
        self._progress = Progress() if self.show_progress else None

    @property
    def _ended(self) -> bool:
        return self._left <= 0 or self.trainer.stop_requested or self.interrupt.requested

    def run(self) -> None:
        """All epochs, or until something asks to stop; the last row says which."""
        first = len(self.trainer.history)  # epochs are counted over all fits, and so is their order of examples
        self._tell("on_train_begin")
        try:
            for epoch in range(first, first + self.epochs):
                if self._ended:
                    break
                if self._progress:
                    self._progress.start_epoch(epoch + 1, first + self.epochs, self.batches.steps)
                self._tell("on_epoch_begin", epoch)
                self._tell("on_epoch_end", self._epoch(epoch))
        finally:
            if self._progress:
                self._progress.close()
        self._tell("on_train_end")
        if len(self.trainer.history) > first and (self.interrupt.requested or self.trainer.stop_requested):
            self.trainer.history.rows[-1]["status"] = "interrupted" if self.interrupt.requested else "stopped"

    def _epoch(self, epoch: int) -> Mapping[str, Any]:
        trainer, started = self.trainer, time.perf_counter()
        begin = trainer.begin or Position(0, Means())
        trainer.begin, trainer.cut, means = None, None, begin.means
        for index, (x, y) in enumerate(self.batches.epoch(epoch, begin.batches), begin.batches):
            if self._ended:
                trainer.cut = Position(index, means)
                break
            self._batch(index, x, y, means)
        row: dict[str, Any] = {"epoch": epoch + 1, "step": trainer.steps, **means.values()}
        if self.validation is not None and not self.interrupt.requested:
            row |= {f"val_{key}": value for key, value in trainer.evaluate_batches(self.validation).items()}
        row["learning_rate"] = trainer.learning_rate(max(trainer.steps - 1, 0))
        row["seconds"] = time.perf_counter() - started
        row["status"] = "completed"
        trainer.history.append(row)
        if self._progress:
            self._progress.finish_epoch(row)
        return trainer.history.rows[-1]

    def _batch(self, index: int, x: Any, y: Any, means: Means) -> None:
        results = self.trainer.train_batch(x, y)
        self._left -= 1
        if not math.isfinite(results["loss"]):
            raise DivergenceError(
                "the loss is not finite", where=f"step {self.trainer.steps}", got=results["loss"],
                fix="lower the learning rate, clip gradients (clip_norm=1), or look for bad numbers in the data",
            )  # fmt: skip
        means.add(results, count_examples(x))
        if self._progress:
            self._progress.step(count_examples(x), results)
        self._tell("on_batch_end", index, results)

    def _tell(self, event: str, *arguments: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(self.trainer, *arguments)
