"""The forward view: every layer, module and connection of a graph, with some modules open."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace

from graphnn.graph.graph import Graph, Node, Source
from graphnn.graph.layer import InputNode
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.render.describe import (
    Parameters,
    activation_of,
    attributes_of,
    differences,
    outputs_of,
    shape_text,
    short_hyperparameters,
)
from graphnn.render.fold import Fold, folds_by_path
from graphnn.render.options import Options
from graphnn.render.scene import OUTPUT, Badge, Box, Edge, Group
from graphnn.render.text import TIMES, plural


@dataclass(frozen=True)
class Origin:
    """A value as drawn: the box that it comes out of; `output` tells it from other outputs of that box."""

    key: str
    output: str
    spec: TensorSpec
    index: int = 0


@dataclass(frozen=True)
class Link:
    """One connection as drawn: a value, the key of the box that reads it, and what to say about it."""

    origin: Origin
    target: str
    text: str


@dataclass
class _Frame:
    """An open graph on the way through; `sources` has the origin of each value in it, None for zeros."""

    graph: Graph
    path: str
    name: str  # of the node in the graph around it
    group: str  # that its boxes lie in
    sources: dict[str, tuple[Origin | None, ...]]
    folds: dict[int, Fold] = field(default_factory=dict)
    level: int = 0  # of the groups in it
    remaining: Iterator[tuple[int, Node]] = field(init=False)
    differences: dict[str, list[str]] = field(init=False)  # between modules of one kind
    fold: Fold | None = None  # that the walk is in
    fold_group: str = ""

    def __post_init__(self) -> None:
        self.remaining = iter(enumerate(self.graph.nodes))
        self.differences = differences(self.graph.nodes)

    def resolve(self, source: Source | None) -> Origin | None:
        return None if source is None else self.sources[source.name][source.index]

    def path_of(self, node: Node) -> str:
        return f"{self.path}/{node.name}" if self.path else node.name

    @property
    def place(self) -> tuple[str, int]:
        """The group that the next box lies in, and the level of a group there."""
        return (self.fold_group, self.level + 1) if self.fold_group else (self.group, self.level)


def opens(node: Node) -> bool:
    """Whether there is something inside; a module that only hands its inputs on is drawn as a box at any depth."""
    return node.graph is not None and bool(node.graph.nodes)


class ForwardWalk:
    """Goes once through a graph in forward order, into the modules that are open; keeps its own stack.

    Args:
        graph: what is drawn.
        is_open: paths of open modules.
        parameters: counts by path.
        options: how it is drawn.

    Attributes:
        boxes: in forward order, so a topological order.
        groups: from outer to inner.
        links: one for each connection, in forward order of the targets.
    """

    def __init__(self, graph: Graph, is_open: Collection[str], parameters: dict[str, Parameters], options: Options):
        self._is_open = is_open
        self._parameters = parameters
        self._options = options
        self._folds = folds_by_path(graph, options.is_frozen) if options.fold else {}
        self.links: list[Link] = []
        self.boxes: list[Box] = []
        self.groups: list[Group] = []
        inputs: dict[str, tuple[Origin | None, ...]] = {node.name: (self._input(node),) for node in graph.inputs}
        stack = [_Frame(graph, "", "", "", inputs, self._folds_in(""))]
        while stack:
            self._step(stack)

    @property
    def edges(self) -> tuple[Edge, ...]:
        """One edge for each pair of connected boxes, in forward order of the targets."""
        return merge(self.links)

    def _folds_in(self, path: str) -> dict[int, Fold]:
        return {fold.start: fold for fold in self._folds.get(path, ())}

    def _step(self, stack: list[_Frame]) -> None:
        frame = stack[-1]
        index, node = next(frame.remaining, (-1, None))
        if node is None:
            self._leave(stack)
            return
        self._enter_fold(frame, index)
        if frame.fold and index >= frame.fold.start + frame.fold.length:  # a further repeat: its first one is drawn
            first = frame.graph.nodes[frame.fold.start + (index - frame.fold.start) % frame.fold.length]
            frame.sources[node.name] = frame.sources[first.name]
        elif node.graph is not None and frame.path_of(node) in self._is_open:
            self._group(frame, node)
            given = {inner.name: (frame.resolve(source),) for inner, source in node.inner_sources}
            path, level = frame.path_of(node), frame.place[1] + 1
            stack.append(_Frame(node.graph, path, node.name, path, given, self._folds_in(path), level))
        else:
            self._node(frame, node)

    def _leave(self, stack: list[_Frame]) -> None:
        frame = stack.pop()
        results = tuple(map(frame.resolve, frame.graph.outputs))
        if stack:
            stack[-1].sources[frame.name] = results
        else:
            self._outputs(frame.graph, results)

    def _enter_fold(self, frame: _Frame, index: int) -> None:
        """Begin or end a chain; a chain of pieces of several nodes has a frame of its own."""
        if frame.fold and index == frame.fold.stop:
            frame.fold, frame.fold_group = None, ""
        if fold := frame.folds.get(index):
            frame.fold = fold
            if fold.length > 1:
                first, last = frame.graph.nodes[fold.start].name, frame.graph.nodes[fold.stop - 1].name
                title = f"{first} … {last} · {fold.length} nodes each"
                prefix = f"{frame.path}/" if frame.path else ""
                path = f"{prefix}{first}@{fold.count}"
                tooltip = (
                    f"{fold.count} equal pieces of {fold.length} nodes, each reads the one before; one is drawn",
                )
                self.groups.append(Group(path, frame.group, title, tooltip, level=frame.level, repeats=fold.count))
                frame.fold_group = path

    def _input(self, node: InputNode) -> Origin:
        lines = (node.name, shape_text(node.spec), *(["optional: else zeros"] if node.optional else []))
        self.boxes.append(
            Box(node.name, "input", "Input", "input", lines, (f"Input · {node.name}", f"spec: {node.spec}", *lines[2:]))
        )
        return Origin(node.name, "", node.spec)

    def _outputs(self, graph: Graph, origins: tuple[Origin | None, ...]) -> None:
        names = graph.output_names or ("",)
        for name, spec, origin in zip(names, graph.output_specs, origins, strict=True):
            lines = tuple(line for line in (name, shape_text(spec), "" if origin else "zeros") if line)
            tooltip = (f"Output · {name}" if name else "Output", f"spec: {spec}")
            self.boxes.append(Box(OUTPUT + name, "output", "Output", "output", lines, tooltip))
            self._connect(origin, OUTPUT + name, f"output {name}".strip())

    def _group(self, frame: _Frame, node: Node) -> None:
        path, counts = frame.path_of(node), self._parameters[frame.path_of(node)]
        name, repeats = self._name_of(frame, node)
        numbers = f"each {counts}" if repeats > 1 and str(counts) else str(counts)
        own = frame.differences.get(node.name, ())
        title = " · ".join(part for part in (name, node.layer.kind, *own, numbers) if part)
        parent, level = frame.place
        tooltip = (*attributes_of(path, node, counts), *self._options.facts.get(path, ()))
        self.groups.append(Group(path, parent, title, tooltip, counts.all_frozen, level, repeats))

    def _name_of(self, frame: _Frame, node: Node) -> tuple[str, int]:
        """The node's name and 1, or `first … last` and the number of a chain of single nodes."""
        if frame.fold is None or frame.fold.length > 1:
            return node.name, 1
        return f"{node.name} … {frame.graph.nodes[frame.fold.stop - 1].name}", frame.fold.count

    def _node(self, frame: _Frame, node: Node) -> None:
        path = frame.path_of(node)
        counts = self._parameters[path]
        zeros, given = self._inputs(frame, node, path)
        role, category = ("module", "module") if node.graph is not None else ("layer", node.layer.category)
        box = Box(
            key=path,
            role=role,
            title=node.layer.kind,
            category=category,
            lines=tuple(filter(None, self._lines(frame, node, zeros))),
            tooltip=(*attributes_of(path, node, counts), *given),
            group=frame.place[0],
            frozen=counts.all_frozen,
            shared=counts.is_later_use,
            badges=tuple(self._badges(frame, node)),
        )
        self.boxes.append(box)
        frame.sources[node.name] = tuple(
            Origin(path, name, spec, index)
            for index, (name, spec) in enumerate(zip(node.output_names or ("",), node.specs, strict=True))
        )

    def _lines(self, frame: _Frame, node: Node, zeros: str) -> Iterator[str]:
        path, options = frame.path_of(node), self._options
        name, repeats = self._name_of(frame, node)
        yield f"{path.removesuffix(node.name)}{name}"
        if options.shows("inputs"):
            specs = [frame.graph.spec_of(source) for source in node.inputs if source is not None]
            yield from (f"from {shape_text(spec)}" for spec in specs[:3])
        yield from _few(outputs_of(node))
        if options.shows("dtype"):
            yield ", ".join(dict.fromkeys(spec.dtype for spec in node.specs))
        counts = str(self._parameters[path])
        yield f"each {counts}" if counts and repeats > 1 else counts
        yield from options.facts.get(path, ())
        if options.shows("hyperparameters"):
            yield from short_hyperparameters(node.layer)
        else:
            yield from frame.differences.get(node.name, ())
            yield activation_of(node.layer) if node.graph is None else ""
        yield plural(len(node.graph.nodes), "node") + " inside" if node.graph is not None else ""
        yield zeros

    def _badges(self, frame: _Frame, node: Node) -> Iterator[Badge]:
        repeats = self._name_of(frame, node)[1]
        if repeats > 1:
            yield Badge("repeat", f"{TIMES}{repeats}")
        if (
            node.graph is None
            and node.layer.hyperparameters.get("reverse") is True
            and "recurrent" in node.layer.category
        ):
            yield Badge("reverse", "← reads from the end")

    def _inputs(self, frame: _Frame, node: Node, path: str) -> tuple[str, list[str]]:
        """Connect a box; returns (a line about inputs that are not given, lines about all inputs)."""
        zeros, facts = 0, []
        given = [(inner.name, source) for inner, source in node.inner_sources]
        for name, source in given or [(str(index), source) for index, source in enumerate(node.inputs)]:
            origin = frame.resolve(source)
            zeros += origin is None
            facts.append(f"input {name}: {origin.spec if origin else 'not given, so zeros'}")
            self._connect(origin, path, f"input {name} of {path}")
        return (f"{plural(zeros, 'input')} not given: zeros" if zeros else ""), facts

    def _connect(self, origin: Origin | None, target: str, what: str) -> None:
        if origin is not None:
            source = f"{origin.output} of {origin.key}" if origin.output else origin.key
            self.links.append(Link(origin, target, f"{source} → {what}: {origin.spec}"))


def merge(links: list[Link], reverse: bool = False) -> tuple[Edge, ...]:
    """One edge for each pair of boxes; with `reverse`, against the direction of the data."""
    texts: dict[tuple[str, str], list[str]] = {}
    for link in links:
        ends = (link.target, link.origin.key) if reverse else (link.origin.key, link.target)
        texts.setdefault(ends, []).append(link.text)
    return tuple(Edge(*ends, tuple(lines)) for ends, lines in texts.items())


def with_badge(box: Box, kind: str, text: str) -> Box:
    """The box with one badge more."""
    return replace(box, badges=(*box.badges, Badge(kind, text)))


def _few(lines: list[str]) -> list[str]:
    return lines if len(lines) <= 3 else [*lines[:2], f"and {len(lines) - 2} more outputs"]
