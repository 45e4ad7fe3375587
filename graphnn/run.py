"""Run: the state of one forward run, from which its backward run starts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from graphnn.arrays import as_array
from graphnn.compile import ForwardBackward
from graphnn.errors import DTypeError, GradientError, GraphError, ShapeError, StateError

if TYPE_CHECKING:
    from graphnn.model import Model


class Run:
    """One forward run of a model; several may be open at once, and go backward in any order.

    Attributes:
        outputs: as `Model.forward` returns them.
        derived_variables: retained values by path and, after `backward`, their gradients as "dLd/<path>".
        step: training step that random masks were made for.
    """

    def __init__(
        self,
        model: Model,
        program: ForwardBackward | None,
        inputs: Mapping[str, Any],
        results: Mapping[str, Any],
        step: int,
    ):
        graph = model.graph
        self._model = model
        self._program = program
        self._input_shapes = {name: (array.shape, array.dtype) for name, array in inputs.items()}
        self._residuals = {key: array for key, array in results.items() if key.startswith("residual:")}
        self._values = [results[f"output:{index}"] for index in range(len(graph.outputs))]
        self._version = model.parameters.version
        self.step = step
        self.outputs = graph.arrange(self._values)
        self._paths = _paths(results)
        self.derived_variables: dict[str, Any] = _by_path(results, self._paths)

    def backward(self, *gradients: Any, accumulate: bool = True, **named: Any) -> Any:
        """Gradients of the inputs, given those of outputs; see `Model.backward`."""
        model, program = self._model, self._program
        if program is None:
            raise StateError("this run kept nothing for backward", fix="leave keep=False away")
        if model.parameters.version != self._version:
            raise StateError("parameters were assigned after this forward run", fix="run forward again before backward")
        given = self._bind(gradients, named)
        compiled = program.backward(tuple(given))
        arrays = {**self._residuals, **{f"cotangent:{index}": array for index, array in given.items()}}
        results = compiled({name: arrays.get(name, model.parameters.get(name)) for name in compiled.inputs})
        self.derived_variables |= _by_path(results, self._paths, "dLd/")
        if accumulate:
            for path, total in model.gradients.items():
                if f"parameter:{path}" in results:
                    total += results[f"parameter:{path}"]
        return self._input_gradients(results)

    def _bind(self, gradients: tuple[Any, ...], named: Mapping[str, Any]) -> dict[int, Any]:
        graph = self._model.graph
        names = list(graph.output_names) or ["output"]
        if len(gradients) > len(names) or set(named) - set(names[len(gradients) :]):
            got = f"{len(gradients)} by position, {list(named)}"
            raise GraphError("unknown or repeated output gradients", where=graph.default_name, expected=names, got=got)
        given = dict(zip(names, gradients, strict=False)) | dict(named)
        result = {}
        for index, name in enumerate(names):
            if given.get(name) is not None:
                result[index] = self._check(name, given[name], self._values[index])
        if not result:
            raise GraphError("backward needs the gradient of an output", where=graph.default_name, expected=names)
        return result

    def _check(self, name: str, gradient: Any, output: Any) -> Any:
        model, where = self._model, f"d{name}"
        if output.dtype.kind != "f":
            raise GradientError("an output of integers or bools has no gradient", where=where, got=output.dtype)
        array = as_array(gradient, where)
        if array.dtype.kind not in "fiu":
            raise DTypeError("a gradient is made of numbers", where=where, expected=output.dtype, got=array.dtype)
        if array.shape != output.shape:
            got, expected = f"{array.dtype}{list(array.shape)}", f"{output.dtype}{list(output.shape)}"
            raise ShapeError("the gradient does not fit the output", where=where, expected=expected, got=got)
        return model.to_device(array, model.dtype)

    def _input_gradients(self, results: Mapping[str, Any]) -> Any:
        found: dict[str, Any] = {}
        for name, (shape, dtype) in self._input_shapes.items():
            if dtype.kind == "f":
                zeros = (
                    None if f"input:{name}" in results else self._model.to_device(np.zeros(shape, dtype), str(dtype))
                )
                found[name] = results.get(f"input:{name}", zeros)
        if not self._model.graph.output_names and len(self._model.graph.inputs) == 1 and found:
            return next(iter(found.values()))
        return found


def _paths(results: Mapping[str, Any]) -> dict[str, str]:
    """The path by which each retained value is known; an output of a node with several ends in ":<index>"."""
    keys = [key.removeprefix("node:") for key in results if key.startswith("node:")]
    several = {key.rpartition(":")[0] for key in keys if not key.endswith(":0")}
    return {f"node:{key}": key if key.rpartition(":")[0] in several else key.rpartition(":")[0] for key in keys}


def _by_path(results: Mapping[str, Any], paths: Mapping[str, str], prefix: str = "") -> dict[str, Any]:
    return {prefix + path: results[key] for key, path in paths.items() if key in results}
