"""SVG text of a laid-out scene: themed, readable by screen readers, and the same bytes for the same graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from graphnn.graph.graph import Graph
from graphnn.render.layout import (
    BADGE_HEIGHT,
    COUNT_HEIGHT,
    GROUP_TITLE_HEIGHT,
    TEXT_SIZE,
    Layout,
    PlacedEdge,
    PlacedGroup,
    Point,
    Rectangle,
    count_text,
    count_width,
    lay_out,
    shows_count,
    times_width,
)
from graphnn.render.legend import Legend, PlacedEntry, legend_of
from graphnn.render.marks import draw_badge, draw_box, lock, number, outline, point, position, tooltip
from graphnn.render.options import never
from graphnn.render.palette import HEAT, STRIPES, category_of, figure_css, mark_rules
from graphnn.render.scene import Badge, Group, ScaleBar, Scene
from graphnn.render.text import TIMES, identifier, shorten, text_width, wrap, xml
from graphnn.render.views import build_scene

MARGIN = 16
LEAST_WIDTH = 420
HEADER_LINE = 19
SCALE_STEP, SCALE_HEIGHT = 26, 40


def to_svg(
    graph: Graph,
    view: str = "forward",
    depth: int | None = None,
    is_frozen: Callable[[str], bool] = never,
    **options: Any,
) -> str:
    """The drawing of a graph as SVG text.

    Args:
        graph: what is drawn.
        view: "forward", "backward" or "schedule".
        depth: how many levels of modules are open: 0 for none; None for all, or fewer in a large graph.
        is_frozen: whether the node at a path is frozen.
        options: direction, theme, expand, collapse, fold (here True by default), show, overlay, kept: see `Options`.

    Raises:
        OptionError: an unknown view or option, or a value that is not allowed; names what there is.
        BackendError: there is no Graphviz; names the remedies.
    """
    return draw(build_scene(graph, view, depth, is_frozen, **{"fold": True, **options}))


def draw(scene: Scene) -> str:
    """A scene as SVG text.

    Raises:
        BackendError: there is no Graphviz.
    """
    return "\n".join(_figure(scene, lay_out(scene))) + "\n"


def _figure(scene: Scene, layout: Layout) -> Iterator[str]:
    width = max(layout.width + 2 * MARGIN, LEAST_WIDTH)
    header = list(_header(scene, width - 2 * MARGIN))
    top = 2 * MARGIN + HEADER_LINE * len(header)
    legend = legend_of(scene, width - 2 * MARGIN)
    scale = SCALE_HEIGHT if scene.scale else 0
    height = top + layout.height + MARGIN + legend.height + scale + MARGIN
    yield from _opening(scene, width, height, legend)
    for index, (style, line) in enumerate(header):
        yield f'<text class="{style}" x="{MARGIN}" y="{MARGIN + 14 + HEADER_LINE * index}">{xml(line)}</text>'
    yield f'<g transform="translate({number((width - layout.width) / 2)} {number(top)})">'
    yield from _content(layout)
    yield "</g>"
    yield from _legend(legend, top + layout.height + MARGIN)
    if scene.scale:
        yield from _scale(scene.scale, top + layout.height + MARGIN + legend.height, width - 2 * MARGIN)
    yield "</svg>"


def _header(scene: Scene, width: float) -> Iterator[tuple[str, str]]:
    """Style and text of each line above the drawing."""
    yield "gnn-h", shorten(scene.name, 16, width, bold=True)
    for text in (scene.subtitle, *scene.notices):
        yield from (("gnn-s", line) for line in wrap(text, 12, width))


def _opening(scene: Scene, width: float, height: float, legend: Legend) -> Iterator[str]:
    name = identifier(scene.name)
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="gnn" role="img" aria-labelledby="title-{name} desc-{name}" '
        f'viewBox="0 0 {number(width)} {number(height)}" width="100%" style="max-width:{number(width)}px">'
    )
    yield f'<title id="title-{name}">{xml(scene.name)}</title>'
    yield f'<desc id="desc-{name}">{xml(" ".join([scene.description, *scene.notices]))}</desc>'
    yield f"<style>{_css(scene, legend)}</style>"
    yield f'<rect class="gnn-paper" width="{number(width)}" height="{number(height)}"/>'


def _css(scene: Scene, legend: Legend) -> str:
    """Rules for what the picture has, and for nothing else."""
    present = dict.fromkeys([category_of(box.category) for box in scene.boxes if box.role != "level"])
    present |= dict.fromkeys(item.entry.category for item in legend.items)
    heats = range(len(HEAT)) if scene.scale else ()
    stripes = dict.fromkeys(box.stripe for box in scene.boxes if box.stripe is not None)
    badges = dict.fromkeys(badge.kind for box in scene.boxes for badge in box.badges)
    badges |= {item.entry.badge: None for item in legend.items if item.entry.badge}
    return figure_css(present, scene.theme, mark_rules(heats, stripes, badges))


def _content(layout: Layout) -> Iterator[str]:
    """Frames at the back; titles of groups above the edges, because edges cross the borders of groups."""
    for group in layout.groups:
        yield from _group(group)
    places = {placed.box.key: placed.place for placed in layout.boxes}
    for edge in layout.edges:
        if edge.edge.connections:  # others only hold rows in order
            yield from _edge(edge, places[edge.edge.source])
    for group in layout.groups:
        yield from _group_title(group)
    for box in layout.boxes:
        yield from draw_box(box)


def _group(placed: PlacedGroup) -> Iterator[str]:
    group, shade = placed.group, _shade(placed.group)
    frozen = " gnn-frozen" if group.frozen else ""
    yield f'<g class="gnn-group" id="group-{identifier(group.path)}" data-parent="{xml(group.parent)}">'
    yield tooltip(group.tooltip)
    if group.repeats > 1:  # a second sheet behind the first
        behind = Rectangle(placed.place.x + 4, placed.place.y + 4, placed.place.width, placed.place.height)
        yield f'<rect class="gnn-group-{shade}{frozen}" {position(behind)} rx="6"/>'
    yield f'<rect class="gnn-group-{shade}{frozen}" {position(placed.place)} rx="6"/></g>'


def _shade(group: Group) -> str:
    return "odd" if group.level % 2 else "even"


def _group_title(placed: PlacedGroup) -> Iterator[str]:
    place, shade, repeats = placed.place, _shade(placed.group), placed.group.repeats
    left, width = place.x + 9, math.ceil(text_width(placed.title, TEXT_SIZE, bold=True))
    first = math.ceil(times_width(placed.group))
    back = Rectangle(place.x + 5, place.y + 5, first + width + 8, GROUP_TITLE_HEIGHT - 3)
    yield f'<rect class="gnn-back-{shade}" {position(back)}/>'
    if repeats > 1:
        text = f"{TIMES}{repeats:,}"
        yield draw_badge(Badge("repeat", text), text, Rectangle(left - 2, place.y + 5, first - 4, BADGE_HEIGHT))
    yield f'<text class="gnn-b" x="{number(left + first)}" y="{number(place.y + 17)}">{xml(placed.title)}</text>'
    if placed.group.frozen:
        yield lock(left + 3 + first + width, place.y + 7)


def _edge(placed: PlacedEdge, source: Rectangle) -> Iterator[str]:
    edge = placed.edge
    first, *rest = placed.curve
    path = f"M{point(_inside(first, source))}L{point(first)}C{' '.join(map(point, rest))}"
    ends = f'data-source="{xml(edge.source)}" data-target="{xml(edge.target)}" data-count="{edge.count}"'
    yield f'<g class="gnn-connection" {ends}>{tooltip(edge.connections)}'
    if edge.is_cut:
        yield f'<path class="gnn-edge gnn-dots" d="{path}"/><path class="gnn-edge" d="{_bar(placed)}"/>'
    else:
        yield f'<path class="gnn-edge" d="{path}"/><path class="gnn-tip" d="{_arrow(placed)}"/>'
    if placed.label and shows_count(edge):
        (x, y), text, width = placed.label, count_text(edge), count_width(edge)
        back = Rectangle(x - width / 2, y - COUNT_HEIGHT / 2, width, COUNT_HEIGHT)
        yield f'<rect class="gnn-count" {position(back)} rx="8"/>'
        yield f'<text class="gnn-b" text-anchor="middle" x="{number(x)}" y="{number(y + 4)}">{text}</text>'
    yield "</g>"


def _inside(at: Point, place: Rectangle) -> Point:
    """A little nearer to the middle of the box, so that no gap is left at a rounded corner; the box hides the rest."""
    dx, dy = place.x + place.width / 2 - at[0], place.y + place.height / 2 - at[1]
    share = 8 / max(math.hypot(dx, dy), 8)
    return at[0] + dx * share, at[1] + dy * share


def _sides(placed: PlacedEdge, half: float) -> tuple[Point, Point]:
    """The points to the left and to the right of the end of the curve."""
    (x, y), tip = placed.curve[-1], placed.tip
    dx, dy = tip[0] - x, tip[1] - y
    length = math.hypot(dx, dy) or 1.0
    side = (-dy / length * half, dx / length * half)
    return (x + side[0], y + side[1]), (x - side[0], y - side[1])


def _arrow(placed: PlacedEdge) -> str:
    left, right = _sides(placed, 3.5)
    return f"M{point(left)}L{point(placed.tip)}L{point(right)}Z"


def _bar(placed: PlacedEdge) -> str:
    left, right = _sides(placed, 8)
    return f"M{point(left)}L{point(right)}"


def _legend(legend: Legend, top: float) -> Iterator[str]:
    yield f'<g class="gnn-legend" transform="translate({MARGIN} {number(top)})">'
    for item in legend.items:
        yield f'<g data-entry="{xml(item.entry.name)}">'
        yield from _sample(item)
        place = f'x="{number(item.x + item.text_at)}" y="{number(item.y + 12)}"'
        yield f'<text class="gnn-f" {place}>{xml(item.entry.text)}</text></g>'
    yield "</g>"


def _sample(item: PlacedEntry) -> Iterator[str]:
    entry = item.entry
    if entry.badge:
        yield draw_badge(
            Badge(entry.badge, entry.symbol), entry.symbol, Rectangle(item.x, item.y, item.text_at - 6, 16)
        )
    elif entry.symbol:
        yield f'<text class="gnn-b" x="{number(item.x)}" y="{number(item.y + 12)}">{xml(entry.symbol)}</text>'
    elif entry.role == "cut":
        line = f"M{number(item.x)} {number(item.y + 8)}h16"
        yield f'<path class="gnn-edge gnn-dots" d="{line}"/>'
        yield f'<path class="gnn-edge" d="M{number(item.x + 16)} {number(item.y + 1)}v14"/>'
    else:
        yield outline(entry.role, entry.category, Rectangle(item.x, item.y + 1, 22, 14), entry.frozen)
    if entry.stripe is not None:
        bar = Rectangle(item.x, item.y + 3, 6, 10)
        yield f'<rect class="gnn-stripe-{entry.stripe % len(STRIPES)}" {position(bar)}/>'
    if entry.frozen:
        yield lock(item.x + 6, item.y + 1.5)


def _scale(scale: ScaleBar, top: float, width: float) -> Iterator[str]:
    """The colours of an overlay in a row, with the numbers at both ends."""
    least, most = (shorten(text, TEXT_SIZE, width / 3) for text in (scale.least, scale.most))
    start = MARGIN + math.ceil(text_width(least, TEXT_SIZE)) + 8
    step = min(SCALE_STEP, (width - 2 * (width / 3)) / len(HEAT))
    label = shorten(scale.title, TEXT_SIZE, width, bold=True)
    yield f'<g class="gnn-scale"><text class="gnn-b" x="{MARGIN}" y="{number(top + 12)}">{xml(label)}</text>'
    yield f'<text class="gnn-f" x="{MARGIN}" y="{number(top + 31)}">{xml(least)}</text>'
    for index in range(len(HEAT)):
        place = Rectangle(start + index * step, top + 20, step, 14)
        yield f'<rect class="gnn-other gnn-heat-{index}" {position(place)}/>'
    end = number(start + len(HEAT) * step + 8)
    yield f'<text class="gnn-f" x="{end}" y="{number(top + 31)}">{xml(most)}</text></g>'
