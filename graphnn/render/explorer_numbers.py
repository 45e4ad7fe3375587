"""Overlays of the explorer: what each of them has for every node, as plain data for JSON, and the room for it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from graphnn.render.explorer_layout import TEXT_SIZE
from graphnn.render.overlay import Overlay
from graphnn.render.text import clean, shorten, text_width

WIDEST_LINE = 250  # longer texts and flags lose their middle on the drawing; the card has them whole


def room_for(overlays: Sequence[Overlay], paths: Iterable[str]) -> int:
    """Width of the widest text or flag that a node can get, 0 where there are no overlays.

    Every box has that room, so that modules that look alike still share a layout, and nothing moves when a reader takes
    another overlay.
    """
    if not overlays:
        return 0
    lines = {_line(text) for path in paths for overlay in overlays for text in (overlay.text(path), overlay.flag(path))}
    return math.ceil(max((text_width(line, TEXT_SIZE, bold=True) for line in lines), default=0))


def _line(text: str) -> str:
    return shorten(text, TEXT_SIZE, WIDEST_LINE, bold=True)


def overlay_data(overlay: Overlay, places: Mapping[str, int]) -> dict[str, Any]:
    """An overlay on the nodes at these places.

    Returns:
        `title`, `notes` and `combine`; `table`, the title and the columns of its details; `nodes` by place: `value`,
        `text`, `flag` and `rows` where there are some, `number` where the value is written otherwise than the text, and
        `line` and `mark` where text and flag are too long for the drawing; `flagged`, the places with a flag of their
        own, in the order of the flags.
    """
    details = overlay.details
    return {
        "title": clean(overlay.title),
        "notes": [clean(note) for note in overlay.notes],
        "combine": overlay.combine,
        "table": [clean(text) for text in (details.title, *details.columns)] if details else [],
        "nodes": {place: found for path, place in places.items() if (found := _node_data(overlay, path))},
        "flagged": [places[path] for path in overlay.flags if path in places],
    }


def _node_data(overlay: Overlay, path: str) -> dict[str, Any]:
    """What an overlay says of a node; what is empty, or equal to what stands before it, is left out."""
    value, text, flag = overlay.value(path), clean(overlay.text(path)), clean(overlay.flag(path))
    found: dict[str, Any] = {} if value is None else {"value": float(value)}
    if value is not None and (number := clean(overlay.write(value))) != text:
        found["number"] = number
    for name, words, short in (("text", text, "line"), ("flag", flag, "mark")):
        found |= {name: words} if words else {}
        found |= {short: _line(words)} if _line(words) != words else {}
    rows = overlay.details.rows.get(path, ()) if overlay.details else ()
    return found | ({"rows": [[clean(cell) for cell in row] for row in rows]} if rows else {})
