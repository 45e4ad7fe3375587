"""Pooling: one number for each window of a sequence or an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from graphnn.errors import OptionError, ShapeError
from graphnn.graph.layer import Layer
from graphnn.graph.scope import Scope
from graphnn.layers.convolution import PadOption, PairOption, check_rank, per_axis
from graphnn.ops.convolution import resolve_padding
from graphnn.ops.op import Tensor
from graphnn.ops.pooling import average_pool, max_pool
from graphnn.ops.reduction import mean


@final
@dataclass(frozen=True, eq=False)
class Pool1D(Layer):
    """y[b, t, c] = max, or mean, of x[b, t * stride - left + k, c] over k < kernel_width.

    x: (batch, length, ch), y: (batch, new_length, ch). Padding never wins a maximum.

    Args:
        kernel_width: width of a window.
        stride: step of the window; None: the width, so that windows do not overlap.
        pad: int, (left, right), "valid", "same" or "causal", as in Conv1D.
        mode: "max" or "average".
        count_padding: whether an average counts the padding as zeros, or leaves it out.
    """

    category = "pooling"
    kernel_width: int
    stride: int | None = 1
    pad: PadOption = 0
    mode: str = "max"
    count_padding: bool = True

    def lower(self, scope: Scope, x: Tensor) -> Tensor:
        return _pool(self, x, per_axis(self.kernel_width, 1, "kernel_width"))


@final
@dataclass(frozen=True, eq=False)
class Pool2D(Layer):
    """y[b, p, q, c] = max, or mean, of x[b, p*stride - top + i, q*stride - left + j, c] over (i, j) in the window.

    x: (batch, rows, cols, ch), y: (batch, new_rows, new_cols, ch). Padding never wins a maximum.

    Args:
        kernel_shape: (rows, cols) of a window; an int for both.
        stride: step of the window, an int or (rows, cols); None: the window, so that windows do not overlap.
        pad: int, (rows, cols), (top, bottom, left, right), "valid" or "same", as in Conv2D.
        mode: "max" or "average".
        count_padding: whether an average counts the padding as zeros, or leaves it out.
    """

    category = "pooling"
    kernel_shape: PairOption
    stride: PairOption | None = 1
    pad: PadOption = 0
    mode: str = "max"
    count_padding: bool = True

    def lower(self, scope: Scope, x: Tensor) -> Tensor:
        return _pool(self, x, per_axis(self.kernel_shape, 2, "kernel_shape"))


@final
class GlobalAveragePool(Layer):
    """y[b, c] = mean of x[b, ..., c] over all axes between batch and channels; x: (batch, ..., ch), y: (batch, ch)."""

    category = "pooling"

    def lower(self, scope: Scope, x: Tensor) -> Tensor:
        if x.rank < 3:
            raise ShapeError("there is nothing to pool over", expected="(batch, ..., ch) of rank 3 or more", got=x.spec)
        return mean(x, tuple(range(1, x.rank - 1)))


@final
class GlobalMaxPool(Layer):
    """y[b, c] = max of x[b, ..., c] over all axes between batch and channels; x: (batch, ..., ch), y: (batch, ch)."""

    category = "pooling"

    def lower(self, scope: Scope, x: Tensor) -> Tensor:
        if x.rank < 3:
            raise ShapeError("there is nothing to pool over", expected="(batch, ..., ch) of rank 3 or more", got=x.spec)
        return x.max(tuple(range(1, x.rank - 1)))


def _pool(layer: Pool1D | Pool2D, x: Tensor, window: tuple[int, ...]) -> Tensor:
    rank = len(window)
    strides = window if layer.stride is None else per_axis(layer.stride, rank, "stride")
    padding = resolve_padding(layer.pad, window, (1,) * rank)
    check_rank(layer, x, rank)
    if layer.mode == "max":
        return max_pool(x, window, strides, padding)
    if layer.mode == "average":
        return average_pool(x, window, strides, padding, layer.count_padding)
    raise OptionError("unknown mode of pooling", expected='"max" or "average"', got=repr(layer.mode))
