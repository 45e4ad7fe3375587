"""Folding: chains of equal nodes, found exactly, so that a picture can show one of them and their number.

Two pieces of a graph are equal when layers, hyper-parameters, parameters, shapes, what is frozen, and all connections
are, at every depth; only names may differ. A chain folds when each piece reads the one before it in the same way,
nothing else reads a piece but the last, and no weights are shared with another node.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np

from graphnn.graph.flatten import flatten
from graphnn.graph.graph import Graph, Source
from graphnn.graph.layer import Layer
from graphnn.graph.summary import walk

FEWEST_REPEATS = 3
FEWEST_OF_LONG = 2  # of pieces with as many nodes as LONG: there two are already a page
LONG = 8
LONGEST_PIECE = 40  # nodes


@dataclass(frozen=True)
class Fold:
    """`count` equal pieces of `length` nodes each, one after another in the list of nodes, from index `start`."""

    start: int
    length: int
    count: int

    @property
    def stop(self) -> int:
        """The index after the last node."""
        return self.start + self.length * self.count


def folds_by_path(graph: Graph, is_frozen: Callable[[str], bool]) -> dict[str, tuple[Fold, ...]]:
    """The chains in the graph and in each module that has some, by path ("" for the graph itself)."""
    codes = _codes(graph, is_frozen)
    graphs = {"": graph} | {path: node.graph for path, _, node in walk(graph) if node.graph is not None}
    found: dict[str, tuple[Fold, ...]] = {}
    for path, inner in graphs.items():
        prefix = f"{path}/" if path else ""
        if folds := _find(inner, [codes[prefix + node.name] for node in inner.nodes]):
            found[path] = folds
    return found


# -- chains ------------------------------------------------------------------------------------------------------------


def _find(graph: Graph, codes: list[int]) -> tuple[Fold, ...]:
    """The longest chains, from the first node on; they do not overlap."""
    lengths = [n for n in range(1, LONGEST_PIECE + 1) if n * _fewest(n) <= len(codes)]
    equal = {length: _equal_ahead(codes, length) for length in lengths}
    wires = _Wires(graph)
    folds: list[Fold] = []
    start = 0
    while start < len(codes):
        best = Fold(start, 1, 1)
        for length in lengths:
            most = 1 + equal[length][start] // length
            if most >= _fewest(length) and start + most * length > best.stop:
                chain = Fold(start, length, wires.repeats(start, length, most))
                best = chain if chain.count >= _fewest(length) and chain.stop > best.stop else best
        folds += [best] if best.count > 1 else []
        start = best.stop
    return tuple(folds)


def _fewest(length: int) -> int:
    """How many equal pieces of so many nodes are worth folding."""
    return FEWEST_OF_LONG if length >= LONG else FEWEST_REPEATS


def _equal_ahead(codes: list[int], length: int) -> list[int]:
    """For each index, how many codes from there on are the same `length` further on."""
    counts = [0] * len(codes)
    for index in range(len(codes) - length - 1, -1, -1):
        counts[index] = counts[index + 1] + 1 if codes[index] == codes[index + length] else 0
    return counts


class _Wires:
    """Who reads whom in one graph, by index of node; graph outputs read as an index behind the last node."""

    def __init__(self, graph: Graph):
        self._index = {node.name: index for index, node in enumerate(graph.nodes)}
        self._nodes = graph.nodes
        self._last_reader = [-1] * len(graph.nodes)
        reads = [(source, reader) for reader, node in enumerate(graph.nodes) for source in node.inputs if source]
        for source, reader in [*reads, *((source, len(graph.nodes)) for source in graph.outputs)]:
            if source.name in self._index:
                place = self._index[source.name]
                self._last_reader[place] = max(self._last_reader[place], reader)

    def repeats(self, start: int, length: int, most: int) -> int:
        """How many pieces from `start` on are wired as a chain, at most `most`."""
        pattern = self._pattern(start + length, length)
        is_chain = any(wire[0] == "previous" for wire in pattern) and self._begins(start, length, pattern)
        if not is_chain or not self._is_closed(start, length):
            return 1
        count = 2
        while (
            count < most
            and self._is_closed(start + (count - 1) * length, length)
            and self._pattern(start + count * length, length) == pattern
        ):
            count += 1
        return count

    def _pattern(self, begin: int, length: int, before: int | None = None) -> list[tuple[str, object, int]]:
        """Every input of a piece: from the piece itself, from the `before` nodes ahead of it, or from elsewhere."""
        ahead = begin - (length if before is None else before)
        nodes = self._nodes[begin : begin + length]
        return [self._wire(ahead, begin, source) for node in nodes for source in node.inputs]

    def _wire(self, ahead: int, begin: int, source: Source | None) -> tuple[str, object, int]:
        if source is None:
            return ("none", None, 0)
        place = self._index.get(source.name)
        if place is not None and place >= begin:
            return ("same", place - begin, source.index)
        if place is not None and place >= ahead:
            return ("previous", place - ahead, source.index)
        return ("outer", source.name, source.index)

    def _begins(self, start: int, length: int, pattern: list[tuple[str, object, int]]) -> bool:
        """Whether the first piece is wired like the others, with anything in place of the piece before it.

        A missing input is not anything: the first piece would lack an edge that the others have.
        """
        first = self._pattern(start, length, before=0)
        return all(
            mine == other or (mine[0] == "outer" and other[0] == "previous")
            for mine, other in zip(first, pattern, strict=True)
        )

    def _is_closed(self, begin: int, length: int) -> bool:
        """Whether nobody but the piece and the next one reads it."""
        return max(self._last_reader[begin : begin + length]) < begin + 2 * length


# -- equality ----------------------------------------------------------------------------------------------------------


def _codes(graph: Graph, is_frozen: Callable[[str], bool]) -> dict[str, int]:
    """A number for each node at every depth by path, equal for equal nodes; inner ones come first, no recursion."""
    flat = flatten(graph)
    uses = Counter(leaf.owner for leaf in flat.leaves)
    owners = {leaf.path: leaf.owner for leaf in flat.leaves}
    graphs = {"": graph} | {path: node.graph for path, _, node in walk(graph) if node.graph is not None}
    numbers: dict[Hashable, int] = {}
    codes: dict[str, int] = {}
    for path, prefix, node in reversed(list(walk(graph))):
        outer = graphs[prefix.removesuffix("/")]
        inputs = tuple(None if source is None else outer.spec_of(source) for source in node.inputs)
        if node.graph is None:
            shared = path if node.declarations and uses[owners[path]] > 1 else ""
            arrays = tuple((d.path, d.spec, d.kind) for d in node.declarations)
            inside: Hashable = (arrays, shared, bool(node.declarations) and is_frozen(path))
        else:
            inside = _inside(node.graph, path, codes)
        look = (node.layer.kind, type(node.layer), exact(node.layer.hyperparameters))
        key = (look, inputs, node.specs, node.output_names, inside)
        codes[path] = numbers.setdefault(key, len(numbers))
    return codes


def _inside(graph: Graph, path: str, codes: Mapping[str, int]) -> Hashable:
    place = {node.name: index for index, node in enumerate((*graph.inputs, *graph.nodes))}
    wires = tuple(tuple(s and (place[s.name], s.index) for s in node.inputs) for node in graph.nodes)
    ends = tuple((place[source.name], source.index) for source in graph.outputs)
    return tuple(codes[f"{path}/{node.name}"] for node in graph.nodes), wires, ends


def exact(value: Any) -> Hashable:
    """A hashable stand-in for a hyper-parameter; equal only for equal ones of equal types."""
    if value is None or isinstance(value, bool | int | str):
        return type(value), value
    if isinstance(value, float):
        return float, repr(value)
    if isinstance(value, np.ndarray):
        return "array", str(value.dtype), value.shape, value.tobytes()
    if isinstance(value, Mapping):
        return "mapping", tuple((key, exact(item)) for key, item in value.items())
    if isinstance(value, list | tuple):
        return type(value), tuple(map(exact, value))
    if isinstance(value, Layer):
        return type(value), exact(value.hyperparameters)
    if is_dataclass(value) and not isinstance(value, type):
        return type(value), tuple((f.name, exact(getattr(value, f.name))) for f in fields(value))
    return "object", id(value)  # compared, never written out
