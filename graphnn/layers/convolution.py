"""Convolutions and transposed convolutions over sequences (batch, length, ch) and images (batch, rows, cols, ch)."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import TypeAlias, final

from graphnn.errors import OptionError, ShapeError
from graphnn.graph.layer import Layer
from graphnn.graph.scope import Scope
from graphnn.initializers import Initializer, initializer
from graphnn.layers.activation import Activation, apply_activation
from graphnn.ops.convolution import convolution, resolve_padding, transposed_convolution
from graphnn.ops.op import Tensor

PadOption: TypeAlias = int | str | tuple[int, ...]
PairOption: TypeAlias = int | tuple[int, ...]


@final
@dataclass(frozen=True, eq=False)
class Conv1D(Layer):
    """y[b, t, o] = act_fn(b[o] + sum over k, c of x[b, t * stride + k * dilation - left, c] * W[k, c, o]).

    x: (batch, length, ch), W: (kernel_width, ch / groups, out_ch), b: (out_ch,), y: (batch, new_length, out_ch).

    Args:
        out_ch: number of filters.
        kernel_width: width of a filter.
        pad: int, (left, right), "valid" (none), "same" (length n gives ceil(n / stride)) or "causal" (as "same", but
            all of it on the left, so that no output sees a later input).
        stride: step of the filter.
        dilation: distance of neighbouring filter elements; 1 is the ordinary convolution.
        act_fn: activation layer or its name.
        bias: whether b is added.
        init: initial values of W.
        groups: number of equal parts of the channels that do not mix; `ch` of them is a depthwise convolution.
    """

    category = "layer"
    out_ch: int
    kernel_width: int
    pad: PadOption = 0
    stride: int = 1
    dilation: int = 1
    act_fn: Activation | str | None = None
    bias: bool = True
    init: Initializer | str = "glorot_uniform"
    groups: int = 1

    def lower(self, scope: Scope, x: Tensor) -> Tensor:
        return _convolve(self, scope, x, per_axis(self.kernel_width, 1, "kernel_width"))


@final
@dataclass(frozen=True, eq=False)
class Conv2D(Layer):
    """y[b, p, q, o] = act_fn(b[o] + sum over i, j, c of x[b, p*step + i - top, q*step + j - left, c] * W[i, j, c, o]).

    x: (batch, rows, cols, ch), W: (*kernel_shape, ch / groups, out_ch), b: (out_ch,),
    y: (batch, new_rows, new_cols, out_ch). The step is the stride; the input's i and j go in steps of `dilation`.

    Args:
        out_ch: number of filters.
        kernel_shape: (rows, cols) of a filter; an int for both.
        pad: int, (rows, cols), (top, bottom, left, right), "valid" (none), or "same" (n rows give ceil(n / stride)).
        stride: step of the filter, an int or (rows, cols).
        dilation: distance of neighbouring filter elements, an int or (rows, cols); 1 is the ordinary convolution.
        act_fn: activation layer or its name.
        bias: whether b is added.
        init: initial values of W.
        groups: number of equal parts of the channels that do not mix; `ch` of them is a depthwise convolution.
    """

    category = "layer"
    out_ch: int
    kernel_shape: PairOption
    pad: PadOption = 0
    stride: PairOption = 1
    dilation: PairOption = 1
    act_fn: Activation | str | None = None
    bias: bool = True
    init: Initializer | str = "glorot_uniform"
    groups: int = 1

    def lower(self, scope: Scope, x: Tensor) -> Tensor:
        return _convolve(self, scope, x, per_axis(self.kernel_shape, 2, "kernel_shape"))


@final
@dataclass(frozen=True, eq=False)
class Deconv1D(Layer):
    """y[b, t * stride + k * dilation - left, o] sums x[b, t, c] * W[k, c, o]; then + b[o] and act_fn.

    The transpose of a Conv1D of equal arguments. x: (batch, length, ch), W: (kernel_width, ch, out_ch / groups),
    b: (out_ch,), y: (batch, (length - 1) * stride + span - left - right + output_pad, out_ch), where
    span = (kernel_width - 1) * dilation + 1.

    Args:
        out_ch: number of output channels.
        kernel_width: width of a filter.
        pad: places cut from the ends of y: int, (left, right), "valid" (none), "same" (y has length * stride places) or
            "causal" (as "same", but all of it from the right: no output sees a later input).
        stride: step of the filter on y.
        dilation: distance of neighbouring filter elements on y.
        act_fn: activation layer or its name.
        bias: whether b is added.
        init: initial values of W.
        groups: number of equal parts of the channels that do not mix.
        output_pad: places added on the right of y, fewer than the stride; None: stride - 1 for "same" and "causal",
            else 0.
    """

    category = "layer"
    out_ch: int
    kernel_width: int
    pad: PadOption = 0
    stride: int = 1
    dilation: int = 1
    act_fn: Activation | str | None = None
    bias: bool = True
    init: Initializer | str = "glorot_uniform"
    groups: int = 1
    output_pad: int | None = None

    def lower(self, scope: Scope, x: Tensor) -> Tensor:
        return _deconvolve(self, scope, x, per_axis(self.kernel_width, 1, "kernel_width"))


@final
@dataclass(frozen=True, eq=False)
class Deconv2D(Layer):
    """y[b, p*stride + i - top, q*stride + j - left, o] sums x[b, p, q, c] * W[i, j, c, o]; then + b[o] and act_fn.

    The transpose of a Conv2D of equal arguments. x: (batch, rows, cols, ch), W: (*kernel_shape, ch, out_ch / groups),
    b: (out_ch,), y: (batch, new_rows, new_cols, out_ch) with
    new_rows = (rows - 1) * stride + (kernel rows - 1) * dilation + 1 - top - bottom + output_pad.

    Args:
        out_ch: number of output channels.
        kernel_shape: (rows, cols) of a filter; an int for both.
        pad: places cut from the edges of y: int, (rows, cols), (top, bottom, left, right), "valid" (none), or "same" (y
            is `stride` times as large as x).
        stride: step of the filter on y, an int or (rows, cols).
        dilation: distance of neighbouring filter elements on y, an int or (rows, cols).
        act_fn: activation layer or its name.
        bias: whether b is added.
        init: initial values of W.
        groups: number of equal parts of the channels that do not mix.
        output_pad: places added at the bottom and on the right of y, fewer than the stride, an int or (rows, cols);
            None: stride - 1 for "same", else 0.
    """

    category = "layer"
    out_ch: int
    kernel_shape: PairOption
    pad: PadOption = 0
    stride: PairOption = 1
    dilation: PairOption = 1
    act_fn: Activation | str | None = None
    bias: bool = True
    init: Initializer | str = "glorot_uniform"
    groups: int = 1
    output_pad: PairOption | None = None

    def lower(self, scope: Scope, x: Tensor) -> Tensor:
        return _deconvolve(self, scope, x, per_axis(self.kernel_shape, 2, "kernel_shape"))


def _convolve(layer: Conv1D | Conv2D, scope: Scope, x: Tensor, kernel: tuple[int, ...]) -> Tensor:
    rank = len(kernel)
    strides, dilation = per_axis(layer.stride, rank, "stride"), per_axis(layer.dilation, rank, "dilation")
    padding = resolve_padding(layer.pad, kernel, dilation)
    check_rank(layer, x, rank)
    check_groups(layer)
    w_shape = (*kernel, x.shape[-1] // layer.groups, layer.out_ch)
    w = scope.parameter("W", w_shape, initializer(layer.init))
    return _finish(layer, scope, convolution(x, w, strides, dilation, padding, layer.groups))


def _deconvolve(layer: Deconv1D | Deconv2D, scope: Scope, x: Tensor, kernel: tuple[int, ...]) -> Tensor:
    rank = len(kernel)
    strides, dilation = per_axis(layer.stride, rank, "stride"), per_axis(layer.dilation, rank, "dilation")
    padding = resolve_padding(layer.pad, kernel, dilation)
    if layer.pad == "causal":  # the plain transpose would cut the front of y, and so see later inputs
        padding = tuple((high, low) for low, high in padding)
    check_rank(layer, x, rank)
    check_groups(layer)
    w_shape = (*kernel, x.shape[-1], layer.out_ch // layer.groups)
    w = scope.parameter("W", w_shape, initializer(layer.init))
    turned = w.transpose((*range(rank), rank + 1, rank))
    extra = _output_pad(layer, strides)
    return _finish(layer, scope, transposed_convolution(x, turned, strides, dilation, padding, extra, layer.groups))


def _output_pad(layer: Deconv1D | Deconv2D, strides: tuple[int, ...]) -> tuple[int, ...]:
    if layer.output_pad is not None:
        return per_axis(layer.output_pad, len(strides), "output_pad", least=0)
    return tuple(step - 1 if layer.pad in ("same", "causal") else 0 for step in strides)


def _finish(layer: Conv1D | Conv2D | Deconv1D | Deconv2D, scope: Scope, y: Tensor) -> Tensor:
    if layer.bias:
        y = y + scope.parameter("b", (layer.out_ch,), initializer("zeros"))
    return apply_activation(layer.act_fn, scope, y)


def per_axis(value: PairOption, rank: int, option: str, least: int = 1) -> tuple[int, ...]:
    """One integer for each of `rank` spatial axes, from one number for all or from one for each.

    Raises:
        OptionError: it is anything else, or a number is below `least`.
    """
    numbers = tuple(value) if isinstance(value, tuple | list) else (value,) * rank
    if len(numbers) != rank or any(not _is_count(number, least) for number in numbers):
        expected = f"an int of {least} or more" + (f", or {rank} of them" if rank > 1 else "")
        raise OptionError(f"`{option}` does not fit", expected=expected, got=repr(value))
    return tuple(int(number) for number in numbers)


def _is_count(number: object, least: int) -> bool:
    return isinstance(number, Integral) and not isinstance(number, bool) and int(number) >= least


def check_rank(layer: Layer, x: Tensor, rank: int) -> None:
    """Raise ShapeError unless x has a batch axis, `rank` spatial ones and channels."""
    if x.rank != rank + 2:
        axes = "(batch, length, ch)" if rank == 1 else "(batch, rows, cols, ch)"
        fix = (
            "channels are the last axis; give a grey image an axis of size 1: Reshape((0, 0, 0, 1))"
            if rank == 2
            else ""
        )
        raise ShapeError(f"{layer.kind} needs {axes}", expected=f"rank {rank + 2}", got=x.spec, fix=fix)


def check_groups(layer: Conv1D | Conv2D | Deconv1D | Deconv2D) -> None:
    """Raise unless out_ch and groups are counts, and the one divides into the other; the op checks the input."""
    for option in ("out_ch", "groups"):
        if not _is_count(getattr(layer, option), 1):
            raise OptionError(f"`{option}` does not fit", expected="1 or more", got=repr(getattr(layer, option)))
    if layer.out_ch % layer.groups:
        raise OptionError(
            "filters do not divide into groups", expected=f"a multiple of {layer.groups}", got=layer.out_ch
        )
