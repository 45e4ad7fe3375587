"""The memory of a plan as a picture: steps to the right, the arena upwards, a rectangle for each living value."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from graphnn.ir.program import Kind
from graphnn.plan.lifetimes import Region, Span, kept_for_backward, live_bytes, producers, regions, spans
from graphnn.plan.outline import has_groups, maker_of, origins_of, outline, paths_text, phases_text, work_of
from graphnn.plan.plan import Plan, Step
from graphnn.render.palette import CATEGORIES, FONT, Rule, base, style_sheet
from graphnn.render.text import identifier, plural, shorten, text_width, xml
from graphnn.render.units import bytes_text

LEFT, RIGHT, TOP = 84, 24, 92
CURVE_HEIGHT, ARENA_HEIGHT, GAP = 110, 380, 44
BAND = 16  # height of the strip that shows the phases
LEAST_WIDTH, MOST_WIDTH = 760, 1500  # of the drawn steps
STEP_WIDTH = 12  # where there is room
TINY = 1.6  # pixels; what is smaller in a direction is drawn together with its neighbours
CELL_X, CELL_Y = 10, 5  # pixels: rectangles whose ends lie in the same cells are drawn as one
THIN = 5  # pixels; narrower rectangles get a fine border, or they would be nothing else
LABEL_WIDTH, LABEL_HEIGHT = 110, 14  # pixels that a label needs, unless all of it fits into less
LARGEST = 6  # rows of the list below the picture
TEXT = 11
ROW = 17

# What a rectangle may be: its colour, the dashes of its border, and what the legend says.
STYLES = {
    "forward": ("layer", "", "made in forward"),
    "kept": ("normalization", "", "made in forward, kept for backward"),
    "backward": ("activation", "5 2", "made in backward"),
    "update": ("join", "2 2", "made in the update"),
}


@dataclass(frozen=True)
class Mark:
    """A rectangle in steps and bytes, and what it says."""

    style: str
    start: int
    end: int
    offset: int
    nbytes: int
    label: str
    tooltip: tuple[str, ...]
    count: int = 1


def memory_svg(plan: Plan, title: str = "memory of a plan", theme: str = "auto") -> str:
    """The arena over the steps as SVG text.

    Above, the bytes alive at each step, with the peak. Below, a rectangle for each value from the step that writes it
    to the last one that reads it, at its place in the arena; where a result is written over an input, the next
    rectangle follows without a gap. Rectangles that would be smaller than a pixel or two are drawn as one.

    Args:
        plan: of a model (`plans_of`) or of a program (`make_plan`).
        title: above the picture.
        theme: "light", "dark", or "auto" for what the reader's system prefers.
    """
    return "\n".join(_Picture(plan, title, theme).draw()) + "\n"


class _Picture:
    """The geometry of one picture."""

    def __init__(self, plan: Plan, title: str, theme: str):
        self.plan, self.title, self.theme = plan, title, theme
        self.live = live_bytes(plan)
        self.count = max(len(plan.steps), 1)
        self.width = min(max(self.count * STEP_WIDTH, LEAST_WIDTH), MOST_WIDTH)
        self.regions = regions(plan)
        self.marks = _merged(
            _marks(plan, self.regions), self.width / self.count, ARENA_HEIGHT / max(plan.arena_bytes, 1)
        )
        self.peak = max(range(len(self.live)), key=self.live.__getitem__, default=0)
        self.arena_top = TOP + CURVE_HEIGHT + GAP
        self.low = self.arena_top + ARENA_HEIGHT

    def x(self, step: float) -> float:
        return LEFT + step * self.width / self.count

    def y(self, offset: float) -> float:
        return self.low - offset * ARENA_HEIGHT / max(self.plan.arena_bytes, 1)

    def draw(self) -> Iterator[str]:
        rows = self._largest()
        present = [name for name in STYLES if any(mark.style == name for mark in self.marks)]
        legend = self.low + BAND + 62
        height = legend + ROW + (14 + ROW * (len(rows) + 1) if rows else 0) + 16
        yield from self._opening(LEFT + self.width + RIGHT, height, present)
        yield from self._axes()
        yield from self._phases()
        yield from map(self._mark, self.marks)
        yield from self._curve()
        yield from self._legend(present, legend)
        for index, (style, text) in enumerate([("b", "alive at the peak, largest first"), *rows] if rows else []):
            y = legend + ROW + 20 + ROW * index
            css = "gnn-b" if style == "b" else "gnn-f"
            if style != "b":
                yield f'<rect class="gnn-{style}" x="{LEFT}" y="{y - 10:g}" width="18" height="12" rx="2"/>'
            x = LEFT if style == "b" else LEFT + 26
            yield f'<text class="{css}" x="{x}" y="{y:g}">{xml(shorten(text, TEXT, self.width - 30))}</text>'
        yield "</svg>"

    # -- text around ---------------------------------------------------------------------------------------------------

    def _opening(self, width: float, height: float, present: Sequence[str]) -> Iterator[str]:
        name = "memory-" + identifier(self.title)
        subtitle, outside = self._subtitle(), _outside(self.plan)
        yield (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="gnn" role="img" '
            f'aria-labelledby="title-{name} desc-{name}" '
            f'viewBox="0 0 {width:g} {height:g}" width="100%" style="max-width:{width:g}px">'
        )
        yield f'<title id="title-{name}">{xml(self.title)}</title>'
        yield f'<desc id="desc-{name}">{xml(f"{subtitle}. {self._peak_text()}. {outside}.")}</desc>'
        yield f"<style>{_css(present, self.theme)}</style>"
        yield f'<rect class="gnn-paper" width="{width:g}" height="{height:g}"/>'
        lines = (("gnn-h", self.title, 28, 16), ("", subtitle, 48, 12), ("gnn-f", outside, 66, 12))
        for style, text, y, size in lines:
            line = shorten(text, size, width - 32, bold=style == "gnn-h")
            yield f'<text class="{style or "gnn-s"}" x="16" y="{y}">{xml(line)}</text>'

    def _subtitle(self) -> str:
        plan = self.plan
        text = f"{plural(len(plan.steps), 'step')} · arena {bytes_text(plan.arena_bytes)}"
        if bytes_text(plan.arena_bytes) != bytes_text(plan.peak_bytes):
            text += f" · most alive at once {bytes_text(plan.peak_bytes)}"
        total = sum(region.nbytes for region in self.regions)
        if total:
            text += f" · {plural(len(self.regions), 'place')}, {bytes_text(total)} if none were shared"
        merged = sum(mark.count for mark in self.marks if mark.count > 1)
        return text + (f" · {merged:,} rectangles are too small and drawn together" if merged else "")

    def _peak_text(self) -> str:
        if not self.regions:
            return "nothing lies in the arena"
        step = self.plan.steps[self.peak]
        last = self.peak
        while last + 1 < len(self.live) and self.live[last + 1] == self.live[self.peak]:
            last += 1
        steps = f"step {self.peak}" if last == self.peak else f"steps {self.peak} to {last}"
        return f"peak {bytes_text(self.live[self.peak])} at {steps}: {work_of(step)} in {_origins(step)}"

    def _largest(self) -> list[tuple[str, str]]:
        """(style, text) of the largest values that are alive at the peak."""
        if not self.regions:
            return []
        alive = [mark for mark in _marks(self.plan, self.regions) if mark.start <= self.peak < mark.end]
        alive.sort(key=lambda mark: (-mark.nbytes, mark.offset))
        rows = [
            (mark.style, f"{bytes_text(mark.nbytes)} · {mark.label} · {mark.tooltip[-1]}") for mark in alive[:LARGEST]
        ]
        if rest := alive[LARGEST:]:
            rows.append((rest[0].style, f"and {len(rest):,} more: {bytes_text(sum(mark.nbytes for mark in rest))}"))
        return rows

    # -- the drawing ---------------------------------------------------------------------------------------------------

    def _axes(self) -> Iterator[str]:
        right = LEFT + self.width
        for offset in _ticks(self.plan.arena_bytes):
            y = self.y(offset)
            yield f'<path class="gnn-grid" d="M{LEFT} {y:.1f}H{right:g}"/>'
            yield self._left_text(y + 4, bytes_text(offset))
        yield f'<path class="gnn-axis" d="M{LEFT} {self.arena_top}V{self.low}H{right:g}"/>'
        every = _round_step(self.count, max(1, self.width // 70))
        for step in range(0, self.count, every):
            x = f"{self.x(step + 0.5):.1f}"
            yield f'<path class="gnn-axis" d="M{x} {self.low + BAND}v5"/>'
            yield f'<text class="gnn-f" text-anchor="middle" x="{x}" y="{self.low + BAND + 18}">{step:,}</text>'
        yield f'<text text-anchor="middle" x="{(LEFT + right) / 2:g}" y="{self.low + BAND + 38}">step</text>'
        middle = (self.arena_top + self.low) / 2
        yield f'<text text-anchor="middle" transform="translate(16 {middle:g}) rotate(-90)">place in the arena</text>'
        yield self._left_text(TOP + CURVE_HEIGHT, "0 B")
        middle = TOP + CURVE_HEIGHT / 2
        yield f'<text text-anchor="middle" transform="translate(16 {middle:g}) rotate(-90)">bytes alive</text>'

    def _left_text(self, y: float, text: str) -> str:
        return f'<text class="gnn-f" text-anchor="end" x="{LEFT - 6}" y="{y:.1f}">{text}</text>'

    def _phases(self) -> Iterator[str]:
        """A strip below the steps: which phase each belongs to."""
        steps, start = self.plan.steps, 0
        phases = [phases_text(origins_of(step)) for step in steps]
        for index in range(1, len(steps) + 1):
            if index < len(steps) and phases[index] == phases[start]:
                continue
            phase = phases[start]
            width = self.x(index) - self.x(start)
            place = f'x="{self.x(start):.1f}" y="{self.low}" width="{width:.1f}" height="{BAND}"'
            style = f"gnn-{phase.partition(' ')[0]}"
            yield f'<rect class="{style}" {place}><title>{phase}: steps {start} to {index - 1}</title></rect>'
            if width > text_width(phase, TEXT) + 6:
                x = f"{self.x(start) + width / 2:.1f}"
                yield f'<text text-anchor="middle" x="{x}" y="{self.low + 12}">{phase}</text>'
            start = index

    def _mark(self, mark: Mark) -> str:
        x, y = self.x(mark.start), self.y(mark.offset + mark.nbytes)
        width = max(self.x(mark.end) - x, 1.0)
        height = max(self.y(mark.offset) - y, 1.0)
        text = f"<title>{xml(chr(10).join(mark.tooltip))}</title>"
        style = f"gnn-{mark.style}" + (" gnn-thin" if min(width, height) < THIN else "")
        rectangle = f'<rect class="{style}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>'
        if height >= LABEL_HEIGHT and width >= min(text_width(mark.label, TEXT) + 8, LABEL_WIDTH) and mark.count == 1:
            label = xml(shorten(mark.label, TEXT, width - 8))
            rectangle += f'<text x="{x + 4:.1f}" y="{y + height / 2 + 4:.1f}">{label}</text>'
        return f'<g data-count="{mark.count}">{text}{rectangle}</g>'

    def _curve(self) -> Iterator[str]:
        low, most = TOP + CURVE_HEIGHT, max(self.plan.arena_bytes, 1)
        right = LEFT + self.width
        places = []
        for step, live in enumerate(self.live):
            y = f"{low - live / most * (CURVE_HEIGHT - 18):.1f}"
            places.append(f"H{self.x(step):.1f}V{y}H{self.x(step + 1):.1f}")
        yield f'<path class="gnn-area" d="M{LEFT} {low}{"".join(places)}V{low}Z"><title>bytes alive</title></path>'
        yield f'<path class="gnn-axis" d="M{LEFT} {TOP}V{low}H{right:g}"/>'
        if not self.regions:
            middle = (LEFT + right) / 2
            yield f'<text text-anchor="middle" x="{middle:g}" y="{low - 20}">nothing lies in the arena</text>'
            return
        top = low - (CURVE_HEIGHT - 18)
        yield f'<path class="gnn-limit" d="M{LEFT} {top}H{right:g}"><title>size of the arena</title></path>'
        yield self._left_text(top + 4, bytes_text(most))
        x, y = self.x(self.peak + 0.5), low - self.live[self.peak] / most * (CURVE_HEIGHT - 18)
        yield f'<path class="gnn-peak" d="M{x:.1f} {y:.1f}V{self.low}"/>'
        yield f'<circle class="gnn-dot" cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
        text = shorten(self._peak_text(), TEXT, self.width - 20, bold=True)
        half = text_width(text, TEXT, bold=True) / 2
        at = min(max(x, LEFT + half), right - half)
        yield f'<text class="gnn-b" text-anchor="middle" x="{at:.1f}" y="{top - 8}">{xml(text)}</text>'

    def _legend(self, present: Sequence[str], y: float) -> Iterator[str]:
        x = float(LEFT)
        for name in present:
            yield f'<g data-entry="{name}"><rect class="gnn-{name}" x="{x:g}" y="{y - 11:g}" width="22" height="14"/>'
            yield f'<text class="gnn-f" x="{x + 28:g}" y="{y:g}">{STYLES[name][2]}</text></g>'
            x = round(x + 28 + text_width(STYLES[name][2], TEXT) + 18)


def _outside(plan: Plan) -> str:
    """What the caller owns, in bytes."""
    sums = {
        f"{kind.value}s": sum(value.spec.nbytes for value in plan.inputs if value.kind is kind)
        for kind in (Kind.INPUT, Kind.PARAMETER, Kind.STATE)
    }
    sums["outputs"] = sum(plan.buffers[number].spec.nbytes for number in dict.fromkeys(plan.outputs))
    parts = [f"{name} {bytes_text(total)}" for name, total in sums.items() if total]
    return "outside of the arena: " + (", ".join(parts) or "nothing")


def _origin(origin: object) -> str:
    path, phase = getattr(origin, "path", ""), getattr(origin, "phase", None)
    return f"{path or 'no node'}{f' ({phase.value})' if phase else ''}"


# -- marks -------------------------------------------------------------------------------------------------------------


def _marks(plan: Plan, found: Sequence[Region]) -> list[Mark]:
    """One for each value in the arena."""
    made, kept, names = producers(plan), kept_for_backward(plan), _names_of_groups(plan)
    return [_mark_of(plan, span, made[span.buffer], kept, names) for region in found for span in spans(region, plan)]


def _names_of_groups(plan: Plan) -> dict[int, str]:
    """Names of values where the step that makes them says little."""
    if not has_groups(plan):
        return {}
    pairs = ((step, entry) for step, entry in zip(plan.steps, outline(plan), strict=True))
    return {n: o.name for step, entry in pairs for n, o in zip(step.outputs, entry.writes, strict=True)}


def _origins(step: Step) -> str:
    """Of a step of one node, the node and its phase; of others, some of the nodes."""
    origins = origins_of(step)
    return _origin(origins[0]) if len(origins) == 1 else paths_text(origins)


def _mark_of(plan: Plan, span: Span, maker: tuple[int, object], kept: set[int], names: dict[int, str]) -> Mark:
    number, step = maker[0], plan.steps[maker[0]]
    origin = maker_of(step, step.outputs.index(span.buffer))
    phase = origin.phase.value
    style = "kept" if span.buffer in kept else phase
    buffer = plan.buffers[span.buffer]
    how = "" if buffer.shares is None else " (view)" if step.op.is_view else " (written over an input)"
    tooltip = (
        f"{_origin(origin)}",
        f"step {number}: {work_of(step)}{how}, buffer {span.buffer}: {buffer.spec}",
        f"{buffer.spec.nbytes:,} bytes at offset {span.region.offset:,}",
        f"steps {span.start} to {span.end - 1}" if span.end - 1 > span.start else f"step {span.start}",
    )
    label = f"{step.origin.path} · {step.op.name}" if step.origin.path else step.op.name
    label = names.get(span.buffer, label)
    return Mark(style, span.start, span.end, span.region.offset, span.region.nbytes, label, tooltip)


def _merged(marks: Sequence[Mark], per_step: float, per_byte: float) -> list[Mark]:
    """The marks, with those that are tiny joined to others that are in the same place as far as one can see."""
    result: list[Mark] = []
    cells: dict[tuple[int, ...], list[Mark]] = {}
    for mark in marks:
        width, height = (mark.end - mark.start) * per_step, mark.nbytes * per_byte
        if not mark.nbytes:
            continue
        if width >= TINY and height >= TINY:
            result.append(mark)
            continue
        ends = (mark.start * per_step / CELL_X, mark.end * per_step / CELL_X, mark.offset * per_byte / CELL_Y)
        cells.setdefault(tuple(map(math.floor, ends)), []).append(mark)
    return result + [_joined(group) for group in cells.values()]


def _joined(marks: Sequence[Mark]) -> Mark:
    if len(marks) == 1:
        return marks[0]
    start, end = min(mark.start for mark in marks), max(mark.end for mark in marks)
    low, high = min(mark.offset for mark in marks), max(mark.offset + mark.nbytes for mark in marks)
    most = max(marks, key=lambda mark: mark.nbytes * (mark.end - mark.start))
    total = sum(mark.nbytes for mark in marks)
    tooltip = (f"{len(marks):,} values too small to draw apart", f"{total:,} bytes, steps {start} to {end - 1}")
    names = dict.fromkeys(mark.label for mark in marks)
    tooltip += tuple(list(names)[:8]) + ((f"and {len(names) - 8} more",) if len(names) > 8 else ())
    return Mark(most.style, start, end, low, high - low, "", tooltip, len(marks))


# -- axes and colours --------------------------------------------------------------------------------------------------


def _ticks(nbytes: int) -> list[int]:
    """At most about six round numbers of bytes (powers of two) from 0 to `nbytes`."""
    step = 64
    while nbytes / step > 6:
        step *= 2
    return list(range(0, nbytes + 1, step))


def _round_step(count: int, most: float) -> int:
    """1, 2 or 5 times a power of ten, so that at most `most` of them are needed."""
    power = 1
    while True:
        for factor in (1, 2, 5):
            if count / (factor * power) <= most:
                return factor * power
        power *= 10


def _css(present: Sequence[str], theme: str) -> str:
    rules = [
        base(".gnn text", FONT + f";font-size:{TEXT}px", fill="ink"),
        base(".gnn .gnn-h", "font-size:16px;font-weight:700"),
        base(".gnn .gnn-s", "font-size:12px"),
        base(".gnn .gnn-b", "font-weight:700"),
        base(".gnn .gnn-f", fill="faint"),
        base(".gnn-paper", fill="paper"),
        base(".gnn-axis", "fill:none", stroke="line"),
        base(".gnn-grid", "fill:none", stroke="group-odd"),
        base(".gnn-area", fill="group-odd", stroke="line"),
        base(".gnn-limit", "fill:none;stroke-dasharray:6 4", stroke="line"),
        base(".gnn-peak", "fill:none;stroke-width:1.4;stroke-dasharray:3 3", stroke="ink"),
        base(".gnn-dot", fill="ink"),
    ]
    for name in dict.fromkeys([*present, "forward", "backward", "update"]):
        category, dashes, _ = STYLES[name]
        fill, border = CATEGORIES[category]
        extra = "stroke-width:1" + (f";stroke-dasharray:{dashes}" if dashes else "")
        rules.append(Rule(f".gnn-{name}", {"fill": (f"{name}-fill", fill), "stroke": (f"{name}-edge", border)}, extra))
    rules.append(base(".gnn .gnn-thin", "stroke-width:0.4;stroke-dasharray:none"))
    return style_sheet(rules, theme)
