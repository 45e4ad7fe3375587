"""Batches: arrays cut into batches, in an order that depends on the seed and the epoch alone."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np

from graphnn.errors import OptionError, ShapeError, StateError
from graphnn.ops.op import Array
from graphnn.ops.random import RandomStream

Arrays: TypeAlias = Array | dict[str, Any]  # one array, or arrays by name
Batch: TypeAlias = tuple[Any, Any]  # (inputs, targets)


class Batches:
    """(x, y) batches, epoch after epoch.

    Nothing is remembered between epochs: `epoch(3, start=10)` goes on with batch 10 of epoch 3 as if there had been
    no break, in another process too.

    Args:
        data: a tuple (x, y) of arrays or dicts of arrays whose first axes have one size; y may be None. Anything else
            that can be iterated over must yield batches (x, y) itself, and is not cut, shuffled or copied.
        batch_size: examples in a batch.
        shuffle: a new order in each epoch; False keeps the order of the arrays.
        seed: of the orders.
        drop_last: leave out a last batch that is smaller than the others.

    Attributes:
        examples: number of examples, None for data that yields batches.

    Raises:
        OptionError: batch_size is below 1, or no batch would be full.
        ShapeError: there are no examples, or the numbers of examples differ.
    """

    def __init__(
        self, data: Any, batch_size: int = 32, *, shuffle: bool = True, seed: int = 0, drop_last: bool = False
    ):
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.drop_last = drop_last
        self.examples: int | None = None
        self._x, self._y = None, None
        self._source: Iterable[Any] = ()
        self._was_read = False
        _check_batch_size(batch_size)
        if isinstance(data, tuple) and len(data) == 2:
            self._take_arrays(*data)
        else:
            self._take_batches(data)

    def _take_arrays(self, x: Any, y: Any) -> None:
        self._x, self._y = as_arrays(x, "x"), None if y is None else as_arrays(y, "y")
        sizes = {
            name: len(array) for tree, root in ((self._x, "x"), (self._y, "y")) for name, array in _named(tree, root)
        }
        if len(set(sizes.values())) > 1:
            got = ", ".join(f"{name}: {size}" for name, size in sizes.items())
            raise ShapeError("the numbers of examples differ", where="data", expected="equal first axes", got=got)
        self.examples = min(sizes.values(), default=0)
        if self.examples == 0:
            raise ShapeError("there are no examples", where="data", expected="a first axis of 1 or more", got=sizes)
        if self.steps == 0:
            expected, got = f"at most {self.examples}", self.batch_size
            raise OptionError("no batch would be full", where="batch_size", expected=expected, got=got)

    def _take_batches(self, data: Any) -> None:
        is_iterable = isinstance(data, Iterable) and not isinstance(data, str | bytes | Mapping | np.ndarray)
        if not is_iterable:
            raise OptionError("not data", expected="(x, y), or an iterable of batches (x, y)", got=type(data).__name__)
        self._source = data

    @property
    def steps(self) -> int | None:
        """Number of batches in an epoch; None where the data does not tell."""
        if self.examples is None:
            return len(self._source) if hasattr(self._source, "__len__") else None  # pyright: ignore[reportArgumentType]
        return self.examples // self.batch_size if self.drop_last else -(-self.examples // self.batch_size)

    def order(self, epoch: int) -> np.ndarray:
        """Indices of the examples in the order of an epoch.

        Raises:
            StateError: the data yields batches, so the order is its own.
        """
        if self.examples is None:
            raise StateError("data that yields batches has an order of its own", where="Batches.order")
        if not self.shuffle:
            return np.arange(self.examples)
        return RandomStream(self.seed, "batches", draws=epoch).permutation(self.examples)

    def epoch(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from number `start` on, in the structure of the data.

        Raises:
            OptionError: a negative number, or what the data yields is no (x, y).
            StateError: the data is an iterator, which can be read once only.
        """
        if epoch < 0 or start < 0:
            raise OptionError("a position is negative", where="Batches.epoch", expected="0 or more", got=(epoch, start))
        return self._cut(epoch, start) if self.examples is not None else self._read(start)

    def __iter__(self) -> Iterator[Batch]:
        return self.epoch(0)

    def _cut(self, epoch: int, start: int) -> Iterator[Batch]:
        order = self.order(epoch) if self.shuffle else None
        for step in range(start, self.steps or 0):
            part = slice(step * self.batch_size, min((step + 1) * self.batch_size, self.examples or 0))
            chosen = part if order is None else order[part]
            yield _select(self._x, chosen), _select(self._y, chosen)

    def _read(self, start: int) -> Iterator[Batch]:
        batches = iter(self._source)
        if batches is self._source:
            if self._was_read:
                fix = "give a list, or an object whose __iter__ starts anew"
                raise StateError("an iterator can be read once only", where="data", got="another epoch", fix=fix)
            self._was_read = True
        for batch in itertools.islice(batches, start, None):
            if not isinstance(batch, tuple | list) or len(batch) != 2:
                raise OptionError("not a batch", where="data", expected="a pair (x, y)", got=type(batch).__name__)
            yield batch[0], batch[1]


def as_arrays(tree: Any, where: str) -> Arrays:
    """Arrays as they are, anything else as a NumPy array; dicts stay dicts.

    Raises:
        ShapeError: there is no first axis to count examples along.
    """
    if isinstance(tree, Mapping):
        return {name: as_arrays(value, f"{where}[{name!r}]") for name, value in tree.items()}
    if not isinstance(tree, np.ndarray) and not hasattr(tree, "__cuda_array_interface__"):
        try:
            tree = np.asarray(tree)
        except ValueError as error:
            raise ShapeError("rows of different lengths make no array", where=where, got=str(error)) from None
    if tree.ndim == 0:
        raise ShapeError(
            "the data has no first axis", where=where, expected="an array of examples", got=repr(tree)[:60]
        )
    return tree


def count_examples(tree: Any) -> int:
    """The size of the first axis of a batch's array, or of the first of its arrays."""
    while isinstance(tree, Mapping):
        tree = next(iter(tree.values()))
    return len(tree)


def _named(tree: Arrays | None, name: str) -> Iterator[tuple[str, Array]]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _named(value, f"{name}[{key!r}]")
    elif tree is not None:
        yield name, tree


def _select(tree: Arrays | None, chosen: slice | np.ndarray) -> Any:
    if isinstance(tree, dict):
        return {name: _select(value, chosen) for name, value in tree.items()}
    return None if tree is None else tree[chosen]


def _check_batch_size(batch_size: int) -> None:
    if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer) or batch_size < 1:
        raise OptionError("`batch_size` does not fit", expected="an integer >= 1", got=repr(batch_size))
