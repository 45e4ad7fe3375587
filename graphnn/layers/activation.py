"""Activations: elementwise layers without parameters, and the `act_fn` arguments of other layers."""

from __future__ import annotations

import math
import re
from abc import abstractmethod
from ast import literal_eval
from dataclasses import dataclass
from typing import Any, final

from graphnn.errors import OptionError
from graphnn.graph.layer import Layer, snake_case
from graphnn.graph.scope import Scope
from graphnn.ops.elementwise import erf, exp, expm1, log1p, sigmoid, tanh, where
from graphnn.ops.op import Tensor
from graphnn.ops.reduction import log_softmax, softmax


class Activation(Layer):
    """y[i] = f(x[i])."""

    category = "activation"

    @abstractmethod
    def lower(self, scope: Scope, *inputs: Any, **named: Any) -> Tensor:
        """One tensor in, one of the same shape out."""


@final
class Identity(Activation):
    """y = x."""

    def lower(self, scope: Scope, x: Tensor) -> Tensor:
        """Nothing to do."""
        return x


@final
@dataclass(frozen=True, eq=False)
class Affine(Activation):
    """y = slope * x + intercept."""

    slope: float = 1.0
    intercept: float = 0.0

    def lower(self, scope: Scope, x: Tensor) -> Tensor:
        """A straight line."""
        return x * self.slope + self.intercept


@final
class ReLU(Activation):
    """y = x where x > 0, else 0; the slope at 0 is 0. NaN stays NaN."""

    def lower(self, scope: Scope, x: Tensor) -> Tensor:
        """By selection on x <= 0, which is false for NaN; the gradient is a selection too."""
        return where(x <= 0.0, x.lift(0.0), x)


@final
@dataclass(frozen=True, eq=False)
class LeakyReLU(Activation):
    """y = x where x > 0, else alpha * x."""

    alpha: float = 0.3

    def lower(self, scope: Scope, x: Tensor) -> Tensor:
        """By selection."""
        return where(x > 0.0, x, x * self.alpha)


@final
@dataclass(frozen=True, eq=False)
class ELU(Activation):
    """y = x where x > 0, else alpha * (exp(x) - 1)."""

    alpha: float = 1.0

    def lower(self, scope: Scope, x: Tensor) -> Tensor:
        """expm1 sees only x <= 0, so that the untaken side never overflows."""
        return where(x > 0.0, x, expm1(where(x > 0.0, x.lift(0.0), x)) * self.alpha)


@final
class SELU(Activation):
    """y = scale * (x where x > 0, else alpha * (exp(x) - 1)); Klambauer et al. 2017, constants from its appendix."""

    def lower(self, scope: Scope, x: Tensor) -> Tensor:
        """A scaled ELU."""
        alpha, scale = 1.6732632423543772, 1.0507009873554805
        return ELU(alpha).lower(scope, x) * scale


@final
@dataclass(frozen=True, eq=False)
class GELU(Activation):
    """y = x * Phi(x), or x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x**3))) if `approximate`.

    Hendrycks, Gimpel 2016.
    """

    approximate: bool = True

    def lower(self, scope: Scope, x: Tensor) -> Tensor:
        """By tanh or by erf."""
        if self.approximate:
            # Beyond 16, where tanh has long been 1, the slope of the cube would overflow in float16: 0 * inf is NaN.
            near = where(x > 16.0, x.lift(16.0), where(x < -16.0, x.lift(-16.0), x))
            return x * 0.5 * (1.0 + tanh((near + near * near * near * 0.044715) * math.sqrt(2.0 / math.pi)))
        return x * 0.5 * (1.0 + erf(x * math.sqrt(0.5)))


@final
class Tanh(Activation):
    """y = tanh(x)."""

    def lower(self, scope: Scope, x: Tensor) -> Tensor:
        """Hyperbolic tangent."""
        return tanh(x)


@final
class Sigmoid(Activation):
    """y = 1 / (1 + exp(-x))."""

    def lower(self, scope: Scope, x: Tensor) -> Tensor:
        """Logistic function."""
        return sigmoid(x)


@final
class HardSigmoid(Activation):
    """y = 0.2 * x + 0.5, cut to 0..1."""

    def lower(self, scope: Scope, x: Tensor) -> Tensor:
        """By selection."""
        line = x * 0.2 + 0.5
        return where(line < 0.0, x.lift(0.0), where(line > 1.0, x.lift(1.0), line))


@final
class Exponential(Activation):
    """y = exp(x)."""

    def lower(self, scope: Scope, x: Tensor) -> Tensor:
        """Exponential function."""
        return exp(x)


@final
class SoftPlus(Activation):
    """y = log(1 + exp(x))."""

    def lower(self, scope: Scope, x: Tensor) -> Tensor:
        """max(x, 0) + log1p(exp(-|x|)), which cannot overflow."""
        size = where(x > 0.0, x, -x)
        return where(x > 0.0, x, x.lift(0.0)) + log1p(exp(-size))


@final
class Swish(Activation):
    """y = x * sigmoid(x)."""

    def lower(self, scope: Scope, x: Tensor) -> Tensor:
        """Also called SiLU."""
        return x * sigmoid(x)


@final
@dataclass(frozen=True, eq=False)
class Softmax(Layer):
    """y = exp(x) / sum(exp(x)) along `axis`; a row of only -inf gives zeros."""

    category = "activation"
    axis: int = -1

    def lower(self, scope: Scope, x: Tensor) -> Tensor:
        """Shifted by the largest element."""
        return softmax(x, self.axis)


@final
@dataclass(frozen=True, eq=False)
class LogSoftmax(Layer):
    """y = x - log(sum(exp(x))) along `axis`."""

    category = "activation"
    axis: int = -1

    def lower(self, scope: Scope, x: Tensor) -> Tensor:
        """Shifted by the largest element."""
        return log_softmax(x, self.axis)


_ACTIVATIONS = {kind.__name__: kind for kind in Activation.__subclasses__()}
_BY_NAME = {name.lower(): kind for name, kind in _ACTIVATIONS.items()} | {
    snake_case(name): kind for name, kind in _ACTIVATIONS.items()
}


def activation(value: Activation | str | None) -> Activation:
    """The activation layer meant by a layer, a name ("relu", "LeakyReLU(alpha=0.1)") or None (Identity).

    Raises:
        OptionError: the name is unknown; lists the names.
    """
    if value is None:
        return Identity()
    if isinstance(value, Activation):
        return value
    match = re.fullmatch(r"\s*(\w+)\s*(?:\((.*)\))?\s*", value) if isinstance(value, str) else None
    kind = _BY_NAME.get(match[1].lower()) if match else None
    if match is None or kind is None:
        raise OptionError("unknown activation", expected=", ".join(_ACTIVATIONS), got=repr(value))
    try:
        return kind(**_keywords(match[2] or ""))
    except (TypeError, ValueError, SyntaxError):
        raise OptionError(
            "wrong arguments of an activation", expected=f"{kind.__name__}(name=number)", got=value
        ) from None


def _keywords(text: str) -> dict[str, Any]:
    pairs = (part.split("=") for part in text.split(",") if part.strip())
    return {key.strip(): literal_eval(value.strip()) for key, value in pairs}


def apply_activation(act_fn: Activation | str | None, scope: Scope, x: Tensor) -> Tensor:
    """`act_fn` on x, in a scope of its own."""
    return activation(act_fn).lower(scope.child("act_fn"), x)
