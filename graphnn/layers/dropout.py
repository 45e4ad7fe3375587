"""Dropout: random zeros while training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from graphnn.errors import DTypeError, OptionError
from graphnn.graph.layer import Layer
from graphnn.graph.scope import Scope
from graphnn.ops.elementwise import where
from graphnn.ops.op import Tensor


@final
@dataclass(frozen=True, eq=False)
class Dropout(Layer):
    """y = x / (1 - p) with probability 1 - p, else 0, for each element; y = x in evaluation and where frozen.

    So the expected value of y is x in both modes (Srivastava et al. 2014; the scale is applied while training). The
    mask is a function of the model's seed, the node's path and the step.

    Args:
        p: probability of a zero, 0 <= p < 1.
    """

    category = "dropout"
    p: float = 0.5

    def lower(self, scope: Scope, x: Tensor) -> Tensor:
        if not 0.0 <= self.p < 1.0:
            raise OptionError("the dropout probability is out of range", expected="0 <= p < 1", got=self.p)
        if not x.spec.is_float:
            raise DTypeError("Dropout needs floats, as it scales them", expected="a floating-point dtype", got=x.spec)
        if not scope.training or scope.frozen or self.p == 0.0:
            return x
        keep = 1.0 - self.p
        return where(scope.keep_mask(x.shape, keep), x * (1.0 / keep), x.lift(0.0))
