"""The data of a Graph: nodes, edges and references to outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphnn.graph.layer import InputNode, Layer, Position
from graphnn.graph.scope import ParameterDeclaration
from graphnn.ir.tensor_spec import TensorSpec

if TYPE_CHECKING:
    from graphnn.graph.graph import Graph


@dataclass(frozen=True)
class Source:
    """Output `index` of the node or input called `name`."""

    name: str
    index: int = 0

    def __str__(self) -> str:
        return f"{self.name}:{self.index}" if self.index else self.name


@dataclass(frozen=True, eq=False)
class Node:
    """One use of a layer in a Graph.

    Args:
        name: unique in its graph.
        layer: what it does; nodes with the same layer object share its parameters.
        inputs: where each input comes from; None for an optional input that is not given.
        specs: output specs.
        output_names: () for one output, ("0", "1"...) for a tuple, else the keys of a dict.
        declarations: parameters and states that the layer asks for, by local path.
        graph: the inner graph of a Module or Graph, else None.
        declared_at: file and line of the user's call.
    """

    name: str
    layer: Layer
    inputs: tuple[Source | None, ...]
    specs: tuple[TensorSpec, ...]
    output_names: tuple[str, ...]
    declarations: tuple[ParameterDeclaration, ...]
    graph: Graph | None
    declared_at: Position

    @property
    def spec(self) -> TensorSpec:
        """Spec of the first output."""
        return self.specs[0]

    @property
    def inner_sources(self) -> tuple[tuple[InputNode, Source | None], ...]:
        """For a composite node: each input of the inner graph with where it comes from; None means zeros."""
        if self.graph is None:
            return ()
        inner = self.graph.inputs
        given = self.inputs if len(inner) == len(self.inputs) else [s for s in self.inputs if s is not None]
        return tuple(zip(inner, given, strict=True))

    def __repr__(self) -> str:
        return f"Node({self.name!r}, {self.layer.kind}, {', '.join(map(str, self.specs))})"


@dataclass(frozen=True)
class Edge:
    """Output `source_index` of `source` is input `target_index` of `target`."""

    source: str
    source_index: int
    target: str
    target_index: int
