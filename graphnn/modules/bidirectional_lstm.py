"""Two LSTMs that read a sequence from both ends."""

from __future__ import annotations

from typing import final

from graphnn.errors import OptionError, ShapeError
from graphnn.graph.layer import Layer, SymbolicTensor
from graphnn.graph.module import Module
from graphnn.initializers import Initializer
from graphnn.layers.activation import Activation
from graphnn.layers.arithmetic import Add, Average, Multiply
from graphnn.layers.recurrent import LSTM
from graphnn.layers.shape import Concatenate, Transpose

LAYOUTS = ("batch_time_feature", "batch_feature_time")
MERGE_MODES = ("sum", "multiply", "concat", "average")


@final
class BidirectionalLSTM(Module):
    """y[:, t] = merge(cell_fwd, which has read the steps 0..t, cell_bwd, which has read the steps from the last to t).

    x: (batch, time, n_in), y: (batch, time, n_out), for "concat" (batch, time, 2 * n_out), forward half first. Both
    LSTMs start from zeros in each run. Schuster and Paliwal 1997, "Bidirectional recurrent neural networks".

    Args:
        n_out: size of the state of each LSTM.
        act_fn: activation of candidate and cell; None: Tanh.
        gate_fn: activation of the gates; None: Sigmoid.
        merge_mode: "sum", "multiply", "concat" or "average".
        init: initial values of the weights.
        layout: "batch_time_feature", or "batch_feature_time" for x (batch, n_in, time) and y (batch, n_out, time).
        name: node name.

    Raises:
        OptionError: an unknown merge_mode or layout.
    """

    def __init__(
        self,
        n_out: int,
        act_fn: Activation | str | None = None,
        gate_fn: Activation | str | None = None,
        merge_mode: str = "concat",
        init: Initializer | str = "glorot_uniform",
        layout: str = "batch_time_feature",
        name: str | None = None,
    ):
        super().__init__(name=name)
        for option, value, known in (("merge_mode", merge_mode, MERGE_MODES), ("layout", layout, LAYOUTS)):
            if value not in known:
                raise OptionError(
                    f"unknown {option}", where=self.default_name, expected=", ".join(known), got=repr(value)
                )
        activations = ("tanh" if act_fn is None else act_fn, "sigmoid" if gate_fn is None else gate_fn)
        self.layout = layout
        self.cell_fwd = LSTM(n_out, *activations, init)
        self.cell_bwd = LSTM(n_out, *activations, init, reverse=True)
        self.merge = _merge(merge_mode)

    def forward(self, x: SymbolicTensor, lengths: SymbolicTensor | None = None) -> SymbolicTensor:
        """The merged outputs of both directions.

        Args:
            x: sequences.
            lengths: number of steps of each sequence, integers (batch,): cell_bwd starts at the last of them, and y is
                what the merging makes of zeros behind it.

        Raises:
            ShapeError: x is no batch of sequences, or lengths do not fit it.
        """
        if len(x.shape) != 3:
            raise ShapeError("BidirectionalLSTM takes sequences", where="x", expected=f"({self.layout})", got=x.spec)
        time_last = self.layout == "batch_feature_time"
        x = Transpose((0, 2, 1), name="time_first")(x) if time_last else x
        given = (x,) if lengths is None else (x, lengths)
        y = self.merge(self.cell_fwd(*given), self.cell_bwd(*given))
        return Transpose((0, 2, 1), name="time_last")(y) if time_last else y


def _merge(mode: str) -> Layer:
    if mode == "concat":
        return Concatenate(-1)
    return {"sum": Add(), "multiply": Multiply(), "average": Average()}[mode]
