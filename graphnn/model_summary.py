"""Summaries of a model: a table for people, plain data for files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphnn.files.hyperparameters import Encoder
from graphnn.graph.graph import Graph
from graphnn.graph.summary import Summary, summarize

if TYPE_CHECKING:
    from graphnn.model import Model


@dataclass(frozen=True)
class ModelSummary:
    """The table of the graph with frozen marks, and a copy of all numbers.

    Args:
        table: rows and totals.
        hyperparameters: as `Model.hyperparameters`.
        parameters: nested lists by path.
        states: nested lists by path.
    """

    table: Summary
    hyperparameters: Mapping[str, Any]
    parameters: Mapping[str, Any]
    states: Mapping[str, Any]

    def __str__(self) -> str:
        return str(self.table)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: table, hyperparameters, parameters and states; every float keeps its exact value."""
        data = {"hyperparameters": dict(self.hyperparameters)}
        return {**self.table.to_dict(), **data, "parameters": dict(self.parameters), "states": dict(self.states)}


def summarize_model(model: Model) -> ModelSummary:
    """A detached summary of `model` as it is now."""
    table = summarize(model.graph, frozen_marks(model), model.dtype)
    parameters = {path: model.to_host(array).tolist() for path, array in model.parameters.items()}
    states = {path: model.to_host(array).tolist() for path, array in model.states.items()}
    return ModelSummary(table, hyperparameters(model.graph), parameters, states)


def frozen_marks(model: Model) -> Callable[[str], bool]:
    """Whether to mark the node at a path as frozen, as the model is now: it has parameters, and none is trained."""
    fixed = model.fixed_parameters()
    own: dict[str, list[str]] = {}
    for path in model.parameters:
        own.setdefault(path.rpartition("/")[0], []).append(path)
    return lambda path: path in own and fixed.issuperset(own[path])


def hyperparameters(graph: Graph) -> dict[str, Any]:
    """{"layer", "hyperparameters", "components"} of a graph, nested; plain data."""
    components = {}
    for node in graph.nodes:
        own = {"layer": node.layer.kind, "hyperparameters": _plain(node.layer.hyperparameters)}
        components[node.name] = hyperparameters(node.graph) if node.graph is not None else own
    return {"layer": graph.kind, "hyperparameters": _plain(graph.hyperparameters), "components": components}


def _plain(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return Encoder().description(arguments)
