"""diff: what was edited between two graphs, node by node at every depth. Nodes are the same where their paths are."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from graphnn.atomic import replace_file
from graphnn.errors import GraphError, OptionError
from graphnn.graph.flatten import flatten
from graphnn.graph.graph import Graph
from graphnn.graph.layer import InputNode, Layer
from graphnn.graph.node import Node, Source
from graphnn.graph.summary import walk
from graphnn.ir.tensor_spec import TensorSpec

NOTHING = "nothing"  # in a text, for a side on which there is none


@dataclass(frozen=True)
class NodeEntry:
    """A node that only one graph has. For a module, `inside` counts the nodes in it, which are not listed."""

    path: str
    layer: str
    inside: int = 0


@dataclass(frozen=True)
class Change:
    """`what` of the node, input or output at `path` was `before` and is `after`."""

    path: str
    what: str
    before: str
    after: str


@dataclass(frozen=True)
class GraphDiff:
    """What was edited between two graphs; `str()` gives a list, `to_dict()` plain data, `to_svg()` one picture.

    It is true where something differs, and false for equal graphs. The name of a graph, the order in which nodes were
    defined and where their lines stand make no difference.

    Args:
        before: the first graph.
        after: the second graph.
        added: nodes that only the second graph has.
        removed: nodes that only the first graph has.
        rewired: nodes with an input ("input 0", "input skip") that comes from elsewhere.
        changed: nodes with another hyper-parameter, another "layer", or other "parameters" (shared with another node
            or no longer so).
        inputs: of the graph or of a module: "added", "removed", or another "spec", "optional" or "order".
        outputs: of the graph or of a module: "added", "removed", or another "source".
        follows: what is no edit of its own but follows from one: outputs and parameters of another shape. Weights of
            the first graph do not fit these.
    """

    before: Graph = field(compare=False, repr=False)
    after: Graph = field(compare=False, repr=False)
    added: tuple[NodeEntry, ...] = ()
    removed: tuple[NodeEntry, ...] = ()
    rewired: tuple[Change, ...] = ()
    changed: tuple[Change, ...] = ()
    inputs: tuple[Change, ...] = ()
    outputs: tuple[Change, ...] = ()
    follows: tuple[Change, ...] = ()

    def __bool__(self) -> bool:
        return any((self.added, self.removed, self.rewired, self.changed, self.inputs, self.outputs, self.follows))

    def __str__(self) -> str:
        return "\n".join([f"{self.before.default_name} -> {self.after.default_name}: {self.headline}", *self._lines()])

    @property
    def headline(self) -> str:
        """`1 added, 2 rewired`, or `no differences`."""
        nodes = {change.path for change in self.changed}
        counts = {
            "added": len(self.added), "removed": len(self.removed),
            "rewired": len({change.path for change in self.rewired}), "re-parameterised": len(nodes),
        }  # fmt: skip
        parts = [f"{count:,} {word}" for word, count in counts.items() if count]
        parts += [f"{word} differ" for word, changes in (("inputs", self.inputs), ("outputs", self.outputs)) if changes]
        reshaped = len({change.path for change in self.follows})
        parts += [f"{reshaped:,} {'follows' if reshaped == 1 else 'follow'}"] if reshaped else []
        return ", ".join(parts) or "no differences"

    def _lines(self) -> Iterator[str]:
        rows = list(self._rows())
        widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
        for row in rows:
            yield "  " + "  ".join([*(text.ljust(w) for text, w in zip(row, widths, strict=False)), row[3]]).rstrip()

    def _rows(self) -> Iterator[tuple[str, str, str, str]]:
        for sign, word, entries in (("+", "added", self.added), ("-", "removed", self.removed)):
            for entry in entries:
                yield sign, word, entry.path, entry.layer + (f", {entry.inside:,} nodes inside" * bool(entry.inside))
        lists = (("rewired", self.rewired), ("changed", self.changed), ("input", self.inputs), ("output", self.outputs))
        for word, changes in (*lists, ("follows", self.follows)):
            for change in changes:
                sign = {"added": "+", "removed": "-"}.get(change.what, "=" if word == "follows" else "~")
                yield sign, word, change.path, f"{change.what}: {change.before} -> {change.after}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: names, and a list for each kind of difference."""
        result: dict[str, Any] = {"before": self.before.default_name, "after": self.after.default_name}
        for item in fields(self)[2:]:
            result[item.name] = [vars(entry).copy() for entry in getattr(self, item.name)]
        return result

    def to_svg(self, theme: str = "auto") -> str:
        """Both graphs as one picture: added, removed and changed are marked by colour, sign and word.

        Args:
            theme: "light", "dark", or "auto" for what the reader's system prefers.
        """
        from graphnn.render.diff import to_svg

        return to_svg(self, theme)

    def render(self, path: str | os.PathLike[str], theme: str = "auto") -> None:
        """Write the picture to a file that ends in .svg, all or nothing.

        Raises:
            OptionError: another ending. OSError: the file cannot be written.
        """
        if Path(path).suffix.lower() != ".svg":
            raise OptionError("a diff is drawn as SVG", where=os.fspath(path), expected=".svg", got=Path(path).suffix)
        text = self.to_svg(theme)
        with replace_file(path) as file:
            file.write(text.encode())

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {"text/plain": str(self), "image/svg+xml": self.to_svg()}


