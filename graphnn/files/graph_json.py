"""Graphs as JSON text: canonical, one line per node, nothing in it is ever run.

    {"format": "graphnn.graph", "version": 1, "name": "net", "layer": "Graph", "hyperparameters": {},
     "inputs": [
      {"name": "x", "shape": ["batch", 4], "dtype": "float32", "optional": false}
     ],
     "nodes": [
      {"name": "relu", "layer": "ReLU", "hyperparameters": {}, "inputs": ["x"]},
      {"name": "relu_2", "layer": "ReLU", "shared_with": "relu", "inputs": ["relu"]}
     ],
     "outputs": "relu_2"}

A source is "node", or "node:1" for its second output. A node with "graph" is a Module or Graph; "layer" and
"hyperparameters" then only describe it. "shared_with" is the path, from the outermost graph, of the first node that has
the same layer (or inner graph). "outputs" is one source, a list, or an object by name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from graphnn.errors import GraphError, GraphnnError
from graphnn.files.graph_json_reader import FORMAT, MAX_DEPTH, MAX_NODES, VERSION, read_graph
from graphnn.files.hyperparameters import Encoder
from graphnn.files.json_text import MAX_STRING
from graphnn.graph.graph import Graph
from graphnn.graph.layer import InputNode, Layer, user_position
from graphnn.graph.node import Node


def from_json(text: str | bytes, layers: Mapping[str, type[Layer]] | None = None) -> Graph:
    """The graph that `to_json` wrote; `to_json` of it is the same text.

    Module nodes come back as Graph nodes with the Module's class name and arguments.

    Args:
        text: nodes may stand in any order.
        layers: your own Layer classes by class name; besides these only graphnn's layers may occur.

    Raises:
        FileFormatError: not this format or version; unknown keys, layers or attributes; over a limit.
        GraphError, ShapeError...: what the same graph would raise when declared.
    """
    position = user_position()
    try:
        return read_graph(text, layers or {}, position)
    except GraphnnError as error:
        error.locate(FORMAT, position)
        raise


def to_json(graph: Graph) -> str:
    """Canonical text: equal graphs give equal text, whatever machine or process writes it.

    Raises:
        GraphError: a hyper-parameter is no data, two layer classes share a name, or graphs lie deeper than 64.
    """
    return "".join(_Writer().write(graph))


def content_hash(graph: Graph) -> str:
    """SHA-256 of `to_json(graph)` in hexadecimal digits."""
    return hashlib.sha256(to_json(graph).encode("ascii")).hexdigest()


@dataclass
class _Frame:
    graph: Graph
    prefix: str  # path of the graph with a slash, "" for the outermost
    remaining: Iterator[Node] = field(init=False)
    is_first: bool = True
    count: int = 1  # nodes at every depth, and the graph itself
    depth: int = 1

    def __post_init__(self) -> None:
        self.remaining = iter(self.graph.nodes)

    def contain(self, count: int, depth: int) -> None:
        self.count += count
        self.depth = max(self.depth, depth + 1)
        if self.count > MAX_NODES or self.depth > MAX_DEPTH:
            raise GraphError(
                "the graph is too large, or graphs lie too deep inside each other, for a file", where=self.prefix[:-1],
                expected=f"at most {MAX_NODES:,} nodes, {MAX_DEPTH} levels", got=f"{self.count:,} and {self.depth}",
            )  # fmt: skip


class _Writer:
    """Walks the nested graph with a stack of frames."""

    def __init__(self) -> None:
        self._encoder = Encoder()
        self._paths: dict[int, str] = {}  # id of a layer or inner graph (alive while we write) -> its first node
        self._sizes: dict[int, tuple[int, int]] = {}  # id of an inner graph -> its count and depth
        self._stack: list[_Frame] = []

    def write(self, graph: Graph) -> Iterator[str]:
        head: dict[str, Any] = {"format": FORMAT, "version": VERSION, "name": graph.name, "layer": graph.kind}
        head["hyperparameters"] = self._encoder.description(graph.hyperparameters)
        yield _text(head)[:-1] + ",\n"
        yield from self._open(graph, "")
        while self._stack:
            frame = self._stack[-1]
            node = next(frame.remaining, None)
            if node is None:
                yield self._close(self._stack.pop())
            else:
                yield ("\n" if frame.is_first else ",\n") + " " * self._indent
                frame.is_first = False
                yield from self._node(frame, node)

    @property
    def _indent(self) -> int:
        return 2 * len(self._stack)

    def _open(self, graph: Graph, prefix: str) -> Iterator[str]:
        self._stack.append(_Frame(graph, prefix))
        self._stack[0].contain(0, len(self._stack) - 1)
        margin = "\n" + " " * (self._indent - 1)
        inputs = ",".join(f"{margin} {_text(_input(node))}" for node in graph.inputs)
        yield f'{margin[1:]}"inputs": [{inputs}{margin}],{margin}"nodes": ['

    def _close(self, frame: _Frame) -> str:
        self._sizes[id(frame.graph)] = frame.count, frame.depth
        if self._stack:
            self._stack[-1].contain(frame.count, frame.depth)
        margin = "\n" + " " * (2 * len(self._stack) + 1)
        return f'{margin}],{margin}"outputs": {_text(_outputs(frame.graph))}}}' + ("}" if self._stack else "\n")

    def _node(self, frame: _Frame, node: Node) -> Iterator[str]:
        path = frame.prefix + node.name
        frame.contain(1, 0)
        shared_with = self._paths.setdefault(id(node.layer if node.graph is None else node.graph), path)
        inputs = [str(s) if s is not None else None for s in _sources(node)]
        record: dict[str, Any] = {"name": _checked(node.name, path), "layer": node.layer.kind}
        if shared_with != path:
            frame.contain(*self._sizes.get(id(node.graph), (0, 0)))
            yield _text(record | {"shared_with": _checked(shared_with, path), "inputs": inputs})
        elif node.graph is None:
            yield _text(record | {"hyperparameters": self._encoder.layer(node.layer, path), "inputs": inputs})
        else:
            described = self._encoder.description(node.layer.hyperparameters)
            yield _text(record | {"hyperparameters": described, "inputs": inputs})[:-1] + ', "graph": {\n'
            yield from self._open(node.graph, path + "/")


def _sources(node: Node) -> list[Any]:
    """A file keeps no Module, so what its forward got as None is left out: one source for each inner input."""
    return list(node.inputs) if node.graph is None else [source for _, source in node.inner_sources]


def _input(node: InputNode) -> dict[str, Any]:
    shape = [size if isinstance(size, int) else str(size) for size in node.spec.shape]
    return {"name": _checked(node.name, node.name), "shape": shape, "dtype": node.spec.dtype, "optional": node.optional}


def _outputs(graph: Graph) -> str | list[str] | dict[str, str]:
    return graph.arrange(str(source) for source in graph.outputs)  # as they were declared, tuples are lists


def _checked(name: str, path: str) -> str:
    if len(_text(name)) > MAX_STRING:
        raise GraphError("the name is too long for a file", where=path[:80], expected=f"{MAX_STRING} characters")
    return name


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True, allow_nan=False)
