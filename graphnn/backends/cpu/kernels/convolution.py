"""Convolutions and their two gradients as contractions.

Zeros outside of the input are not multiplied (so an infinite weight makes no NaN there): indices that see the same part
of the kernel form a segment. Only along the tiled axis, where short segments would waste the register tile, each batch
item is copied with zeros around it. The input gradient with a stride runs by phases: outputs that share their kernel
elements, so that no zero is inserted.
"""

from __future__ import annotations

import math

from graphnn.backends.cpu.contraction import Axis, Border, Contraction, Depth, Segment, fold, plain
from graphnn.backends.cpu.contraction_nest import emit_contraction
from graphnn.backends.cpu.kernel import Emitter, Kernel, Specs
from graphnn.backends.cpu.kernels.convolution_axes import Group, Slide, backward_axis, bordered_strides, forward_axis
from graphnn.backends.cpu.kernels.matmul import (
    DTYPES,
    Operand,
    Tensors,
    broadcast_strides,
    dense,
    empty_kernel,
    matmul_problem,
    pointer_count,
)
from graphnn.backends.cpu.kernels.weight_gradient import weight_gradient_problem
from graphnn.backends.cpu.target import Target
from graphnn.ops.convolution import Convolution, ConvolutionInputGradient, ConvolutionOp, ConvolutionWeightGradient
from graphnn.ops.op import Op

SHORT, WASTE = 8, 0.01  # positions of a segment that wastes the tile, and the part of them that is borne


def emit_convolution(op: Op, inputs: Specs, outputs: Specs, target: Target) -> Kernel | None:
    """`Convolution`, `ConvolutionInputGradient` or `ConvolutionWeightGradient` of float tensors."""
    if inputs[0].dtype not in DTYPES or not isinstance(op, ConvolutionOp):
        return None
    if not outputs[0].size:
        return empty_kernel(target)
    tensors = Tensors((), ((dense(2, outputs[0]), outputs[0].dtype),))
    problem = convolution_problem(op, dense(0, inputs[0]), dense(1, inputs[1]), inputs[0].dtype, tensors)
    return None if problem is None else emit_contraction(problem, target)


EMITTERS: dict[type[Op], Emitter] = {
    Convolution: emit_convolution,
    ConvolutionInputGradient: emit_convolution,
    ConvolutionWeightGradient: emit_convolution,
}


def convolution_problem(
    op: ConvolutionOp, first: Operand, second: Operand, dtype: str, tensors: Tensors
) -> Contraction | None:
    """The contraction of any of the three ops; None where there is no spatial axis to speak of but groups.

    Args:
        op: one of the three.
        first: x, dy or x, contiguous.
        second: w, w or dy, contiguous.
        dtype: of both.
        tensors: epilogue tensors that broadcast to the output.
    """
    if 0 in (*first.shape, *second.shape):
        return _sum_of_nothing(first, second, dtype, tensors)
    if op.groups == 1 and _is_matmul(op, second):
        return _matmul(op, first, second, dtype, tensors)
    if not op.strides:
        return None
    if isinstance(op, ConvolutionWeightGradient):
        return weight_gradient_problem(op, first, second, dtype, tensors)
    kernel = second.shape[:-2]
    backward = isinstance(op, ConvolutionInputGradient)
    spatial = tensors.outputs[0][0].shape[1:-1]
    slide = backward_axis if backward else forward_axis
    slides = [slide(op, i, spatial, first.shape, kernel) for i in range(len(kernel))]
    return _sliding(op, first, second, dtype, tensors, slides, backward)


# -- matrix products ---------------------------------------------------------------------------------------------------


def _sum_of_nothing(first: Operand, second: Operand, dtype: str, tensors: Tensors) -> Contraction:
    """Zeros of the output's shape, as a product of matrices without k."""
    shape = tensors.outputs[0][0].shape
    a = Operand(first.pointer, (*shape[:-1], 0), (0,) * len(shape))
    return matmul_problem(a, Operand(second.pointer, (0, shape[-1]), (0, 1)), dtype, tensors)


def _is_matmul(op: ConvolutionOp, second: Operand) -> bool:
    """True for a kernel of one element that neither pads nor skips."""
    kernel = op.kernel if isinstance(op, ConvolutionWeightGradient) else second.shape[:-2]
    return math.prod(kernel) == 1 and set(op.strides) <= {1} and not any(sum(pair) for pair in op.padding)


