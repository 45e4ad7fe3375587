"""Ops that make values, or pass them on under another type or without a gradient: fill, iota, cast, stop_gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from graphnn.errors import DTypeError, OptionError
from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.dimension import Shape
from graphnn.ir.tensor_spec import FLOATS, INTEGERS, TensorSpec
from graphnn.ops.op import Array, ArrayModule, Op, Tensor, emit


@final
@dataclass(frozen=True)
class Fill(Op):
    """y[...] = value."""

    name = "fill"
    value: float
    shape: Shape = ()
    dtype: str = "float32"

    def infer(self, *specs: TensorSpec) -> tuple[TensorSpec, ...]:
        """No inputs; the attributes say all."""
        if self.dtype in INTEGERS and self.value != int(self.value):
            raise DTypeError("a fraction cannot take an integer dtype", expected=self.dtype, got=self.value)
        return (TensorSpec(self.shape, self.dtype),)

    def reference(self, xp: ArrayModule, *arrays: Array) -> Array:
        """xp.full."""
        return xp.full(self.shape, self.value, self.dtype)


@final
@dataclass(frozen=True)
class Iota(Op):
    """y[..., i, ...] = i along `axis`."""

    name = "iota"
    shape: Shape
    axis: int = 0
    dtype: str = "int64"

    def infer(self, *specs: TensorSpec) -> tuple[TensorSpec, ...]:
        """No inputs; the attributes say all."""
        if not 0 <= self.axis < len(self.shape):
            raise OptionError("an axis is out of range", expected=f"0 to {len(self.shape) - 1}", got=self.axis)
        return (TensorSpec(self.shape, self.dtype),)

    def reference(self, xp: ArrayModule, *arrays: Array) -> Array:
        """xp.arange, broadcast."""
        steps = xp.arange(self.shape[self.axis], dtype=self.dtype)
        column = steps.reshape([-1 if axis == self.axis else 1 for axis in range(len(self.shape))])
        return xp.broadcast_to(column, self.shape)


@final
@dataclass(frozen=True)
class Cast(Op):
    """y = x in another dtype; fractions are cut towards zero. The gradient is cast back, between floats only."""

    name = "cast"
    expression = "T(x0)"
    dtype: str

    def infer(self, *specs: TensorSpec) -> tuple[TensorSpec, ...]:
        """The same shape."""
        return (specs[0].with_dtype(self.dtype),)

    def reference(self, xp: ArrayModule, *arrays: Array) -> Array:
        """ndarray.astype."""
        return arrays[0].astype(self.dtype)

    def vjp(self, inputs, outputs, cotangents):
        (x,), (dy,) = inputs, cotangents
        return (dy.cast(x.dtype) if x.dtype in FLOATS and self.dtype in FLOATS else None,)


@final
class StopGradient(Op):
    """y = x, and no gradient passes: for terms whose gradient is known to cancel, such as the shift of a softmax."""

    name = "stop_gradient"
    is_view: ClassVar[bool] = True

    def infer(self, *specs: TensorSpec) -> tuple[TensorSpec, ...]:
        """The same spec."""
        return (specs[0],)

    def reference(self, xp: ArrayModule, *arrays: Array) -> Array:
        """The array itself."""
        return arrays[0]


stop_gradient = StopGradient()


def fill(builder: ProgramBuilder, value: float, shape: Shape = (), dtype: str = "float32") -> Tensor:
    """A constant tensor."""
    return emit(Fill(value, shape, dtype), (), builder)[0]


def iota(builder: ProgramBuilder, shape: Shape, axis: int = 0, dtype: str = "int64") -> Tensor:
    """Indices along one axis."""
    return emit(Iota(shape, axis % len(shape), dtype), (), builder)[0]
