"""Axes of charts: from numbers to pixels, round numbers for ticks, and fewer points where pixels cannot show more."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

TICKS = 6
CONSTANT = 1e-9  # numbers that differ less than this, relatively, are drawn as one
SMALLEST = 1e-300  # smaller distances count as none: their tenths would underflow
MOST_POINTS = 1500  # of one curve; more than two for each column of pixels cannot be seen


@dataclass(frozen=True)
class Scale:
    """Numbers `low`..`high` on pixels `first`..`last`; `ticks` are (number, text)."""

    low: float
    high: float
    first: float
    last: float
    log: bool
    ticks: tuple[tuple[float, str], ...]

    def __call__(self, number: float) -> float:
        """The pixel of a number."""
        low, high, at = (
            (math.log10(n) for n in (self.low, self.high, number)) if self.log else (self.low, self.high, number)
        )
        return self.first + (at - low) / (high - low) * (self.last - self.first)


def scale_of(
    numbers: Sequence[float], first: float, last: float, log: bool, tight: bool = False, whole: bool = False
) -> Scale:
    """A scale that shows all `numbers`, its ends on ticks unless `tight`; a single number stands in the middle.

    Ticks of a `whole` scale, such as one of epochs, are integers.
    """
    low, high = (min(numbers), max(numbers)) if numbers else (1.0, 10.0) if log else (0.0, 1.0)
    if log:
        return _logarithmic(low, high, first, last)
    if high - low <= max(abs(low), abs(high)) * CONSTANT + SMALLEST:
        room = max(abs(low), abs(high)) * 0.1
        room = 0.5 if whole else room if room > SMALLEST else 1.0
        low, high = low - room, high + room
    step = _nice_step((high - low) / TICKS)
    step = max(step, 1.0) if whole else step
    start, stop = math.floor(low / step), math.ceil(high / step)
    if not tight:
        low, high = start * step, stop * step
    ticks = [
        index * step for index in range(start, stop + 1) if low - step * 1e-6 <= index * step <= high + step * 1e-6
    ]
    digits = max(0, -math.floor(math.log10(step)))
    return Scale(low, high, first, last, False, tuple((tick, _tick_text(tick, digits)) for tick in ticks))


def _nice_step(step: float) -> float:
    """1, 2 or 5 times a power of ten, at least `step`."""
    power = 10.0 ** math.floor(math.log10(step))
    return next((factor * power for factor in (1.0, 2.0, 5.0) if factor * power >= step), 10.0 * power)


def _logarithmic(low: float, high: float, first: float, last: float) -> Scale:
    start, stop = math.floor(math.log10(low)), math.ceil(math.log10(high))
    if start == stop:
        start, stop = start - 1, stop + 1
    every = max(1, math.ceil((stop - start) / TICKS))
    factors = (1.0, 2.0, 5.0) if stop - start <= 2 else (1.0,)
    exponents = range(start, stop + 1, every)
    ticks = [
        factor * 10.0**exponent for exponent in exponents for factor in factors if 10.0**stop >= factor * 10.0**exponent
    ]
    return Scale(10.0**start, 10.0**stop, first, last, True, tuple((tick, number_text(tick)) for tick in ticks))


def _tick_text(tick: float, digits: int) -> str:
    if digits > 4 or abs(tick) >= 1e6:
        return number_text(tick)
    return f"{round(tick, digits) or 0.0:,.{digits}f}"  # `or` turns -0.0 into 0.0


def number_text(number: float) -> str:
    """A number to four digits."""
    return f"{number:.4g}" if abs(number) < 1e4 or abs(number) >= 1e6 or number != int(number) else f"{number:,.0f}"


def decimate(places: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points of a curve in pixels; of very many, the first, lowest, highest and last of each column of pixels."""
    if len(places) <= MOST_POINTS:
        return list(places)
    columns: dict[int, list[tuple[float, float]]] = {}
    for place in places:
        columns.setdefault(math.floor(place[0]), []).append(place)
    return [place for column in columns.values() for place in _ends_and_extremes(column)]


def _ends_and_extremes(column: list[tuple[float, float]]) -> list[tuple[float, float]]:
    indices = range(len(column))
    lowest = min(indices, key=lambda index: column[index][1])
    highest = max(indices, key=lambda index: column[index][1])
    return [column[index] for index in sorted({0, lowest, highest, len(column) - 1})]
