"""The schedule view: the forward order in numbers, and which nodes could run side by side."""

from __future__ import annotations

from dataclasses import replace

from graphnn.graph.flatten import flatten
from graphnn.graph.graph import Graph
from graphnn.render.forward import ForwardWalk, with_badge
from graphnn.render.options import Options
from graphnn.render.scene import OUTPUT, Box, Edge, Scene
from graphnn.render.text import plural

LEVEL = "@level/"  # before the number of a row


def schedule_scene(graph: Graph, walk: ForwardWalk, scene: Scene, options: Options) -> Scene:
    """Every box with its step, in rows: one row below the lowest of those that it reads. Frames are left out."""
    level = {key: 0 for key in (box.key for box in walk.boxes)}
    sources: dict[str, list[str]] = {}
    for edge in walk.edges:
        sources.setdefault(edge.target, []).append(edge.source)
    for box in walk.boxes:
        level[box.key] = max((level[key] + 1 for key in sources.get(box.key, ())), default=0)
    rows: list[list[str]] = [[] for _ in range(max(level.values(), default=-1) + 1)]
    for key, row in level.items():
        rows[row].append(key)
    plain = replace(scene, boxes=tuple(replace(box, group="") for box in walk.boxes), edges=walk.edges)
    numbered = number_boxes(graph, plain)
    marks = tuple(
        Box(f"{LEVEL}{row}", "level", f"level {row}", "other", (), (f"level {row}",)) for row in range(len(rows))
    )
    chain = tuple(Edge(f"{LEVEL}{row}", f"{LEVEL}{row + 1}", ()) for row in range(len(rows) - 1))
    return replace(
        numbered,
        boxes=(*marks, *numbered.boxes),
        edges=(*chain, *numbered.edges),
        rows=tuple((f"{LEVEL}{row}", *keys) for row, keys in enumerate(rows)),
        notices=(_notice(graph, rows), *scene.notices),
    )


def _notice(graph: Graph, rows: list[list[str]]) -> str:
    steps, widest = len(flatten(graph).leaves), max((len(row) for row in rows), default=0)
    return f"schedule: {plural(steps, 'step')}, {plural(len(rows), 'level')}; at most {widest:,} side by side"


def number_boxes(graph: Graph, scene: Scene) -> Scene:
    """The scene with the number of each node in forward order, from 1; of a closed module, the first and the last."""
    numbers: dict[str, tuple[int, int]] = {}
    for number, leaf in enumerate(flatten(graph).leaves, start=1):
        path = leaf.path
        while path:
            numbers[path] = (numbers.get(path, (number, number))[0], number)
            path = path.rpartition("/")[0]
    boxes = []
    for box in scene.boxes:
        if box.key in numbers and not box.key.startswith(OUTPUT):
            first, last = numbers[box.key]
            text = f"step {first:,}" if first == last else f"steps {first:,}–{last:,}"  # noqa: RUF001
            box = with_badge(box, "order", text)
        boxes.append(box)
    return replace(scene, boxes=tuple(boxes))
