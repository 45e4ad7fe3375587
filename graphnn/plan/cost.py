"""What an op costs on paper: floating-point operations, and bytes that it must read and write.

The conventions: a multiply-add counts 2, so a matrix product or a convolution counts 2 for each multiplication of an
element with a weight, those with padded zeros among them; any other arithmetic, comparison or function of numbers
counts 1 for each element that it goes through; moving data counts nothing. A loop costs its body times its length.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from graphnn.ir.program import Operation, Program, users
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops.convolution import Convolution, ConvolutionInputGradient, ConvolutionWeightGradient
from graphnn.ops.creation import Cast, Fill, Iota, StopGradient
from graphnn.ops.elementwise import Elementwise, Where
from graphnn.ops.fused import Fused
from graphnn.ops.indexing import CumulativeSum, Gather, GatherAlong, OneHot, ScatterAdd, ScatterAddAlong
from graphnn.ops.linalg import MatMul
from graphnn.ops.op import Op
from graphnn.ops.opaque import Opaque, OpaqueGradient
from graphnn.ops.pooling import MaxPool, MaxPoolGradient, MaxPoolSelect, SumPool, SumPoolGradient
from graphnn.ops.random import RandomBits
from graphnn.ops.reduction import ArgMax, Reduction
from graphnn.ops.shape import BroadcastTo, Concatenate, Flip, Pad, Reshape, Slice, Transpose
from graphnn.ops.sorting import Sort, TopK
from graphnn.plan.plan import Plan, Step
from graphnn.scan import Scan
from graphnn.tiled import Tiled

Specs: TypeAlias = Sequence[TensorSpec]
Count: TypeAlias = Callable[[Any, Specs, Specs], int | None]


@dataclass(frozen=True)
class Cost:
    """Floating-point operations and bytes; `flops` is None where nobody can know them."""

    flops: int | None
    bytes_read: int
    bytes_written: int


def cost_of(op: Operation, inputs: Specs, outputs: Specs) -> Cost:
    """The cost of one `outputs = op(inputs)`: a view reads and writes nothing, a loop costs its body times its length.

    Args:
        op: any op; one without an entry in FLOPS has unknown FLOPs.
        inputs: known sizes.
        outputs: known sizes.
    """
    if isinstance(op, Scan):
        return _cost_of_loop(op.body, op.length.__index__())
    if isinstance(op, Tiled):
        return _cost_of_loop(op.body, op.tiles)
    flops = count_of(type(op))(op, inputs, outputs)
    if isinstance(op, Op) and op.is_view:
        return Cost(flops, 0, 0)
    read = _read_by_group(op) if isinstance(op, Fused) else sum(spec.nbytes for spec in inputs)
    made = [value.spec for value in op.body.outputs] if isinstance(op, Fused) else outputs
    return Cost(flops, read, sum(spec.nbytes for spec in made))


def _read_by_group(op: Fused) -> int:
    """Of an input whose slices alone are used, only these are read."""
    readers = users(op.body)
    total = 0
    for value in op.body.inputs:
        slices = [i for i in readers.get(value, ()) if isinstance(i.op, Slice)]
        alone = len(slices) == len(readers.get(value, ())) > 0 and value not in op.body.outputs
        total += min(value.spec.nbytes, sum(i.outputs[0].spec.nbytes for i in slices)) if alone else value.spec.nbytes
    return total


def cost_of_step(plan: Plan, step: Step) -> Cost:
    """The cost of a step; a view that had to be copied, because its result is returned, does move its bytes."""
    inputs, outputs = ([plan.buffers[number].spec for number in numbers] for numbers in (step.inputs, step.outputs))
    cost = cost_of(step.op, inputs, outputs)
    if step.op.is_view and plan.buffers[step.outputs[0]].shares is None:
        return Cost(cost.flops, inputs[0].nbytes, outputs[0].nbytes)
    return cost


def _cost_of_loop(body: Program, length: int) -> Cost:
    costs = [cost_of(i.op, [v.spec for v in i.inputs], [v.spec for v in i.outputs]) for i in body.instructions]
    known = [cost.flops for cost in costs if cost.flops is not None]
    flops = length * sum(known) if len(known) == len(costs) else None
    return Cost(flops, length * sum(c.bytes_read for c in costs), length * sum(c.bytes_written for c in costs))


def count_of(kind: type) -> Count:
    """The rule for an op's class or for the nearest class above it; `unknown` where there is none."""
    return next((FLOPS[base] for base in kind.__mro__ if base in FLOPS), unknown)


