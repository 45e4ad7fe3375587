"""Overlay: numbers, short texts and flags by node path, drawn over any view: measured times, statistics of values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from graphnn.errors import OptionError
from graphnn.render.scene import Badge, Box, Group, ScaleBar, Scene

HEAT_STEPS = 8  # colours of the scale; each is a class of its own, so that both themes can have theirs
COMBINE = ("sum", "max")


@dataclass(frozen=True)
class Details:
    """A table for each node, for the cards of a page.

    Args:
        title: what the tables tell: "values of this run".
        columns: heads of the cells.
        rows: by node path, at any depth, inputs by name; a row is its name and its cells.
    """

    title: str
    columns: tuple[str, ...]
    rows: Mapping[str, tuple[tuple[str, ...], ...]]


@dataclass(frozen=True)
class Overlay:
    """What is laid over the boxes of a drawing.

    A closed module without an entry of its own shows those inside it, combined. A node without any value keeps the
    colour of its family.

    Args:
        title: what the numbers are: "time of one training step".
        unit: of the numbers: "ms", "B", "FLOP".
        values: numbers by node path, at any depth, inputs by name; they give the colours.
        texts: a short line for a node; where it is missing, its number with the unit is shown.
        flags: a short warning for a node, such as "NaN", drawn in red with "!".
        combine: how a closed module shows what is inside it: "sum" or "max".
        notes: lines under the title of the picture.
        details: what a page says of a selected node beside its number.

    Raises:
        OptionError: another `combine`.
    """

    title: str
    unit: str = ""
    values: Mapping[str, float] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    flags: Mapping[str, str] = field(default_factory=dict)
    combine: str = "sum"
    notes: tuple[str, ...] = ()
    details: Details | None = None

    def __post_init__(self) -> None:
        if self.combine not in COMBINE:
            raise OptionError(
                "no such way to combine", where="combine", expected=", ".join(COMBINE), got=repr(self.combine)
            )

    def value(self, path: str) -> float | None:
        """The number of a node or, of a closed module, that of all inside; None where there is none."""
        own = self.values[path] if path in self.values else self._inside.get(path)
        return own if own is not None and math.isfinite(own) else None

    def text(self, path: str) -> str:
        """The line shown on a node; "" where there is nothing to show."""
        if path in self.texts:
            return self.texts[path]
        value = self.value(path)
        return "" if value is None else self.write(value)

    def flag(self, path: str) -> str:
        """The warning on a node, or the first one inside a closed module with the path that it is for."""
        if path in self.flags:
            return self.flags[path]
        inside = self._flagged_inside.get(path)
        return "" if inside is None else f"{self.flags[inside]} in {inside[len(path) + 1 :]}"

    def write(self, value: float) -> str:
        """A number with its unit: `1.25 ms`, `1,234,567 FLOP`."""
        text = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
        return f"{text} {self.unit}".strip()

    @cached_property
    def _inside(self) -> dict[str, float]:
        """Combined numbers by the path of each module around a node that has one; an entry of its own counts whole."""
        result: dict[str, float] = {}
        for path, value in self.values.items():
            for outer in _around(path):
                if outer in self.values:
                    break
                if outer not in result:
                    result[outer] = value
                else:
                    result[outer] = result[outer] + value if self.combine == "sum" else max(result[outer], value)
        return result

    @cached_property
    def _flagged_inside(self) -> dict[str, str]:
        """By the path of each module around a flagged node: the first such node."""
        result: dict[str, str] = {}
        for path in self.flags:
            for outer in _around(path):
                result.setdefault(outer, path)
        return result


def _around(path: str) -> Iterator[str]:
    """`a/b/c` -> a/b, a."""
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


@dataclass(frozen=True)
class Scale:
    """Numbers to colours: `least` has the first, `most` the last of HEAT_STEPS."""

    least: float
    most: float

    def step(self, value: float) -> int:
        """0 to HEAT_STEPS - 1."""
        if self.most <= self.least:
            return HEAT_STEPS - 1
        share = (value - self.least) / (self.most - self.least)
        return min(HEAT_STEPS - 1, int(share * HEAT_STEPS))


def lay_over(scene: Scene, overlay: Overlay) -> Scene:
    """The scene with the numbers, texts and flags of an overlay on its boxes; the scale spans the drawn numbers."""
    values = {box.key: overlay.value(box.key) for box in scene.boxes}
    known = [value for value in values.values() if value is not None]
    scale = Scale(min(known), max(known)) if known else None
    boxes = tuple(_covered(box, overlay, scale, values[box.key]) for box in scene.boxes)
    groups = tuple(_titled(group, overlay) for group in scene.groups)
    bar = ScaleBar(overlay.title, overlay.write(scale.least), overlay.write(scale.most)) if scale else None
    notices = (overlay.title, *overlay.notes, *scene.notices)
    return replace(scene, boxes=boxes, groups=groups, scale=bar, notices=notices)


def _covered(box: Box, overlay: Overlay, scale: Scale | None, value: float | None) -> Box:
    text, flag = overlay.text(box.key), overlay.flag(box.key)
    heat = scale.step(value) if scale is not None and value is not None else None
    lines = (*box.lines, text) if text else box.lines
    facts = ([f"{overlay.title}: {text}"] if text else []) + ([f"! {flag}"] if flag else [])
    badges = (*box.badges, Badge("flag", f"! {flag}")) if flag else box.badges
    return replace(box, lines=lines, tooltip=(*box.tooltip, *facts), heat=heat, flag=flag, badges=badges)


def _titled(group: Group, overlay: Overlay) -> Group:
    text, flag = overlay.text(group.path), overlay.flag(group.path)
    title = " · ".join(part for part in (group.title, text, f"! {flag}" if flag else "") if part)
    return replace(group, title=title)
