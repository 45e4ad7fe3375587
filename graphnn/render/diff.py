"""The picture of a diff: both graphs in one drawing, with a sign, a word and a colour for each difference.

Modules without an edit inside are closed. Of large graphs only the edits and what is near them is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from graphnn.graph.diff import Change, GraphDiff
from graphnn.graph.graph import Graph
from graphnn.graph.node import Node, Source
from graphnn.render.describe import shape_text
from graphnn.render.diff_svg import MARKS, figure
from graphnn.render.scene import OUTPUT, Box, Edge, Group, Scene
from graphnn.render.text import plural

MOST_BOXES = 150  # in larger drawings only what is near an edit is kept
NEAR = 2  # connections from an edit
MOST_EDITS = 300  # boxes that are kept in any case
MOST_LINES = 4  # of text about the edits of one box


@dataclass
class _Frame:
    graph: Graph
    path: str
    name: str  # of the node in the graph around it
    sources: dict[str, tuple[str, ...]]  # for each value the box that it comes from, "" for zeros
    remaining: Iterator[Node] = field(init=False)

    def __post_init__(self) -> None:
        self.remaining = iter(self.graph.nodes)


@dataclass
class _Side:
    """One of the two graphs as drawn: boxes without marks, frames, and connections by their ends."""

    boxes: dict[str, Box]
    groups: dict[str, Group]
    connections: dict[tuple[str, str], list[str]]


def to_svg(diff: GraphDiff, theme: str = "auto") -> str:
    """The drawing of a diff as SVG text; the same graphs give the same bytes.

    Raises:
        BackendError: there is no Graphviz.
    """
    scene, marks, edge_marks = union_scene(diff)
    return figure(replace(scene, theme=theme), marks, edge_marks)


def union_scene(diff: GraphDiff) -> tuple[Scene, dict[str, str], dict[Edge, str]]:
    """(both graphs as one scene, the mark of each box by key, the mark of each edge).

    An edge that would close a circle stands the other way round in the scene; its mark then ends with "-reversed".
    """
    opened = _opened(diff)
    before, after = (_walk(graph, opened) for graph in (diff.before, diff.after))
    lines = _lines(diff)
    marks = {key: _mark(key, before, after, lines) for key in _order(before, after)}
    marks, hidden = _near(marks, [*before.connections, *after.connections])
    boxes = tuple(_marked(key, mark, before, after, lines.get(key, [])) for key, mark in marks.items())
    groups = tuple(_titled(group, lines.get(group.path, [])) for group in _groups(before.groups | after.groups, boxes))
    marks |= {group.path: "changed" for group in groups if group.path in lines}
    edges = _edges(list(marks), before, after)
    notices = (f"{plural(hidden, 'box')[:-1] + 'es' * (hidden > 1)} far from every edit not drawn",) if hidden else ()
    names = list(dict.fromkeys([diff.before.default_name, diff.after.default_name]))
    scene = Scene(
        name=" → ".join(names),
        subtitle=diff.headline,
        description=f"Differences between two neural networks: {diff.headline}.",
        notices=notices,
        boxes=boxes,
        groups=groups,
        edges=tuple(edges),
    )
    return scene, marks, edges


def _opened(diff: GraphDiff) -> set[str]:
    """Paths of the modules that hold an edit."""
    edits = (*diff.added, *diff.removed, *diff.rewired, *diff.changed, *diff.inputs, *diff.outputs)
    opened: set[str] = set()
    for edit in edits:
        path = edit.path.rpartition("/")[0]
        while path and path not in opened:
            opened.add(path)
            path = path.rpartition("/")[0]
    return opened


def _walk(graph: Graph, opened: set[str]) -> _Side:
    side = _Side({}, {}, {})
    for node in graph.inputs:
        lines = (node.name, shape_text(node.spec))
        side.boxes[node.name] = Box(node.name, "input", "Input", "same", lines, (f"Input · {node.name}",))
    stack = [_Frame(graph, "", "", {node.name: (node.name,) for node in graph.inputs})]
    while stack:
        frame = stack[-1]
        node = next(frame.remaining, None)
        if node is not None:
            _visit(side, frame, node, stack, opened)
            continue
        stack.pop()
        results = tuple(frame.sources[source.name][source.index] for source in frame.graph.outputs)
        if stack:
            stack[-1].sources[frame.name] = results
        else:
            _finish(side, graph, results)
    return side


def _visit(side: _Side, frame: _Frame, node: Node, stack: list[_Frame], opened: set[str]) -> None:
    path = f"{frame.path}/{node.name}" if frame.path else node.name
    if node.graph is not None and node.graph.nodes and path in opened:
        side.groups[path] = Group(
            path, frame.path, f"{node.name} · {node.layer.kind}", (f"{node.layer.kind} · {path}",)
        )
        given = {inner.name: (_key(frame, source),) for inner, source in node.inner_sources}
        stack.append(_Frame(node.graph, path, node.name, given))
        return
    for index, source in enumerate(node.inputs):
        if origin := _key(frame, source):
            side.connections.setdefault((origin, path), []).append(f"{origin} → input {index} of {path}")
    shapes = [shape_text(spec) for spec in node.specs]
    inside = (f"{plural(len(node.graph.nodes), 'node')} inside",) if node.graph is not None else ()
    role = "module" if node.graph is not None else "layer"
    lines = (path, " ".join(shapes), *inside)
    tooltip = (f"{node.layer.kind} · {path}", *map(str, node.specs))
    side.boxes[path] = Box(path, role, node.layer.kind, "same", lines, tooltip, frame.path)
    frame.sources[node.name] = (path,) * len(node.specs)


def _key(frame: _Frame, source: Source | None) -> str:
    return "" if source is None else frame.sources[source.name][source.index]


def _finish(side: _Side, graph: Graph, results: tuple[str, ...]) -> None:
    for name, spec, origin in zip(graph.output_names or ("",), graph.output_specs, results, strict=True):
        lines = tuple(filter(None, (name, shape_text(spec))))
        key = OUTPUT + name
        side.boxes[key] = Box(key, "output", "Output", "same", lines, (f"Output · {name}",))
        if origin:
            side.connections[origin, key] = [f"{origin} → output {name}".strip()]


# -- both sides as one -------------------------------------------------------------------------------------------------


def _lines(diff: GraphDiff) -> dict[str, list[str]]:
    """What is written in the boxes, by key."""
    result: dict[str, list[str]] = {}
    for word, changes in (("changed", diff.changed), ("rewired", diff.rewired), ("follows", diff.follows)):
        for change in changes:
            result.setdefault(change.path, []).append(f"{word} {_text(change)}")
    for change in diff.inputs:
        result.setdefault(change.path, []).append(f"changed {_text(change)}")
    for change in diff.outputs:
        name = "" if not diff.after.output_names and change.path == "output" else change.path
        result.setdefault(OUTPUT + name, []).append(f"changed {_text(change)}")
    return result


def _text(change: Change) -> str:
    return f"{change.what}: {change.before} → {change.after}".replace("float32[", "[")


def _order(before: _Side, after: _Side) -> list[str]:
    """Keys of all boxes: those of the second graph in forward order, each removed one behind its former neighbour."""
    behind: dict[str, list[str]] = {}
    last = ""
    for key in before.boxes:
        if key in after.boxes:
            last = key
        else:
            behind.setdefault(last, []).append(key)
    return [*behind.get("", ()), *(found for key in after.boxes for found in (key, *behind.get(key, ())))]


def _mark(key: str, before: _Side, after: _Side, lines: Mapping[str, list[str]]) -> str:
    if key not in before.boxes:
        return "added"
    if key not in after.boxes:
        return "removed"
    texts = lines.get(key, [])
    if not texts:
        return "same"
    return "follows" if all(text.startswith("follows") for text in texts) else "changed"


def _near(marks: dict[str, str], edges: list[tuple[str, str]]) -> tuple[dict[str, str], int]:
    """(the boxes that are drawn, how many are not)."""
    if len(marks) <= MOST_BOXES:
        return marks, 0
    kept = set([key for key, mark in marks.items() if mark not in ("same", "follows")][:MOST_EDITS])
    for _ in range(NEAR):
        if len(kept) < MOST_BOXES:
            kept |= {end for edge in edges if not kept.isdisjoint(edge) for end in edge}
    found = {key: mark for key, mark in marks.items() if key in kept}
    return found, len(marks) - len(found)


def _marked(key: str, mark: str, before: _Side, after: _Side, texts: list[str]) -> Box:
    box = after.boxes.get(key) or before.boxes[key]
    sign, word = MARKS[mark]
    if mark in ("added", "removed"):
        texts = [word]
    more = [f"and {len(texts) - MOST_LINES + 1} more"] if len(texts) > MOST_LINES else []
    shown = texts[: MOST_LINES - 1] + more if more else texts
    title = f"{sign} {box.title}".strip()
    return replace(box, title=title, category=mark, lines=(*box.lines, *shown), tooltip=(*box.tooltip, *texts))


def _titled(group: Group, texts: list[str]) -> Group:
    """An open module that was itself edited says so in its title, as there is no box to say it."""
    if not texts:
        return group
    more = [f"and {len(texts) - 1} more"] if len(texts) > 1 else []
    title = " · ".join([f"{MARKS['changed'][0]} {group.title}", texts[0], *more])
    return replace(group, title=title, tooltip=(*group.tooltip, *texts))


def _groups(groups: Mapping[str, Group], boxes: tuple[Box, ...]) -> tuple[Group, ...]:
    """The frames that hold a drawn box, from outer to inner: each is followed by those inside it."""
    used: set[str] = set()
    for box in boxes:
        path = box.group
        while path and path not in used:
            used.add(path)
            path = path.rpartition("/")[0]
    children: dict[str, list[Group]] = {}
    for path, group in groups.items():
        if path in used:
            children.setdefault(group.parent, []).append(group)
    result: list[Group] = []
    stack = children.get("", [])[::-1]
    while stack:
        result.append(stack.pop())
        stack += children.get(result[-1].path, [])[::-1]
    return tuple(result)


def _edges(keys: list[str], before: _Side, after: _Side) -> dict[Edge, str]:
    """Edges of both graphs with their marks."""
    place = {key: index for index, key in enumerate(keys)}
    result: dict[Edge, str] = {}
    for ends in sorted(
        {**after.connections, **before.connections}, key=lambda ends: [place.get(end, -1) for end in ends]
    ):
        if not all(end in place for end in ends):
            continue
        texts = after.connections.get(ends) or before.connections[ends]
        mark = "same" if ends in after.connections and ends in before.connections else "added"
        mark = mark if ends in after.connections else "removed"
        source, target = ends
        forward = place[source] < place[target]
        edge = Edge(source, target, tuple(texts)) if forward else Edge(target, source, tuple(texts))
        result[edge] = mark if forward else f"{mark}-reversed"
    return result
