"""The forward view: every layer, module and connection of a graph, with modules open down to a depth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from graphnn.graph.graph import Graph, Node, Source
from graphnn.graph.layer import InputNode
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.render.describe import Parameters, attributes_of, outputs_of, shape_text
from graphnn.render.scene import OUTPUT, Box, Edge, Group
from graphnn.render.text import plural


@dataclass(frozen=True)
class Origin:
    """A value as drawn: the box that it comes out of; `output` tells it from other outputs of that box."""

    key: str
    output: str
    spec: TensorSpec


@dataclass
class _Frame:
    """An open graph on the way through; `sources` has the origin of each value in it, None for zeros."""

    graph: Graph
    path: str
    name: str  # of the node in the graph around it
    sources: dict[str, tuple[Origin | None, ...]]
    remaining: Iterator[Node] = field(init=False)

    def __post_init__(self) -> None:
        self.remaining = iter(self.graph.nodes)

    def resolve(self, source: Source | None) -> Origin | None:
        return None if source is None else self.sources[source.name][source.index]

    def path_of(self, node: Node) -> str:
        return f"{self.path}/{node.name}" if self.path else node.name


def opens(node: Node) -> bool:
    """Whether there is something inside; a module that only hands its inputs on is drawn as a box at any depth."""
    return node.graph is not None and bool(node.graph.nodes)


class ForwardWalk:
    """Goes once through a graph in forward order, into the modules that are open; keeps its own stack.

    Args:
        graph: what is drawn.
        depth: how many levels of modules are open.
        parameters: counts by path.

    Attributes:
        boxes: in forward order, so a topological order.
        groups: from outer to inner.
    """

    def __init__(self, graph: Graph, depth: int, parameters: dict[str, Parameters]):
        self._depth = depth
        self._parameters = parameters
        self._connections: dict[tuple[str, str], list[str]] = {}
        self.boxes: list[Box] = []
        self.groups: list[Group] = []
        stack = [_Frame(graph, "", "", {node.name: (self._input(node),) for node in graph.inputs})]
        while stack:
            self._step(stack)

    @property
    def edges(self) -> tuple[Edge, ...]:
        """One edge for each pair of connected boxes, in forward order of the targets."""
        return tuple(Edge(*ends, tuple(texts)) for ends, texts in self._connections.items())

    def _step(self, stack: list[_Frame]) -> None:
        frame = stack[-1]
        node = next(frame.remaining, None)
        if node is None:
            stack.pop()
            results = tuple(map(frame.resolve, frame.graph.outputs))
            if stack:
                stack[-1].sources[frame.name] = results
            else:
                self._outputs(frame.graph, results)
        elif node.graph is not None and opens(node) and len(stack) <= self._depth:
            self._group(frame, node)
            given = {inner.name: (frame.resolve(source),) for inner, source in node.inner_sources}
            stack.append(_Frame(node.graph, frame.path_of(node), node.name, given))
        else:
            self._node(frame, node)

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
        path = frame.path_of(node)
        counts = self._parameters[path]
        title = " · ".join(part for part in (node.name, node.layer.kind, str(counts)) if part)
        tooltip = tuple(attributes_of(path, node, counts))
        self.groups.append(Group(path, frame.path, title, tooltip, counts.all_frozen))

    def _node(self, frame: _Frame, node: Node) -> None:
        path = frame.path_of(node)
        counts = self._parameters[path]
        zeros, given = self._inputs(frame, node, path)
        inside = plural(len(node.graph.nodes), "node") + " inside" if node.graph is not None else ""
        lines = (path, *_few(outputs_of(node)), str(counts), inside, zeros)
        role, category = ("module", "module") if node.graph is not None else ("layer", node.layer.category)
        box = Box(
            key=path,
            role=role,
            title=node.layer.kind,
            category=category,
            lines=tuple(filter(None, lines)),
            tooltip=(*attributes_of(path, node, counts), *given),
            group=frame.path,
            frozen=counts.all_frozen,
            shared=counts.is_later_use,
        )
        self.boxes.append(box)
        outputs = node.output_names or ("",)
        frame.sources[node.name] = tuple(Origin(path, *pair) for pair in zip(outputs, node.specs, strict=True))

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
            self._connections.setdefault((origin.key, target), []).append(f"{source} → {what}: {origin.spec}")


def _few(lines: list[str]) -> list[str]:
    return lines if len(lines) <= 3 else [*lines[:2], f"and {len(lines) - 2} more outputs"]
