"""A nested graph as one list of leaf nodes with full paths."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from graphnn.graph.layer import Layer, Position
from graphnn.graph.node import Node, Source
from graphnn.graph.scope import ParameterDeclaration
from graphnn.ir.tensor_spec import TensorSpec

if TYPE_CHECKING:
    from graphnn.graph.graph import Graph


@dataclass(frozen=True)
class Leaf:
    """A node that is no graph itself.

    Args:
        path: names from the outermost graph to the node, joined by "/".
        layer: what it does.
        inputs: sources by path; a TensorSpec stands for zeros (an optional input that was not given).
        owner: path that its parameters are called by: that of the first use of the layer.
        specs: output specs as declared.
        output_names: as in Node.
        declarations: parameters and states by local path ("/W"), as declared.
        declared_at: file and line.
    """

    path: str
    layer: Layer
    inputs: tuple[Source | TensorSpec, ...]
    owner: str
    specs: tuple[TensorSpec, ...]
    output_names: tuple[str, ...]
    declarations: tuple[ParameterDeclaration, ...]
    declared_at: Position


@dataclass(frozen=True)
class FlatGraph:
    """Leaves in forward order; `groups` maps the path of each inner graph to the sources of its outputs."""

    leaves: tuple[Leaf, ...]
    groups: dict[str, tuple[Source | TensorSpec, ...]]
    outputs: tuple[Source | TensorSpec, ...]


@dataclass
class _Frame:
    graph: Graph
    prefix: str
    node_name: str
    sources: dict[str, tuple[Source | TensorSpec, ...]]
    remaining: Iterator[Node] = field(init=False)

    def __post_init__(self) -> None:
        self.remaining = iter(self.graph.nodes)

    def resolve(self, source: Source) -> Source | TensorSpec:
        return self.sources[source.name][source.index]


def flatten(graph: Graph) -> FlatGraph:
    """All leaf nodes under `graph`, at any depth, in forward order; iterative."""
    leaves: list[Leaf] = []
    groups: dict[str, tuple[Source | TensorSpec, ...]] = {}
    owners: dict[int, str] = {}
    stack = [_Frame(graph, "", "", {node.name: (Source(node.name),) for node in graph.inputs})]
    while True:
        frame = stack[-1]
        node = next(frame.remaining, None)
        if node is None:
            outputs = tuple(frame.resolve(source) for source in frame.graph.outputs)
            stack.pop()
            if not stack:
                return FlatGraph(tuple(leaves), groups, outputs)
            groups[frame.prefix.removesuffix("/")] = outputs
            stack[-1].sources[frame.node_name] = outputs
        elif node.graph is not None:
            stack.append(_enter(frame, node))
        else:
            leaves.append(_leaf(frame, node, owners))


def _enter(frame: _Frame, node: Node) -> _Frame:
    sources = {
        inner.name: (inner.spec if source is None else frame.resolve(source),) for inner, source in node.inner_sources
    }
    if node.graph is None:
        raise TypeError(node)
    return _Frame(node.graph, f"{frame.prefix}{node.name}/", node.name, sources)


def _leaf(frame: _Frame, node: Node, owners: dict[int, str]) -> Leaf:
    path = frame.prefix + node.name
    owner = owners.setdefault(id(node.layer), path)
    frame.sources[node.name] = tuple(Source(path, index) for index in range(len(node.specs)))
    inputs = tuple(frame.resolve(source) for source in node.inputs if source is not None)
    return Leaf(path, node.layer, inputs, owner, node.specs, node.output_names, node.declarations, node.declared_at)
