"""Layers that join tensors elementwise: Add, Multiply and what operators on symbolic tensors stand for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import add, mul
from typing import Any, final

from graphnn.errors import ShapeError
from graphnn.graph.layer import Layer
from graphnn.graph.scope import Scope
from graphnn.layers.activation import Activation, apply_activation
from graphnn.ops.op import Tensor


@dataclass(frozen=True, eq=False)
class Join(Layer):
    """One tensor from several of equal shape; no broadcasting, so that a wrong channel count cannot pass."""

    category = "join"
    act_fn: Activation | str | None = None

    def check(self, inputs: tuple[Tensor, ...]) -> None:
        """Raise ShapeError unless all shapes are equal."""
        if len({tensor.shape for tensor in inputs}) > 1:
            got = " and ".join(str(tensor.spec) for tensor in inputs)
            fix = _advice([tensor.shape for tensor in inputs])
            raise ShapeError(f"{self.kind} needs inputs of equal shape", expected=str(inputs[0].spec), got=got, fix=fix)


def _advice(shapes: list[tuple[Any, ...]]) -> str:
    """What makes unequal shapes equal."""
    if len({len(shape) for shape in shapes}) > 1:
        return "give all as many axes, for example with Reshape"
    unequal = [axis for axis, sizes in enumerate(zip(*shapes, strict=True)) if len(set(sizes)) > 1]
    if unequal == [len(shapes[0]) - 1]:
        return f"bring the last axis of all to {shapes[0][-1]}, for example with Linear or a convolution of width 1"
    axes = ", ".join(map(str, unequal))
    return f"make axis {axes} equal: pad and stride of the layers in front change it, and so do Pad and Slice"


@final
class Add(Join):
    """y = act_fn(x1 + x2 + ...), all of one shape."""

    def lower(self, scope: Scope, *inputs: Tensor) -> Tensor:
        """Elementwise sum."""
        self.check(inputs)
        return apply_activation(self.act_fn, scope, reduce(add, inputs))


@final
class Multiply(Join):
    """y = act_fn(x1 * x2 * ...), all of one shape."""

    def lower(self, scope: Scope, *inputs: Tensor) -> Tensor:
        """Elementwise product."""
        self.check(inputs)
        return apply_activation(self.act_fn, scope, reduce(mul, inputs))


@final
class Average(Join):
    """y = act_fn((x1 + x2 + ...) / n), all n of one shape."""

    def lower(self, scope: Scope, *inputs: Tensor) -> Tensor:
        """Elementwise mean."""
        self.check(inputs)
        return apply_activation(self.act_fn, scope, reduce(add, inputs) * (1.0 / len(inputs)))


@final
class Subtract(Join):
    """y = x1 - x2, of one shape."""

    def lower(self, scope: Scope, x1: Tensor, x2: Tensor) -> Tensor:
        """Elementwise difference."""
        self.check((x1, x2))
        return apply_activation(self.act_fn, scope, x1 - x2)


@final
class Divide(Join):
    """y = x1 / x2, of one shape."""

    def lower(self, scope: Scope, x1: Tensor, x2: Tensor) -> Tensor:
        """Elementwise quotient."""
        self.check((x1, x2))
        return apply_activation(self.act_fn, scope, x1 / x2)


@final
class MatMul(Layer):
    """y[..., i, j] = sum over k of x1[..., i, k] * x2[..., k, j]."""

    category = "join"

    def lower(self, scope: Scope, x1: Tensor, x2: Tensor) -> Tensor:
        """Batched matrix product."""
        return x1 @ x2


@dataclass(frozen=True, eq=False)
class Scalar(Layer):
    """A tensor and a number; `reverse` puts the number first."""

    category = "join"
    number: float
    reverse: bool = False


@final
class ScalarAdd(Scalar):
    """y = x + number."""

    def lower(self, scope: Scope, x: Tensor) -> Tensor:
        """Elementwise sum."""
        return x + self.number


@final
class ScalarSubtract(Scalar):
    """y = x - number, or number - x."""

    def lower(self, scope: Scope, x: Tensor) -> Tensor:
        """Elementwise difference."""
        return self.number - x if self.reverse else x - self.number


@final
class ScalarMultiply(Scalar):
    """y = x * number."""

    def lower(self, scope: Scope, x: Tensor) -> Tensor:
        """Elementwise product."""
        return x * self.number


@final
class ScalarDivide(Scalar):
    """y = x / number, or number / x."""

    def lower(self, scope: Scope, x: Tensor) -> Tensor:
        """Elementwise quotient."""
        return self.number / x if self.reverse else x / self.number
