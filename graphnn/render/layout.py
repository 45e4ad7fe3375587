"""Layout: from a Scene to places, by Graphviz. Sizes are pixels, y points down."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from graphnn.render.engine import positions
from graphnn.render.scene import Badge, Box, Edge, Group, Scene, levels
from graphnn.render.simplify import OMISSION
from graphnn.render.text import TIMES, shorten, text_width

TITLE_SIZE = 13
TEXT_SIZE = 11
LINE_HEIGHT = 15
WIDEST_TEXT = 300  # longer lines lose their middle; the tooltip has them whole
PADDING_X, PADDING_Y = 14, 8
LOCK_WIDTH = 16
GROUP_TITLE_HEIGHT = 20
COUNT_HEIGHT = 16
BADGE_HEIGHT = 16
BADGE_PADDING = 6
BADGE_GAP = 5
WIDEST_BADGE = 220
ROOM_FOR_CORNERS = {"input": 8, "output": 8, "module": 6}  # of rounded ends, and of the second frame of a module
SPINE_WEIGHT = 4  # pull of an edge to the next row; that of others is 1: chains become straight, and layout faster
WAY_WEIGHT = 16  # pull of an edge on the main way, which many long edges beside it must not bend
Point = tuple[float, float]


@dataclass(frozen=True)
class Rectangle:
    """Left upper corner and size."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class PlacedBox:
    """A box, its place and its lines of text, cut to fit; the first is the title."""

    box: Box
    place: Rectangle
    lines: tuple[str, ...]

    @property
    def badges(self) -> Iterator[tuple[Badge, str, Rectangle]]:
        """Each badge with its text, cut to fit, and its place: a row in the middle, below the lines."""
        sizes = [_badge(badge) for badge in self.box.badges]
        x = self.place.x + (self.place.width - _row_width(sizes)) / 2
        y = self.place.y + PADDING_Y + LINE_HEIGHT * len(self.lines) + 2
        for badge, (text, width) in zip(self.box.badges, sizes, strict=True):
            yield badge, text, Rectangle(x, y, width, BADGE_HEIGHT)
            x += width + BADGE_GAP


@dataclass(frozen=True)
class PlacedGroup:
    """A group, its place and its title, cut to fit."""

    group: Group
    place: Rectangle
    title: str


@dataclass(frozen=True)
class PlacedEdge:
    """An edge; `curve` is a point and three for each Bezier piece, `tip` the end of the arrow, `label` a centre."""

    edge: Edge
    curve: tuple[Point, ...]
    tip: Point
    label: Point | None


@dataclass(frozen=True)
class Layout:
    """A scene with places; everything lies within (0, 0, width, height)."""

    width: float
    height: float
    boxes: tuple[PlacedBox, ...]
    groups: tuple[PlacedGroup, ...]
    edges: tuple[PlacedEdge, ...]


def lay_out(scene: Scene) -> Layout:
    """Places for everything in a scene, the same on every machine with the same Graphviz.

    Raises:
        BackendError: there is no Graphviz.
    """
    lines = [_lines(box) for box in scene.boxes]
    titles = [shorten(group.title, TEXT_SIZE, 2 * WIDEST_TEXT, bold=True) for group in scene.groups]
    sizes = [_size(box, text) for box, text in zip(scene.boxes, lines, strict=True)]
    answer = positions("\n".join(_question(scene, sizes, titles)))
    _, _, width, height = _numbers(answer["bb"])
    objects = {item["name"]: item for item in answer.get("objects", ())}
    boxes = [
        PlacedBox(box, _around(objects[f"n{index}"]["pos"], size, height), text)
        for index, (box, size, text) in enumerate(zip(scene.boxes, sizes, lines, strict=True))
    ]
    groups = [
        PlacedGroup(group, _from_corners(objects[f"cluster_{index}"]["bb"], height), title)
        for index, (group, title) in enumerate(zip(scene.groups, titles, strict=True))
    ]
    drawn = sorted(answer.get("edges", ()), key=lambda item: int(item["number"]))
    middles = {placed.box.key: _middle(placed.place) for placed in boxes}
    edges = [
        _edge(edge, item, height) or _straight(edge, middles[edge.source], middles[edge.target])
        for edge, item in zip(scene.edges, drawn, strict=True)
    ]
    layout = Layout(width, height, tuple(boxes), tuple(groups), tuple(edges))
    return _mirrored(layout) if scene.direction == "down" and _reads_backward(layout) else layout


def _reads_backward(layout: Layout) -> bool:
    """Whether boxes side by side mostly stand against the order of their definition, from right to left."""
    rows: dict[float, list[float]] = {}
    for placed in layout.boxes:
        if placed.box.role != "level":
            x, y = _middle(placed.place)
            rows.setdefault(round(y), []).append(x)
    steps = [right > left for row in rows.values() for left, right in pairwise(row)]
    return 2 * sum(steps) < len(steps)


