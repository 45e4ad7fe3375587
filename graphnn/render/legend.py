"""The legend of a drawn graph: an entry for each kind of thing that the picture has, and for nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from graphnn.render.layout import TEXT_SIZE, shows_count
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
        text_at = round(text_width(entry.symbol, TEXT_SIZE, bold=True)) + 6 if entry.symbol else SWATCH
        needed = text_at + text_width(entry.text, TEXT_SIZE)
        if x > 0 and x + needed > width:
            x, y = 0.0, y + ROW_HEIGHT
        items.append(PlacedEntry(entry, x, y, text_at))
        x = round(x + needed + GAP)
    return Legend(tuple(items), y + ROW_HEIGHT)


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
        entries.append(Entry("count", "two connections", symbol=f"{TIMES}2"))
    if "reference" in roles:
        entries.append(Entry("reference", "a connection from afar", "reference"))
    return entries
