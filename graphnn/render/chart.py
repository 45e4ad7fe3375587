"""Line charts of losses and metrics as SVG text, without any plotting package."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from graphnn.errors import OptionError
from graphnn.render.palette import FONT, SERIES, Rule, base, style_sheet
from graphnn.render.scale import SMALLEST, decimate, number_text, scale_of
from graphnn.render.text import TIMES, clean, identifier, plural, shorten, text_width, xml

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 78, 150, 90, 52
LEGEND_ROW = 18
LARGEST = 1e300  # farther numbers are not drawn: their distances would overflow
DASHES = ("", "7 3", "2 3", "9 3 2 3", "12 4", "4 2")
Points: TypeAlias = Sequence[tuple[float, float]]
Best: TypeAlias = Literal["min", "max"] | None


@dataclass(frozen=True)
class Curve:
    """One series: what of it can be drawn, in pieces between gaps, and the rest."""

    name: str
    index: int
    pieces: tuple[tuple[tuple[float, float], ...], ...]
    gaps: tuple[float, ...]  # x of points that cannot be drawn
    best: tuple[float, float] | None

    @property
    def last(self) -> tuple[float, float]:
        """The last drawn point."""
        return self.pieces[-1][-1]


def line_chart(
    series: Mapping[str, Points],
    title: str,
    x_label: str,
    y_label: str,
    log: bool = False,
    best: Best = "min",
    whole: bool = False,
    theme: str = "auto",
) -> str:
    """A line chart as SVG text.

    Numbers that cannot be drawn (NaN, infinities, not positive on a logarithmic axis) leave a gap, are marked with a
    cross at the upper border, and counted below the title.

    Args:
        series: points (x, y) by name, in drawing order.
        title: above the chart.
        x_label: below the horizontal axis.
        y_label: beside the vertical axis.
        log: whether the vertical axis is logarithmic.
        best: which point of each series is marked: "min", "max" or none.
        whole: ticks of the horizontal axis are integers, as those of epochs are.
        theme: "light", "dark", or "auto" for what the reader's system prefers.

    Raises:
        OptionError: `best` or `theme` is something else.
    """
    if best not in ("min", "max", None):
        raise OptionError("no such best point", where="best", expected="'min', 'max' or None", got=repr(best))
    curves = [_curve(name, index, points, log, best) for index, (name, points) in enumerate(series.items())]
    return "\n".join(_Chart(curves, log, whole, theme).draw(title, x_label, y_label)) + "\n"


def _curve(name: str, index: int, points: Points, log: bool, best: Best) -> Curve:
    pieces: list[list[tuple[float, float]]] = [[]]
    gaps = []
    for x, y in points:
        if not _drawable(float(x)):
            continue
        if _drawable(float(y)) and (not log or y > SMALLEST):
            pieces[-1].append((float(x), float(y)))
        else:
            gaps.append(float(x))
            pieces.append([])
    drawn = tuple(tuple(piece) for piece in pieces if piece)
    choose: Callable[..., tuple[float, float]] = max if best == "max" else min
    flat = [point for piece in drawn for point in piece]
    marked = choose(flat, key=lambda point: point[1]) if flat and best else None
    return Curve(name, index, drawn, tuple(gaps), marked)


def _drawable(number: float) -> bool:
    return math.isfinite(number) and abs(number) <= LARGEST


class _Chart:
    """The geometry of one chart: scales and the places of the legend's rows."""

    def __init__(self, curves: list[Curve], log: bool, whole: bool, theme: str):
        self.curves, self.theme = curves, theme
        self.drawn = [curve for curve in curves if curve.pieces]
        points = [point for curve in self.drawn for piece in curve.pieces for point in piece]
        xs = [x for x, _ in points] + [x for curve in curves for x in curve.gaps]
        self.top = TOP + LEGEND_ROW * len(curves)
        self.height = HEIGHT + LEGEND_ROW * len(curves)
        self.x = scale_of(xs, LEFT, WIDTH - RIGHT, log=False, tight=True, whole=whole)
        self.y = scale_of([y for _, y in points], self.height - BOTTOM, self.top, log=log)

    def draw(self, title: str, x_label: str, y_label: str) -> Iterator[str]:
        yield from self._opening(title, y_label, x_label)
        yield from self._axes(x_label, y_label)
        for row, curve in enumerate(self.curves):
            yield from self._legend(curve, TOP - 14 + LEGEND_ROW * row)
        for curve in self.drawn:
            yield from self._line(curve)
        yield from self._labels()
        for curve in self.curves:
            yield from self._gaps(curve)
        if not self.drawn:
            middle = f'x="{(LEFT + WIDTH - RIGHT) / 2:g}" y="{(self.top + self.height - BOTTOM) / 2:g}"'
            yield f'<text text-anchor="middle" {middle}>no points to draw</text>'
        yield "</svg>"

    def _opening(self, title: str, y_label: str, x_label: str) -> Iterator[str]:
        name = "chart-" + identifier(title)
        yield (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="gnn" role="img" '
            f'aria-labelledby="title-{name} desc-{name}" '
            f'viewBox="0 0 {WIDTH} {self.height}" width="100%" style="max-width:{WIDTH}px">'
        )
        text = ". ".join([f"{y_label} over {x_label}", *map(_told, self.curves)])
        yield f'<title id="title-{name}">{xml(title)}</title><desc id="desc-{name}">{xml(text)}</desc>'
        yield f"<style>{_css(len(self.curves), self.theme)}</style>"
        yield f'<rect class="gnn-paper" width="{WIDTH}" height="{self.height}"/>'
        yield f'<text class="gnn-h" x="16" y="30">{xml(shorten(title, 16, WIDTH - 32, bold=True))}</text>'
        missing = sum(len(curve.gaps) for curve in self.curves)
        if missing:
            text = f"{plural(missing, 'point')} cannot be drawn: marked {TIMES} at the upper border"
            yield f'<text class="gnn-f" x="16" y="48">{text}</text>'

    def _axes(self, x_label: str, y_label: str) -> Iterator[str]:
        low, right, top = self.height - BOTTOM, WIDTH - RIGHT, self.top
        for value, text in self.y.ticks:
            y = f"{self.y(value):.1f}"
            yield f'<path class="gnn-grid" d="M{LEFT} {y}H{right}"/>'
            yield f'<text class="gnn-f" text-anchor="end" x="{LEFT - 6}" y="{self.y(value) + 4:.1f}">{text}</text>'
        for value, text in self.x.ticks:
            x = f"{self.x(value):.1f}"
            yield f'<path class="gnn-axis" d="M{x} {low}v5"/>'
            yield f'<text class="gnn-f" text-anchor="middle" x="{x}" y="{low + 18}">{text}</text>'
        yield f'<path class="gnn-axis" d="M{LEFT} {top}V{low}H{right}"/>'
        middle = (LEFT + right) / 2
        below = xml(shorten(x_label, 12, WIDTH - LEFT - RIGHT))
        yield f'<text text-anchor="middle" x="{middle:g}" y="{self.height - 14}">{below}</text>'
        turned = f'transform="translate(16 {(top + low) / 2:g}) rotate(-90)"'
        yield f'<text text-anchor="middle" {turned}>{xml(shorten(y_label, 12, low - top))}</text>'

    def _line(self, curve: Curve) -> Iterator[str]:
        style = f"gnn-series-{curve.index % len(SERIES)}"
        yield f'<g data-series="{xml(curve.name)}"><title>{xml(_told(curve))}</title>'
        for piece in curve.pieces:
            places = decimate([(self.x(x), self.y(y)) for x, y in piece])
            path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
            if len(places) > 1:
                yield f'<path class="gnn-curve {style}" d="M{path}"/>'
            else:
                yield f'<circle class="gnn-dot {style}" cx="{places[0][0]:.1f}" cy="{places[0][1]:.1f}" r="3"/>'
        if curve.best:
            x, y = self.x(curve.best[0]), self.y(curve.best[1])
            yield f'<circle class="gnn-best {style}" cx="{x:.1f}" cy="{y:.1f}" r="5"/>'
        yield "</g>"

    def _legend(self, curve: Curve, y: float) -> Iterator[str]:
        style = f"gnn-series-{curve.index % len(SERIES)}"
        yield f'<path class="gnn-curve {style}" d="M{LEFT} {y - 4:g}h34"/>'
        name = shorten(curve.name, 12, 280)
        at = LEFT + 42
        yield f'<text x="{at}" y="{y:g}">{xml(name)}</text>'
        if curve.best:
            x = at + math.ceil(text_width(name, 12)) + 22
            yield f'<circle class="gnn-best {style}" cx="{x - 8}" cy="{y - 4:g}" r="5"/>'
            text = f"best {number_text(curve.best[1])} at {number_text(curve.best[0])}"
            yield f'<text class="gnn-f" x="{x + 2}" y="{y:g}">{text}</text>'

    def _labels(self) -> Iterator[str]:
        """The name and the last number beside the end of each curve, moved apart where they would overlap."""
        wanted = sorted((self.y(curve.last[1]), curve.index, curve) for curve in self.drawn)
        heights = _apart([y for y, _, _ in wanted], 15, self.top + 4, self.height - BOTTOM)
        for y, (_, _, curve) in zip(heights, wanted, strict=True):
            number = number_text(curve.last[1])
            name = shorten(curve.name, 12, RIGHT - 30 - text_width(f" {number}", 12))
            x, at = self.x(curve.last[0]), self.y(curve.last[1])
            right = WIDTH - RIGHT + 14
            yield f'<path class="gnn-lead" d="M{x + 3:.1f} {at:.1f}L{right - 3} {y:.1f}"/>'
            yield f'<text x="{right}" y="{y + 4:.1f}">{xml(f"{name} {number}")}</text>'

    def _gaps(self, curve: Curve) -> Iterator[str]:
        style = f"gnn-series-{curve.index % len(SERIES)}"
        marks = dict.fromkeys(f"M{self.x(x) - 4:.0f} {self.top - 4}l8 8m0 -8l-8 8" for x in curve.gaps)
        if marks:
            yield f'<path class="gnn-cross {style}" d="{"".join(marks)}"><title>not finite</title></path>'


