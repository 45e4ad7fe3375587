"""What the partition pass knows of a value: seen whole, cut into tiles, or a part of a sum."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from graphnn.ir.dimension import Shape, Size
from graphnn.ir.program import Value
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops.op import Op
from graphnn.tiled import Combine


@dataclass(frozen=True)
class Cut:
    """`axis` is made of `blocks` runs of equal length, and each run is cut into equal contiguous parts, one for a tile.

    More than one block arises where (time, batch, ...) becomes (time * batch, ...): each step of time is a run.
    """

    axis: int
    blocks: int = 1


State: TypeAlias = (
    Cut | Combine | None
)  # None: every tile has the whole; a Combine: the sum, ... over tiles is the value


@dataclass(frozen=True)
class Site:
    """An instruction as the rules see it.

    Args:
        op: with its sizes for the whole batch.
        inputs: whole specs.
        outputs: whole specs.
        states: of the inputs.
        tiles: number of tiles.
        zeros: for each input whether it is a fill with 0.
    """

    op: Op
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    states: tuple[State, ...]
    tiles: int
    zeros: tuple[bool, ...]

    @property
    def cuts(self) -> list[tuple[int, Cut]]:
        """Position and cut of the inputs that are cut."""
        return [(position, state) for position, state in enumerate(self.states) if isinstance(state, Cut)]

    @property
    def combined(self) -> Combine | None:
        """The common state of the inputs where all are parts of a sum, or all of a maximum or minimum."""
        first = self.states[0] if self.states else None
        return first if isinstance(first, str) and all(state == first for state in self.states) else None


@dataclass(frozen=True)
class Local:
    """How one tile computes its part.

    Args:
        op: with the sizes of one tile.
        inputs: what each input must be; a whole value that must be cut is cut for it.
        outputs: what each output then is.
    """

    op: Op
    inputs: tuple[State, ...]
    outputs: tuple[State, ...]


@dataclass(frozen=True)
class Decided:
    """What is decided for a schedule before it is made. An instruction is known by its first output.

    Args:
        outside: instructions that must not run in tiles.
        locals: how one tile computes these; inputs that are cut in other ways are waited for, and read as wholes.
        recut: sums over the tiles that are seen as cut when they are ready, by all who read them.
        behind: instructions of `locals`, each with those that run in earlier phases: it writes over what they read.
    """

    outside: Collection[Value] = ()
    locals: Mapping[Value, Local] = field(default_factory=dict)
    recut: Mapping[Value, Cut] = field(default_factory=dict)
    behind: Mapping[Value, Collection[Value]] = field(default_factory=dict)


NOTHING = Decided()


def can_cut(shape: Shape, cut: Cut, tiles: int) -> bool:
    """Whether the runs of the axis fall into `tiles` equal parts, which are not empty."""
    if not 0 <= cut.axis < len(shape):
        return False
    size = shape[cut.axis].__index__()
    return size > 0 and size % (cut.blocks * tiles) == 0


def part(shape: Shape, cut: State, tiles: int) -> Shape:
    """The shape of one tile's part."""
    if not isinstance(cut, Cut):
        return shape
    return tuple(size // tiles if axis == cut.axis else size for axis, size in enumerate(shape))


def part_spec(spec: TensorSpec, cut: State, tiles: int) -> TensorSpec:
    """The spec of one tile's part."""
    return TensorSpec(part(spec.shape, cut, tiles), spec.dtype)


def reshaped(before: Shape, cut: Cut, after: Shape, tiles: int) -> Cut | None:
    """Where the same elements are cut in `after`, or None where one tile's part is no regular part of it.

    In C order a cut tensor is `rows` rows, each cut into equal contiguous parts; `after` must have an axis, or the
    inner part of an axis, that starts at such a row and can be cut as often.
    """
    if _product(before) == 0:
        return None
    rows, ahead = _product(before[: cut.axis]) * cut.blocks, 1
    for axis, size in enumerate(map(_number, after)):
        if rows % ahead:
            return None
        candidate = Cut(axis, rows // ahead)
        if size % candidate.blocks == 0 and can_cut(after, candidate, tiles):
            return candidate
        ahead *= size
    return None


def _product(shape: Shape) -> int:
    return math.prod(map(_number, shape))


def _number(size: Size) -> int:
    return size.__index__()


def aligned(spec: TensorSpec, output: TensorSpec, cut: Cut) -> Cut | None:
    """The cut of an operand that is broadcast to an output with this cut; None where its one element is repeated."""
    axis = cut.axis - (output.rank - spec.rank)
    if axis < 0 or spec.shape[axis] != output.shape[cut.axis]:
        return None
    return Cut(axis, cut.blocks)