def _mirrored(layout: Layout) -> Layout:
    """Left and right exchanged; the names of rows stay on the left."""
    names = [placed for placed in layout.boxes if placed.box.role == "level"]
    low = max((placed.place.x + placed.place.width for placed in names), default=0)
    left = _left_edge(layout)
    stays = {placed.box.key for placed in names} if low <= left else set[str]()  # only asked whether a box is in it
    ends = layout.width + (left if stays else 0)

    def place(old: Rectangle) -> Rectangle:
        return replace(old, x=round(ends - old.x - old.width, 1))

    def point(old: Point) -> Point:
        return round(ends - old[0], 1), old[1]

    return replace(
        layout,
        boxes=tuple(p if p.box.key in stays else replace(p, place=place(p.place)) for p in layout.boxes),
        groups=tuple(replace(placed, place=place(placed.place)) for placed in layout.groups),
        edges=tuple(
            e if e.edge.source in stays
            else replace(e, curve=tuple(map(point, e.curve)), tip=point(e.tip), label=e.label and point(e.label))
            for e in layout.edges
        ),
    )  # fmt: skip


def _left_edge(layout: Layout) -> float:
    """Of all but the names of rows."""
    boxes = [placed.place.x for placed in layout.boxes if placed.box.role != "level"]
    points = [point[0] for e in layout.edges if e.edge.connections for point in (*e.curve, e.tip)]
    return min([*boxes, *points], default=0.0)


def _lines(box: Box) -> tuple[str, ...]:
    title = shorten(box.title, TITLE_SIZE, WIDEST_TEXT, bold=True)
    return title, *(shorten(line, TEXT_SIZE, WIDEST_TEXT) for line in box.lines)


def _size(box: Box, lines: tuple[str, ...]) -> tuple[int, int]:
    """Whole, even numbers of pixels, so that half of one is whole too."""
    title, *rest = lines
    widths = [text_width(line, TEXT_SIZE) for line in rest]
    title_width = text_width(title, TITLE_SIZE, bold=True) + (LOCK_WIDTH if box.frozen else 0)
    width = max(title_width, *widths, 60) + 2 * (PADDING_X + ROOM_FOR_CORNERS.get(box.role, 0))
    width = max(width, _row_width([_badge(badge) for badge in box.badges]) + 2 * PADDING_X)
    height = LINE_HEIGHT * len(lines) + 2 * PADDING_Y + (BADGE_HEIGHT + 3 if box.badges else 0)
    return 2 * round(width / 2 + 0.5), 2 * round(height / 2 + 0.5)


def times_width(group: Group) -> float:
    """Room for the number before the title of a group that repeats."""
    if group.repeats == 1:
        return 0
    return text_width(f"{TIMES}{group.repeats:,}", TEXT_SIZE, bold=True) + 2 * BADGE_PADDING + 6


def _badge(badge: Badge) -> tuple[str, float]:
    """Text and width."""
    text = shorten(badge.text, TEXT_SIZE, WIDEST_BADGE, bold=True)
    return text, math.ceil(text_width(text, TEXT_SIZE, bold=True)) + 2 * BADGE_PADDING


def _row_width(sizes: list[tuple[str, float]]) -> float:
    return sum(width for _, width in sizes) + BADGE_GAP * max(len(sizes) - 1, 0)


# -- the question ------------------------------------------------------------------------------------------------------


def _question(scene: Scene, sizes: list[tuple[int, int]], titles: list[str]) -> Iterator[str]:
    """DOT text with numbers for names, so that no name needs quoting and none changes a place."""
    yield "digraph {"
    direction = " rankdir=LR" if scene.direction == "right" else ""
    yield f'graph [nodesep=0.3 ranksep=0.35{direction}] node [shape=box fixedsize=true label=""] edge [arrowsize=0.8]'
    number = {box.key: index for index, box in enumerate(scene.boxes)}
    members: dict[str, list[int]] = {}
    for index, box in enumerate(scene.boxes):
        members.setdefault(box.group, []).append(index)
    level, references = levels(scene), {box.key for box in scene.boxes if box.role == "reference"}
    way = _main_way(scene, level)
    nodes = [_node(index, sizes[index], box.key in way) for index, box in enumerate(scene.boxes)]
    yield from _clusters(scene, titles, members, nodes)
    yield from (nodes[index] for index in members.get("", ()))
    for index, edge in enumerate(scene.edges):
        is_spine = level[edge.target] == level[edge.source] + 1 and edge.source not in references
        is_way = edge.source in way and edge.target in way
        weight = (WAY_WEIGHT if is_way else SPINE_WEIGHT) if is_spine else 1
        label = f" label={_blank(count_width(edge), COUNT_HEIGHT)}" if shows_count(edge) else ""
        hidden = "" if edge.connections else " style=invis"
        yield f"n{number[edge.source]} -> n{number[edge.target]} [number={index} weight={weight}{label}{hidden}]"
    for row in scene.rows:
        yield "{rank=same " + " ".join(f"n{number[key]}" for key in row) + "}"
    yield "}"


