"""What the explorer knows of a graph: nodes at every depth, their cards, layouts and orders, as plain data for JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from graphnn.graph.graph import Graph
from graphnn.graph.node import Node
from graphnn.graph.summary import walk
from graphnn.render.describe import Parameters, parameters_by_path
from graphnn.render.explorer_cards import Card, input_box, input_card, node_box, node_card, output_box, output_card
from graphnn.render.explorer_layout import lay_out_module, output_key
from graphnn.render.explorer_numbers import overlay_data, room_for
from graphnn.render.gradients import gradient_flow
from graphnn.render.options import Options, open_modules
from graphnn.render.overlay import HEAT_STEPS
from graphnn.render.scene import Box, Edge, Scene
from graphnn.render.simplify import condense
from graphnn.render.text import clean, plural

COMFORTABLE_BOXES = 60  # without a given depth, modules start closed so that no more boxes than this are shown
MOST_LEVELS = 50  # of frames within frames that open together; deeper modules open one by one


def explorer_data(graph: Graph, view: str, options: Options) -> dict[str, Any]:
    """Everything that the page needs to draw a graph at any state of its modules.

    Args:
        graph: what is drawn.
        view: "forward" or "backward": how the page starts.
        options: `depth` is how many levels of modules start open, None for as many as are comfortable; `expand` and
            `collapse` change that; `is_frozen`; `overlay`, `facts` and `kept`.

    Returns:
        `nodes` and `layouts` as Collection has them; `name` and `subtitle`; how the page starts: `view`, `depth`, and
        `open`, places of the modules that `expand` and `collapse` leave open, where these are given; `deepest` and the
        number of `steps` in each view; `overlays`, as overlay_data has them, `heats`, the number of colours of their
        scale, and `room`, the width that boxes have for their numbers.

    Raises:
        OptionError: a glob of `expand` or `collapse` matches no module.
        BackendError: there is no Graphviz.
    """
    counts = parameters_by_path(graph, options.is_frozen)
    room = room_for(options.overlays, [*(node.name for node in graph.inputs), *(path for path, _, _ in walk(graph))])
    found = Collection(graph, counts, room)
    flow = gradient_flow(graph, options.is_frozen)
    orders = {"forward": [leaf.path for leaf in flow.flat.leaves], "backward": list(flow.order)}
    for name, order in orders.items():
        found.number(name, order)
    found.share()
    found.tell("facts", options.facts)
    found.tell("kept", options.kept)
    deepest, comfortable = _depths(found.nodes)
    depth = comfortable if options.depth is None else min(options.depth, deepest)
    chosen = open_modules(graph, depth, options) if options.expand or options.collapse else ()
    return {
        "name": clean(graph.default_name),
        "subtitle": _subtitle(len(orders["forward"]), counts[""]),
        "view": view,
        "depth": depth,
        "open": found.places(chosen),
        "deepest": deepest,
        "steps": {name: len(order) for name, order in orders.items()},
        "nodes": found.nodes,
        "layouts": found.layouts,
        "overlays": [overlay_data(overlay, found.by_path) for overlay in options.overlays],
        "heats": HEAT_STEPS,
        "room": room,
    }


def _subtitle(layers: int, total: Parameters) -> str:
    text = f"{plural(layers, 'layer')} · {plural(total.owned, 'parameter')}"
    return text + (f": {total.owned - total.frozen:,} trainable, {total.frozen:,} frozen" if total.owned else "")


def _depths(nodes: list[Card]) -> tuple[int, int]:
    """(the depth at which all is open, the largest depth with at most COMFORTABLE_BOXES boxes or else 0)."""
    levels, boxes = [0], [0] * (MOST_LEVELS + 2)
    for node in nodes[1:]:
        levels.append(levels[node["parent"]] + 1)
        boxes[min(levels[-1], MOST_LEVELS + 1)] += 1
    deepest = min(max(levels) - 1, MOST_LEVELS)
    comfortable = 0
    for depth in range(1, deepest + 1):
        if sum(boxes[: depth + 2]) > COMFORTABLE_BOXES:
            break
        comfortable = depth
    return deepest, comfortable


# -- nodes and layouts -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Frame:
    """A graph on the way through, its path, and the place of its node among all."""

    graph: Graph
    path: str
    place: int


@dataclass(eq=False)
class Collection:
    """All nodes of a graph at every depth, and one layout for all modules that look the same; keeps its own stack.

    Args:
        graph: what is drawn.
        counts: numbers of parameters by path.
        room: width of the line for a number in each box, 0 for no such line.

    Attributes:
        nodes: the graph itself, then the inputs, nodes and outputs of each graph, side by side. A node is a card with
            `path`, `name`, and the place of its `parent`; one with a graph inside has the place of the `first` of that
            and a `layout`.
        layouts: what lay_out_module gives; `node` of a box counts from `first` and is -1 for a box that is no node;
            `links` are lists of four numbers: source, its output, target, its input.
        by_path: places of inputs and nodes by path, that of the graph by "".
    """

    graph: Graph
    counts: dict[str, Parameters]
    room: int
    nodes: list[Card] = field(default_factory=list)
    layouts: list[dict[str, Any]] = field(default_factory=list)
    by_path: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._known: dict[tuple[Scene, bool], int] = {}
        self._uses: dict[int, list[int]] = {}  # places by identity of the layer; a key only, never written out
        name = clean(self.graph.default_name)
        self.nodes.append({"kind": clean(self.graph.kind), "path": "", "name": name, "parent": -1})
        self.by_path[""] = 0
        stack = [_Frame(self.graph, "", 0)]
        while stack:
            stack.extend(reversed(self._open(stack.pop())))

    def _open(self, frame: _Frame) -> list[_Frame]:
        """Append the content of a graph; returns the graphs inside."""
        graph, prefix, first = frame.graph, frame.path and f"{frame.path}/", len(self.nodes)
        boxes = [input_box(node) for node in graph.inputs]
        for node in graph.inputs:
            self.by_path[prefix + node.name] = len(self.nodes)
            self._add(frame, prefix + node.name, input_card(node))
        frames = []
        for node in graph.nodes:
            counts = self.counts[prefix + node.name]
            boxes.append(node_box(node, counts))
            self._add_node(frame, prefix + node.name, node, counts)
            if node.graph is not None:
                frames.append(_Frame(node.graph, prefix + node.name, len(self.nodes) - 1))
        for index, (name, spec) in enumerate(zip(graph.output_names or ("",), graph.output_specs, strict=True)):
            boxes.append(output_box(index, name, spec))
            self._add(frame, f"{prefix}output:{name or index}", output_card(name, spec))
        layout = self._layout(graph, boxes, inner=frame.place > 0)
        self.nodes[frame.place] |= {"first": first, "count": len(boxes), "layout": layout}
        return frames

    def _add(self, frame: _Frame, path: str, card: Card) -> None:
        name = clean(path.rpartition("/")[2])
        self.nodes.append({**card, "path": clean(path), "name": name, "parent": frame.place})

    def _add_node(self, frame: _Frame, path: str, node: Node, counts: Parameters) -> None:
        self.by_path[path] = len(self.nodes)
        if node.declarations:
            self._uses.setdefault(id(node.layer), []).append(len(self.nodes))
        self._add(frame, path, node_card(node, counts))

    def _layout(self, graph: Graph, boxes: list[Box], inner: bool) -> int:
        """Place of the layout among all; a new one only for a graph that looks like none before."""
        links = list(_links(graph, {box.key: index for index, box in enumerate(boxes)}))
        scene = Scene("", "", "", (), tuple(boxes), (), tuple(_edges(links, boxes)))
        if (scene, inner) not in self._known:
            self._known[scene, inner] = len(self.layouts)
            self.layouts.append({**_drawn(scene, inner, self.room), "links": links})
        return self._known[scene, inner]

    def number(self, view: str, order: list[str]) -> None:
        """Give each layer its step in a view, and each module the first and the last step inside it."""
        for step, path in enumerate(order, 1):
            place = self.by_path[path]
            while place > 0:
                steps = self.nodes[place].setdefault(view, [step, step])
                steps[1] = step
                place = self.nodes[place]["parent"]

    def places(self, paths: Iterable[str]) -> list[int]:
        """Places of the nodes at some paths, in forward order."""
        return sorted(self.by_path[path] for path in paths)

    def tell(self, what: str, lines: Mapping[str, tuple[str, ...]]) -> None:
        """Write lines, given by path, on the cards."""
        for path, said in lines.items():
            if said:
                self.nodes[self.by_path[path]][what] = [clean(line) for line in said]

    def share(self) -> None:
        """Tell the nodes that have the same parameters of each other."""
        for places in self._uses.values():
            for place in places if len(places) > 1 else ():
                self.nodes[place]["shared"] = [other for other in places if other != place]


def _links(graph: Graph, place: dict[str, int]) -> Iterator[list[int]]:
    """Every connection in a graph as (source, its output, target, its input)."""
    for node in graph.nodes:
        given = [source for _, source in node.inner_sources] if node.graph is not None else node.inputs
        for position, source in enumerate(given):
            if source is not None:
                yield [place[source.name], source.index, place[node.name], position]
    for index, source in enumerate(graph.outputs):
        yield [place[source.name], source.index, place[output_key(index)], 0]


def _edges(links: list[list[int]], boxes: list[Box]) -> Iterator[Edge]:
    """One edge for each pair of connected boxes."""
    ports: dict[tuple[int, int], list[str]] = {}
    for source, output, target, position in links:
        ports.setdefault((source, target), []).append(f"{output} {position}")
    for (source, target), texts in ports.items():
        yield Edge(boxes[source].key, boxes[target].key, tuple(texts))


def _drawn(scene: Scene, inner: bool, room: int) -> dict[str, Any]:
    """A layout in which each box says which node it is, or which nodes a reference stands for."""
    number = {box.key: index for index, box in enumerate(scene.boxes)}
    shown = condense(scene)
    layout = lay_out_module(shown, inner, room)
    for box, drawn in zip(shown.boxes, layout["boxes"], strict=True):
        drawn["node"] = number.get(box.key, -1)
        if box.stands_for:
            drawn["from"] = [number.get(key, -1) for key in box.stands_for]
    return layout
