"""Numbers as text that takes little memory: a list of them would count against who makes more steps."""

from __future__ import annotations

import base64
from array import array


def packed(numbers: array[float]) -> str:
    """The bytes of numbers in float64, in base64."""
    return base64.b64encode(numbers.tobytes()).decode()


def unpacked(text: str) -> list[float]:
    """The numbers that `packed` was given."""
    return array("d", base64.b64decode(text)).tolist()
