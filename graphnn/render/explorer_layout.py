"""Layout of one module for the explorer: its nodes as boxes of fixed size, by Graphviz, as plain data.

A module is laid out with all modules inside it closed. The page opens one by moving apart what lies around it, so
that each module is laid out once, whatever is open, and modules that look the same share one layout.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from graphnn.render.engine import positions
from graphnn.render.palette import category_of
from graphnn.render.scene import OUTPUT, Box, Edge, Scene, levels
from graphnn.render.text import shorten, text_width

TITLE_SIZE, TEXT_SIZE = 13, 11
LINE_HEIGHT = 15
WIDEST_TEXT = 260  # longer lines lose their middle; the card has them whole
PADDING_X, PADDING_Y = 20, 8
SPINE_WEIGHT = 4  # pull of an edge to the next row; that of others is 1: chains become straight
EXACT_BELOW = 1e5  # Graphviz writes five digits, so that it rounds larger numbers to ten
ROUNDING = 16
NUMBERED = ("input", "layer", "module")  # roles of the boxes that an overlay can have a number for
Size = tuple[int, int]
Point = tuple[float, float]


def lay_out_module(scene: Scene, inner: bool, room: int) -> dict[str, Any]:
    """Places of the boxes and edges of a scene without groups.

    Args:
        scene: the boxes of one graph and their edges; a connection is the text "output index, input index".
        inner: put its inputs in the first row and its outputs in the last, where the edges from around it end.
        room: width of one line more, which the page fills, in the boxes of nodes; 0 for no such line.

    Returns:
        `width`, `height`; for each box in order `place` (left, top, width, height), `role`, `category`, `lines`,
        `frozen`, `shared`; for each edge `ends` (numbers of two boxes), `ports` (pairs of indices) and `curve` (a
        point, three for each Bezier piece, and the tip of the arrow, all in one list).

    Raises:
        BackendError: there is no Graphviz.
    """
    lines = [_lines(box) for box in scene.boxes]
    rooms = [room if box.role in NUMBERED else 0 for box in scene.boxes]
    sizes = list(map(_size, lines, rooms))
    answer = positions("\n".join(_question(scene, sizes, inner)))
    _, _, width, height = _numbers(answer["bb"])
    objects = {item["name"]: item for item in answer.get("objects", ())}
    boxes = [
        _box(box, text, size, _point(objects[f"n{index}"]["pos"], height))
        for index, (box, size, text) in enumerate(zip(scene.boxes, sizes, lines, strict=True))
    ]
    number = {box.key: index for index, box in enumerate(scene.boxes)}
    drawn = sorted((item for item in answer.get("edges", ()) if "number" in item), key=lambda item: int(item["number"]))
    edges = [
        _edge(edge, item, height, boxes, (number[edge.source], number[edge.target]))
        for edge, item in zip(scene.edges, drawn, strict=True)
    ]
    return {"width": width, "height": height, "boxes": boxes, "edges": edges}


def _lines(box: Box) -> list[str]:
    title = shorten(box.title, TITLE_SIZE, WIDEST_TEXT, bold=True)
    return [title, *(shorten(line, TEXT_SIZE, WIDEST_TEXT) for line in box.lines)]


def _size(lines: list[str], room: int) -> Size:
    """Whole, even numbers of pixels, so that half of one is whole too."""
    title, *rest = lines
    widths = [text_width(title, TITLE_SIZE, bold=True), *(text_width(line, TEXT_SIZE) for line in rest), 60, room]
    width, rows = max(widths) + 2 * PADDING_X, len(lines) + (room > 0)
    return 2 * round(width / 2 + 0.5), LINE_HEIGHT * rows + 2 * PADDING_Y + rows % 2


def _question(scene: Scene, sizes: list[Size], inner: bool) -> Iterator[str]:
    """DOT text with numbers for names, so that no name needs quoting and none changes a place."""
    yield "digraph {"
    yield 'graph [nodesep=0.35 ranksep=0.4] node [shape=box fixedsize=true label=""] edge [arrowsize=0.8]'
    number = {box.key: index for index, box in enumerate(scene.boxes)}
    for index, (width, height) in enumerate(sizes):
        yield f"n{index} [width={width / 72:.6f} height={height / 72:.6f}]"
    for row, role in (("source", "input"), ("sink", "output")) if inner else ():
        members = [f"n{number[box.key]}" for box in scene.boxes if box.role == role]
        yield f"{{rank={row} edge [style=invis] {' -> '.join(members)}}}"  # in the order of the declaration
    modules = {box.key for box in scene.boxes if box.role == "module"}
    level, references = levels(scene), {box.key for box in scene.boxes if box.role == "reference"}
    for index, edge in enumerate(scene.edges):
        is_spine = level[edge.target] == level[edge.source] + 1 and edge.source not in references
        weight = SPINE_WEIGHT if is_spine else 1
        ports = ("tailport=s " if edge.source in modules else "") + ("headport=n" if edge.target in modules else "")
        yield f"n{number[edge.source]} -> n{number[edge.target]} [number={index} weight={weight} {ports}]"
    yield "}"


def _numbers(text: str) -> list[float]:
    return [float(number) for number in text.split(",")]


def _point(text: str, height: float) -> Point:
    x, y = _numbers(text)
    return round(x, 1), round(height - y, 1)


def _box(box: Box, lines: list[str], size: Size, middle: Point) -> dict[str, Any]:
    place = [round(middle[0] - size[0] / 2, 1), round(middle[1] - size[1] / 2, 1), *size]
    marks = {name: True for name in ("frozen", "shared") if getattr(box, name)}
    return {"place": place, "role": box.role, "category": category_of(box.category), "lines": lines, **marks}


def _edge(
    edge: Edge, item: dict[str, Any], height: float, boxes: list[dict[str, Any]], ends: tuple[int, int]
) -> dict[str, Any]:
    """Graphviz says `pos="e,x,y x,y x,y x,y x,y..."`, tip first; of an edge that it lost, nothing."""
    if "pos" in item:
        tip, *curve = item["pos"].split(";")[0].split()
        points = [_point(text, height) for text in (*curve, tip.removeprefix("e,"))]
        if height >= EXACT_BELOW:
            points = _joined(points, *(boxes[end]["place"] for end in ends))
    else:
        source, target = (_middle(boxes[end]["place"]) for end in ends)
        points = [source, source, target, target, target]
    ports = [list(map(int, text.split())) for text in edge.connections]
    return {"ends": list(ends), "ports": ports, "curve": [number for point in points for number in point]}


def _joined(points: list[Point], source: list[float], target: list[float]) -> list[Point]:
    """The points with both ends drawn to the boxes, as far as rounding has parted them."""
    (x, y), (tip_x, tip_y) = points[0], points[-1]
    bottom, top = source[1] + source[3], target[1]
    first = (x, bottom if abs(y - bottom) < ROUNDING else y)
    last = (tip_x, top if abs(tip_y - top) < ROUNDING else tip_y)
    return [first, *points[1:-1], last]


def _middle(place: list[float]) -> Point:
    return place[0] + place[2] / 2, place[1] + place[3] / 2


def output_key(index: int) -> str:
    """Key of the box of output `index`; no name of a node holds "@"."""
    return f"{OUTPUT}{index}"
