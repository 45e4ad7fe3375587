"""Residual blocks for images: two convolutions with batch norm, around which the input is added to the output."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import final

from graphnn.errors import DimensionError, OptionError, ShapeError
from graphnn.graph.layer import SymbolicTensor
from graphnn.graph.module import Module
from graphnn.initializers import Initializer
from graphnn.ir.dimension import Dimension, Size, bind, is_known
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.layers.activation import Activation, activation
from graphnn.layers.arithmetic import Add
from graphnn.layers.convolution import Conv2D, PadOption, PairOption, per_axis
from graphnn.layers.normalization import BatchNorm2D
from graphnn.layers.shape import Pad

ORDERS = ("activation_first", "norm_first")
PROBE = 1 << 20  # any size that is larger than all kernels


@final
class SkipConnectionIdentityModule(Module):
    """y = act(x + bn2(conv2(bn1(act(conv1(x)))))); with order="norm_first" the first part is act(bn1(conv1(x))).

    x and y: (batch, rows, cols, ch). conv1 has out_ch filters, conv2 as many as x has channels. Both keep the size of
    the image whatever their stride, so that x can be added: a stride above 1 needs an image of integer size, and puts
    a node `pad1` or `pad2` in front of the convolution. "norm_first" is the order of He et al. 2016, figure 2 and
    section 3.4.

    Args:
        out_ch: filters of conv1.
        kernel_shape1: (rows, cols) of the filters of conv1; an int for both.
        kernel_shape2: those of conv2.
        stride1: step of the filters of conv1, an int or (rows, cols).
        stride2: that of conv2.
        act_fn: activation layer or its name; None: none.
        epsilon: of the batch norms.
        momentum: of the batch norms.
        init: initial values of the weights.
        order: "activation_first" or "norm_first".
        name: node name.
    """

    def __init__(
        self,
        out_ch: int,
        kernel_shape1: PairOption,
        kernel_shape2: PairOption,
        stride1: PairOption = 1,
        stride2: PairOption = 1,
        act_fn: Activation | str | None = None,
        epsilon: float = 1e-5,
        momentum: float = 0.9,
        init: Initializer | str = "glorot_uniform",
        order: str = "activation_first",
        name: str | None = None,
    ):
        super().__init__(name=name)
        before, between = split_activation(act_fn, order)
        pad1, pad2 = _keeping_pad(stride1), _keeping_pad(stride2)
        self.conv1 = Conv2D(out_ch, kernel_shape1, pad1, stride1, act_fn=before, init=init)
        self.batchnorm1 = BatchNorm2D(momentum, epsilon)
        self.activation1 = between
        self.conv2: Conv2D | None = None  # `expand` makes it; here it gets its place among the components
        self.batchnorm2 = BatchNorm2D(momentum, epsilon)
        self.add3 = Add(act_fn=act_fn)
        self._make_conv2 = partial(Conv2D, kernel_shape=kernel_shape2, pad=pad2, stride=stride2, init=init)
        self._conv2_by_channels: dict[int, Conv2D] = {}
        self._windows = ((kernel_shape1, stride1), (kernel_shape2, stride2))

    def expand(self, specs):
        """conv2 needs the number of the input's channels: one is made for each number that occurs."""
        channels = _image_channels(specs[0])
        if channels not in self._conv2_by_channels:
            self._conv2_by_channels[channels] = self._make_conv2(channels)
        self.conv2 = self._conv2_by_channels[channels]
        return super().expand(specs)

    def forward(self, x: SymbolicTensor) -> SymbolicTensor:
        """The block's output, of the shape of x.

        Raises:
            DimensionError: a stride above 1 on an axis whose size is known by name only.
        """
        first = self.batchnorm1(self.conv1(_keep_size(x, *self._windows[0], "pad1")))
        if self.activation1 is not None:
            first = self.activation1(first)
        conv2 = self._conv2_by_channels[x.shape[-1]]
        second = self.batchnorm2(conv2(_keep_size(first, *self._windows[1], "pad2")))
        return self.add3(x, second)


