"""Which axes of the values of a Program are the same loop: matched through the instructions, split where needed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from graphnn.ir.dimension import Shape
from graphnn.ir.program import Instruction, Program, Value
from graphnn.ops.creation import Fill, Iota
from graphnn.ops.op import Op
from graphnn.ops.random import RandomBits
from graphnn.ops.reduction import Reduction
from graphnn.ops.shape import BroadcastTo, Reshape

Atoms = tuple[int, ...]  # numbers of loops; an axis of size 1 has none, one that joins several has several
AxisAtoms = tuple[Atoms, ...]  # for each axis of a value


class Matching:
    """Loops under unification: two that are found to be one are bound together, a longer one is split into parts."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self._parts: list[Atoms | None] = []  # what a loop was found to consist of

    def axis(self, size: int) -> Atoms:
        """A loop for a new axis."""
        if size == 1:
            return ()
        self.sizes.append(size)
        self._parts.append(None)
        return (len(self.sizes) - 1,)

    def axes(self, shape: Shape) -> AxisAtoms:
        """A loop for each axis."""
        return tuple(self.axis(size.__index__()) for size in shape)

    def resolve(self, atoms: Sequence[int]) -> Atoms:
        """`atoms` in terms of loops that are not split or bound."""
        if all([self._parts[atom] is None for atom in atoms]):  # so it is nearly always
            return tuple(atoms)
        found, waiting = [], list(reversed(atoms))
        while waiting:
            atom = waiting.pop()
            parts = self._parts[atom]
            if parts is None:
                found.append(atom)
            else:
                waiting.extend(reversed(parts))
        return tuple(found)

    def match(self, a: Sequence[int], b: Sequence[int]) -> bool:
        """Make both sides the same loops; False where they cannot be."""
        left, right = (list(reversed(self.resolve(side))) for side in (a, b))
        while left and right:
            x, y = left.pop(), right.pop()
            if x == y:
                continue
            if self.sizes[x] == self.sizes[y]:
                self._parts[y] = (x,)
            else:
                small, large, side = (x, y, right) if self.sizes[x] < self.sizes[y] else (y, x, left)
                if not self.sizes[small] or self.sizes[large] % self.sizes[small]:
                    return False
                rest = self.axis(self.sizes[large] // self.sizes[small])
                self._parts[large] = (small, *rest)
                side.extend(rest)
            left, right = ([*reversed(self.resolve(side[::-1]))] for side in (left, right))
        return not left and not right


class ValueAxes:
    """The loops of each value of `body`; `consistent` is False where no assignment exists."""

    def __init__(self, body: Program):
        self.matching = Matching()
        self.of: dict[Value, AxisAtoms] = {}
        self.words: set[Value] = set()  # inputs of RandomBits, read as a whole
        self.consistent = all(self._follow(instruction) for instruction in body.instructions)
        for value in body.outputs:
            self._axes(value)
        self.consistent = self.consistent and self.words.issubset(body.inputs) and not self.words & self.of.keys()

    def flat(self, value: Value) -> Atoms:
        """All loops of a value, outermost first."""
        return self.matching.resolve(tuple(chain.from_iterable(self.of[value])))

    def axis(self, value: Value, axis: int) -> Atoms:
        """The loops of one axis."""
        return self.matching.resolve(self.of[value][axis])

    def _axes(self, value: Value) -> AxisAtoms:
        if value not in self.of:
            self.of[value] = self.matching.axes(value.spec.shape)
        return self.of[value]

    def _follow(self, instruction: Instruction) -> bool:
        op, result = instruction.op, instruction.outputs[0]
        if isinstance(op, Fill | Iota | RandomBits):
            self.words.update(instruction.inputs[:1])  # behind it may stand the number of the first element
            for value in (*instruction.inputs[1:], result):
                self._axes(value)
            return True
        given = [self._axes(value) for value in instruction.inputs]
        if isinstance(op, Reduction):
            self.of[result] = tuple(atoms for axis, atoms in enumerate(given[0]) if axis not in op.axes)
            return True
        if isinstance(op, Reshape):
            return self.matching.match(*map(tuple, map(chain.from_iterable, (given[0], self._axes(result)))))
        if isinstance(op, BroadcastTo):
            self.of[result] = self._broadcast(instruction.inputs[0].spec.shape, given[0], result.spec.shape)
            return True
        return (
            isinstance(op, Op) and bool(op.expression or op.name == "stop_gradient") and self._elementwise(instruction)
        )

    def _broadcast(self, before: Shape, atoms: AxisAtoms, shape: Shape) -> AxisAtoms:
        extra = len(shape) - len(before)
        return tuple(
            atoms[axis - extra] if axis >= extra and before[axis - extra] == size else self.matching.axis(size)
            for axis, size in enumerate(map(int, shape))
        )

    def _elementwise(self, instruction: Instruction) -> bool:
        result = instruction.outputs[0]
        for value in instruction.inputs:
            if value.spec.shape == result.spec.shape:
                self.of[result] = self.of[value]
                break
        wanted = self._axes(result)
        return all(
            not own or own == target or self.matching.match(own, target)
            for value in instruction.inputs
            for own, target in zip(reversed(self.of[value]), reversed(wanted), strict=False)
        )
