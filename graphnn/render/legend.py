"""The legend of a drawn graph: an entry for each kind of thing that the picture has, and for nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from graphnn.render.layout import BADGE_PADDING, TEXT_SIZE, shows_count
from graphnn.render.palette import CATEGORIES, category_of
from graphnn.render.scene import Scene
from graphnn.render.text import TIMES, text_width

ROW_HEIGHT = 21
GAP = 18
SWATCH = 28


@dataclass(frozen=True)
class Entry:
    """A sample box, or a symbol in its place, and what it means."""

    name: str
    text: str
    role: str = "layer"
    category: str = "other"
    symbol: str = ""
    frozen: bool = False
    badge: str = ""
    stripe: int | None = None


@dataclass(frozen=True)
class PlacedEntry:
    """An entry and where it stands; the text begins `text_at` pixels further right."""

    entry: Entry
    x: float
    y: float
    text_at: float


@dataclass(frozen=True)
class Legend:
    """Placed entries and the height of all."""

    items: tuple[PlacedEntry, ...]
    height: float


def legend_of(scene: Scene, width: float) -> Legend:
    """Rows of entries, as many as fit into `width` pixels side by side."""
    items: list[PlacedEntry] = []
    x, y = 0.0, 0.0
    for entry in entries_of(scene):
        text_at = _text_at(entry)
        needed = text_at + text_width(entry.text, TEXT_SIZE)
        if x > 0 and x + needed > width:
            x, y = 0.0, y + ROW_HEIGHT
        items.append(PlacedEntry(entry, x, y, text_at))
        x = round(x + needed + GAP)
    return Legend(tuple(items), y + ROW_HEIGHT)


def _text_at(entry: Entry) -> float:
    if not entry.symbol:
        return SWATCH
    return round(text_width(entry.symbol, TEXT_SIZE, bold=True)) + 6 + (2 * BADGE_PADDING if entry.badge else 0)


def entries_of(scene: Scene) -> list[Entry]:
    """What the picture has to explain."""
    present = {category_of(box.category) for box in scene.boxes if box.role in ("layer", "input", "output")}
    entries = [
        Entry(name, name, name if name in ("input", "output") else "layer", name)
        for name in CATEGORIES
        if name in present
    ]
    roles = {box.role for box in scene.boxes}
    if "module" in roles:
        entries.append(Entry("module", "closed module", "module", "module"))
    if any(item.frozen for item in (*scene.boxes, *scene.groups)):
        entries.append(Entry("frozen", "frozen: not trained", frozen=True))
    if any(box.shared for box in scene.boxes) or any("· = " in group.title for group in scene.groups):
        entries.append(Entry("shared", "has the parameters of that node", symbol="= path"))
    if any(map(shows_count, scene.edges)):
        entries.append(Entry("count", "two connections", symbol=f"{TIMES}2", badge="count"))
    if "reference" in roles:
        entries.append(Entry("reference", "a connection from afar", "reference"))
    return [*entries, *_marks(scene)]


BADGES = (
    ("repeat", f"{TIMES}3", "three of these, one after another"),
    ("order", "1", "place in the order"),
    ("kept", "kept", "values are kept for backward"),
    ("reverse", "←", "reads a sequence from its end"),
)


def _marks(scene: Scene) -> list[Entry]:
    """Entries for stripes, badges, frames that repeat, and cut edges."""
    entries = []
    stripe = next((box.stripe for box in scene.boxes if box.stripe is not None), None)
    if stripe is not None:
        entries.append(Entry("stripe", "same stripe and letter: same parameters", stripe=stripe))
    present = {badge.kind for box in scene.boxes for badge in box.badges}
    present |= {"repeat" for group in scene.groups if group.repeats > 1}
    entries += [Entry(kind, text, symbol=symbol, badge=kind) for kind, symbol, text in BADGES if kind in present]
    if any(edge.is_cut for edge in scene.edges):
        entries.append(Entry("cut", "a gradient stops", "cut"))
    if any(box.role == "failure" for box in scene.boxes):
        entries.append(Entry("failure", "could not be connected", "failure", "failure"))
    if any(box.flag for box in scene.boxes):
        entries.append(Entry("flag", "needs attention", symbol="!", badge="flag"))
    return entries