def diff(before: Graph, after: Graph) -> GraphDiff:
    """What was edited from `before` to `after`; nodes are compared by path, at every depth.

    Modules of one class are compared inside. A module that only one graph has, or that has become a layer of another
    class, stands for all that is in it.

    Raises:
        GraphError: one of them is no graph.
    """
    for graph in (before, after):
        if not isinstance(graph, Graph):
            raise GraphError("a diff is made of two graphs", where="diff", expected="Graph", got=type(graph).__name__)
    comparison = _Comparison(before, after)
    return GraphDiff(before, after, *map(tuple, comparison.lists()))


class _Comparison:
    """Goes through both graphs, outer ones first; keeps its own queue."""

    def __init__(self, before: Graph, after: Graph):
        self.added: list[NodeEntry] = []
        self.removed: list[NodeEntry] = []
        self.rewired: list[Change] = []
        self.changed: list[Change] = []
        self.inputs: list[Change] = []
        self.outputs: list[Change] = []
        self.follows: list[Change] = []
        self._leaves: dict[str, None] = {}  # paths of leaf nodes that both have
        self._waiting = deque([("", before, after)])
        while self._waiting:
            self._graphs(*self._waiting.popleft())
        self._sharing(before, after)

    def lists(self) -> tuple[list[Any], ...]:
        """In the order of the fields of GraphDiff."""
        return self.added, self.removed, self.rewired, self.changed, self.inputs, self.outputs, self.follows

    def _graphs(self, prefix: str, before: Graph, after: Graph) -> None:
        old, new = ({node.name: node for node in graph.nodes} for graph in (before, after))
        self.removed += [_entry(prefix, node) for name, node in old.items() if name not in new]
        for name, node in new.items():
            if name in old:
                self._nodes(prefix + name, old[name], node)
            else:
                self.added.append(_entry(prefix, node))
        self._inputs(prefix, before.inputs, after.inputs)
        self._outputs(prefix, before, after)

    def _nodes(self, path: str, old: Node, new: Node) -> None:
        if old.layer.kind != new.layer.kind or (old.graph is None) != (new.graph is None):
            self.changed.append(Change(path, "layer", describe_value(old.layer), describe_value(new.layer)))
        else:
            pair = (old.layer.hyperparameters, new.layer.hyperparameters)
            self.changed += (Change(path, *texts) for texts in _differing(*pair))
            if old.graph is not None and new.graph is not None:
                self._waiting.append((f"{path}/", old.graph, new.graph))
            else:
                self._leaves[path] = None
                self.follows += (Change(path, *texts) for texts in _differing(_shapes(old), _shapes(new)))
        before, after = _sources(old), _sources(new)
        if (old.graph is None) != (new.graph is None):  # inputs of a module have names, those of a layer numbers
            before, after = dict(enumerate(before.values())), dict(enumerate(after.values()))
        for key in dict.fromkeys([*before, *after]):
            if before.get(key) != after.get(key):
                sides = (str(side.get(key) or NOTHING) for side in (before, after))
                self.rewired.append(Change(path, f"input {key}", *sides))

    def _inputs(self, prefix: str, before: tuple[InputNode, ...], after: tuple[InputNode, ...]) -> None:
        old, new = ({node.name: node for node in nodes} for nodes in (before, after))
        self.inputs += [Change(prefix + n, "removed", str(i.spec), NOTHING) for n, i in old.items() if n not in new]
        self.inputs += [Change(prefix + n, "added", NOTHING, str(i.spec)) for n, i in new.items() if n not in old]
        for name in (name for name in old if name in new):
            if not prefix and old[name].spec != new[name].spec:  # that of a module follows from what it is given
                self.inputs.append(Change(name, "spec", str(old[name].spec), str(new[name].spec)))
            if old[name].optional != new[name].optional:
                sides = (str(node.optional) for node in (old[name], new[name]))
                self.inputs.append(Change(prefix + name, "optional", *sides))
        orders = [[name for name in mine if name in other] for mine, other in ((old, new), (new, old))]
        if orders[0] != orders[1]:
            self.inputs.append(Change(prefix.rstrip("/"), "order", *map(", ".join, orders)))

    def _outputs(self, prefix: str, before: Graph, after: Graph) -> None:
        old, new = (
            {name or "output": str(source) for name, source in zip(g.output_names or ("",), g.outputs, strict=True)}
            for g in (before, after)
        )
        for name in dict.fromkeys([*old, *new]):
            if old.get(name) != new.get(name):
                what = "removed" if name not in new else "added" if name not in old else "source"
                self.outputs.append(Change(prefix + name, what, old.get(name, NOTHING), new.get(name, NOTHING)))

    def _sharing(self, before: Graph, after: Graph) -> None:
        """Which nodes have one set of parameters, told among the nodes that both graphs have."""
        owners = [
            {leaf.path: leaf.owner for leaf in flatten(graph).leaves if leaf.declarations and leaf.path in self._leaves}
            for graph in (before, after)
        ]
        both = [path for path in owners[0] if path in owners[1]]
        first: list[dict[str, str]] = [{}, {}]
        for path in both:
            texts = [
                "its own" if (owner := known.setdefault(side[path], path)) == path else f"those of {owner}"
                for side, known in zip(owners, first, strict=True)
            ]
            if texts[0] != texts[1]:
                self.changed.append(Change(path, "parameters", *texts))


