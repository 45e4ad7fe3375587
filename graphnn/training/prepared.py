"""PreparedStep: a compiled step that is called again with arrays of the same specs."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from operator import is_
from typing import Any

import numpy as np

from graphnn.compile import LEARNING_RATE, STEP, Compiled
from graphnn.graph.scope import RANDOM_INPUT
from graphnn.model import Model
from graphnn.ops.random import seed_words


class PreparedStep:
    """The arrays of a step in call order; those of a batch, the learning rate and the step are put in by each call.

    Args:
        compiled: the step.
        arrays: what it was prepared with, by name: parameters and states among them, which stay the same arrays.
        model: whose arrays they are.
        memory: states of the optimizer, among them.
    """

    def __init__(self, compiled: Compiled, arrays: Mapping[str, Any], model: Model, memory: Mapping[str, Any]):
        self.compiled = compiled
        self._model = (model.parameters, model.states, model.device, model.seed)
        moments = {path: array for path, array in memory.items() if arrays.get(path) is array}
        self._paths, self._moments = list(moments), list(moments.values())
        self._arrays = [arrays[name] for name in compiled.inputs]
        self._places = {name: place for place, name in enumerate(compiled.inputs)}
        self._scalars = {
            name: np.array(self._arrays[self._places[name]]) for name in (LEARNING_RATE, STEP) if name in self._places
        }
        for name, scalar in self._scalars.items():
            self._arrays[self._places[name]] = scalar

    def is_current(self, model: Model, memory: Mapping[str, Any]) -> bool:
        """Whether model and optimizer still have the arrays and the seed that it was prepared with."""
        parameters, states, device, seed = self._model
        if model.parameters is not parameters or model.states is not states:
            return False
        same = model.device == device and model.seed == seed
        return same and all(map(is_, map(memory.get, self._paths), self._moments))

    def run(self, batch: Mapping[str, Any], rate: float, number: int, draws: int) -> dict[str, Any]:
        """Results by key.

        Args:
            batch: inputs and targets by their names in the call, of the specs that the step was compiled for.
            rate: the learning rate.
            number: of the optimizer step, from 1 on.
            draws: training runs of the model so far, which random masks depend on.
        """
        arrays, places = self._arrays.copy(), self._places
        for name, array in batch.items():
            if name in places:
                arrays[places[name]] = array
        for name, scalar in self._scalars.items():
            scalar[()] = rate if name == LEARNING_RATE else number
        if RANDOM_INPUT in places:
            arrays[places[RANDOM_INPUT]] = seed_words(self._model[3], draws)
        return dict(zip(self.compiled.outputs, self.compiled.executable(arrays), strict=True))


def spec_key(batch: Mapping[str, Any]) -> Hashable | None:
    """What two batches share that one step can run on; None where an array would have to be converted or copied."""
    key = []
    for name, array in batch.items():
        if type(array) is not np.ndarray or not array.flags.c_contiguous:
            return None
        key += (name, array.shape, array.dtype)
    return tuple(key)
