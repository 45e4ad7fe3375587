"""Checkpoints: one file from which a training goes on as if it had never stopped, bit for bit on the same device.

An npz file: parameters, states and optimizer states by path, and a JSON text with the counters, the history and, where
an epoch was cut off, how far it had come.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from graphnn.errors import FileFormatError, OptionError
from graphnn.files.npz import load_arrays, match, save_arrays
from graphnn.model import Model
from graphnn.training.history import History
from graphnn.training.means import Means, Position

if TYPE_CHECKING:
    from graphnn.training.trainer import Trainer

TEXT = "training.json"  # no path of a parameter stands without the name of its group
MODEL, OPTIMIZER = "model/", "optimizer/"
FORMAT = 1


def save_checkpoint(trainer: Trainer, path: str | os.PathLike[str]) -> None:
    """Write all that a training needs to go on, all or nothing; "m" and "m.npz" mean the same file."""
    model = trainer.model
    text = np.frombuffer(json.dumps(_numbers(trainer)).encode(), "uint8")
    stores = ((MODEL, {**model.parameters, **model.states}), (OPTIMIZER, trainer.memory))
    arrays = {group + name: model.to_host(array) for group, store in stores for name, array in store.items()}
    save_arrays(path, {TEXT: text, **arrays})


def _numbers(trainer: Trainer) -> dict[str, Any]:
    cut = trainer.cut
    rows = trainer.history.rows[:-1] if cut else trainer.history.rows  # an epoch that was cut off is done to its end
    return {
        "format": FORMAT, "optimizer": type(trainer.optimizer).__name__, "seed": trainer.model.seed,
        "steps": trainer.steps, "model_step": trainer.model.step, "history": rows,
        "cut": None if cut is None else {"batches": cut.batches, **cut.means.to_dict()},
    }  # fmt: skip


def is_checkpoint(arrays: Mapping[str, Any]) -> bool:
    """Whether the arrays of an npz file are those of a checkpoint."""
    return TEXT in arrays


def load_checkpoint(trainer: Trainer, path: str | os.PathLike[str]) -> None:
    """Put back what `save_checkpoint` wrote; nothing changes unless all of it fits.

    Raises:
        FileFormatError: it is damaged, or no checkpoint. ParameterError: it is of another network.
        OptionError: it is of another optimizer. OSError: it cannot be read.
    """
    arrays, where = load_arrays(path), os.fspath(path)
    numbers = _read_numbers(arrays, where)
    if numbers["optimizer"] != (used := type(trainer.optimizer).__name__):
        raise OptionError(
            "the checkpoint is of another optimizer", where=where, expected=used, got=numbers["optimizer"]
        )
    history = _history(numbers["history"], where)
    cut = None if numbers["cut"] is None else _position(numbers["cut"], where)
    _put_arrays(trainer.model, {n[len(MODEL) :]: a for n, a in arrays.items() if n.startswith(MODEL)}, where)
    found = {n[len(OPTIMIZER) :]: a for n, a in arrays.items() if n.startswith(OPTIMIZER)}
    trainer.memory = found
    trainer.model.seed, trainer.model.step, trainer.steps = (int(numbers[n]) for n in ("seed", "model_step", "steps"))
    trainer.history, trainer.begin, trainer.cut = history, cut, None


def _read_numbers(arrays: Mapping[str, np.ndarray], where: str) -> dict[str, Any]:
    if not is_checkpoint(arrays):
        fix = "weights alone are read by model.load_weights"
        raise FileFormatError("this is no checkpoint", where=where, expected=TEXT, got=", ".join(arrays)[:200], fix=fix)
    try:
        numbers = json.loads(arrays[TEXT].astype("uint8").tobytes().decode())
        kinds = {"optimizer": str, "seed": int, "steps": int, "model_step": int, "history": list}
        fits = numbers["format"] == FORMAT and "cut" in numbers
        fits = fits and all(isinstance(numbers[name], kind) for name, kind in kinds.items())
    except (ValueError, KeyError, TypeError) as error:
        raise FileFormatError("the checkpoint is damaged", where=where, got=str(error)) from error
    if not fits:
        raise FileFormatError("the checkpoint has another format", where=where, expected=f"format {FORMAT}")
    return numbers


def _history(rows: list[Any], where: str) -> History:
    history = History()
    for row in rows:
        if not isinstance(row, dict):
            raise FileFormatError("the checkpoint is damaged", where=where, expected="rows of a history", got=type(row))
        history.append(row)
    return history


def _position(data: Any, where: str) -> Position:
    try:
        return Position(int(data["batches"]), Means.from_dict(data))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FileFormatError("the checkpoint is damaged", where=where, got=str(error)) from error


def _put_arrays(model: Model, found: Mapping[str, np.ndarray], where: str) -> None:
    stored = {**model.parameters, **model.states}
    match({n: (tuple(a.shape), str(a.dtype)) for n, a in stored.items()}, found, strict=True, where=where)
    for store in (model.parameters, model.states):
        store.update({name: model.to_device(found[name], str(array.dtype)) for name, array in store.items()})
