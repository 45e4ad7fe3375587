"""Boxes as SVG: outline, lines of text, and the marks that they carry. And the small tools for writing SVG."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from graphnn.render.layout import LINE_HEIGHT, PADDING_Y, TEXT_SIZE, PlacedBox, Point, Rectangle
from graphnn.render.palette import STRIPES, category_of
from graphnn.render.scene import Badge
from graphnn.render.text import identifier, xml

TOOLTIP_LINES = 24  # more than this is cut, or one tooltip would fill the screen
STRIPE_WIDTH = 6
STRONG = ("repeat", "order")  # badges in inverse colours: they are what a view is about
DOTTED = ("reference", "omission", "stop")


def draw_box(placed: PlacedBox) -> Iterator[str]:
    """A node: a group with a tooltip, the outline, text and marks."""
    box, place = placed.box, placed.place
    category = category_of(box.category)
    attributes = f'data-role="{box.role}" data-category="{category}" data-key="{xml(box.key)}"'
    if box.stands_for:
        attributes += f' data-stands-for="{" ".join(map(identifier, box.stands_for))}"'
    if box.heat is not None:
        attributes += f' data-heat="{box.heat}"'
    yield f'<g class="gnn-node" id="node-{identifier(box.key)}" {attributes}>{tooltip(box.tooltip)}'
    if box.role != "level":
        yield outline(box.role, category, place, box.frozen, box.heat, bool(box.flag))
    if box.stripe is not None:
        bar = Rectangle(place.x, place.y + 5, STRIPE_WIDTH, place.height - 10)
        yield f'<rect class="gnn-stripe-{box.stripe % len(STRIPES)}" {position(bar)}/>'
    yield from _text(placed)
    yield from (draw_badge(*badge) for badge in placed.badges)
    if box.frozen:
        yield lock(place.x + place.width - 18, place.y + 6)
    yield "</g>"


def _text(placed: PlacedBox) -> Iterator[str]:
    place = placed.place
    middle = number(place.x + place.width / 2)
    faint = "gnn-f" if placed.box.heat is None else "gnn-hot"
    for index, line in enumerate(placed.lines):
        y = place.y + PADDING_Y + LINE_HEIGHT * index + (12 if index == 0 else 11)
        style = ' class="gnn-t"' if index == 0 else f' class="{faint}"' if index > 1 else ""
        if placed.box.role == "level":
            style = ' class="gnn-f"'
        yield f'<text{style} text-anchor="middle" x="{middle}" y="{number(y)}">{xml(line)}</text>'


def draw_badge(badge: Badge, text: str, place: Rectangle) -> str:
    """A short mark in a frame with round ends."""
    frame, words = "gnn-badge", "gnn-b"
    if badge.kind in STRONG:
        frame, words = "gnn-badge gnn-strong", "gnn-b gnn-inverse"
    elif badge.kind == "flag":
        frame, words = "gnn-badge gnn-warning", "gnn-b gnn-warning-text"
    middle, base = number(place.x + place.width / 2), number(place.y + place.height / 2 + TEXT_SIZE * 0.36)
    return (
        f'<g data-badge="{badge.kind}"><rect class="{frame}" {position(place)} rx="{number(place.height / 2)}"/>'
        f'<text class="{words}" text-anchor="middle" x="{middle}" y="{base}">{xml(text)}</text></g>'
    )


def outline(
    role: str, category: str, place: Rectangle, frozen: bool = False, heat: int | None = None, warns: bool = False
) -> str:
    """The frame of a box: its corners tell the role, dashes a frozen one, a second frame a closed module."""
    radius = {"input": 16, "output": 16, "reference": 9}.get(role, 4)
    style = f"gnn-{category}" + (" gnn-frozen" if frozen else "") + (" gnn-dots" if role in DOTTED else "")
    style += (f" gnn-heat-{heat}" if heat is not None else "") + (" gnn-warning" if warns else "")
    frame = f'<rect class="{style}" {position(place)} rx="{min(radius, int(place.height / 2))}"/>'
    if role not in ("module", "output"):
        return frame
    inner = Rectangle(place.x + 3, place.y + 3, place.width - 6, place.height - 6)
    return frame + f'<rect class="{style}" {position(inner)} rx="{max(min(radius, int(place.height / 2)) - 3, 2)}"/>'


def lock(x: float, y: float) -> str:
    """A padlock, 10 by 12."""
    return (
        f'<path class="gnn-shackle" d="M{number(x + 2.5)} {number(y + 5)}v-2a2.5 2.5 0 0 1 5 0v2"/>'
        f'<rect class="gnn-lock" x="{number(x)}" y="{number(y + 5)}" width="10" height="7" rx="1.5"/>'
    )


def tooltip(lines: Iterable[str]) -> str:
    """What is shown on hovering."""
    lines = list(lines)
    if len(lines) > TOOLTIP_LINES:
        lines = [*lines[:TOOLTIP_LINES], f"and {len(lines) - TOOLTIP_LINES:,} more"]
    return f"<title>{xml(chr(10).join(lines))}</title>"


def position(place: Rectangle) -> str:
    """The attributes of a rectangle."""
    return f'x="{number(place.x)}" y="{number(place.y)}" width="{number(place.width)}" height="{number(place.height)}"'


def point(at: Point) -> str:
    """`x y`."""
    return f"{number(at[0])} {number(at[1])}"


def number(value: float) -> str:
    """A number with at most one decimal; never -0."""
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text
