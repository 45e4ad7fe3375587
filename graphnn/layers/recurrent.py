"""Recurrent layers: RNN, GRU and LSTM over whole sequences, and cells that make one step.

All steps share the parameters W (n_in, gates * n_out), U (n_out, gates * n_out) and b (gates * n_out,), whose columns
stand gate by gate. A layer multiplies all its inputs with W in one matrix product; the loop itself only does h @ U.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from graphnn.errors import DTypeError, GraphError, ShapeError
from graphnn.graph.layer import Layer
from graphnn.graph.scope import Scope
from graphnn.initializers import Initializer, initializer
from graphnn.ir.dimension import Shape
from graphnn.layers.activation import Activation, apply_activation
from graphnn.ops.creation import iota
from graphnn.ops.elementwise import where
from graphnn.ops.op import Tensor
from graphnn.ops.random import RandomStream
from graphnn.scan import scan

Tensors = tuple[Tensor, ...]
Step = Callable[[Tensor, Tensors], Tensors]  # (x_t @ W + b, states) -> new states, of which the first is the output
LSTM_GATES, GRU_GATES = 4, 3


@final
@dataclass(frozen=True)
class ForgetBias(Initializer):
    """`forget` in the second quarter, that of the forget gates of an LSTM, and 0 elsewhere.

    With 1 a new LSTM remembers (Jozefowicz et al. 2015, "An empirical exploration of recurrent network architectures").
    """

    forget: float = 1.0

    def values(self, random: RandomStream, shape: tuple[int, ...]) -> np.ndarray:
        """Draws nothing."""
        gates = np.arange(shape[-1]) * LSTM_GATES // max(shape[-1], 1)
        return np.broadcast_to(np.where(gates == 1, float(self.forget), 0.0), shape)


class SequenceLayer(Layer):
    """A loop over time: x (batch, time, n_in) -> y (batch, time, n_out).

    Further inputs are told apart by their dtype. `lengths`, integers (batch,): the steps t >= length of an example keep
    its state and give y = 0. Floats (batch, n_out): the first states, in the order of `states`, all of them or none; 0
    by default, in every run anew.

    `return_sequences=False` gives the last output (batch, n_out) alone. `return_state=True` gives a dict of "y" and the
    states behind the last step. `reverse` goes from the last step to the first; y[:, t] still belongs to x[:, t].
    """

    category = "recurrent"
    states: ClassVar[tuple[str, ...]] = ("h",)
    n_out: int
    return_sequences: bool
    reverse: bool
    return_state: bool

    def run(self, projected: Tensor, inputs: Tensors, step: Step) -> Tensor | dict[str, Tensor]:
        """The outputs of the layer, from x @ W + b (time, batch, gates * n_out) and the inputs behind x."""
        batch = projected.shape[1]
        lengths, first = _sort_inputs(self.states, (batch, self.n_out), inputs)
        first = first or tuple(projected.fill(0.0, (batch, self.n_out)) for _ in self.states)
        last, steps = loop(step, projected, first, lengths, self.reverse)
        y = steps.transpose((1, 0, 2)) if self.return_sequences else last[0]
        return {"y": y, **dict(zip(self.states, last, strict=True))} if self.return_state else y


@final
@dataclass(frozen=True, eq=False)
class LSTM(SequenceLayer):
    """c = gate(f) * c + gate(i) * act(g), y = h = gate(o) * act(c), where (i, f, g, o) = x @ W + b + h @ U.

    The columns of W, U and b are i (update), f (forget), g (candidate), o (output), in this order. Hochreiter and
    Schmidhuber 1997, with the forget gate of Gers et al. 2000.

    Args:
        n_out: size of h and c.
        act_fn: activation of candidate and cell, a layer or its name.
        gate_fn: activation of the gates.
        init: initial values of W and U.
        return_sequences: give all steps, not only the last.
        reverse: go from the last step to the first.
        return_state: give {"y", "h", "c"}.
        forget_bias: initial b of the forget gates.
    """

    states = ("h", "c")
    n_out: int
    act_fn: Activation | str = "tanh"
    gate_fn: Activation | str = "sigmoid"
    init: Initializer | str = "glorot_uniform"
    return_sequences: bool = True
    reverse: bool = False
    return_state: bool = False
    forget_bias: float = 1.0

    def lower(self, scope: Scope, x: Tensor, *inputs: Tensor) -> Tensor | dict[str, Tensor]:
        projected = project(scope, time_first(x), LSTM_GATES * self.n_out, self.init, ForgetBias(self.forget_bias))
        return self.run(projected, inputs, lstm_step(scope, self.n_out, self.act_fn, self.gate_fn, self.init))


@final
@dataclass(frozen=True, eq=False)
class GRU(SequenceLayer):
    """y = h = (1 - z) * n + z * h, with n = act(x @ W_n + b_n + r * (h @ U_n + b_hidden)) and gates r, z.

    r = gate(x @ W_r + b_r + h @ U_r), z likewise. The columns of W, U and b are r (reset), z (keep), n (new), in this
    order. Cho et al. 2014; r acts behind the product with U_n, so that the loop has one matrix product.

    Args:
        n_out: size of h.
        act_fn: activation of the new state, a layer or its name.
        gate_fn: activation of the gates.
        init: initial values of W and U.
        return_sequences: give all steps, not only the last.
        reverse: go from the last step to the first.
        return_state: give {"y", "h"}.
    """

    n_out: int
    act_fn: Activation | str = "tanh"
    gate_fn: Activation | str = "sigmoid"
    init: Initializer | str = "glorot_uniform"
    return_sequences: bool = True
    reverse: bool = False
    return_state: bool = False

    def lower(self, scope: Scope, x: Tensor, *inputs: Tensor) -> Tensor | dict[str, Tensor]:
        projected = project(scope, time_first(x), GRU_GATES * self.n_out, self.init, "zeros")
        return self.run(projected, inputs, gru_step(scope, self.n_out, self.act_fn, self.gate_fn, self.init))


@final
@dataclass(frozen=True, eq=False)
class RNN(SequenceLayer):
    """y = h = act(x @ W + b + h @ U); Elman 1990.

    Args:
        n_out: size of h.
        act_fn: activation, a layer or its name.
        init: initial values of W and U.
        return_sequences: give all steps, not only the last.
        reverse: go from the last step to the first.
        return_state: give {"y", "h"}.
    """

    n_out: int
    act_fn: Activation | str = "tanh"
    init: Initializer | str = "glorot_uniform"
    return_sequences: bool = True
    reverse: bool = False
    return_state: bool = False

    def lower(self, scope: Scope, x: Tensor, *inputs: Tensor) -> Tensor | dict[str, Tensor]:
        projected = project(scope, time_first(x), self.n_out, self.init, "zeros")
        return self.run(projected, inputs, rnn_step(scope, self.n_out, self.act_fn, self.init))


@final
@dataclass(frozen=True, eq=False)
class LSTMCell(Layer):
    """One step of LSTM: x (batch, n_in), h and c (batch, n_out) -> (new h, new c)."""

    category = "recurrent"
    n_out: int
    act_fn: Activation | str = "tanh"
    gate_fn: Activation | str = "sigmoid"
    init: Initializer | str = "glorot_uniform"
    forget_bias: float = 1.0

    def lower(self, scope: Scope, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, ...]:
        _check_cell(x, self.n_out, h, c)
        projected = project(scope, x, LSTM_GATES * self.n_out, self.init, ForgetBias(self.forget_bias))
        return lstm_step(scope, self.n_out, self.act_fn, self.gate_fn, self.init)(projected, (h, c))


@final
@dataclass(frozen=True, eq=False)
class GRUCell(Layer):
    """One step of GRU: x (batch, n_in), h (batch, n_out) -> new h."""

    category = "recurrent"
    n_out: int
    act_fn: Activation | str = "tanh"
    gate_fn: Activation | str = "sigmoid"
    init: Initializer | str = "glorot_uniform"

    def lower(self, scope: Scope, x: Tensor, h: Tensor) -> Tensor:
        _check_cell(x, self.n_out, h)
        projected = project(scope, x, GRU_GATES * self.n_out, self.init, "zeros")
        return gru_step(scope, self.n_out, self.act_fn, self.gate_fn, self.init)(projected, (h,))[0]


@final
@dataclass(frozen=True, eq=False)
class RNNCell(Layer):
    """One step of RNN: x (batch, n_in), h (batch, n_out) -> new h."""

    category = "recurrent"
    n_out: int
    act_fn: Activation | str = "tanh"
    init: Initializer | str = "glorot_uniform"

    def lower(self, scope: Scope, x: Tensor, h: Tensor) -> Tensor:
        _check_cell(x, self.n_out, h)
        projected = project(scope, x, self.n_out, self.init, "zeros")
        return rnn_step(scope, self.n_out, self.act_fn, self.init)(projected, (h,))[0]


def project(scope: Scope, x: Tensor, width: int, init: Initializer | str, bias: Initializer | str) -> Tensor:
    """X @ W + b."""
    w = scope.parameter("W", (x.shape[-1], width), initializer(init))
    return x @ w + scope.parameter("b", (width,), initializer(bias))


def lstm_step(
    scope: Scope, n_out: int, act_fn: Activation | str, gate_fn: Activation | str, init: Initializer | str
) -> Step:
    """The step of an LSTM; declares U."""
    u = scope.parameter("U", (n_out, LSTM_GATES * n_out), initializer(init))

    def step(z: Tensor, states: Tensors) -> Tensors:
        h, c = states
        i, f, g, o = split(z + h @ u, LSTM_GATES)
        i, f, o = (apply_activation(gate_fn, scope, gate) for gate in (i, f, o))
        c = f * c + i * apply_activation(act_fn, scope, g)
        return o * apply_activation(act_fn, scope, c), c

    return step


def gru_step(
    scope: Scope, n_out: int, act_fn: Activation | str, gate_fn: Activation | str, init: Initializer | str
) -> Step:
    """The step of a GRU; declares U and b_hidden."""
    u = scope.parameter("U", (n_out, GRU_GATES * n_out), initializer(init))
    b_hidden = scope.parameter("b_hidden", (n_out,), initializer("zeros"))

    def step(z: Tensor, states: Tensors) -> Tensors:
        (h,) = states
        r, keep, n = ((a, b) for a, b in zip(split(z, GRU_GATES), split(h @ u, GRU_GATES), strict=True))
        r, keep = (apply_activation(gate_fn, scope, a + b) for a, b in (r, keep))
        new = apply_activation(act_fn, scope, n[0] + r * (n[1] + b_hidden))
        return (new + keep * (h - new),)

    return step


def rnn_step(scope: Scope, n_out: int, act_fn: Activation | str, init: Initializer | str) -> Step:
    """The step of an RNN; declares U."""
    u = scope.parameter("U", (n_out, n_out), initializer(init))
    return lambda z, states: (apply_activation(act_fn, scope, z + states[0] @ u),)


def split(x: Tensor, parts: int) -> list[Tensor]:
    """The last axis in equal parts."""
    size = x.shape[-1] // parts
    return [x.slice(-1, index * size, (index + 1) * size) for index in range(parts)]


def loop(
    step: Step, projected: Tensor, first: Tensors, lengths: Tensor | None, reverse: bool
) -> tuple[Tensors, Tensor]:
    """(last states, outputs (time, batch, n_out)); steps behind the length of an example change nothing and give 0."""
    sequences = [projected] if lengths is None else [projected, _is_valid(projected, lengths)]

    def body(carries: Tensors, slices: Tensors, constants: Tensors) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        new = step(slices[0], carries)
        if lengths is None:
            return new, [new[0]]
        kept = [where(slices[1], after, before) for after, before in zip(new, carries, strict=True)]
        return kept, [where(slices[1], new[0], new[0].lift(0.0))]

    last, (outputs,) = scan(body, first, sequences, reverse=reverse)
    return last, outputs


def _is_valid(projected: Tensor, lengths: Tensor) -> Tensor:
    """Whether step t is one of the first `length` ones: bool (time, batch, 1)."""
    time, batch = projected.shape[:2]
    steps = iota(projected.builder, (time, batch, 1), 0, "int64")
    return steps < lengths.cast("int64").reshape((1, batch, 1))


def time_first(x: Tensor) -> Tensor:
    """X as (time, batch, n_in); done here because x is smaller than its product with W.

    Raises:
        ShapeError: x is not (batch, time, n_in).
    """
    if x.rank != 3:
        raise ShapeError("a recurrent layer takes sequences", expected="(batch, time, n_in)", got=x.spec)
    return x.transpose((1, 0, 2))


def _check_cell(x: Tensor, n_out: int, *states: Tensor) -> None:
    if x.rank != 2:
        raise ShapeError("a cell takes one step", expected="(batch, n_in)", got=x.spec, fix="the layer takes them all")
    _check_states(states, (x.shape[0], n_out))


def _check_states(states: Tensors, shape: Shape) -> None:
    for state in states:
        if state.shape != shape:
            raise ShapeError("a state does not fit", expected=f"({shape[0]}, {shape[1]})", got=state.spec)


def _sort_inputs(names: Sequence[str], shape: Shape, inputs: Tensors) -> tuple[Tensor | None, Tensors]:
    """(lengths or None, first states or none) from the inputs behind x; `shape` is that of a state."""
    states = tuple(tensor for tensor in inputs if tensor.spec.is_float)
    lengths = [tensor for tensor in inputs if not tensor.spec.is_float]
    if len(lengths) > 1 or len(states) not in (0, len(names)):
        expected = f"lengths (integers), or the first {' and '.join(names)}, or both"
        got = ", ".join(str(tensor.spec) for tensor in inputs)
        raise GraphError("wrong inputs behind the first one", expected=expected, got=got)
    _check_states(states, shape)
    for tensor in lengths:
        if tensor.dtype == "bool" or tensor.shape != shape[:1]:
            error = DTypeError if tensor.dtype == "bool" else ShapeError
            raise error("lengths must be one integer per example", expected=f"integers ({shape[0]},)", got=tensor.spec)
    return (lengths[0] if lengths else None), states
