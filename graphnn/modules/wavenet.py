"""The residual block of WaveNet: a gated, dilated, causal convolution with a residual and a skip output."""

from __future__ import annotations

from functools import partial
from typing import final

from graphnn.errors import ShapeError
from graphnn.graph.layer import SymbolicTensor
from graphnn.graph.module import Module
from graphnn.initializers import Initializer
from graphnn.layers.activation import Sigmoid, Tanh
from graphnn.layers.arithmetic import Add, Multiply
from graphnn.layers.convolution import Conv1D


@final
class WavenetResidualModule(Module):
    """o = conv_1x1(tanh(h) * sigm(h)), h = conv_dilation(x_main); y_main = x_main + o, y_skip = x_skip + o.

    x_main and x_skip: (batch, length, ch_residual); both outputs have this shape. No output sees a later input. After
    van den Oord et al. 2016, "WaveNet", figure 4; there the two gates have a convolution each, here so with
    `separate_gates`: tanh(conv_filter(x_main)) * sigm(conv_gate(x_main)).

    Args:
        ch_residual: channels of inputs and outputs.
        ch_dilation: channels between the dilated convolution and the 1x1 convolution.
        dilation: distance of neighbouring filter elements; 1 is the ordinary convolution.
        kernel_width: width of the dilated filters.
        init: initial values of the weights.
        separate_gates: whether each gate has a dilated convolution of its own.
        name: node name.
    """

    def __init__(
        self,
        ch_residual: int,
        ch_dilation: int,
        dilation: int,
        kernel_width: int,
        init: Initializer | str = "glorot_uniform",
        separate_gates: bool = False,
        name: str | None = None,
    ):
        super().__init__(name=name)
        dilated = partial(Conv1D, ch_dilation, kernel_width, pad="causal", dilation=dilation, init=init)
        self.ch_residual = ch_residual
        self.separate_gates = separate_gates
        if separate_gates:
            self.conv_filter, self.conv_gate = dilated(), dilated()
        else:
            self.conv_dilation = dilated()
        self.tanh = Tanh()
        self.sigm = Sigmoid()
        self.multiply_gate = Multiply()
        self.conv_1x1 = Conv1D(ch_residual, kernel_width=1, init=init)
        self.add_residual = Add()
        self.add_skip = Add()

    def forward(self, x_main: SymbolicTensor, x_skip: SymbolicTensor | None = None) -> dict[str, SymbolicTensor]:
        """{"y_main", "y_skip"}; a missing x_skip, as in the first block of a stack, counts as zeros.

        Raises:
            ShapeError: x_main is not (batch, length, ch_residual), or x_skip has another shape.
        """
        self._check(x_main)
        out = self.conv_1x1(self._gate(x_main))
        skip = self.add_skip(out) if x_skip is None else self.add_skip(x_skip, out)
        return {"y_main": self.add_residual(x_main, out), "y_skip": skip}

    def _gate(self, x: SymbolicTensor) -> SymbolicTensor:
        if self.separate_gates:
            return self.multiply_gate(self.tanh(self.conv_filter(x)), self.sigm(self.conv_gate(x)))
        h = self.conv_dilation(x)
        return self.multiply_gate(self.tanh(h), self.sigm(h))

    def _check(self, x: SymbolicTensor) -> None:
        if len(x.shape) != 3 or x.shape[-1] != self.ch_residual:
            expected = f"(batch, length, {self.ch_residual})"
            fix = "give ch_residual the channels of the input, or put a 1x1 Conv1D in front"
            raise ShapeError("x_main does not fit ch_residual", where="x_main", expected=expected, got=x.spec, fix=fix)
