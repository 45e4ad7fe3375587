"""Scene: what a picture of a graph shows, before anything has a place: boxes, groups and edges."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from graphnn.errors import OptionError
from graphnn.graph.graph import Graph, Node, Source
from graphnn.graph.layer import InputNode
from graphnn.graph.summary import walk
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.render.describe import Parameters, attributes_of, outputs_of, parameters_by_path, shape_text
from graphnn.render.simplify import condense
from graphnn.render.text import plural

AUTOMATIC_BOXES = 300  # without a given depth, modules stay closed so that no more boxes than this are drawn
OUTPUT = "@output/"  # before the name of a graph output; "@" cannot be in the name of a node


@dataclass(frozen=True)
class Box:
    """One drawn node.

    Args:
        key: unique: the path of a node, the name of an input, OUTPUT and the name of an output.
        role: input, layer, module (a closed one), output, reference or omission.
        title: first line, in bold.
        category: family of the layer, which gives the colour.
        lines: further lines.
        tooltip: lines shown on hovering.
        group: path of the open module that the box lies in, "" for none.
        frozen: all its parameters are frozen.
        shared: all its parameters belong to an earlier use of the layer.
    """

    key: str
    role: str
    title: str
    category: str
    lines: tuple[str, ...]
    tooltip: tuple[str, ...]
    group: str = ""
    frozen: bool = False
    shared: bool = False


@dataclass(frozen=True)
class Group:
    """An open module: the frame around its boxes.

    Args:
        path: of the module.
        parent: path of the group around it, "" for none.
        title: name, kind and number of parameters.
        tooltip: lines shown on hovering.
        frozen: all its parameters are frozen.
    """

    path: str
    parent: str
    title: str
    tooltip: tuple[str, ...]
    frozen: bool = False


@dataclass(frozen=True)
class Edge:
    """All connections from one box to another.

    Args:
        source: key of a box.
        target: key of a box.
        connections: one text for each connection: which output, which input, spec.
    """

    source: str
    target: str
    connections: tuple[str, ...]

    @property
    def count(self) -> int:
        """Number of connections."""
        return len(self.connections)


@dataclass(frozen=True)
class Scene:
    """Boxes in topological order, groups from outer to inner, and edges.

    Args:
        name: of the graph.
        subtitle: one line of totals.
        description: one sentence for readers who do not see the picture.
        notices: what the picture leaves out.
        boxes: drawn nodes.
        groups: frames; each has a box somewhere inside.
        edges: merged connections.
    """

    name: str
    subtitle: str
    description: str
    notices: tuple[str, ...]
    boxes: tuple[Box, ...]
    groups: tuple[Group, ...]
    edges: tuple[Edge, ...]


@dataclass(frozen=True)
class Origin:
    """A value as drawn: the box that it comes out of; `name` tells it from other outputs of that box."""

    key: str
    name: str
    spec: TensorSpec


@dataclass
class _Frame:
    """An open graph on the way through; `sources` has the origin of each value in it, None for zeros."""

    nodes: Iterator[Node]
    prefix: str
    sources: dict[str, tuple[Origin | None, ...]]
    node: Node | None = field(default=None)

    def resolve(self, source: Source) -> Origin | None:
        return self.sources[source.name][source.index]


def build_scene(
    graph: Graph, view: str = "forward", depth: int | None = None, is_frozen: Callable[[str], bool] = lambda path: False
) -> Scene:
    """The scene of a view.

    Args:
        graph: what is drawn.
        view: one of VIEWS.
        depth: how many levels of modules are open: 0 for none; None for all, or as many as keep a large picture readable.
        is_frozen: whether the node at a path is frozen.

    Raises:
        OptionError: an unknown view, or a depth that is no natural number.
    """
    if view not in VIEWS:
        raise OptionError("there is no such view", where="view", expected=", ".join(VIEWS), got=repr(view))
    if depth is not None and (isinstance(depth, bool) or not isinstance(depth, int) or depth < 0):
        raise OptionError("not a depth", where="depth", expected="None, 0, 1, 2...", got=repr(depth))
    return VIEWS[view](graph, depth, is_frozen)


def forward_scene(graph: Graph, depth: int | None, is_frozen: Callable[[str], bool]) -> Scene:
    """Every layer in forward direction, modules open down to `depth`."""
    deepest, automatic = _depths(graph)
    shown = min(automatic if depth is None else depth, deepest)
    parameters = parameters_by_path(graph, is_frozen)
    walker = _Walker(graph, shown, parameters)
    walker.run()
    notices = (f"showing depth {shown} of {deepest}: deeper modules are closed",) if shown < deepest else ()
    total = parameters[""]
    subtitle = f"{plural(walker.layers, 'layer')} · {plural(total.owned, 'parameter')}"
    if total.owned:
        subtitle += f": {total.owned - total.frozen:,} trainable, {total.frozen:,} frozen"
    scene = Scene(
        graph.default_name, subtitle, _description(graph, subtitle), notices,
        tuple(walker.boxes), tuple(walker.groups), walker.merged_edges(),
    )  # fmt: skip
    return condense(scene)


VIEWS: dict[str, Callable[[Graph, int | None, Callable[[str], bool]], Scene]] = {"forward": forward_scene}


def _depths(graph: Graph) -> tuple[int, int]:
    """(the depth at which all is open, the largest depth with at most AUTOMATIC_BOXES boxes or else 0)."""
    leaves: dict[int, int] = {}
    modules: dict[int, int] = {}
    for path, _, node in walk(graph):
        counts = modules if _opens(node) else leaves
        level = path.count("/")
        counts[level] = counts.get(level, 0) + 1
    deepest = max(modules, default=-1) + 1
    automatic, total = 0, len(graph.inputs) + len(graph.outputs)
    for depth in range(deepest + 1):
        total += leaves.get(depth, 0)
        if total + modules.get(depth, 0) <= AUTOMATIC_BOXES:
            automatic = depth
    return deepest, automatic


def _opens(node: Node) -> bool:
    """Whether there is something inside; a module that only hands its inputs on is drawn as a box at any depth."""
    return node.graph is not None and bool(node.graph.nodes)


def _description(graph: Graph, subtitle: str) -> str:
    inputs = ", ".join(f"{node.name} {shape_text(node.spec)}" for node in graph.inputs)
    names = graph.output_names or ("",)
    outputs = ", ".join(f"{n} {shape_text(s)}".strip() for n, s in zip(names, graph.output_specs, strict=True))
    return f"Neural network {graph.default_name}: {subtitle}. Inputs: {inputs}. Outputs: {outputs}."


class _Walker:
    """Goes through a graph in forward order, into the modules that are open; keeps its own stack."""

    def __init__(self, graph: Graph, depth: int, parameters: dict[str, Parameters]):
        self._graph = graph
        self._depth = depth
        self._parameters = parameters
        self._connections: dict[tuple[str, str], list[str]] = {}
        self.boxes: list[Box] = []
        self.groups: list[Group] = []
        self.layers = 0

    def run(self) -> None:
        """Fill boxes and groups."""
        sources = {node.name: (self._input(node),) for node in self._graph.inputs}
        stack = [_Frame(iter(self._graph.nodes), "", dict(sources))]
        outputs: tuple[Origin | None, ...] = ()
        while stack:
            frame = stack[-1]
            node = next(frame.nodes, None)
            if node is not None:
                self._visit(stack, frame, node)
                continue
            outer = stack[-2].node.graph if len(stack) > 1 and stack[-2].node else self._graph
            outputs = tuple(frame.resolve(source) for source in (outer or self._graph).outputs)
            stack.pop()
            if stack and stack[-1].node:
                stack[-1].sources[stack[-1].node.name] = outputs
        self.layers = sum(node.graph is None for _, _, node in walk(self._graph))
        self._outputs(outputs)

    def _visit(self, stack: list[_Frame], frame: _Frame, node: Node) -> None:
        if len(stack) > self._depth or not _opens(node) or node.graph is None:
            self._node(frame, node)
            return
        self._group(frame, node)
        given = {
            inner.name: (None if source is None else frame.resolve(source),) for inner, source in node.inner_sources
        }
        frame.node = node
        stack.append(_Frame(iter(node.graph.nodes), f"{frame.prefix}{node.name}/", given))

    def _input(self, node: InputNode) -> Origin:
        lines = (node.name, shape_text(node.spec), *(["optional: zeros if not given"] if node.optional else []))
        tooltip = (f"Input · {node.name}", f"spec: {node.spec}", *lines[2:])
        self.boxes.append(Box(node.name, "input", "Input", "input", lines, tooltip))
        return Origin(node.name, "", node.spec)

    def _outputs(self, origins: tuple[Origin | None, ...]) -> None:
        names = self._graph.output_names or ("",)
        for name, spec, origin in zip(names, self._graph.output_specs, origins, strict=True):
            lines = tuple(line for line in (name, shape_text(spec)) if line)
            if origin is None:
                lines = (*lines, "zeros")
            key = OUTPUT + name
            self.boxes.append(Box(key, "output", "Output", "output", lines, (f"Output {name}".strip(), f"spec: {spec}")))
            self._connect(origin, key, "the output")

    def _group(self, frame: _Frame, node: Node) -> None:
        path = frame.prefix + node.name
        counts = self._parameters[path]
        title = " · ".join(part for part in (node.name, node.layer.kind, str(counts)) if part)
        tooltip = tuple(attributes_of(path, node, counts))
        self.groups.append(Group(path, frame.prefix.removesuffix("/"), title, tooltip, counts.all_frozen))

    def _node(self, frame: _Frame, node: Node) -> None:
        path = frame.prefix + node.name
        counts = self._parameters[path]
        zeros, given = self._connect_inputs(frame, node, path)
        inside = plural(len(node.graph.nodes), "node") + " inside" if node.graph is not None else ""
        lines = [path, *_few(outputs_of(node)), str(counts), inside, zeros]
        facts = [*attributes_of(path, node, counts), *given]
        role = "module" if node.graph is not None else "layer"
        self.boxes.append(
            Box(
                path, role, node.layer.kind, "module" if role == "module" else node.layer.category,
                tuple(line for line in lines if line), tuple(facts), frame.prefix.removesuffix("/"),
                counts.all_frozen, counts.is_later_use,
            )  # fmt: skip
        )

    def _connect_inputs(self, frame: _Frame, node: Node, path: str) -> tuple[str, list[str]]:
        """Draw the inputs of a box; returns (a line about those that are zeros, lines about all)."""
        zeros, facts = 0, []
        names = [inner.name for inner, _ in node.inner_sources] or [str(index) for index in range(len(node.inputs))]
        sources = [source for _, source in node.inner_sources] or list(node.inputs)
        for name, source in zip(names, sources, strict=True):
            origin = None if source is None else frame.resolve(source)
            zeros += origin is None
            facts.append(f"input {name}: " + (str(origin.spec) if origin else "zeros, not given"))
            self._connect(origin, path, f"input {name}")
        return (f"{plural(zeros, 'input')} not given: zeros" if zeros else ""), facts

    def _connect(self, origin: Origin | None, target: str, where: str) -> None:
        if origin is not None:
            output = f" {origin.name}" if origin.name else ""
            text = f"{origin.key.removeprefix(OUTPUT)}{output} → {target.removeprefix(OUTPUT)}, {where}: {origin.spec}"
            self._connections.setdefault((origin.key, target), []).append(text)

    def merged_edges(self) -> tuple[Edge, ...]:
        """One edge for each pair of connected boxes, in forward order of the targets."""
        return tuple(Edge(*ends, tuple(texts)) for ends, texts in self._connections.items())


def _few(lines: list[str]) -> list[str]:
    return lines if len(lines) <= 3 else [*lines[:2], f"and {len(lines) - 2} more outputs"]
