"""Bytes, operations and seconds as text, in the unit that fits."""

from __future__ import annotations

from collections.abc import Sequence

BYTES = ((1, "B"), (2**10, "KiB"), (2**20, "MiB"), (2**30, "GiB"), (2**40, "TiB"))
FLOPS = ((1, "FLOP"), (10**3, "kFLOP"), (10**6, "MFLOP"), (10**9, "GFLOP"), (10**12, "TFLOP"))
SECONDS = ((1e-6, "µs"), (1e-3, "ms"), (1, "s"))
Units = Sequence[tuple[float, str]]


def unit_for(number: float, units: Units) -> tuple[float, str]:
    """(size, name) of the largest unit that is not larger than `number`, or of the smallest one."""
    return next((unit for unit in reversed(units) if number >= unit[0]), units[0])


def in_unit(number: float, unit: tuple[float, str]) -> str:
    """`1.5 MiB`: three digits, whole numbers of the smallest unit."""
    size, name = unit
    value = number / size
    text = f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"
    return f"{text} {name}"


def bytes_text(count: float) -> str:
    """`512 B`, `1.5 MiB`."""
    return in_unit(count, unit_for(count, BYTES))


def flops_text(count: float) -> str:
    """`12 kFLOP`, `3.4 GFLOP`."""
    return in_unit(count, unit_for(count, FLOPS))


def seconds_text(seconds: float) -> str:
    """`12.5 ms`."""
    return in_unit(seconds, unit_for(seconds, SECONDS))
