"""Running means of losses and metrics over an epoch."""

from __future__ import annotations

from collections.abc import Mapping


class Means:
    """Means of named numbers, weighted by the number of examples they stand for."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._count = 0

    def add(self, numbers: Mapping[str, float], count: int) -> None:
        """Take in the means over `count` examples."""
        self._count += count
        for name, number in numbers.items():
            self._sums[name] = self._sums.get(name, 0.0) + number * count

    def values(self) -> dict[str, float]:
        """The means so far."""
        return {name: total / max(self._count, 1) for name, total in self._sums.items()}