def _apart(wanted: list[float], distance: float, low: float, high: float) -> list[float]:
    """Rising numbers near `wanted`, at least `distance` apart, between `low` and `high` as far as there is room."""
    places: list[float] = []
    for y in wanted:
        places.append(max(y, low, places[-1] + distance if places else low))
    limit = max(high, low + distance * (len(places) - 1))
    for index in range(len(places) - 1, -1, -1):
        places[index] = min(places[index], limit)
        limit = places[index] - distance
    return places


def _told(curve: Curve) -> str:
    text = f"{clean(curve.name)}: "
    if not curve.pieces:
        return text + "nothing that can be drawn"
    text += f"last {number_text(curve.last[1])} at {number_text(curve.last[0])}"
    return text + (f", best {number_text(curve.best[1])} at {number_text(curve.best[0])}" if curve.best else "")


def _css(count: int, theme: str) -> str:
    rules = [
        base(".gnn text", FONT + ";font-size:12px", fill="ink"),
        base(".gnn .gnn-h", "font-size:16px;font-weight:700"),
        base(".gnn .gnn-f", fill="faint"),
        base(".gnn-paper", fill="paper"),
        base(".gnn-axis", "fill:none", stroke="line"),
        base(".gnn-grid", "fill:none", stroke="group-odd"),
        base(".gnn-lead", "fill:none;stroke-width:0.7;stroke-dasharray:1 2", stroke="line"),
    ]
    for index, colour in enumerate(SERIES[:count]):
        dash = f";stroke-dasharray:{DASHES[index]}" if DASHES[index] else ""
        paint = (f"series-{index}", colour)
        rules.append(Rule(f".gnn-series-{index}", {"stroke": paint}))
        rules.append(Rule(f".gnn-dot.gnn-series-{index}", {"fill": paint}))
        rules.append(Rule(f".gnn-curve.gnn-series-{index}", {}, f"fill:none;stroke-width:2{dash}"))
    rules.append(base(".gnn .gnn-best", "stroke-width:2", fill="paper"))
    rules.append(Rule(".gnn .gnn-cross", {}, "fill:none;stroke-width:2"))
    return style_sheet(rules, theme)
