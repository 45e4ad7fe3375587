"""Workload: a network, a batch and a loss: what one training step is measured on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from graphnn.graph.graph import Graph

Arrays: TypeAlias = Mapping[str, np.ndarray]
SIX, MODULES = "networks", "modules"
LEARNING_RATE = 1e-3  # of the Adam of every contender


@dataclass(frozen=True)
class Workload:
    """One training step of Adam on random numbers.

    Args:
        name: on the command line.
        title: what it is, with its sizes.
        group: SIX or MODULES; geometric means are over a group.
        build: declares the graph, whose inputs and outputs have the sizes of `inputs` and `targets`.
        inputs: shape of each input by name; all are float32.
        targets: shape of each target by output name, "" for the one unnamed output.
        classes: targets are labels below this number, for cross-entropy; None: floats, for the mean squared error.
    """

    name: str
    title: str
    group: str
    build: Callable[[], Graph]
    inputs: Mapping[str, tuple[int, ...]]
    targets: Mapping[str, tuple[int, ...]]
    classes: int | None = None

    @property
    def loss(self) -> str:
        """The loss of every output, by its name in graphnn."""
        return "squared_error" if self.classes is None else "cross_entropy"


def make_inputs(workload: Workload) -> dict[str, np.ndarray]:
    """A batch of inputs by name: normal numbers, the same in every process."""
    return {name: _normal(workload, name, shape) for name, shape in workload.inputs.items()}


def make_targets(workload: Workload) -> dict[str, np.ndarray]:
    """The targets by output name, the same in every process."""
    return {name: _target(workload, f"target:{name}", shape) for name, shape in workload.targets.items()}


def _target(workload: Workload, key: str, shape: tuple[int, ...]) -> np.ndarray:
    if workload.classes is None:
        return _normal(workload, key, shape)
    return _stream(workload, key).integers(0, workload.classes, shape)


def _normal(workload: Workload, key: str, shape: tuple[int, ...]) -> np.ndarray:
    return _stream(workload, key).standard_normal(shape, "float32")


def _stream(workload: Workload, key: str) -> np.random.Generator:
    letters = f"{workload.name}/{key}".encode()
    return np.random.default_rng(list(letters))
