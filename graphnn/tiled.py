"""tiled: a loop over equal parts of a batch as one op, whose turns do not depend on each other.

It stands beside `scan`. Passes make it behind differentiation; a backend may run the tiles side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, TypeAlias, final

from graphnn.errors import ShapeError
from graphnn.ir.program import Instruction, Program, Value, users
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops.evaluate import evaluate
from graphnn.ops.op import Array, ArrayModule, Op

Combine: TypeAlias = str  # one of COMBINING
COMBINING: dict[Combine, str] = {"sum": "add", "max": "maximum", "min": "minimum"}  # name of the function of two arrays
INDEX = TensorSpec((), "int64")


@final
@dataclass(frozen=True)
class Tiled(Op):
    """for t in 0..tiles-1: outputs[t] = body(inputs of tile t); then each output is joined, or combined in tile order.

    Args:
        body: the program of one tile, with the sizes of one tile.
        tiles: number of turns; each reads only its own part of what is cut.
        input_axes: for each input the axis along which it is cut into `tiles` equal contiguous parts; None: seen whole.
        output_axes: for each output the axis along which the parts are joined, or how they are combined.
        with_index: the body has one more input, behind all others: the number of the tile, int64[].
    """

    name: ClassVar[str] = "tiled"
    body: Program = field(repr=False)
    tiles: int
    input_axes: tuple[int | None, ...]
    output_axes: tuple[int | Combine, ...]
    with_index: bool = False

    def infer(self, *specs: TensorSpec) -> tuple[TensorSpec, ...]:
        """Those of the body's outputs, `tiles` times as long along the axis where parts are joined."""
        if self.tiles < 1:
            raise ShapeError("a tiled loop without a tile", expected="1 or more", got=self.tiles)
        wanted = tuple(value.spec for value in self.body.inputs)
        parts = (*map(self._part, specs, self.input_axes), *((INDEX,) if self.with_index else ()))
        if len(specs) != len(self.input_axes) or parts != wanted:
            raise ShapeError("inputs of a tiled loop do not fit its body", expected=_texts(wanted), got=_texts(parts))
        results = self.body.outputs
        return tuple(self._whole(value.spec, axis) for value, axis in zip(results, self.output_axes, strict=True))

    def _part(self, spec: TensorSpec, axis: int | None) -> TensorSpec:
        if axis is None:
            return spec
        size = spec.shape[axis].__index__() if 0 <= axis < spec.rank else -1
        if size < 0 or size % self.tiles:
            expected = f"an axis {axis} whose size is a multiple of {self.tiles}"
            raise ShapeError("a tensor cannot be cut into tiles", expected=expected, got=spec)
        return TensorSpec((*spec.shape[:axis], size // self.tiles, *spec.shape[axis + 1 :]), spec.dtype)

    def _whole(self, spec: TensorSpec, axis: int | Combine) -> TensorSpec:
        if axis in COMBINING:
            return spec
        if not isinstance(axis, int) or not 0 <= axis < spec.rank:
            expected = f"an axis of {spec}, or one of {', '.join(COMBINING)}"
            raise ShapeError("parts of an output cannot be joined", expected=expected, got=axis)
        return TensorSpec((*spec.shape[:axis], spec.shape[axis] * self.tiles, *spec.shape[axis + 1 :]), spec.dtype)

    def reference(self, xp: ArrayModule, *arrays: Array) -> tuple[Array, ...]:
        """A Python loop."""
        turns = [self._turn(xp, arrays, number) for number in range(self.tiles)]
        joined = zip(self.output_axes, zip(*turns, strict=True), strict=True)
        return tuple(_together(xp, axis, parts) for axis, parts in joined)

    def _turn(self, xp: ArrayModule, arrays: Sequence[Array], number: int) -> tuple[Array, ...]:
        given = [self._cut(xp, array, axis, number) for array, axis in zip(arrays, self.input_axes, strict=True)]
        index = [xp.asarray(number, "int64")] if self.with_index else []
        values = evaluate(xp, self.body, [*given, *index])
        return tuple(values[value] for value in self.body.outputs)

    def _cut(self, xp: ArrayModule, array: Array, axis: int | None, number: int) -> Array:
        if axis is None:
            return array
        size = array.shape[axis] // self.tiles
        part = slice(number * size, (number + 1) * size)
        return xp.ascontiguousarray(array[(*(slice(None),) * axis, part)])

    def may_overwrite(self, source: int, output: int) -> bool:
        """Whether each tile may write its part of an output over its own part of an input."""
        axis = self.input_axes[source]
        return axis is not None and axis == self.output_axes[output] and self._is_read_before(source, output)

    def _is_read_before(self, source: int, output: int) -> bool:
        """Whether the input, in any order of the body, has been read by all when the output is written."""
        given, made = self.body.inputs[source], self.body.outputs[output]
        maker, readers = self._makers.get(made), self._readers.get(given, [])
        if maker is None or given in self._results or any(_is_view(i) for i in (maker, *readers)):
            return False
        others = [i for i in readers if i is not maker]
        if len(others) < len(readers) and not _works_in_place(maker, given, made):
            return False
        return not others or _leading_to(self.body, maker).issuperset(others)

    @cached_property
    def _makers(self) -> dict[Value, Instruction]:
        return {value: instruction for instruction in self.body.instructions for value in instruction.outputs}

    @cached_property
    def _results(self) -> set[Value]:
        return set(self.body.outputs)

    @cached_property
    def _readers(self) -> dict[Value, list[Instruction]]:
        return users(self.body)


def _is_view(instruction: Instruction) -> bool:
    return not isinstance(instruction.op, Op) or instruction.op.is_view


def _works_in_place(instruction: Instruction, given: Value, made: Value) -> bool:
    op, output = instruction.op, instruction.outputs.index(made)
    positions = [position for position, value in enumerate(instruction.inputs) if value is given]
    return isinstance(op, Op) and all(op.may_overwrite(position, output) for position in positions)


def _leading_to(body: Program, last: Instruction) -> set[Instruction]:
    """The instructions that `last` depends on."""
    needed, found = set(last.inputs), set[Instruction]()
    for instruction in reversed(body.instructions):
        if any(value in needed for value in instruction.outputs):
            found.add(instruction)
            needed.update(instruction.inputs)
    return found


def _together(xp: ArrayModule, axis: int | Combine, parts: Sequence[Array]) -> Array:
    if isinstance(axis, int):
        return xp.concatenate(parts, axis)
    total, combine = parts[0], getattr(xp, COMBINING[axis])
    for part in parts[1:]:
        total = combine(total, part)
    return total


def _texts(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(map(str, specs))
