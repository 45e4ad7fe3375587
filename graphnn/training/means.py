"""Running means of losses and metrics over an epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


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

    def to_dict(self) -> dict[str, Any]:
        """What `from_dict` takes up; plain data."""
        return {"sums": dict(self._sums), "count": self._count}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Means:
        """Means that go on from where `to_dict` left them."""
        means = cls()
        means._sums = {str(name): float(total) for name, total in data["sums"].items()}
        means._count = int(data["count"])
        return means


@dataclass(frozen=True, eq=False)
class Position:
    """How far an epoch has come: number of batches done, and their means."""

    batches: int
    means: Means
