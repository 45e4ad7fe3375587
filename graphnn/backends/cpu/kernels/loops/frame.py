"""Frame: the numbers and the scratch memory that a kernel asks for. Array: memory in the order of some loops."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from graphnn.backends.cpu.emit import Function, Value
from graphnn.ir.tensor_spec import ITEM_BYTES
from graphnn.passes.loop_nest import Axes

LINE = 64  # bytes: scratch blocks begin at cache lines


@dataclass
class Frame:
    """Collects the sizes of a Kernel; numbers given here are not part of its IR."""

    f: Function
    scratch: Value
    sizes: list[int] = field(default_factory=list)
    scratch_bytes: int = 0

    def number(self, number: int) -> Value:
        """A number that the step passes in."""
        self.sizes.append(number)
        return self.f.size(len(self.sizes) - 1)

    def block(self, count: int, dtype: str) -> Value:
        """Address of scratch memory for `count` elements."""
        start = self.number(self.scratch_bytes)
        self.scratch_bytes += -(-count * ITEM_BYTES[dtype] // LINE) * LINE
        return self.f.at(self.scratch, start, "int8")


@dataclass(frozen=True)
class Array:
    """Memory in C order over some loops of a nest.

    Args:
        base: address.
        axes: its loops, outermost first.
        dtype: of its elements.
        sizes: of all loops of the nest.
    """

    base: Value
    axes: Axes
    dtype: str
    sizes: Sequence[int]

    def stride(self, axis: int) -> int:
        """Elements between neighbours along `axis`."""
        return stride(self.axes, axis, self.sizes)

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.sizes[axis] for axis in self.axes)


def stride(axes: Axes, axis: int, sizes: Sequence[int]) -> int:
    """Elements between neighbours along `axis` of an array in C order over `axes`."""
    return math.prod(sizes[other] for other in axes if other > axis)
