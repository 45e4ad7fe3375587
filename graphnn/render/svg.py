"""SVG text of a laid-out scene: themed, readable by screen readers, and the same bytes for the same graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

from graphnn.graph.graph import Graph
from graphnn.render.layout import (
    COUNT_HEIGHT,
    GROUP_TITLE_HEIGHT,
    LINE_HEIGHT,
    PADDING_Y,
    TEXT_SIZE,
    Layout,
    PlacedBox,
    PlacedEdge,
    PlacedGroup,
    Point,
    Rectangle,
    count_text,
    count_width,
    lay_out,
    shows_count,
)
from graphnn.render.legend import Legend, legend_of
from graphnn.render.palette import category_of, figure_css
from graphnn.render.scene import Group, Scene
from graphnn.render.text import identifier, shorten, text_width, xml
from graphnn.render.views import build_scene

MARGIN = 16
LEAST_WIDTH = 420
HEADER_LINE = 19
TOOLTIP_LINES = 24  # more than this is cut, or one tooltip would fill the screen


def to_svg(
    graph: Graph, view: str = "forward", depth: int | None = None, is_frozen: Callable[[str], bool] = lambda path: False
) -> str:
    """The drawing of a graph as SVG text.

    Args:
        graph: what is drawn.
        view: "forward".
        depth: how many levels of modules are open: 0 for none; None for all, or fewer in a large graph.
        is_frozen: whether the node at a path is frozen.

    Raises:
        OptionError: an unknown view or a bad depth; names what there is.
        BackendError: there is no Graphviz; names the remedies.
    """
    scene = build_scene(graph, view, depth, is_frozen)
    return "\n".join(_figure(scene, lay_out(scene))) + "\n"


def _figure(scene: Scene, layout: Layout) -> Iterator[str]:
    header = [(f"gnn-{kind}", text) for kind, text in _header(scene)]
    top = 2 * MARGIN + HEADER_LINE * len(header)
    width = max(layout.width + 2 * MARGIN, LEAST_WIDTH)
    legend = legend_of(scene, width - 2 * MARGIN)
    height = top + layout.height + MARGIN + legend.height + MARGIN
    yield from _opening(scene, width, height, legend)
    for index, (style, text) in enumerate(header):
        size, bold = (16, True) if style == "gnn-h" else (12, False)
        line = shorten(text, size, width - 2 * MARGIN, bold)
        yield f'<text class="{style}" x="{MARGIN}" y="{MARGIN + 14 + HEADER_LINE * index}">{xml(line)}</text>'
    yield f'<g transform="translate({_n((width - layout.width) / 2)} {_n(top)})">'
    yield from _content(layout)
    yield "</g>"
    yield from _legend(legend, top + layout.height + MARGIN)
    yield "</svg>"


def _header(scene: Scene) -> Iterator[tuple[str, str]]:
    yield "h", scene.name
    yield "s", scene.subtitle
    yield from (("s", notice) for notice in scene.notices)


def _opening(scene: Scene, width: float, height: float, legend: Legend) -> Iterator[str]:
    name = identifier(scene.name)
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="gnn" role="img" aria-labelledby="title-{name} desc-{name}" '
        f'viewBox="0 0 {_n(width)} {_n(height)}" width="100%" style="max-width:{_n(width)}px">'
    )
    yield f'<title id="title-{name}">{xml(scene.name)}</title>'
    yield f'<desc id="desc-{name}">{xml(" ".join([scene.description, *scene.notices]))}</desc>'
    present = dict.fromkeys([category_of(box.category) for box in scene.boxes])
    present |= dict.fromkeys(item.entry.category for item in legend.items)
    yield f"<style>{figure_css(present)}</style>"
    yield f'<rect class="gnn-paper" width="{_n(width)}" height="{_n(height)}"/>'


def _content(layout: Layout) -> Iterator[str]:
    """Frames at the back; titles of groups above the edges, because edges cross the borders of groups."""
    for group in layout.groups:
        yield from _group(group)
    places = {placed.box.key: placed.place for placed in layout.boxes}
    for edge in layout.edges:
        yield from _edge(edge, places[edge.edge.source])
    for group in layout.groups:
        yield from _group_title(group)
    for box in layout.boxes:
        yield from _box(box)


def _group(placed: PlacedGroup) -> Iterator[str]:
    group, shade = placed.group, _shade(placed.group)
    frozen = " gnn-frozen" if group.frozen else ""
    yield f'<g class="gnn-group" id="group-{identifier(group.path)}" data-parent="{xml(group.parent)}">'
    yield _tooltip(group.tooltip)
    yield f'<rect class="gnn-group-{shade}{frozen}" {_place(placed.place)} rx="6"/></g>'


def _shade(group: Group) -> str:
    return "odd" if group.path.count("/") % 2 else "even"


def _group_title(placed: PlacedGroup) -> Iterator[str]:
    place, shade = placed.place, _shade(placed.group)
    width = text_width(placed.title, TEXT_SIZE, bold=True)
    back = Rectangle(place.x + 5, place.y + 5, math.ceil(width) + 8, GROUP_TITLE_HEIGHT - 3)
    yield f'<rect class="gnn-back-{shade}" {_place(back)}/>'
    yield f'<text class="gnn-b" x="{_n(place.x + 9)}" y="{_n(place.y + 17)}">{xml(placed.title)}</text>'
    if placed.group.frozen:
        yield _lock(place.x + 12 + math.ceil(width), place.y + 7)


def _edge(placed: PlacedEdge, source: Rectangle) -> Iterator[str]:
    edge = placed.edge
    first, *rest = placed.curve
    path = f"M{_xy(_inside(first, source))}L{_xy(first)}C{' '.join(map(_xy, rest))}"
    ends = f'data-source="{xml(edge.source)}" data-target="{xml(edge.target)}" data-count="{edge.count}"'
    yield f'<g class="gnn-connection" {ends}>{_tooltip(edge.connections)}'
    yield f'<path class="gnn-edge" d="{path}"/><path class="gnn-tip" d="{_arrow(placed)}"/>'
    if placed.label and shows_count(edge):
        (x, y), text, width = placed.label, count_text(edge), count_width(edge)
        back = Rectangle(x - width / 2, y - COUNT_HEIGHT / 2, width, COUNT_HEIGHT)
        yield f'<rect class="gnn-count" {_place(back)} rx="8"/>'
        yield f'<text class="gnn-b" text-anchor="middle" x="{_n(x)}" y="{_n(y + 4)}">{text}</text>'
    yield "</g>"


def _inside(point: Point, place: Rectangle) -> Point:
    """A little nearer to the middle of the box, so that no gap is left at a rounded corner; the box hides the rest."""
    dx, dy = place.x + place.width / 2 - point[0], place.y + place.height / 2 - point[1]
    share = 8 / max(math.hypot(dx, dy), 8)
    return point[0] + dx * share, point[1] + dy * share


def _arrow(placed: PlacedEdge) -> str:
    (x, y), tip = placed.curve[-1], placed.tip
    dx, dy = tip[0] - x, tip[1] - y
    length = math.hypot(dx, dy) or 1.0
    side = (-dy / length * 3.5, dx / length * 3.5)
    left, right = (x + side[0], y + side[1]), (x - side[0], y - side[1])
    return f"M{_xy(left)}L{_xy(tip)}L{_xy(right)}Z"


def _box(placed: PlacedBox) -> Iterator[str]:
    box, place = placed.box, placed.place
    category = category_of(box.category)
    attributes = f'data-role="{box.role}" data-category="{category}" data-key="{xml(box.key)}"'
    if box.stands_for:
        attributes += f' data-stands-for="{" ".join(map(identifier, box.stands_for))}"'
    yield f'<g class="gnn-node" id="node-{identifier(box.key)}" {attributes}>{_tooltip(box.tooltip)}'
    yield outline(box.role, category, place, box.frozen)
    middle = _n(place.x + place.width / 2)
    for index, line in enumerate(placed.lines):
        y = place.y + PADDING_Y + LINE_HEIGHT * index + (12 if index == 0 else 11)
        style = ' class="gnn-t"' if index == 0 else ' class="gnn-f"' if index > 1 else ""
        yield f'<text{style} text-anchor="middle" x="{middle}" y="{_n(y)}">{xml(line)}</text>'
    if box.frozen:
        yield _lock(place.x + place.width - 18, place.y + 6)
    yield "</g>"


def outline(role: str, category: str, place: Rectangle, frozen: bool = False) -> str:
    """The frame of a box: its corners tell the role, dashes a frozen one, a second frame a closed module."""
    radius = {"input": 16, "output": 16, "reference": 9}.get(role, 4)
    style = f"gnn-{category}" + (" gnn-frozen" if frozen else "") + (" gnn-dots" if role in DOTTED else "")
    frame = f'<rect class="{style}" {_place(place)} rx="{min(radius, int(place.height / 2))}"/>'
    if role not in ("module", "output"):
        return frame
    inner = Rectangle(place.x + 3, place.y + 3, place.width - 6, place.height - 6)
    return frame + f'<rect class="{style}" {_place(inner)} rx="{max(min(radius, int(place.height / 2)) - 3, 2)}"/>'


DOTTED = ("reference", "omission")


def _lock(x: float, y: float) -> str:
    return (
        f'<path class="gnn-shackle" d="M{_n(x + 2.5)} {_n(y + 5)}v-2a2.5 2.5 0 0 1 5 0v2"/>'
        f'<rect class="gnn-lock" x="{_n(x)}" y="{_n(y + 5)}" width="10" height="7" rx="1.5"/>'
    )


def _legend(legend: Legend, top: float) -> Iterator[str]:
    yield f'<g class="gnn-legend" transform="translate({MARGIN} {_n(top)})">'
    for item in legend.items:
        swatch = Rectangle(item.x, item.y + 1, 22, 14)
        yield f'<g data-entry="{xml(item.entry.name)}">'
        if item.entry.symbol:
            yield f'<text class="gnn-b" x="{_n(item.x)}" y="{_n(item.y + 12)}">{xml(item.entry.symbol)}</text>'
        else:
            yield outline(item.entry.role, item.entry.category, swatch, item.entry.frozen)
        if item.entry.frozen:
            yield _lock(item.x + 6, item.y + 1.5)
        place = f'x="{_n(item.x + item.text_at)}" y="{_n(item.y + 12)}"'
        yield f'<text class="gnn-f" {place}>{xml(item.entry.text)}</text></g>'
    yield "</g>"


def _tooltip(lines: Iterable[str]) -> str:
    lines = list(lines)
    if len(lines) > TOOLTIP_LINES:
        lines = [*lines[:TOOLTIP_LINES], f"and {len(lines) - TOOLTIP_LINES:,} more"]
    return f"<title>{xml(chr(10).join(lines))}</title>"


def _place(place: Rectangle) -> str:
    return f'x="{_n(place.x)}" y="{_n(place.y)}" width="{_n(place.width)}" height="{_n(place.height)}"'


def _xy(point: Point) -> str:
    return f"{_n(point[0])} {_n(point[1])}"


def _n(number: float) -> str:
    """A number with at most one decimal; never -0."""
    text = f"{number:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text
