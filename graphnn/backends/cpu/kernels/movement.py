"""Kernels of the ops that move elements or make constant ones: each is a copy with strides, or a fill."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from llvmlite import ir

from graphnn.backends.cpu.emit import I64, TYPES, Function, Value, const
from graphnn.backends.cpu.kernel import Emitter, Kernel, Specs
from graphnn.backends.cpu.kernels.copying import (
    Copy,
    contiguous,
    emit_copy,
    emit_fill,
    emit_row,
    fill_sizes,
    integer,
    offset_of,
    pieces,
    plan_copy,
    step,
)
from graphnn.backends.cpu.target import Target
from graphnn.ir.tensor_spec import FLOATS, ITEM_BYTES, TensorSpec
from graphnn.ops.creation import Fill, Iota, StopGradient
from graphnn.ops.op import Op
from graphnn.ops.shape import BroadcastTo, Concatenate, Flip, Pad, Reshape, Slice, Transpose


def _copy_kernel(copy: Copy, target: Target) -> Kernel:
    """The kernel of one input and one output that does this copy."""
    f = Function(target)
    emit_copy(f, f.pointer(0), f.pointer(1), copy, position=0)
    return Kernel(f.finish(), copy.sizes(target.vector_bytes))


def emit_view(op: Op, inputs: Specs, outputs: Specs, target: Target) -> Kernel | None:
    """Reshape, StopGradient: the bytes of the input."""
    (y,) = outputs
    return _copy_kernel(plan_copy((y.size,), (1,), (1,), y.dtype), target)


def emit_transpose(op: Op, inputs: Specs, outputs: Specs, target: Target) -> Kernel | None:
    """y[i, j, ...] reads x with its strides in the order of y's axes."""
    if not isinstance(op, Transpose):
        return None
    (x,), (y,) = inputs, outputs
    strides = contiguous(_shape(x))
    copy = plan_copy(_shape(y), [strides[axis] for axis in op.order], contiguous(_shape(y)), y.dtype)
    return _copy_kernel(copy, target)


def emit_broadcast(op: Op, inputs: Specs, outputs: Specs, target: Target) -> Kernel | None:
    """Repeated axes have stride 0 in x."""
    shape, wide = _shape(inputs[0]), _shape(outputs[0])
    strides = [0 if n == 1 else stride for n, stride in zip(shape, contiguous(shape), strict=True)]
    source = [0] * (len(wide) - len(shape)) + strides
    return _copy_kernel(plan_copy(wide, source, contiguous(wide), outputs[0].dtype), target)


def emit_slice(op: Op, inputs: Specs, outputs: Specs, target: Target) -> Kernel | None:
    """A start and larger strides in x."""
    if not isinstance(op, Slice):
        return None
    shape, strides = _shape(outputs[0]), contiguous(_shape(inputs[0]))
    source = [stride * step for stride, step in zip(strides, op.steps, strict=True)]
    start = offset_of([number.__index__() for number in op.starts], strides)
    return _copy_kernel(plan_copy(shape, source, contiguous(shape), outputs[0].dtype, start), target)


def emit_flip(op: Op, inputs: Specs, outputs: Specs, target: Target) -> Kernel | None:
    """Reversed axes start at their end, with negative strides."""
    if not isinstance(op, Flip):
        return None
    shape = _shape(outputs[0])
    strides = contiguous(shape)
    source = [-stride if axis in op.axes else stride for axis, stride in enumerate(strides)]
    ends = [size - 1 if axis in op.axes else 0 for axis, size in enumerate(shape)]
    copy = plan_copy(shape, source, strides, outputs[0].dtype, offset_of(ends, strides))
    return _copy_kernel(copy, target)