@final
class SkipConnectionConvModule(Module):
    """y = act(bn_skip(conv_skip(x)) + bn2(conv2(bn1(act(conv1(x)))))); "norm_first" begins with act(bn1(conv1(x))).

    x: (batch, rows, cols, ch), y: (batch, new_rows, new_cols, out_ch2). The batch norms are called batchnorm1,
    batchnorm2 and batchnorm_skip. "norm_first" is the order of He et al. 2016, figure 2 and section 3.4.

    Args:
        out_ch1: filters of conv1.
        out_ch2: filters of conv2 and conv_skip.
        kernel_shape1: (rows, cols) of the filters of conv1; an int for both.
        kernel_shape2: those of conv2.
        kernel_shape_skip: those of conv_skip.
        pad1: padding of conv1: int, (rows, cols), (top, bottom, left, right), "valid" or "same" (ceil(n / stride)).
        pad2: that of conv2.
        stride1: step of the filters of conv1, an int or (rows, cols).
        stride2: that of conv2.
        act_fn: activation layer or its name; None: none.
        epsilon: of the batch norms.
        momentum: of the batch norms.
        stride_skip: step of the filters of conv_skip.
        pad_skip: padding of conv_skip; None: the least with which conv_skip gives the size that conv2 gives. It is
            worked out for each image size anew, and where there is some, a node `pad_skip` stands before conv_skip.
        init: initial values of the weights.
        order: "activation_first" or "norm_first".
        name: node name.
    """

    def __init__(
        self,
        out_ch1: int,
        out_ch2: int,
        kernel_shape1: PairOption,
        kernel_shape2: PairOption,
        kernel_shape_skip: PairOption,
        pad1: PadOption = 0,
        pad2: PadOption = 0,
        stride1: PairOption = 1,
        stride2: PairOption = 1,
        act_fn: Activation | str | None = None,
        epsilon: float = 1e-5,
        momentum: float = 0.9,
        stride_skip: PairOption = 1,
        pad_skip: PadOption | None = None,
        init: Initializer | str = "glorot_uniform",
        order: str = "activation_first",
        name: str | None = None,
    ):
        super().__init__(name=name)
        before, between = split_activation(act_fn, order)
        conv = partial(Conv2D, init=init)
        self.conv1 = conv(out_ch1, kernel_shape1, pad1, stride1, act_fn=before)
        self.batchnorm1 = BatchNorm2D(momentum, epsilon)
        self.activation1 = between
        self.conv2 = conv(out_ch2, kernel_shape2, pad2, stride2)
        self.batchnorm2 = BatchNorm2D(momentum, epsilon)
        self.conv_skip = conv(out_ch2, kernel_shape_skip, 0 if pad_skip is None else pad_skip, stride_skip)
        self.batchnorm_skip = BatchNorm2D(momentum, epsilon)
        self.add3 = Add(act_fn=act_fn)
        self._solves_pad = pad_skip is None

    def forward(self, x: SymbolicTensor) -> SymbolicTensor:
        """The block's output.

        Raises:
            ShapeError: no padding makes the shortcut as large as the main path.
            DimensionError: that depends on sizes that are known by name only.
        """
        first = self.batchnorm1(self.conv1(x))
        if self.activation1 is not None:
            first = self.activation1(first)
        main = self.batchnorm2(self.conv2(first))
        shortcut = self.batchnorm_skip(self.conv_skip(self._pad_shortcut(x, main) if self._solves_pad else x))
        return self.add3(shortcut, main)

    def _pad_shortcut(self, x: SymbolicTensor, main: SymbolicTensor) -> SymbolicTensor:
        kernel = per_axis(self.conv_skip.kernel_shape, 2, "kernel_shape_skip")
        strides = per_axis(self.conv_skip.stride, 2, "stride_skip")
        windows = zip(x.shape[1:3], main.shape[1:3], kernel, strides, strict=True)
        return _pad_image(x, [least_padding(*window) for window in windows], "pad_skip")


def split_activation(act_fn: Activation | str | None, order: str) -> tuple[Activation | str | None, Activation | None]:
    """The activation that conv1 applies itself, and the one that stands behind batchnorm1.

    Raises:
        OptionError: unknown order or activation.
    """
    if order not in ORDERS:
        raise OptionError("unknown order", where="order", expected=" or ".join(map(repr, ORDERS)), got=repr(order))
    if act_fn is None:
        return None, None
    return (act_fn, None) if order == "activation_first" else (None, activation(act_fn))


def least_padding(size: Size, target: Size, kernel: int, stride: int) -> int:
    """The least p >= 0 with (size + p - kernel) // stride + 1 == target.

    Raises:
        ShapeError: there is none. DimensionError: there is none that holds for every size of a name.
    """
    low = (target - 1) * stride + kernel - size  # the quotient is right from here on, for `stride` numbers
    if not isinstance(low, Dimension):
        if low + stride <= 0:
            raise ShapeError(
                "the shortcut is larger than the main path, and padding cannot make it smaller",
                where="conv_skip",
                expected=target,
                got=(size - kernel) // stride + 1,
                fix="give stride_skip the product of stride1 and stride2",
            )
        return max(low, 0)
    near = bind(low, dict.fromkeys(low.names, PROBE))
    for total in range(max(near - stride, 0), max(near + 2 * stride, 0)):
        if (size + total - kernel) // stride + 1 == target:
            return total
    raise DimensionError(
        "the padding of the shortcut depends on a size that is known by name only",
        where="conv_skip",
        expected=f"({size} + padding - {kernel})//{stride} + 1 == {target}",
        fix="give the input integer rows and cols, or pad_skip",
    )


def _keeping_pad(stride: PairOption) -> str:
    return "same" if set(per_axis(stride, 2, "stride")) == {1} else "valid"


def _keep_size(x: SymbolicTensor, kernel_shape: PairOption, stride: PairOption, name: str) -> SymbolicTensor:
    """x with the padding with which a convolution of this stride gives the size of x; x itself for stride 1."""
    strides = per_axis(stride, 2, "stride")
    if set(strides) == {1}:
        return x
    windows = zip(x.shape[1:3], per_axis(kernel_shape, 2, "kernel_shape"), strides, strict=True)
    totals = [(size - 1) * (step - 1) + kernel - 1 for size, kernel, step in windows]
    if not all(map(is_known, totals)):
        raise DimensionError(
            "a stride above 1 that keeps the size needs a padding that depends on it",
            where=name,
            expected="an integer size",
            got=x.spec,
            fix="give the input integer rows and cols",
        )
    return _pad_image(x, totals, name)


def _pad_image(x: SymbolicTensor, totals: Sequence[int], name: str) -> SymbolicTensor:
    """x with so many zeros around its rows and cols, the smaller half in front."""
    if not any(totals):
        return x
    widths = tuple((total // 2, total - total // 2) for total in totals)
    return Pad(((0, 0), *widths, (0, 0)), name=name)(x)


def _image_channels(x: TensorSpec | None) -> int:
    if x is None or x.rank != 4 or not is_known(x.shape[-1]):
        expected = "(batch, rows, cols, ch) with an integer ch"
        raise ShapeError("the block needs an image", where="x", expected=expected, got=x)
    return x.shape[-1].__index__()
