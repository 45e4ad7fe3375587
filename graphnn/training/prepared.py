"""PreparedStep: a compiled step that is called again with arrays of the same specs.

Between two steps of a small network nothing is looked up twice: what stands here takes as long as one of its layers.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from operator import attrgetter
from typing import Any

import numpy as np

from graphnn.arrays import ArrayStore
from graphnn.compile import LEARNING_RATE, STEP, Compiled
from graphnn.graph.scope import RANDOM_INPUT
from graphnn.model import Model
from graphnn.ops.random import seed_words

Arrays = tuple[Any, ...]
_sort_of = attrgetter("__class__", "shape", "dtype", "flags.c_contiguous")  # at once: half the time of one by one


class PreparedStep:
    """A step bound to its model's arrays; those of a batch, the learning rate and the step are put in by each run.

    Args:
        compiled: the step.
        arrays: what it was prepared with, by name: parameters and states among them, which stay the same arrays.
        model: whose arrays they are.
        memory: states of the optimizer, among them.
        mode: what else the step was compiled for, see `mode_of`.
        x: inputs of the batch, as they were given.
        y: targets of the batch, as they were given.
        batch: the arrays of x and y by their names in the call.
    """

    def __init__(
        self,
        compiled: Compiled,
        arrays: Mapping[str, Any],
        model: Model,
        memory: ArrayStore,
        mode: Hashable,
        x: Any,
        y: Any,
        batch: Mapping[str, np.ndarray],
    ):
        self.mode, self._seed = mode, model.seed
        self._stores, self._memory = (model.parameters, model.states), memory
        self._take_x, self._take_y = taker(x), taker(y)
        self._targets = len(self._take_y(y))
        self._sorts = list(map(_sort_of, batch.values()))
        self._used = [number for number, name in enumerate(batch) if name in compiled.inputs]
        self._all_used = len(self._used) == len(batch)
        self._draws = RANDOM_INPUT in compiled.inputs
        changing = [name for name in (*batch, *([RANDOM_INPUT] if self._draws else [])) if name in compiled.inputs]
        self._rate, self._number = (np.array(arrays.get(name, 0.0)) for name in (LEARNING_RATE, STEP))
        own = {**arrays, LEARNING_RATE: self._rate, STEP: self._number}
        places = {name: place for place, name in enumerate(compiled.inputs)}
        given, changed = [own[name] for name in places], [places[name] for name in changing]
        self._bound = compiled.executable.bind(given, changed, float)
        self._results = tuple(key.removeprefix("metric:") for key in compiled.outputs)

    def is_current(self, model: Model, memory: ArrayStore) -> bool:
        """Whether model and optimizer still have the stores that it was prepared with, and so their arrays."""
        parameters, states = self._stores
        return model.parameters is parameters and model.states is states and memory is self._memory

    def take(self, x: Any, y: Any) -> Arrays | None:
        """The arrays of a batch, for `run`; None where they cannot be used as they are: of other names, of other specs.

        Args:
            x: as for `Trainer.train_step`.
            y: as for `Trainer.train_step`.
        """
        targets = self._take_y(y)
        batch = self._take_x(x) + targets
        try:
            return batch if len(targets) == self._targets and list(map(_sort_of, batch)) == self._sorts else None
        except AttributeError:  # not an array
            return None

    def run(self, batch: Arrays, rate: float, number: int, draws: int) -> dict[str, float]:
        """The loss, and metrics by name.

        Args:
            batch: what `take` gave.
            rate: the learning rate.
            number: of the optimizer step, from 1 on.
            draws: training runs of the model so far, which random masks depend on.
        """
        self._rate[()] = rate
        self._number[()] = number
        arrays = batch if self._all_used else tuple([batch[number] for number in self._used])
        if self._draws:
            arrays = (*arrays, seed_words(self._seed, draws))
        return dict(zip(self._results, self._bound(arrays)))  # noqa: B905 -- as many, and "strict" takes its time


def mode_of(model: Model, training: bool) -> Hashable:
    """What a step is compiled for, beside the specs of its batch."""
    return training, model.device, model.seed, model.frozen_nodes(), model.fixed_parameters()


def taker(tree: Any) -> Callable[[Any], Arrays]:
    """A function that gives the arrays of another tree in the order of this one; none where the two are not alike.

    Args:
        tree: an array, a tuple of arrays, or a dict of arrays by name.
    """
    if isinstance(tree, tuple):
        return lambda given: given if type(given) is tuple else ()
    if not isinstance(tree, Mapping):
        return lambda given: (given,)
    names, known = tuple(tree), frozenset(tree)
    if len(names) == 1:
        (name,) = names
        return lambda given: (given[name],) if type(given) is dict and len(given) == 1 and name in given else ()
    return lambda given: tuple([given[name] for name in names]) if type(given) is dict and given.keys() == known else ()