def _entry(prefix: str, node: Node) -> NodeEntry:
    inside = sum(1 for _ in walk(node.graph)) if node.graph is not None else 0
    return NodeEntry(prefix + node.name, node.layer.kind, inside)


def _sources(node: Node) -> dict[Any, Source]:
    """Where each given input comes from; by name in a module."""
    pairs = [(inner.name, source) for inner, source in node.inner_sources] or list(enumerate(node.inputs))
    return {key: source for key, source in pairs if source is not None}


def _shapes(node: Node) -> dict[str, TensorSpec]:
    names = [f"output {name}" for name in node.output_names] or ["output"]
    kept = {f"{d.kind.value} {d.path.removeprefix('/')}": d.spec for d in node.declarations}
    return dict(zip(names, node.specs, strict=True)) | kept


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for key in dict.fromkeys([*old, *new]):
        if key not in old or key not in new or not _equal(old[key], new[key]):
            before, after = (describe_value(side[key]) if key in side else NOTHING for side in (old, new))
            yield key, before, after


# -- values of hyper-parameters ----------------------------------------------------------------------------------------


def _equal(a: Any, b: Any) -> bool:
    """Whether two hyper-parameters mean the same; layers are compared by what they do, not by who they are."""
    if a is b or isinstance(a, TensorSpec):
        return a is b or bool(a == b)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(_equal, a, b))
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    if isinstance(a, Layer) and isinstance(b, Layer):
        return a.kind == b.kind and _equal(a.hyperparameters, b.hyperparameters)
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, float) and isinstance(b, float):
        return a == b or (math.isnan(a) and math.isnan(b))
    if is_dataclass(a) and is_dataclass(b) and not isinstance(a, type) and not isinstance(b, type):
        return type(a).__name__ == type(b).__name__ and _equal(_fields(a), _fields(b))
    return isinstance(a, bool) == isinstance(b, bool) and bool(np.all(a == b))


def describe_value(value: Any) -> str:
    """A hyper-parameter as text without memory addresses."""
    if isinstance(value, Layer):
        return f"{value.kind}({_keywords(value.hyperparameters)})"
    if isinstance(value, np.ndarray):
        return f"array {value.dtype}{list(value.shape)}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(describe_value, value))}]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{describe_value(key)}: {describe_value(item)}" for key, item in value.items()) + "}"
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)
    if is_dataclass(value) and not isinstance(value, type):
        return (
            str(value) if type(value).__str__ is not object.__str__ else f"{_name(value)}({_keywords(_fields(value))})"
        )
    return str(getattr(value, "__qualname__", _name(value)))


def _keywords(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={describe_value(value)}" for key, value in values.items())


def _fields(value: Any) -> dict[str, Any]:
    return {item.name: getattr(value, item.name) for item in fields(value)}


def _name(value: object) -> str:
    return type(value).__name__