def _main_way(scene: Scene, level: Mapping[str, int]) -> set[str]:
    """The boxes of one longest way through the picture; only asked whether a box is in it.

    They stand in one column: otherwise each of many blocks stands a little beside the one before, and the picture
    drifts across the page.
    """
    before: dict[str, str] = {}
    for edge in scene.edges:
        if edge.connections and level[edge.source] == level[edge.target] - 1:
            before.setdefault(edge.target, edge.source)
    nodes = [box.key for box in scene.boxes if box.role != "level"]
    box = max(nodes, key=level.__getitem__, default=None)
    way: set[str] = set()
    while box is not None:
        way.add(box)
        box = before.get(box)
    return way


def shows_count(edge: Edge) -> bool:
    """Whether the edge carries a number; beside an omission it would not mean what it says."""
    return edge.count > 1 and OMISSION not in (edge.source, edge.target) and not edge.is_cut


def count_text(edge: Edge) -> str:
    """`×2`."""
    return f"{TIMES}{edge.count:,}"


def count_width(edge: Edge) -> int:
    """Of the frame around the number."""
    return math.ceil(text_width(count_text(edge), TEXT_SIZE, bold=True)) + 10


def _clusters(scene: Scene, titles: list[str], members: dict[str, list[int]], nodes: list[str]) -> Iterator[str]:
    """Nested subgraphs; as a group is followed by those inside it, a stack of open ones is enough."""
    open_paths: list[str] = []
    for index, (group, title) in enumerate(zip(scene.groups, titles, strict=True)):
        while open_paths and open_paths[-1] != group.parent:
            open_paths.pop()
            yield "}"
        open_paths.append(group.path)
        width = round(text_width(title, TEXT_SIZE, bold=True) + times_width(group)) + PADDING_X
        width += LOCK_WIDTH if group.frozen else 0
        yield f"subgraph cluster_{index} {{ margin=10 labeljust=l label={_blank(width, GROUP_TITLE_HEIGHT)}"
        yield from (nodes[member] for member in members.get(group.path, ()))
    yield "}" * len(open_paths)


def _node(index: int, size: tuple[int, int], is_on_way: bool) -> str:
    column = " group=way" if is_on_way else ""
    return f"n{index} [width={size[0] / 72:.6f} height={size[1] / 72:.6f}{column}]"


def _blank(width: int, height: int) -> str:
    """A label without letters: it keeps room, and needs no font."""
    attributes = (
        f'FIXEDSIZE="TRUE" WIDTH="{width}" HEIGHT="{height}" BORDER="0" CELLBORDER="0" CELLPADDING="0" CELLSPACING="0"'
    )
    return f"<<TABLE {attributes}><TR><TD></TD></TR></TABLE>>"


# -- the answer --------------------------------------------------------------------------------------------------------


def _numbers(text: str) -> list[float]:
    return [float(number) for number in text.split(",")]


def _around(centre: str, size: tuple[int, int], height: float) -> Rectangle:
    x, y = _numbers(centre)
    return Rectangle(round(x - size[0] / 2, 1), round(height - y - size[1] / 2, 1), size[0], size[1])


def _from_corners(corners: str, height: float) -> Rectangle:
    left, low, right, high = _numbers(corners)
    return Rectangle(round(left, 1), round(height - high, 1), round(right - left, 1), round(high - low, 1))


def _point(text: str, height: float) -> Point:
    x, y = _numbers(text)
    return round(x, 1), round(height - y, 1)


def _edge(edge: Edge, item: dict[str, Any], height: float) -> PlacedEdge | None:
    """Places from `pos="e,x,y x,y x,y x,y x,y..."`: tip of the arrow, then the curve; None where there is none."""
    if "pos" not in item:
        return None
    tip, *curve = item["pos"].split(";")[0].split()
    points = tuple(_point(text, height) for text in curve)
    label = _point(item["lp"], height) if "lp" in item else None
    return PlacedEdge(edge, points, _point(tip.removeprefix("e,"), height), label)


def _middle(place: Rectangle) -> Point:
    return place.x + place.width / 2, place.y + place.height / 2


def _straight(edge: Edge, source: Point, target: Point) -> PlacedEdge:
    """What is left to do when Graphviz found no way round the boxes: it then reports a lost edge."""
    middle = ((source[0] + target[0]) / 2, (source[1] + target[1]) / 2)
    return PlacedEdge(edge, (source, source, middle, middle), target, middle)
