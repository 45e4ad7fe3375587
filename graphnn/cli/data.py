"""Data files: npz with arrays by input name, and targets `y`, or `y/<output>` where there are several outputs."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphnn.errors import FileFormatError, OptionError
from graphnn.files.npz import load_arrays
from graphnn.graph.graph import Graph
from graphnn.ops.random import RandomStream

TARGET = "y"
LAYOUT = "an npz file holds arrays by input name, and targets as y (y/OUTPUT for each of several outputs)"

Targets = np.ndarray | dict[str, np.ndarray] | None


def split_inputs(graph: Graph, path: str, needs_targets: bool) -> tuple[dict[str, np.ndarray], Targets]:
    """(inputs by name, targets) of a data file; the targets are one array, or a dict by output name.

    Raises:
        FileFormatError: an input or the targets are missing, an array belongs to nothing, or the file is damaged.
        OSError: it cannot be read.
    """
    arrays = load_arrays(path)
    names = [node.name for node in graph.inputs]
    required = [node.name for node in graph.inputs if not node.optional]
    inputs = {name: array for name, array in arrays.items() if name in names}
    targets = {name: array for name, array in arrays.items() if name not in names}
    if missing := [name for name in required if name not in inputs]:
        got = ", ".join(arrays) or "no array"
        raise FileFormatError("an input is missing", where=path, expected=", ".join(missing), got=got, fix=LAYOUT)
    outputs = _by_output(graph, targets, path)
    if needs_targets and not outputs:
        raise FileFormatError("there are no targets", where=path, expected=TARGET, got=", ".join(arrays), fix=LAYOUT)
    return inputs, outputs.get("") if set(outputs) <= {""} else outputs


def _by_output(graph: Graph, arrays: dict[str, np.ndarray], path: str) -> dict[str, np.ndarray]:
    names = graph.output_names or ("",)
    result = {}
    for key, array in arrays.items():
        first, _, name = key.partition("/")
        name = name or (names[0] if len(names) == 1 else "")
        if first != TARGET or name not in names:
            expected = ", ".join([*(node.name for node in graph.inputs), *_target_names(names)])
            raise FileFormatError("an array belongs to nothing", where=path, expected=expected, got=key, fix=LAYOUT)
        result[name] = array
    return result


def _target_names(names: tuple[str, ...]) -> list[str]:
    return [TARGET] if len(names) == 1 else [f"{TARGET}/{name}" for name in names]


def hold_out(x: dict[str, np.ndarray], y: Any, share: float, seed: int) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """((x, y) to train on, (x, y) to validate with): a random `share` of the examples is held out.

    Raises:
        OptionError: one of the two parts would be empty.
    """
    count = len(next(iter(x.values())))
    held = round(count * share)
    if not 0 < held < count:
        got = f"{held} of {count} examples"
        raise OptionError("nothing is left", where="--validation", expected="a share of the examples", got=got)
    order = RandomStream(seed, "validation").permutation(count)
    kept, out = np.sort(order[held:]), np.sort(order[:held])
    return (_take(x, kept), _take(y, kept)), (_take(x, out), _take(y, out))


def _take(tree: Any, chosen: np.ndarray) -> Any:
    return {name: array[chosen] for name, array in tree.items()} if isinstance(tree, dict) else tree[chosen]
