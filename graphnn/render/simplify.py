"""Scenes that would be too large, made smaller in a way that the picture itself tells.

Two things are too much for a reader and for the layout: thousands of boxes, and edges that run past very many boxes (a
mask that every layer of a long chain reads). The first become one box that counts them, the second a label beside the
target.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from graphnn.render.scene import Box, Edge, Group, Scene, levels
from graphnn.render.text import plural

MOST_BOXES = 2200  # more are not drawn, even if the user asks for that depth
KEPT_BOXES = 300  # of a scene that has more: half of them from its beginning, half from its end
OMISSION = "@omission"
REFERENCE = "@reference/"  # before the key of the box that it stands beside
LONG = 6  # levels that an edge passes; shorter ones are always drawn
LEVELS = 600  # levels that all edges together may pass; Graphviz needs a place for each edge on each level


def condense(scene: Scene) -> Scene:
    """The scene with a bounded number of boxes and of long edges."""
    return _refer(_omit(scene))


def _omit(scene: Scene) -> Scene:
    """Keep the first and the last boxes; one box stands for the others, which are neighbours in forward order."""
    count = len(scene.boxes)
    if count <= MOST_BOXES:
        return scene
    first, last = scene.boxes[: KEPT_BOXES // 2], scene.boxes[count - KEPT_BOXES // 2 :]
    text = f"… {plural(count - KEPT_BOXES, 'node')} not drawn …"
    group = _common_group(scene.boxes[len(first) : count - len(last)], scene.groups)
    omission = Box(OMISSION, "omission", text, "other", (), (text,), group)
    boxes = (*first, omission, *last)
    kept = {box.key for box in boxes}
    edges: dict[tuple[str, str, bool], list[str]] = {}
    for edge in scene.edges:
        source, target = (key if key in kept else OMISSION for key in (edge.source, edge.target))
        if (source, target) != (OMISSION, OMISSION):
            edges.setdefault((source, target, edge.is_cut), []).extend(edge.connections)
    return replace(
        scene, boxes=boxes, edges=tuple(Edge(a, b, tuple(texts), cut) for (a, b, cut), texts in edges.items()),
        notices=(*scene.notices, text.strip("… ")), groups=groups_with(boxes, scene.groups), rows=(),
    )  # fmt: skip


def _common_group(boxes: Sequence[Box], groups: Sequence[Group]) -> str:
    """The innermost group that holds all these boxes."""
    parents = {group.path: group.parent for group in groups}
    common = _around(boxes[0].group, parents)
    for path in dict.fromkeys(box.group for box in boxes):
        holding = set(_around(path, parents))  # only asked, never iterated over
        common = [outer for outer in common if outer in holding]
    return common[0]


def _around(path: str, parents: Mapping[str, str]) -> list[str]:
    """The group, those around it from inner to outer, and "" for none."""
    result = [path]
    while result[-1]:
        result.append(parents[result[-1]])
    return result


def groups_with(boxes: Sequence[Box], groups: Sequence[Group]) -> tuple[Group, ...]:
    """The groups that still hold a box."""
    parents = {group.path: group.parent for group in groups}
    used: set[str] = set()  # only asked, never iterated over
    for box in boxes:
        path = box.group
        while path and path not in used:
            used.add(path)
            path = parents[path]
    return tuple(group for group in groups if group.path in used)


def _refer(scene: Scene) -> Scene:
    """Replace edges that pass too many levels by labels beside their targets."""
    far = _too_long(scene)
    if not far:
        return scene
    by_target: dict[str, list[Edge]] = {}
    for edge in far:
        by_target.setdefault(edge.target, []).append(edge)
    names = {box.key: box.lines[0] if box.lines else box.title for box in scene.boxes}
    boxes: list[Box] = []
    edges = [edge for edge in scene.edges if edge not in far]
    for box in scene.boxes:
        if cut := by_target.get(box.key):
            boxes.append(_reference(box, [edge.source for edge in cut], names))
            edges.append(Edge(boxes[-1].key, box.key, tuple(text for edge in cut for text in edge.connections)))
        boxes.append(box)
    return replace(scene, boxes=tuple(boxes), edges=tuple(edges))


def _reference(target: Box, sources: list[str], names: dict[str, str]) -> Box:
    if len(sources) == 1:
        title, lines = f"from {names[sources[0]]}", ()
    else:
        title, lines = f"from {plural(len(sources), 'node')}", tuple(names[key] for key in sources[:3])
    more = (f"and {len(sources) - 3} more",) if len(sources) > 3 else ()
    return Box(
        REFERENCE + target.key, "reference", title, "other", (*lines, *more),
        tuple(f"from {names[key]}" for key in sources), target.group, stands_for=tuple(sources),
    )  # fmt: skip


def _too_long(scene: Scene) -> dict[Edge, None]:
    """The long edges of those boxes whose edges pass the most levels."""
    level = levels(scene)
    passed = {edge: level[edge.target] - level[edge.source] - 1 for edge in scene.edges}
    excess = sum(passed.values()) - LEVELS
    long: dict[str, list[Edge]] = {}
    for edge in scene.edges if excess > 0 else ():
        if passed[edge] >= LONG:
            long.setdefault(edge.source, []).append(edge)
    far: dict[Edge, None] = {}
    for edges in sorted(long.values(), key=lambda edges: -sum(passed[edge] for edge in edges)):
        if excess <= 0:
            break
        far.update(dict.fromkeys(edges))
        excess -= sum(passed[edge] for edge in edges)
    return far
