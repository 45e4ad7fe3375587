"""Dense layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from graphnn.errors import ShapeError
from graphnn.graph.layer import Layer
from graphnn.graph.scope import Scope
from graphnn.initializers import Initializer, initializer
from graphnn.layers.activation import Activation, apply_activation
from graphnn.ops.op import Tensor


@final
@dataclass(frozen=True, eq=False)
class Linear(Layer):
    """y = act_fn(x @ W + b); x: (..., n_in), W: (n_in, n_out), b: (n_out,), y: (..., n_out).

    n_in is read off the input; give `n_in` to have it checked.
    """

    category = "layer"
    n_out: int
    act_fn: Activation | str | None = None
    bias: bool = True
    init: Initializer | str = "glorot_uniform"
    n_in: int | None = None

    def lower(self, scope: Scope, x: Tensor) -> Tensor:
        """A matrix product over the last axis."""
        if x.rank < 2 or (self.n_in is not None and x.shape[-1] != self.n_in):
            raise ShapeError(
                "Linear needs (..., n_in)", expected=f"(..., {self.n_in or 'n_in'}) of rank 2 or more", got=x.spec
            )
        y = x @ scope.parameter("W", (x.shape[-1], self.n_out), initializer(self.init))
        if self.bias:
            y = y + scope.parameter("b", (self.n_out,), initializer("zeros"))
        return apply_activation(self.act_fn, scope, y)