def emit_concatenate(op: Op, inputs: Specs, outputs: Specs, target: Target) -> Kernel | None:
    """One copy for each input."""
    if not isinstance(op, Concatenate):
        return None
    f, sizes, start = Function(target), (), 0
    strides = contiguous(_shape(outputs[0]))
    for number, x in enumerate(inputs):
        shape = _shape(x)
        copy = plan_copy(shape, contiguous(shape), strides, x.dtype, 0, start * strides[op.axis])
        emit_copy(f, f.pointer(number), f.pointer(len(inputs)), copy, position=len(sizes))
        sizes += copy.sizes(target.vector_bytes)
        start += shape[op.axis]
    return Kernel(f.finish(), sizes)


# -- padding ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Padding:
    """What the levels of a padding share."""

    shape: Sequence[int]
    low: Sequence[int]
    high: Sequence[int]
    unit: int
    number: Value


def emit_pad(op: Op, inputs: Specs, outputs: Specs, target: Target) -> Kernel | None:
    """Each element is written once, but where there is padding between elements: then all is filled first."""
    if not isinstance(op, Pad):
        return None
    (x,), (y,) = inputs, outputs
    f, unit = Function(target), ITEM_BYTES[y.dtype]
    low, high = ([width.__index__() for width in widths] for widths in (op.low, op.high))
    number = integer(unit)(_bits(op.value, y.dtype))
    if x.size and not any(op.interior):
        shape, low, high = _joined_axes(_shape(x), low, high)
        _emit_padded(f, f.pointer(0), f.pointer(1), _Padding(shape, low, high, unit, number), 0)
        return Kernel(f.finish(), (shape[0],))
    emit_fill(f, f.pointer(1), number, y.size, unit, unit)
    strides = contiguous(_shape(y))
    steps = [stride * (gap + 1) for stride, gap in zip(strides, op.interior, strict=True)]
    copy = plan_copy(_shape(x), contiguous(_shape(x)), steps, y.dtype, 0, offset_of(low, strides))
    emit_copy(f, f.pointer(0), f.pointer(1), copy, position=0)
    return Kernel(f.finish(), copy.sizes(target.vector_bytes))


def _joined_axes(shape: Sequence[int], low: Sequence[int], high: Sequence[int]) -> tuple[list[int], ...]:
    """Axes without padding become part of the axis before them."""
    joined = ([1], [0], [0])
    for size, before, behind in zip(shape, low, high, strict=True):
        if before == behind == 0:
            for numbers in joined:
                numbers[-1] *= size
        else:
            for numbers, number in zip(joined, (size, before, behind), strict=True):
                numbers.append(number)
    return joined


def _emit_padded(f: Function, source: Value, target: Value, padding: _Padding, axis: int) -> None:
    """The part of an array from `axis` on: padding, the elements, padding."""
    unit, kind = padding.unit, integer(padding.unit)
    widths = [sum(numbers) for numbers in zip(padding.low, padding.shape, padding.high, strict=True)]
    rest = math.prod(widths[axis + 1 :])
    low, size, high = (numbers[axis] * rest for numbers in (padding.low, padding.shape, padding.high))
    emit_fill(f, target, padding.number, low, unit, unit)
    inside = step(f, target, const(low), kind)
    if axis + 1 == len(widths):
        emit_row(f, source, inside, size, unit, unit)
    else:
        with f.loop(f.size(0) if axis == 0 else padding.shape[axis]) as loop:
            strides = math.prod(padding.shape[axis + 1 :]), rest
            here, there = (
                step(f, base, f.builder.mul(loop.index, const(stride)), kind)
                for base, stride in zip((source, inside), strides, strict=True)
            )
            _emit_padded(f, here, there, padding, axis + 1)
    if high:  # code for nothing would depend on a size that is passed at run time
        emit_fill(f, step(f, inside, const(size), kind), padding.number, high, unit, unit)


# -- constants --------------------------------------------------------------------------------------------------------


