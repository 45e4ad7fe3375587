"""TileBuilder: the program of one tile, grown from the instructions of the whole."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence

from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.program import Instruction, Operation, Value
from graphnn.ops.arithmetic import Add
from graphnn.ops.comparison import Comparison
from graphnn.ops.creation import Cast, Fill, Iota
from graphnn.ops.linalg import swapped
from graphnn.ops.op import Op
from graphnn.ops.shape import BroadcastTo, Reshape, Transpose
from graphnn.passes.partition_rules import generated
from graphnn.passes.partition_state import Cut, Local, Site, State, part
from graphnn.passes.rewrite import append
from graphnn.tiled import INDEX

MUCH_SMALLER = 16  # times
LONGEST_CHAIN = 50  # instructions; a longer chain of values that a tile could make is computed whole, and handed over

Leaf = Callable[[Value, State], Value]  # (a value from outside, its cut) -> what the tile is given
First = Callable[[int], Value]  # number of elements of a part -> the number of the first one in this tile


def site_of(
    instruction: Instruction, states: Sequence[State], tiles: int, makers: Mapping[Value, Instruction]
) -> Site | None:
    """What the rules see; None for an op of another kind."""
    if not isinstance(instruction.op, Op):
        return None
    inputs = tuple(value.spec for value in instruction.inputs)
    outputs = tuple(value.spec for value in instruction.outputs)
    zeros = tuple(_is_zero(makers.get(value)) for value in instruction.inputs)
    return Site(instruction.op, inputs, outputs, tuple(states), tiles, zeros)


def _is_zero(maker: Instruction | None) -> bool:
    return maker is not None and isinstance(maker.op, Fill) and maker.op.value == 0


def from_positions(instructions: Iterable[Instruction]) -> set[Value]:
    """Positions, and what adds or compares such to each other or to what is much smaller: masks of attention."""
    found: set[Value] = set()
    for instruction in instructions:
        if isinstance(instruction.op, Iota):
            found.update(instruction.outputs)
        elif isinstance(instruction.op, Comparison | Add | Cast | BroadcastTo | Reshape):
            size = instruction.outputs[0].spec.size
            large = [value for value in instruction.inputs if value.spec.size * MUCH_SMALLER > size]
            if large and found.issuperset(large):
                found.update(instruction.outputs)
    return found


class TileBuilder:
    """Collects the instructions of one tile.

    Args:
        tiles: number of tiles.
        makers: the instruction of each value that every tile could make for itself.
        leaf: called for each value from outside, and each cut of it, at most once.
        first: for ops that depend on where a tile lies; None where that is not known.
        again: whole values that each tile makes for itself: large, and soon made.
    """

    def __init__(
        self,
        tiles: int,
        makers: Mapping[Value, Instruction],
        leaf: Leaf,
        first: First | None,
        again: Container[Value] = (),
    ):
        self.builder = ProgramBuilder()
        self.parts: dict[tuple[Value, State], Value] = {}
        self.tiles = tiles
        self._makers, self._leaf, self._first, self._again = makers, leaf, first, again

    def get(self, value: Value, state: State, depth: int = 0) -> Value:
        """The value of the whole program as the tile has it: computed already, made again, or handed over."""
        key = (value, state)
        if key not in self.parts:
            made = self._make(value, state, depth) if depth < LONGEST_CHAIN else None
            self.parts[key] = made if made is not None else self._leaf(value, state)
        return self.parts[key]

    def _make(self, value: Value, state: State, depth: int) -> Value | None:
        maker = self._makers.get(value)
        if maker is None:
            return None
        if not isinstance(state, Cut):
            return self._make_whole(maker, depth) if state is None else None
        if isinstance(maker.op, Iota) and maker.op.axis == state.axis and state.blocks == 1:
            return self._count_on(maker, maker.op, state)
        site = site_of(maker, (None,) * len(maker.inputs), self.tiles, {})
        found = generated(site, state) if site is not None else None
        if found is None or (found[1] and self._first is None):
            return None
        local, needs_first = found
        inputs = [self.get(x, wanted, depth + 1) for x, wanted in zip(maker.inputs, local.inputs, strict=True)]
        if needs_first and self._first is not None:
            first = self._first(value.spec.size // self.tiles)
            inputs[1:] = [append(self.builder, Add(), *inputs[1:], first) if inputs[1:] else first]
        return self._emit(maker, local.op, inputs)[0]

    def _count_on(self, maker: Instruction, op: Iota, cut: Cut) -> Value | None:
        """Positions along the cut axis: those of the first tile, and how many lie before."""
        shape = part(op.shape, cut, self.tiles)
        if self._first is None:
            return None
        first = self._first(int(shape[cut.axis]))
        with self.builder.at(maker.origin):  # floats would be rounded twice
            counted = append(self.builder, Add(), append(self.builder, Iota(shape, op.axis)), first)
            return counted if op.dtype == INDEX.dtype else append(self.builder, Cast(op.dtype), counted)

    def _make_whole(self, maker: Instruction, depth: int) -> Value | None:
        """Constants, transposed weights, which a product reads as they lie, and what is to be made again."""
        turned = isinstance(maker.op, Transpose) and maker.op.order == swapped(len(maker.op.order))
        if not (isinstance(maker.op, Fill) or turned or maker.outputs[0] in self._again):
            return None
        return self._emit(maker, maker.op, [self.get(value, None, depth + 1) for value in maker.inputs])[0]

    def _emit(self, origin: Instruction, op: Operation, inputs: Sequence[Value]) -> tuple[Value, ...]:
        with self.builder.at(origin.origin):
            return self.builder.emit(op, inputs)

    def add(self, instruction: Instruction, local: Local) -> None:
        """Append what one tile does for an instruction."""
        inputs = [self.get(x, wanted) for x, wanted in zip(instruction.inputs, local.inputs, strict=True)]
        outputs = self._emit(instruction, local.op, inputs)
        for value, state, own in zip(instruction.outputs, local.outputs, outputs, strict=True):
            self.parts[value, state] = own
