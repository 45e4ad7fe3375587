"""NumericLayer: a layer whose forward and backward a user writes on arrays."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from graphnn.errors import GradientError, OptionError
from graphnn.graph.layer import Layer
from graphnn.graph.scope import Scope
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops.op import Array, ArrayModule, Tensor, spec_of
from graphnn.ops.opaque import Opaque


class NumericLayer(Layer):
    """A layer written on arrays, without parameters; it is drawn, scheduled and differentiated like the others.

    It runs on the reference path only and has no second derivative. Both methods must be functions of what they are
    given alone, as equal calls are merged. Prefer a `Layer` with `lower` where the formula can be written in tensors.
    """

    category = "numeric"

    @abstractmethod
    def output_spec(self, *specs: Any, **named: Any) -> TensorSpec | Sequence[TensorSpec]:
        """Spec of the output, or several; sizes may be named at declaration."""

    @abstractmethod
    def forward(self, xp: ArrayModule, *inputs: Any, **named: Any) -> Array | tuple[Array, ...]:
        """The outputs; `xp` is numpy or cupy."""

    @abstractmethod
    def backward(
        self, xp: ArrayModule, inputs: tuple[Array, ...], outputs: tuple[Array, ...], cotangents: tuple[Array, ...]
    ) -> Array | tuple[Array, ...]:
        """The gradient of each floating-point input, given those of the outputs."""

    def lower(self, scope: Scope, *inputs: Tensor) -> Any:
        """One opaque op."""
        return Opaque(self)(*inputs)

    # -- what the op calls --------------------------------------------------------------------------------------------

    def output_specs(self, *specs: TensorSpec) -> tuple[TensorSpec, ...]:
        """`output_spec` as a tuple."""
        result: Any = self.output_spec(*specs)
        found = tuple(result) if isinstance(result, (tuple, list)) else (result,)
        if not found or not all(isinstance(spec, TensorSpec) for spec in found):
            where, expected = self.default_name, "a TensorSpec, or several"
            raise OptionError(f"{self.kind}.output_spec gives no specs", where=where, expected=expected, got=found)
        return found

    def forward_arrays(self, xp: ArrayModule, *inputs: Array) -> tuple[Array, ...]:
        """`forward`, checked.

        Raises:
            OptionError: shapes differ from what `output_spec` promised.
        """
        specs = self.output_specs(*map(spec_of, inputs))
        return self._checked("forward", _arrays(xp, self.forward(xp, *inputs)), specs)

    def backward_arrays(
        self, xp: ArrayModule, inputs: tuple[Array, ...], outputs: tuple[Array, ...], cotangents: tuple[Array, ...]
    ) -> tuple[Array, ...]:
        """`backward`, checked.

        Raises:
            GradientError: not one gradient of the right shape per floating-point input.
        """
        specs = tuple(spec_of(array) for array in inputs if array.dtype.kind == "f")
        return self._checked("backward", _arrays(xp, self.backward(xp, inputs, outputs, cotangents)), specs)

    def _checked(self, method: str, arrays: tuple[Array, ...], specs: tuple[TensorSpec, ...]) -> tuple[Array, ...]:
        fits = [tuple(array.shape) for array in arrays] == [spec.shape for spec in specs]
        if not fits or any(array.dtype.kind not in "fiub" for array in arrays):
            kind = GradientError if method == "backward" else OptionError
            expected, got = (", ".join(map(str, some)) or "none" for some in (specs, map(_described, arrays)))
            message = f"{self.kind}.{method} gives wrong arrays"
            raise kind(message, where=self.default_name, expected=expected, got=got)
        return tuple(array.astype(spec.dtype) for array, spec in zip(arrays, specs, strict=True))


def _arrays(xp: ArrayModule, value: Array | tuple[Array, ...]) -> tuple[Array, ...]:
    return tuple(map(xp.asarray, value if isinstance(value, (tuple, list)) else (value,)))


def _described(array: Array) -> str:
    return f"{array.dtype}{list(array.shape)}"