def emit_constant(op: Op, inputs: Specs, outputs: Specs, target: Target) -> Kernel | None:
    """The bits of the number are passed at run time: fills share their code."""
    if not isinstance(op, Fill):
        return None
    (y,) = outputs
    f, unit = Function(target), ITEM_BYTES[y.dtype]
    number = f.size(0) if unit == 8 else f.builder.trunc(f.size(0), integer(unit))
    turns = fill_sizes(y.size, unit, target.vector_bytes)
    emit_fill(f, f.pointer(0), number, y.size, unit, unit, f.size(1) if turns else None)
    signed = int(np.array(_bits(op.value, y.dtype), "uint64").view("int64"))
    return Kernel(f.finish(), (signed, *turns))


def _bits(value: float, dtype: str) -> int:
    """The bits of a number as an unsigned integer."""
    return int(np.full((), value, dtype).view(f"uint{8 * ITEM_BYTES[dtype]}"))


def emit_iota(op: Op, inputs: Specs, outputs: Specs, target: Target) -> Kernel | None:
    """Rows of equal numbers, or ramps where the axis is the last one."""
    (y,) = outputs
    if not isinstance(op, Iota) or not _holds(y.dtype, _shape(y)[op.axis]):
        return None  # the reference says what is wrong
    f, shape = Function(target), _shape(y)
    count, behind = shape[op.axis], math.prod(shape[op.axis + 1 :])
    with f.loop(f.size(0)) as line:
        base = _row(f, f.pointer(0), line.index, count * behind, y.dtype)
        if behind == 1:
            _emit_ramp(f, base, count, y.dtype)
        else:
            with f.loop(count) as loop:
                number = f.builder.bitcast(_number(f, loop.index, y.dtype), integer(ITEM_BYTES[y.dtype]))
                row, unit = _row(f, base, loop.index, behind, y.dtype), ITEM_BYTES[y.dtype]
                emit_fill(f, row, number, behind, unit, unit)
    return Kernel(f.finish(), (math.prod(shape[: op.axis]),))


def _holds(dtype: str, count: int) -> bool:
    """The integers below `count` are numbers of the dtype."""
    return dtype in FLOATS or count - 1 <= (1 if dtype == "bool" else np.iinfo(dtype).max)


def _emit_ramp(f: Function, base: Value, count: int, dtype: str) -> None:
    """0, 1, ..., count - 1; parts of a vector that lie over each other get the same numbers."""
    for width in sorted({width for _, width in pieces(count, f.target.lanes(dtype))}):
        ramp = ir.Constant(ir.VectorType(I64, width), list(range(width)))
        room = const(count - width)
        with f.loop(count, step=width) as loop:
            at = f.builder.select(f.builder.icmp_signed("<", loop.index, room), loop.index, room)
            numbers = f.builder.add(f.splat(at, width), ramp)
            f.store_vector(_number(f, numbers, dtype), base, at, dtype)


def _number(f: Function, integers: Value, dtype: str) -> Value:
    """64-bit integers, scalar or vector, as `dtype`."""
    kind = integers.type
    wanted = ir.VectorType(TYPES[dtype], kind.count) if isinstance(kind, ir.VectorType) else TYPES[dtype]
    if dtype in FLOATS:
        return f.builder.sitofp(integers, wanted)
    return integers if ITEM_BYTES[dtype] == 8 else f.builder.trunc(integers, wanted)


def _row(f: Function, base: Value, index: Value, stride: int, dtype: str) -> Value:
    return f.at(base, f.builder.mul(index, const(stride)), dtype)


def _shape(spec: TensorSpec) -> tuple[int, ...]:
    return tuple(size.__index__() for size in spec.shape)


EMITTERS: dict[type[Op], Emitter] = {
    Reshape: emit_view,
    StopGradient: emit_view,
    Transpose: emit_transpose,
    BroadcastTo: emit_broadcast,
    Slice: emit_slice,
    Flip: emit_flip,
    Concatenate: emit_concatenate,
    Pad: emit_pad,
    Fill: emit_constant,
    Iota: emit_iota,
}
