"""SVG text of a scene whose boxes and edges carry the marks of a diff."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from graphnn.render.layout import (
    COUNT_HEIGHT,
    LINE_HEIGHT,
    PADDING_Y,
    TEXT_SIZE,
    Layout,
    PlacedBox,
    PlacedEdge,
    PlacedGroup,
    Point,
    Rectangle,
    lay_out,
)
from graphnn.render.marks import number, point, position, tooltip
from graphnn.render.palette import BASE, Colour, Rule, figure_css, style_sheet
from graphnn.render.scene import Edge, Scene
from graphnn.render.svg import outline
from graphnn.render.text import identifier, shorten, text_width, xml

MARGIN = 16
LEAST_WIDTH = 480
HEADER_LINE = 19
BADGE = 7  # radius of the sign on an edge
# For each mark: the sign that stands before a title and on an edge, and the word in the box and in the legend.
MARKS = {
    "added": ("+", "added"),
    "removed": ("\N{MINUS SIGN}", "removed"),
    "changed": ("~", "changed or rewired"),
    "follows": ("=", "follows from an edit"),
    "same": ("", "as before"),
}
# For each mark: (fill, border). An edge has the colour of the border.
COLOURS = {
    "added": (Colour("#dcf5e0", "#10361c"), Colour("#1a7332", "#4fca70")),
    "removed": (Colour("#fde3e1", "#451a1b"), Colour("#b3232a", "#ff8d86")),
    "changed": (Colour("#fdf1c7", "#3b2f0c"), Colour("#8a5a00", "#e6b84a")),
    "follows": (Colour("#f1f2f4", "#262a30"), Colour("#8a5a00", "#e6b84a")),
    "same": (Colour("#f1f2f4", "#262a30"), Colour("#5d6672", "#a0a9b4")),
}
DASHES = {"removed": "stroke-dasharray:6 3", "follows": "stroke-dasharray:2 2"}


def figure(scene: Scene, marks: Mapping[str, str], edge_marks: Mapping[Edge, str]) -> str:
    """The scene as SVG text; `edge_marks` may end with "-reversed" for an edge that is drawn against its direction."""
    layout = lay_out(scene)
    return "\n".join(_figure(scene, layout, marks, edge_marks)) + "\n"


def _figure(scene: Scene, layout: Layout, marks: Mapping[str, str], edge_marks: Mapping[Edge, str]) -> Iterator[str]:
    header = [("gnn-h", 16, scene.name), *(("gnn-s", 12, text) for text in (scene.subtitle, *scene.notices))]
    width = max(layout.width + 2 * MARGIN, LEAST_WIDTH)
    top = 2 * MARGIN + HEADER_LINE * len(header)
    used = {*marks.values(), *(mark.removesuffix("-reversed") for mark in edge_marks.values())}
    legend, legend_height = _legend([mark for mark in MARKS if mark in used], width - 2 * MARGIN)
    yield from _opening(scene, width, top + layout.height + 2 * MARGIN + legend_height)
    for index, (style, size, text) in enumerate(header):
        line = shorten(text, size, width - 2 * MARGIN, index == 0)
        yield f'<text class="{style}" x="{MARGIN}" y="{MARGIN + 14 + HEADER_LINE * index}">{xml(line)}</text>'
    yield f'<g transform="translate({number((width - layout.width) / 2)} {number(top)})">'
    for group in layout.groups:
        yield from _group(group)
    for edge in layout.edges:
        yield from _edge(edge, edge_marks[edge.edge])
    for group in layout.groups:
        yield from _group_title(group)
    for box in layout.boxes:
        yield from _box(box)
    covered = [*map(_title_place, layout.groups), *(placed.place for placed in layout.boxes)]
    for edge in layout.edges:  # on top of all, as a sign may lie near a box
        yield from _badge(edge, edge_marks[edge.edge], covered)
    yield "</g>"
    yield f'<g class="gnn-legend" transform="translate({MARGIN} {number(top + layout.height + MARGIN)})">'
    yield from legend
    yield "</g></svg>"


def _opening(scene: Scene, width: float, height: float) -> Iterator[str]:
    name = identifier(scene.name)
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="gnn" role="img" aria-labelledby="title-{name} desc-{name}" '
        f'viewBox="0 0 {number(width)} {number(height)}" width="100%" style="max-width:{number(width)}px">'
    )
    yield f'<title id="title-{name}">{xml(scene.name)}</title>'
    yield f'<desc id="desc-{name}">{xml(" ".join([scene.description, *scene.notices]))}</desc>'
    yield f"<style>{figure_css((), scene.theme)}{_css(scene.theme)}</style>"
    yield f'<rect class="gnn-paper" width="{number(width)}" height="{number(height)}"/>'


def _css(theme: str) -> str:
    rules = []
    for mark, (fill, border) in COLOURS.items():
        fills, strokes = (f"diff-{mark}-fill", fill), (f"diff-{mark}-edge", border)
        thick = "stroke-width:1.3" if mark == "same" else "stroke-width:2"
        dashes = DASHES.get(mark, "stroke-dasharray:none")
        rules += [
            Rule(f".gnn-diff-{mark}", {"fill": fills, "stroke": strokes}, f"{thick};{dashes}"),
            Rule(f".gnn-way-{mark}", {"stroke": strokes}, f"fill:none;{thick};{dashes}"),
            Rule(f".gnn-end-{mark}", {"fill": strokes}),
            Rule(f".gnn .gnn-sign-{mark}", {"fill": ("paper", BASE["paper"])}, "font-size:13px;font-weight:700"),
        ]
    return style_sheet(rules, theme)


def _group(placed: PlacedGroup) -> Iterator[str]:
    group = placed.group
    shade = "odd" if group.path.count("/") % 2 else "even"
    yield f'<g class="gnn-group" id="group-{identifier(group.path)}" data-parent="{xml(group.parent)}">'
    yield f'{tooltip(group.tooltip)}<rect class="gnn-group-{shade}" {position(placed.place)} rx="6"/></g>'


def _group_title(placed: PlacedGroup) -> Iterator[str]:
    place, shade = placed.place, "odd" if placed.group.path.count("/") % 2 else "even"
    yield f'<rect class="gnn-back-{shade}" {position(_title_place(placed))}/>'
    yield f'<text class="gnn-b" x="{number(place.x + 9)}" y="{number(place.y + 17)}">{xml(placed.title)}</text>'


def _title_place(placed: PlacedGroup) -> Rectangle:
    width = math.ceil(text_width(placed.title, TEXT_SIZE, bold=True)) + 8
    return Rectangle(placed.place.x + 5, placed.place.y + 5, width, 17)


def _box(placed: PlacedBox) -> Iterator[str]:
    box, place = placed.box, placed.place
    yield f'<g class="gnn-node" id="node-{identifier(box.key)}" data-mark="{box.category}" data-key="{xml(box.key)}">'
    yield tooltip(box.tooltip)
    yield outline(box.role, f"diff-{box.category}", place)
    middle = number(place.x + place.width / 2)
    for index, line in enumerate(placed.lines):
        y = place.y + PADDING_Y + LINE_HEIGHT * index + (12 if index == 0 else 11)
        style = ' class="gnn-t"' if index == 0 else ' class="gnn-f"' if index > 1 else ""
        yield f'<text{style} text-anchor="middle" x="{middle}" y="{number(y)}">{xml(line)}</text>'
    yield "</g>"


def _edge(placed: PlacedEdge, mark: str) -> Iterator[str]:
    """The points of a reversed edge are taken from its end: there the line meets its true source."""
    edge, word = placed.edge, mark.removesuffix("-reversed")
    points = [*placed.curve]
    tip, shaft = placed.tip, placed.curve[-1]
    ends = (edge.source, edge.target)
    lead = ""
    if word != mark:
        points, ends = points[::-1], ends[::-1]
        lead = f"M{point(placed.tip)}L{point(points[0])}"
        tip, shaft = points[-1], points[-2]
    first, *rest = points
    attributes = f'data-source="{xml(ends[0])}" data-target="{xml(ends[1])}" data-mark="{word}"'
    yield f'<g class="gnn-connection" {attributes}>{tooltip((MARKS[word][1], *edge.connections))}'
    yield f'<path class="gnn-way-{word}" d="{lead or f"M{point(first)}"}C{" ".join(map(point, rest))}"/>'
    yield f'<path class="gnn-end-{word}" d="{_arrow(shaft, tip)}"/></g>'


def _arrow(shaft: Point, tip: Point) -> str:
    dx, dy = tip[0] - shaft[0], tip[1] - shaft[1]
    length = math.hypot(dx, dy) or 1.0
    dx, dy = dx / length, dy / length
    x, y = tip[0] - 9 * dx, tip[1] - 9 * dy
    return f"M{point((x - 4 * dy, y + 4 * dx))}L{point(tip)}L{point((x + 4 * dy, y - 4 * dx))}Z"


def _badge(placed: PlacedEdge, mark: str, covered: Sequence[Rectangle]) -> Iterator[str]:
    word = mark.removesuffix("-reversed")
    if word == "same":
        return
    x, y = _free_point(placed.curve, covered)
    yield f'<circle class="gnn-end-{word}" cx="{number(x)}" cy="{number(y)}" r="{BADGE}"/>'
    sign = MARKS[word][0]
    yield f'<text class="gnn-sign-{word}" text-anchor="middle" x="{number(x)}" y="{number(y + 4.5)}">{sign}</text>'


def _free_point(curve: tuple[Point, ...], covered: Sequence[Rectangle]) -> Point:
    """The point of a curve where a sign covers least of these places; of equal ones that nearest to its middle."""
    pieces = (len(curve) - 1) // 3
    low, high = (bound([y for _, y in curve]) for bound in (min, max))
    near = [place for place in covered if low - BADGE < place.y + place.height and place.y < high + BADGE]

    def order(share: float) -> tuple[float, float]:
        middle = (pieces // 2 + 0.5) / pieces
        return round(max((_overlap(_point_at(curve, share), place) for place in near), default=0)), abs(share - middle)

    return _point_at(curve, min((index / (8 * pieces) for index in range(1, 8 * pieces)), key=order))


def _point_at(curve: tuple[Point, ...], share: float) -> Point:
    """The point where that share of the Bezier pieces is behind."""
    pieces = (len(curve) - 1) // 3
    index = min(int(share * pieces), pieces - 1)
    t = share * pieces - index
    weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3)
    x, y = (sum(w * p[axis] for w, p in zip(weights, curve[3 * index : 3 * index + 4], strict=True)) for axis in (0, 1))
    return x, y


def _overlap(centre: Point, place: Rectangle) -> float:
    """How many pixels deep a sign reaches into a place."""
    beside = max(place.x - centre[0], 0, centre[0] - place.x - place.width)
    above = max(place.y - centre[1], 0, centre[1] - place.y - place.height)
    return max(BADGE - math.hypot(beside, above), 0)


def _legend(present: list[str], width: float) -> tuple[list[str], float]:
    items, x, y = [], 0.0, 0.0
    for mark in present:
        sign, word = MARKS[mark]
        needed = 30 + text_width(word, TEXT_SIZE)
        if x > 0 and x + needed > width:
            x, y = 0.0, y + 21
        swatch = outline("layer", f"diff-{mark}", Rectangle(x, y + 1, 22, COUNT_HEIGHT - 1))
        glyph = f'<text class="gnn-b" text-anchor="middle" x="{number(x + 11)}" y="{number(y + 12)}">{sign}</text>'
        text = f'<text class="gnn-f" x="{number(x + 28)}" y="{number(y + 12)}">{word}</text>'
        items.append(f'<g data-entry="{mark}">{swatch}{glyph if sign else ""}{text}</g>')
        x = round(x + needed + 18)
    return items, y + 21