# -- the rules ---------------------------------------------------------------------------------------------------------


def nothing(op: Op, inputs: Specs, outputs: Specs) -> int:
    """Data is moved or made; integers are mixed into random bits."""
    return 0


def unknown(op: Op, inputs: Specs, outputs: Specs) -> None:
    """What a user's own function does."""


def each_output(op: Op, inputs: Specs, outputs: Specs) -> int:
    """One operation for each element of the output."""
    return outputs[0].size


def each_input(op: Op, inputs: Specs, outputs: Specs) -> int:
    """One operation for each element of the input."""
    return inputs[0].size


def _matmul(op: MatMul, inputs: Specs, outputs: Specs) -> int:
    return 2 * outputs[0].size * _size(inputs[0].shape[-1])


def _convolution(op: Convolution, inputs: Specs, outputs: Specs) -> int:
    return 2 * outputs[0].size * _taps(inputs[1])


def _input_gradient(op: ConvolutionInputGradient, inputs: Specs, outputs: Specs) -> int:
    return 2 * inputs[0].size * _taps(inputs[1])


def _weight_gradient(op: ConvolutionWeightGradient, inputs: Specs, outputs: Specs) -> int:
    return 2 * inputs[1].size * _taps(outputs[0])


def _taps(weight: TensorSpec) -> int:
    """Products that one output element of a convolution is the sum of: kernel elements times channels of a group."""
    return math.prod(map(_size, weight.shape[:-1]))


def _fused(op: Fused, inputs: Specs, outputs: Specs) -> int | None:
    costs = [cost_of(i.op, [v.spec for v in i.inputs], [v.spec for v in i.outputs]) for i in op.body.instructions]
    known = [cost.flops for cost in costs if cost.flops is not None]
    return sum(known) if len(known) == len(costs) else None


def _pool(op: MaxPool | SumPool, inputs: Specs, outputs: Specs) -> int:
    return outputs[0].size * math.prod(op.window)


def _pool_gradient(op: MaxPoolGradient | SumPoolGradient, inputs: Specs, outputs: Specs) -> int:
    return inputs[-1].size * math.prod(op.window)


def _sort(op: Sort | TopK, inputs: Specs, outputs: Specs) -> int:
    """Comparisons of a merge sort along the axis."""
    return inputs[0].size * max(1, _size(inputs[0].shape[op.axis]) - 1).bit_length()


def _size(size: Any) -> int:
    return size.__index__()


# A class stands for those below it that have no entry of their own. Loops are not here: see `cost_of`.
FLOPS: dict[type, Count] = {
    Elementwise: each_output,
    Where: each_output,
    Reduction: each_input,
    ArgMax: each_input,
    CumulativeSum: each_input,
    ScatterAdd: each_input,
    ScatterAddAlong: each_input,
    MatMul: _matmul,
    Convolution: _convolution,
    ConvolutionInputGradient: _input_gradient,
    ConvolutionWeightGradient: _weight_gradient,
    MaxPool: _pool,
    MaxPoolSelect: _pool,
    SumPool: _pool,
    MaxPoolGradient: _pool_gradient,
    SumPoolGradient: _pool_gradient,
    Sort: _sort,
    TopK: _sort,
    Fused: _fused,
    **dict.fromkeys((Fill, Iota, Cast, StopGradient, OneHot, RandomBits), nothing),
    **dict.fromkeys((Reshape, Transpose, BroadcastTo, Slice, Pad, Concatenate, Flip, Gather, GatherAlong), nothing),
    **dict.fromkeys((Opaque, OpaqueGradient), unknown),
}
