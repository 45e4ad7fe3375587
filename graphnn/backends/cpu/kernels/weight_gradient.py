"""The weight gradient of a convolution as a contraction: k is (batch, *output), rows are (*kernel, channels of x)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from graphnn.backends.cpu.contraction import Axis, Border, Contraction, Depth, Segment, fold, plain
from graphnn.backends.cpu.kernels.convolution_axes import Group, bordered_strides
from graphnn.backends.cpu.kernels.matmul import Operand, Tensors, broadcast_strides, pointer_count
from graphnn.ir.tensor_spec import ITEM_BYTES
from graphnn.ops.convolution import ConvolutionWeightGradient

BLOCK_BYTES = 1 << 18  # of x and dy that a block of items reads
PART_BYTES = 1 << 15  # that a block within one item reads: the first-level cache holds it
FEW, MOST_ROWS = 8, 28  # channels with which kernel elements share a tile; rows of such a tile


@dataclass(frozen=True)
class _Rows:
    """Axes of the rows, with the axis of the output that each one is (None: it has only k), and a copy of x."""

    axes: tuple[Axis, ...]
    positions: tuple[int | None, ...]
    border: Border | None = None


def weight_gradient_problem(
    op: ConvolutionWeightGradient, x: Operand, dy: Operand, dtype: str, tensors: Tensors
) -> Contraction:
    """Each kernel element has its own range of k, so that no zero is multiplied.

    With few channels all kernel elements of a line share a tile; then x is copied with zeros around its lines. Sums
    over more items than the cache holds are cut into blocks of items, or of parts of one item.
    """
    group = Group(op.groups, x.shape[-1] // op.groups, dy.shape[-1] // op.groups)
    together = not group.depthwise and group.inputs < FEW and 1 < op.kernel[-1] <= MOST_ROWS // group.inputs
    rows = _line_rows(op, x, dy, group) if together else _element_rows(op, x, dy, group)
    item = ITEM_BYTES[dtype] * (math.prod(x.shape[1:]) + math.prod(dy.shape[1:]))
    items = Depth(x.shape[0], x.strides[0], dy.strides[0])
    if item <= BLOCK_BYTES and rows.border is None:
        span = Segment(0, 1, 0, 0, items.extent)
        first = Axis((span,), extent_k=items.extent, a_k=items.a, b_k=items.b)
        rows = _Rows((first, *rows.axes), (None, *rows.positions))
        return _assemble(group, x, dy, dtype, tensors, rows, (), _block(items.extent, item, BLOCK_BYTES))
    each = max(1, item // dy.shape[1])
    return _assemble(group, x, dy, dtype, tensors, rows, (items,), _block(dy.shape[1], each, PART_BYTES))


def _block(extent: int, nbytes: int, most: int) -> int:
    """Indices of a block of at most so many bytes; 0 where one holds all."""
    block = max(1, most // nbytes)
    return 0 if block >= extent else block


def _element_rows(op: ConvolutionWeightGradient, x: Operand, dy: Operand, group: Group) -> _Rows:
    """One tile sees one kernel element."""
    rank = len(op.strides)
    axes = [_tap_axis(op, i, x.shape, x.strides, dy) for i in range(rank)]
    channels = [] if group.depthwise else [plain(group.inputs, 1)]
    return _Rows((*axes, *channels), (*range(rank), *(rank for _ in channels)))


def _line_rows(op: ConvolutionWeightGradient, x: Operand, dy: Operand, group: Group) -> _Rows:
    """One tile sees the kernel elements of a line, and the places of an output line are k of them all."""
    last = len(op.strides) - 1
    stride, rate, (low, _) = op.strides[last], op.dilation[last], op.padding[last]
    places, length = dy.shape[1 + last], x.shape[1 + last]
    high = (places - 1) * stride + (op.kernel[last] - 1) * rate - low + 1 - length
    border = None
    if low or high > 0:
        lines, line = math.prod(x.shape[1:-2]), x.strides[-3]
        copied = length + min(high, 0)
        border = Border(lines, line, copied, x.shape[-1], group.inputs, low, max(high, 0))
    strides = (0, *bordered_strides(x, border))
    outer = [_tap_axis(op, i, x.shape, strides, dy) for i in range(last)]
    step = strides[1 + last]
    along = Axis((Segment(0, 1, 0, 0, places),), extent_k=places, a_k=stride * step, b_k=dy.strides[1 + last])
    channels = (plain(group.inputs, 1),) if group.inputs > 1 else ()
    axes = (*outer, along, plain(op.kernel[last], rate * step), *channels)
    return _Rows(axes, (*range(last), None, last, *(last + 1 for _ in channels)), border)


def _tap_axis(
    op: ConvolutionWeightGradient, i: int, shape: tuple[int, ...], strides: tuple[int, ...], dy: Operand
) -> Axis:
    """Kernel element j meets the positions p with 0 <= p * stride + j * rate - low < size."""
    stride, rate, low, step = op.strides[i], op.dilation[i], op.padding[i][0], strides[1 + i]
    segments = []
    for j in range(op.kernel[i]):
        start = j * rate - low
        first = max(0, -(start // stride))
        last = min(dy.shape[1 + i], -(-(shape[1 + i] - start) // stride))
        segments.append(Segment(j, 1, (first * stride + start) * step, first, max(0, last - first)))
    return Axis(tuple(segments), extent_k=dy.shape[1 + i], a_k=stride * step, b_k=dy.strides[1 + i])


def _assemble(
    group: Group,
    x: Operand,
    dy: Operand,
    dtype: str,
    tensors: Tensors,
    rows: _Rows,
    outer: tuple[Depth, ...],
    block: int,
) -> Contraction:
    shape = tensors.outputs[0][0].shape
    batch = () if group.count == 1 or group.depthwise else (plain(group.count, group.inputs, group.outputs),)
    columns = shape[-1] if group.depthwise else group.outputs
    moves = [broadcast_strides(operand, shape) for operand, _ in tensors.all]
    axes, along = fold(rows.axes, [tuple(0 if p is None else move[p] for p in rows.positions) for move in moves])
    strides = [(*(columns * move[-1] for _ in batch), *row) for move, row in zip(moves, along, strict=True)]
    epilogue = tensors.epilogue(strides, [move[-1] for move in moves])
    return Contraction(
        dtype, x.pointer, dy.pointer, batch, outer, tuple(axes), (), columns, 1, int(group.depthwise),
        epilogue, pointer_count(x.pointer, dy.pointer, tensors), rows.border, block,
    )  # fmt: skip