def _matmul(op: ConvolutionOp, first: Operand, second: Operand, dtype: str, tensors: Tensors) -> Contraction:
    if isinstance(op, ConvolutionWeightGradient):
        places, (inputs, outputs) = math.prod(first.shape[:-1]), (first.shape[-1], second.shape[-1])
        kernel = (1,) * len(op.kernel)
        a = Operand(first.pointer, (*kernel, inputs, places), (*(0 for _ in kernel), 1, inputs))
        return matmul_problem(a, Operand(second.pointer, (places, outputs), (outputs, 1)), dtype, tensors)
    b = Operand(second.pointer, second.shape[-2:], second.strides[-2:])
    if isinstance(op, ConvolutionInputGradient):
        b = Operand(b.pointer, b.shape[::-1], b.strides[::-1])
    return matmul_problem(first, b, dtype, tensors)


# -- forward and input gradient ----------------------------------------------------------------------------------------


def _sliding(
    op: ConvolutionOp, a: Operand, w: Operand, dtype: str, tensors: Tensors, slides: list[Slide], backward: bool
) -> Contraction:
    """Rows are (batch, *spatial), k is (*kernel, channels of A)."""
    group = Group(op.groups, a.shape[-1] // op.groups, tensors.outputs[0][0].shape[-1] // op.groups)
    border = _border(group, a, slides[-1])
    batch, axes = _batch_axes(group, backward), [plain(a.shape[0], a.strides[0])]
    strides = bordered_strides(a, border)
    for i, slide in enumerate(slides):
        bordered = border is not None and i == len(slides) - 1
        axes.append(_axis(slide, strides[i], w.shape[i], w.strides[i], bordered))
    channels = w.strides[-2] if not backward else 1
    depth = () if group.depthwise else (Depth(group.inputs, 1, channels),)
    column = w.strides[-2] if backward and not group.depthwise else 1
    return _assemble(group, a, w, dtype, tensors, (batch, axes, depth, column), border)


def _batch_axes(group: Group, backward: bool) -> list[Axis]:
    if group.count == 1 or group.depthwise:
        return []
    return [plain(group.count, group.inputs, group.inputs if backward else group.outputs)]


def _axis(slide: Slide, stride: int, extent: int, stride_k: int, bordered: bool) -> Axis:
    segments = slide.whole if bordered else slide.segments
    scaled = tuple(Segment(s.out, s.count, s.a * stride, s.k, s.k_count) for s in segments)
    return Axis(scaled, slide.move * stride, 0, slide.step, extent, slide.step_k, slide.tap * stride, stride_k)


def _border(group: Group, a: Operand, slide: Slide) -> Border | None:
    """The copy with zeros, if short segments would take more than it costs."""
    count = sum(segment.count for segment in slide.segments)
    short = sum(segment.count for segment in slide.segments if segment.count < min(SHORT, count))
    if short <= WASTE * count:
        return None
    channels = a.shape[-1] if group.depthwise else group.inputs
    length = a.shape[-2] + min(slide.high, 0)
    lines = math.prod(a.shape[1:-2])
    return Border(lines, a.strides[-3], length, a.shape[-1], channels, slide.low, max(slide.high, 0))


def _assemble(
    group: Group,
    a: Operand,
    b: Operand,
    dtype: str,
    tensors: Tensors,
    loops: tuple[list[Axis], list[Axis], tuple[Depth, ...], int],
    border: Border | None,
) -> Contraction:
    batch, axes, depth, column = loops
    shape = tensors.outputs[0][0].shape
    moves = [broadcast_strides(operand, shape) for operand, _ in tensors.all]
    rows = [move[:-1] for move in moves]
    if border is None:
        axes, rows = fold(axes, rows)
    columns = shape[-1] if group.depthwise else group.outputs
    strides = [(*(columns * move[-1] for _ in batch), *row) for move, row in zip(moves, rows, strict=True)]
    epilogue = tensors.epilogue(strides, [move[-1] for move in moves])
    return Contraction(
        dtype, a.pointer, b.pointer, tuple(batch), (), tuple(axes), depth, columns, column, int(group.depthwise),
        epilogue, pointer_count(a.pointer, b.pointer, tensors), border,
    )  # fmt: skip
