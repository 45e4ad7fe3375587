"""The backward view: the nodes that gradients visit, in the order of the visits, and where gradients stop."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from graphnn.graph.graph import Graph, Source
from graphnn.graph.summary import walk
from graphnn.render.forward import ForwardWalk, Link, merge, opens, with_badge
from graphnn.render.gradients import GradientFlow, gradient_flow
from graphnn.render.options import Options
from graphnn.render.scene import OUTPUT, Box, Edge, Group, Scene
from graphnn.render.simplify import groups_with
from graphnn.render.text import plural

STOP = "@stop/"  # before the key of the box that would have got a gradient


def backward_scene(graph: Graph, walk: ForwardWalk, scene: Scene, options: Options) -> Scene:
    """Boxes and connections in the order and direction of gradients; a short bar where they stop."""
    flow = gradient_flow(graph, options.is_frozen)
    live, dead = _split(graph, flow, walk)
    numbers = _numbers(flow, walk)
    visited = {link.target for link in live} | {link.origin.key for link in live} | set(numbers)
    boxes = [_visited(box, flow, numbers, options) for box in reversed(walk.boxes) if box.key in visited]
    stops, cuts = _stops(walk, dead, visited)
    kept = tuple(_kept_group(group, options) for group in walk.groups)
    shown = (*boxes, *stops)
    return replace(
        scene,
        boxes=shown,
        groups=groups_with(shown, kept),
        edges=(*merge(live[::-1], reverse=True), *cuts),
        description=f"Gradients in {scene.description}",
        notices=(_notice(flow), *scene.notices),
    )


def _notice(flow: GradientFlow) -> str:
    text = f"backward: {len(flow.order):,} of {plural(len(flow.flat.leaves), 'layer')} visited, in this order"
    return text + (f"; {len(flow.frozen):,} frozen: their parameters get no gradient" if flow.frozen else "")


# -- which connections carry a gradient --------------------------------------------------------------------------------


def _split(graph: Graph, flow: GradientFlow, walk: ForwardWalk) -> tuple[list[Link], list[Link]]:
    """Connections that a gradient goes back along, and those at which one arrives and stops."""
    handed_on = _modules_with_nothing_inside(graph)
    visited = _around_all(flow.order)
    live, dead = [], []
    for link in walk.links:
        value = _leaf_value(link, flow)
        if link.target.startswith(OUTPUT):
            carries, arrives = value in flow.reached, True
        elif link.target in handed_on:
            carries = arrives = value in flow.readers or value in flow.reached
        else:
            readers = flow.readers.get(value, ()) if value else ()
            carries = any(path == link.target or path.startswith(link.target + "/") for path in readers)
            arrives = link.target in visited
        if carries:
            live.append(link)
        elif arrives and value not in flow.readers and value not in flow.reached:
            dead.append(link)
    return live, dead


def _leaf_value(link: Link, flow: GradientFlow) -> Source | None:
    """The output of a leaf node or the graph input that a drawn value is."""
    origin = link.origin
    if origin.key not in flow.flat.groups:
        return Source(origin.key, origin.index)
    source = flow.flat.groups[origin.key][origin.index]
    return source if isinstance(source, Source) else None


def _modules_with_nothing_inside(graph: Graph) -> dict[str, None]:
    return {path: None for path, _, node in walk(graph) if node.graph is not None and not opens(node)}


def _around_all(order: dict[str, int]) -> dict[str, list[int]]:
    """Numbers of the visited leaf nodes by the path of each, and of each module around it."""
    result: dict[str, list[int]] = {}
    for path, number in order.items():
        while path:
            result.setdefault(path, []).append(number)
            path = path.rpartition("/")[0]
    return result


def _numbers(flow: GradientFlow, walk: ForwardWalk) -> dict[str, list[int]]:
    around = _around_all(flow.order)
    return {box.key: around[box.key] for box in walk.boxes if box.key in around}


# -- boxes -------------------------------------------------------------------------------------------------------------


def _visited(box: Box, flow: GradientFlow, numbers: dict[str, list[int]], options: Options) -> Box:
    """The box with its number in the order, what is kept for it, and whether its parameters get nothing."""
    if box.key in numbers:
        first, last = numbers[box.key][0], numbers[box.key][-1]
        box = with_badge(box, "order", f"{first}" if first == last else f"{first}–{last}")  # noqa: RUF001
    lines = box.lines
    if box.frozen and box.key in numbers:
        lines = (*lines, "parameters get no gradient")
    if box.role == "output":
        lines = (*lines, "gradients begin here")
    if box.role == "input":
        lines = (*lines, "gets a gradient")
    if kept := _kept(box.key, options):
        box = with_badge(box, "kept", "kept")
    return replace(box, lines=lines, tooltip=(*box.tooltip, *(f"kept for backward: {text}" for text in kept)))


def _kept(path: str, options: Options) -> list[str]:
    """What is kept of a node, and of all inside it."""
    return [
        text if key == path else f"{text} of {key}"
        for key, texts in options.kept.items()
        if key == path or key.startswith(path + "/")
        for text in texts
    ]


def _kept_group(group: Group, options: Options) -> Group:
    kept = _kept(group.path, options)
    return replace(group, tooltip=(*group.tooltip, *(f"kept for backward: {text}" for text in kept)))


def _stops(walk: ForwardWalk, dead: list[Link], visited: set[str]) -> tuple[list[Box], list[Edge]]:
    """A box for each node that gets no gradient beside one that does, and the cut edges to it."""
    boxes = {box.key: box for box in walk.boxes}
    stops: dict[str, Box] = {}
    texts: dict[tuple[str, str], list[str]] = {}
    for link in dead:
        if link.target not in visited:
            continue
        key = STOP + link.origin.key
        stops.setdefault(
            link.origin.key, _stop(boxes[link.origin.key], key, tuple(_reasons(boxes[link.origin.key], link)))
        )
        texts.setdefault((link.target, key), []).append(f"no gradient: {link.text}")
    return list(stops.values()), [Edge(*ends, tuple(lines), is_cut=True) for ends, lines in texts.items()]


def _stop(box: Box, key: str, reasons: tuple[str, ...]) -> Box:
    lines = (box.lines[0] if box.lines else box.title, *reasons)
    return Box(key, "stop", box.title, "stop", lines, (*box.tooltip, *reasons), box.group, frozen=box.frozen)


def _reasons(box: Box, link: Link) -> Iterator[str]:
    yield "no gradient goes here:"
    if not link.origin.spec.is_float:
        yield f"{link.origin.spec.dtype} has none"
    elif box.frozen:
        yield "all parameters are frozen"
    else:
        yield "nothing behind it is trained"
