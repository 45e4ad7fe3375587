"""graphnn train: a network, data, a loss and an optimizer; out come weights and a history."""

from __future__ import annotations

import argparse
import math
import signal
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from graphnn.cli.data import hold_out, split_inputs
from graphnn.cli.output import check_folder, emit, note
from graphnn.cli.target import add_device, add_target, load_model
from graphnn.errors import OptionError
from graphnn.files.npz import load_arrays, npz_path
from graphnn.model import Model
from graphnn.optimizers import optimizer
from graphnn.render.text import plural
from graphnn.training.callbacks import Callback, Training
from graphnn.training.checkpoint import is_checkpoint
from graphnn.training.history import History
from graphnn.training.trainer import Trainer

SECONDS_BETWEEN_WRITES = 1.0
EPILOG = """\
The data file holds arrays by input name, and targets as y (y/OUTPUT for each
of several outputs). Weights, history and checkpoint are written after an epoch,
at most once a second, and at the end; each file all or nothing. Ctrl-C or
SIGTERM ends the training after the step at hand and still writes them; a second
Ctrl-C ends it at once. The same command with --resume CHECKPOINT goes on as if
it had never stopped.

  graphnn train net.py:graph --data train.npz --loss cross_entropy \\
      --metric accuracy --epochs 10 --weights net.npz --history net.csv
"""


