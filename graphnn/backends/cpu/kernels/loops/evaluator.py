"""Evaluator: writes the values of a nest, one number for a row or one vector of the row at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from llvmlite import ir

from graphnn.backends.cpu.emit import I64, Function, Value, const
from graphnn.backends.cpu.expression import emit_cast, emit_number, emit_op, from_memory, to_memory
from graphnn.backends.cpu.kernels.loops.frame import Array, stride
from graphnn.backends.cpu.kernels.loops.position import Position
from graphnn.backends.cpu.kernels.loops.random_words import Keys, load_keys, word_at, words_from
from graphnn.backends.cpu.kernels.loops.schedule import Schedule
from graphnn.errors import BackendError
from graphnn.ir.program import Instruction
from graphnn.ir.program import Value as IrValue
from graphnn.ops.creation import Fill, Iota
from graphnn.ops.op import Op
from graphnn.ops.random import RandomBits
from graphnn.passes.loop_nest import Axes


@dataclass
class Evaluator:
    """Where everything is while a nest is written.

    Args:
        f: where the IR goes.
        schedule: of the nest.
        lanes: elements of a vector of the row.
        arrays: of inputs, outputs, folds.
        words: addresses of the inputs of RandomBits.
        stores: buffers of values that are computed in one place and read in another.
        scalars: numbers that are known at the place that is being written.
        indices: of the loops around it.
        bases: offsets of arrays that the outer loops fix, by axes.
        sweep: the number of the sweep; -1 before the rows.
    """

    f: Function
    schedule: Schedule
    lanes: int
    arrays: Mapping[IrValue, Array]
    words: Mapping[IrValue, Value]
    stores: dict[IrValue, Array] = field(default_factory=dict)
    scalars: dict[IrValue, Value] = field(default_factory=dict)
    indices: dict[int, Value] = field(default_factory=dict)
    bases: dict[Axes, Value] = field(default_factory=dict)
    keys: dict[IrValue, Keys] = field(default_factory=dict)
    sweep: int = -1

    @property
    def inner(self) -> int:
        """The innermost loop."""
        return len(self.schedule.nest.sizes) - 1

    # -- numbers ------------------------------------------------------------------------------------------------------

    def write_scalars(self, values: Iterable[IrValue]) -> None:
        """Compute or load these, in this order; what they need is known or among them."""
        for value in values:
            if self.schedule.source[value] is value and value not in self.scalars:
                self.scalars[value] = self._scalar(value)

    def scalar(self, value: IrValue) -> Value:
        """A number that is known here."""
        return self.scalars[self.schedule.source[value]]

    def load_scalar(self, array: Array) -> Value:
        """The element at the indices of the loops around."""
        return from_memory(self.f, self.f.load(array.base, self.offset(array.axes), array.dtype), array.dtype)

    def store_scalar(self, value: Value, array: Array) -> None:
        """Write the element at the indices of the loops around."""
        self.f.store(to_memory(self.f, value, array.dtype), array.base, self.offset(array.axes), array.dtype)

    def offset(self, axes: Axes) -> Value:
        """Number of the element at the indices of the loops around, in C order over `axes`."""
        return self._sum_of_strides(axes, self.indices)

    def _scalar(self, value: IrValue) -> Value:
        instruction = self.schedule.producer.get(value)
        if instruction is None:
            return self.load_scalar(self.arrays[value])
        op, dtype = instruction.op, value.spec.dtype
        if isinstance(op, Fill):
            return emit_number(op.value, dtype)
        start = self.offset(self.schedule.nest.counters.get(value, ()))
        if isinstance(op, Iota):
            return emit_cast(self.f, start, "int64", dtype)
        if isinstance(op, RandomBits):
            return word_at(self.f, self._keys(instruction), self._from_first(instruction, start))
        return applied(self.f, instruction, [self.scalar(given) for given in instruction.inputs])

    def write_keys(self) -> None:
        """Load the keys of random numbers, before all loops."""
        for instruction in self.schedule.generators:
            if isinstance(instruction.op, RandomBits):
                words = self.words[instruction.inputs[0]]
                self.keys[instruction.outputs[0]] = load_keys(self.f, words, instruction.op.stream)

    def _keys(self, instruction: Instruction) -> Keys:
        return self.keys[instruction.outputs[0]]

    # -- vectors ------------------------------------------------------------------------------------------------------

    def write_bases(self) -> None:
        """Fix the offsets of all arrays along the row, as the outer loops give them."""
        layouts = [array.axes for array in (*self.arrays.values(), *self.stores.values())]
        layouts += self.schedule.nest.counters.values()
        outside = {axis: index for axis, index in self.indices.items() if axis < self.schedule.nest.outer}
        self.bases = {axes: self._sum_of_strides(axes, outside) for axes in layouts}

    def vector(self, value: IrValue, at: Position) -> Value:
        """The value at a position."""
        value = self.schedule.source[value]
        if not self.schedule.is_vector(value):
            return self.splat(self.scalars[value])
        if value not in at.values:
            at.values[value] = self._vector(value, at)
        return at.values[value]

    def splat(self, scalar: Value) -> Value:
        """A number in all lanes."""
        return self.f.splat(scalar, self.lanes)

    def load(self, array: Array, at: Position) -> Value:
        """Elements of an array at a position; where it has no innermost axis, its element in all lanes."""
        place = self._place(array.axes, at)
        if self.inner not in array.axes:
            return self.splat(from_memory(self.f, self.f.load(array.base, place, array.dtype), array.dtype))
        if at.mask is None:
            loaded = self.f.load_vector(array.base, place, array.dtype, self.lanes)
        else:
            loaded = self.f.load_masked(array.base, place, array.dtype, at.mask)
        return from_memory(self.f, loaded, array.dtype)

    def store(self, value: Value, array: Array, at: Position) -> None:
        """Write elements at a position; where the array has no innermost axis, all lanes hold the same."""
        place, value = self._place(array.axes, at), to_memory(self.f, value, array.dtype)
        if self.inner not in array.axes:
            self.f.store(self.f.builder.extract_element(value, const(0)), array.base, place, array.dtype)
        elif at.mask is None:
            self.f.store_vector(value, array.base, place, array.dtype)
        else:
            self.f.store_masked(value, array.base, place, array.dtype, at.mask)

    def _vector(self, value: IrValue, at: Position) -> Value:
        instruction = self.schedule.producer.get(value)
        if instruction is None:
            return self.load(self.arrays[value], at)
        if value in self.stores and self._is_stored(value):
            return self.load(self.stores[value], at)
        if isinstance(instruction.op, Iota | RandomBits):
            return self._generated(instruction, at)
        return applied(self.f, instruction, [self.vector(given, at) for given in instruction.inputs])

    def _is_stored(self, value: IrValue) -> bool:
        return self.sweep > self.schedule.kept.get(value, -1)

    def _generated(self, instruction: Instruction, at: Position) -> Value:
        value = instruction.outputs[0]
        axes, dtype = self.schedule.nest.counters[value], value.spec.dtype
        start = self._place(axes, at)
        along = self.inner in axes
        if isinstance(instruction.op, Iota):
            steps = ir.Constant(ir.VectorType(I64, self.lanes), [lane if along else 0 for lane in range(self.lanes)])
            return emit_cast(self.f, self.f.builder.add(self.splat(start), steps), "int64", dtype)
        start = self._from_first(instruction, start)
        if not along:
            return self.splat(word_at(self.f, self._keys(instruction), start))
        sizes = self.schedule.nest.sizes
        is_aligned = not instruction.inputs[1:] and all(stride(axes, axis, sizes) % 4 == 0 for axis in axes[:-1])
        return words_from(self.f, self._keys(instruction), start, self.lanes, is_aligned)

    def _from_first(self, instruction: Instruction, place: Value) -> Value:
        """Where a part of a larger draw begins to count."""
        return self.f.builder.add(place, self.scalar(instruction.inputs[1])) if instruction.inputs[1:] else place

    def _place(self, axes: Axes, at: Position) -> Value:
        if axes not in at.offsets:
            place = self.f.builder.add(self.bases[axes], self._sum_of_strides(axes, at.indices))
            at.offsets[axes] = self.f.builder.add(place, at.start) if self.inner in axes else place
        return at.offsets[axes]

    def _sum_of_strides(self, axes: Axes, indices: Mapping[int, Value]) -> Value:
        b, total = self.f.builder, const(0)
        for axis in axes:
            if axis in indices:
                step = const(stride(axes, axis, self.schedule.nest.sizes))
                total = b.add(total, b.mul(indices[axis], step))
        return total


def applied(f: Function, instruction: Instruction, operands: list[Value]) -> Value:
    """The result of an elementwise instruction."""
    if not isinstance(instruction.op, Op):
        raise BackendError("not an op", got=instruction.op)
    dtypes = [given.spec.dtype for given in instruction.inputs]
    return emit_op(f, instruction.op, operands, dtypes, instruction.outputs[0].spec.dtype)
