"""Boxes that use the same parameters get the same stripe and the same letter."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from graphnn.graph.graph import Graph
from graphnn.graph.summary import walk
from graphnn.render.forward import with_badge
from graphnn.render.scene import Scene
from graphnn.render.text import letters


def mark_shared(graph: Graph, scene: Scene) -> Scene:
    """A stripe and a badge for each box whose layer is used by another box too."""
    first: dict[int, str] = {}  # by identity of the layer; a key only, never written out
    holding = _with_arrays(graph)
    owner = {path: first.setdefault(id(node.layer), path) for path, _, node in walk(graph) if path in holding}
    uses = Counter(owner[box.key] for box in scene.boxes if box.key in owner)
    number = {path: index for index, path in enumerate(path for path, count in uses.items() if count > 1)}
    boxes = []
    for box in scene.boxes:
        index = number.get(owner.get(box.key, ""))
        marked = box if index is None else with_badge(replace(box, stripe=index), "shared", f"weights {letters(index)}")
        boxes.append(marked)
    return replace(scene, boxes=tuple(boxes))


def _with_arrays(graph: Graph) -> dict[str, None]:
    """Paths of the nodes that have parameters or states, themselves or inside."""
    found: dict[str, None] = {}
    for path, prefix, node in reversed(list(walk(graph))):  # what is inside comes first
        if node.declarations:
            found[path] = None
        if path in found and prefix:
            found[prefix.removesuffix("/")] = None
    return found