def add(commands: Any, common: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The options."""
    parser = commands.add_parser(
        "train", parents=[common], help="train a network on arrays from a file", epilog=EPILOG,
        description="Train a network on arrays from a file.", formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add_target(parser)
    parser.add_argument("--data", required=True, metavar="FILE", help="npz file: inputs by name, and targets y")
    text = "such as cross_entropy; OUTPUT=NAME for one of several outputs, repeated"
    parser.add_argument("--loss", required=True, action="append", metavar="NAME", help=text)
    parser.add_argument("--metric", action="append", default=[], metavar="NAME", help="such as accuracy, as for --loss")
    parser.add_argument("--optimizer", default="adam", metavar="NAME", help="sgd, adam, adam_w... (default: adam)")
    parser.add_argument("--learning-rate", type=float, metavar="RATE", help="default: that of the optimizer")
    parser.add_argument("--clip-norm", type=float, metavar="NORM", help="largest norm of all gradients together")
    parser.add_argument("--epochs", type=int, default=1, help="passes over the data, before --resume too (default: 1)")
    parser.add_argument("--batch-size", type=int, default=32, metavar="N", help="examples per step (default: 32)")
    text = "npz file, or a share of the data such as 0.2 that is held out"
    parser.add_argument("--validation", metavar="FILE|SHARE", help=text)
    parser.add_argument("--seed", type=int, help="of initial weights, masks and the order of examples (default: 0)")
    parser.add_argument("--resume", metavar="FILE", help="checkpoint to go on from, or weights to start from")
    parser.add_argument("--checkpoint", metavar="FILE", help="npz file to write all to that --resume needs")
    parser.add_argument("--weights", metavar="FILE", help="npz file to write weights to")
    parser.add_argument("--history", metavar="FILE", help="file to write the history to: .csv, .jsonl or .svg")
    add_device(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    return parser


def run(options: argparse.Namespace) -> int:
    """Train, write, report."""
    _check_files(options)
    model = load_model(options.target, options.seed, options.device)
    train, validation = _load(model, options)
    trainer = _trainer(model, options)
    if options.resume:
        _resume(trainer, options.resume)
    if not (options.weights or options.checkpoint):
        note("note: the trained weights are not kept; give --weights FILE")
    saving = Saving(options.weights, options.history, options.checkpoint)
    epochs = max(options.epochs - len(trainer.history), 0) if options.resume else options.epochs
    with _stop_on_termination(trainer) as ended:
        try:
            history = trainer.fit(
                train, epochs, options.batch_size, validation, [saving],
                seed=options.seed or 0, progress=not options.quiet,
            )  # fmt: skip
        finally:  # also when the training diverged: then with the epochs that went well
            write_history(trainer.history, options.history)
    if ended:
        _mark(history, "interrupted")
    saving.write(trainer)
    _report(trainer, options)
    return 128 + ended[0] if ended else 130 if history.status == "interrupted" else 0


class Saving(Callback):
    """Writes its files after an epoch, so that little is lost whatever happens; once a second is enough."""

    def __init__(
        self,
        weights: str | None,
        history: str | None,
        checkpoint: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.weights = weights
        self.history = history
        self.checkpoint = checkpoint
        self._clock = clock
        self._last = -math.inf

    def on_epoch_end(self, trainer: Training, row: Mapping[str, Any]) -> None:
        """All files anew, unless that was done a moment ago."""
        if self._clock() - self._last >= SECONDS_BETWEEN_WRITES:
            self.write(trainer)
            self._last = self._clock()

    def write(self, trainer: Any) -> None:
        """Each file as a whole, or as it was."""
        if self.weights:
            trainer.model.save_weights(self.weights)
        if self.checkpoint:
            trainer.save_checkpoint(self.checkpoint)
        write_history(trainer.history, self.history)


def write_history(history: History, path: str | None) -> None:
    """By the ending of the path: .csv, .jsonl or .svg; nothing for None."""
    if path is None:
        return
    writers = {".csv": history.to_csv, ".jsonl": history.to_jsonl, ".svg": history.plot}
    if "loss" in history or not path.endswith(".svg"):
        writers[Path(path).suffix.lower()](path)


def _check_files(options: argparse.Namespace) -> None:
    if options.history and Path(options.history).suffix.lower() not in (".csv", ".jsonl", ".svg"):
        expected = ".csv, .jsonl or .svg"
        raise OptionError("the ending names no format", where="--history", expected=expected, got=options.history)
    check_folder(options.history)
    check_folder(options.weights)
    check_folder(options.checkpoint)


def _resume(trainer: Trainer, path: str) -> None:
    """From a checkpoint all of it; from a file of weights those."""
    if is_checkpoint(load_arrays(path)):
        trainer.load_checkpoint(path)
    else:
        trainer.model.load_weights(path)


def _load(model: Model, options: argparse.Namespace) -> tuple[Any, Any]:
    data = split_inputs(model.graph, options.data, needs_targets=True)
    if options.validation is None:
        return data, None
    try:
        share = float(options.validation)
    except ValueError:
        return data, split_inputs(model.graph, options.validation, needs_targets=True)
    return hold_out(*data, share, options.seed or 0)


def _trainer(model: Model, options: argparse.Namespace) -> Trainer:
    numbers = {"learning_rate": options.learning_rate, "clip_norm": options.clip_norm}
    given = {name: value for name, value in numbers.items() if value is not None}
    losses = {name: values[-1] for name, values in _by_output(model, options.loss, "--loss").items()}
    metrics = _by_output(model, options.metric, "--metric")
    return Trainer(model, losses, optimizer({"optimizer": options.optimizer, **given}), metrics)


def _by_output(model: Model, texts: list[str], option: str) -> dict[str, list[str]]:
    """`NAME`, or `OUTPUT=NAME` for one of several outputs."""
    names: tuple[str, ...] = model.graph.output_names or ("",)
    first, result = names[0], dict[str, list[str]]()
    for text in texts:
        output, sign, name = text.rpartition("=")
        if not sign and len(names) > 1:
            expected = ", ".join(f"{name}={text}" for name in names)
            raise OptionError("which of the outputs?", where=option, expected=expected, got=text)
        result.setdefault(output if sign else first, []).append(name)
    return result


@contextmanager
def _stop_on_termination(trainer: Trainer) -> Generator[list[int]]:
    """While entered, SIGTERM ends the training after the step at hand; its number is in the list then."""
    ended: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        ended.append(number)
        trainer.stop_requested = True

    if threading.current_thread() is not threading.main_thread():
        yield ended
        return
    former = signal.signal(signal.SIGTERM, stop)
    try:
        yield ended
    finally:
        signal.signal(signal.SIGTERM, former)


def _mark(history: History, status: str) -> None:
    if history.rows:
        history.rows[-1]["status"] = status


def _report(trainer: Trainer, options: argparse.Namespace) -> None:
    history = trainer.history
    last = history.rows[-1] if history.rows else {}
    files = {
        "weights": options.weights and str(npz_path(options.weights)), "history": options.history,
        "checkpoint": options.checkpoint and str(npz_path(options.checkpoint)),
    }  # fmt: skip
    written = {name: path for name, path in files.items() if path}
    data = {"status": history.status, "epochs": len(history), "steps": trainer.steps, "last": last, "files": written}
    numbers = [f"{key} {value:.4g}" for key, value in last.items() if isinstance(value, float) and key != "seconds"]
    lines = [f"{history.status or 'nothing to do'}: {plural(len(history), 'epoch')}, {plural(trainer.steps, 'step')}"]
    lines += ["  ".join(numbers)] if numbers else []
    emit(options, data, "\n".join([*lines, *(f"{name}: {path}" for name, path in written.items())]))
