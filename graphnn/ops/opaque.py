"""Opaque: a user's own forward and backward on arrays as one op."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol, final

from graphnn.errors import GradientError, ShapeError
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops.op import Array, ArrayModule, Op, Tensor


class NumericFunction(Protocol):
    """What an opaque op calls."""

    def output_specs(self, *specs: TensorSpec) -> tuple[TensorSpec, ...]:
        """Specs of the outputs."""
        ...

    def forward_arrays(self, xp: ArrayModule, *inputs: Array) -> tuple[Array, ...]:
        """The outputs."""
        ...

    def backward_arrays(
        self, xp: ArrayModule, inputs: tuple[Array, ...], outputs: tuple[Array, ...], cotangents: tuple[Array, ...]
    ) -> tuple[Array, ...]:
        """One gradient per floating-point input."""
        ...


@final
@dataclass(frozen=True)
class Opaque(Op):
    """outputs = function.forward_arrays(inputs); its gradient is one more opaque op, without a gradient of its own."""

    name: ClassVar[str] = "opaque"
    may_fail: ClassVar[bool] = True
    function: NumericFunction

    def infer(self, *specs: TensorSpec) -> tuple[TensorSpec, ...]:
        """What the function says."""
        return tuple(self.function.output_specs(*specs))

    def reference(self, xp: ArrayModule, *arrays: Array) -> tuple[Array, ...]:
        """The user's code; it gets copies, so that writing into its arguments harms nothing."""
        return tuple(self.function.forward_arrays(xp, *(array.copy() for array in arrays)))

    def vjp(self, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...], cotangents: tuple[Tensor, ...]):
        """An OpaqueGradient of the same function."""
        gradients = OpaqueGradient(self.function, len(inputs), len(outputs))(*inputs, *outputs, *cotangents)
        found = iter(gradients if isinstance(gradients, tuple) else (gradients,))
        return tuple(next(found) if x.spec.is_float else None for x in inputs)


@final
@dataclass(frozen=True)
class OpaqueGradient(Op):
    """gradients of floating-point inputs = function.backward_arrays(inputs, outputs, cotangents)."""

    name: ClassVar[str] = "opaque_gradient"
    may_fail: ClassVar[bool] = True
    function: NumericFunction
    n_inputs: int
    n_outputs: int

    def infer(self, *specs: TensorSpec) -> tuple[TensorSpec, ...]:
        """The specs of the floating-point inputs; outputs and cotangents must be as the function says."""
        outputs = tuple(self.function.output_specs(*specs[: self.n_inputs]))
        if specs[self.n_inputs :] != outputs * 2:
            expected, got = (", ".join(map(str, some)) for some in (outputs * 2, specs[self.n_inputs :]))
            raise ShapeError("outputs and cotangents do not fit", expected=expected, got=got or "none")
        return tuple(spec for spec in specs[: self.n_inputs] if spec.is_float)

    def reference(self, xp: ArrayModule, *arrays: Array) -> tuple[Array, ...]:
        """The user's code."""
        copies = tuple(array.copy() for array in arrays)
        first, second = self.n_inputs, self.n_inputs + self.n_outputs
        return tuple(self.function.backward_arrays(xp, copies[:first], copies[first:second], copies[second:]))

    def vjp(self, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...], cotangents: tuple[Tensor, ...]):
        """There is none: numbers were computed outside of the program."""
        raise GradientError(
            "a numeric layer has no second derivative", where=type(self.function).__name__,
            fix="write it as a Layer with `lower`: then every derivative exists",
        )  # fmt: skip
