"""Optimizers: from a parameter, its gradient and what is remembered of it to the parameter after the step.

The formulas are those of torch.optim, so that settings found in papers and elsewhere mean the same here. In all of them
p is the parameter, g its gradient, lr the learning rate and t the number of the step, from 1 on.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, final

from graphnn.configurable import Configurable, choose
from graphnn.errors import OptionError
from graphnn.ops.arithmetic import maximum, minimum
from graphnn.ops.elementwise import expm1, sqrt
from graphnn.ops.op import Tensor
from graphnn.ops.reduction import squared_norm
from graphnn.schedules import Schedule, schedule

CLIP_EPSILON = 1e-6  # keeps the factor of a zero gradient finite


class Memory(Protocol):
    """What an optimizer remembers of one parameter from step to step: arrays of the parameter's shape and dtype."""

    def get(self, name: str, initial: float = 0.0) -> Tensor:
        """The array `name`, at the first step filled with `initial`; after `set` the new one."""
        ...

    def set(self, name: str, new: Tensor) -> None:
        """`new` is what the next step gets."""
        ...


@dataclass(frozen=True)
class Optimizer(Configurable, ABC):
    """A rule that moves parameters against their gradients.

    Args:
        learning_rate: a number, or a Schedule.
        clip_norm: where the norm of all gradients together is larger, all are scaled down to it.
        clip_value: then each element is cut to -clip_value to clip_value.
    """

    family = "optimizer"
    learning_rate: float | Schedule = 0.01
    clip_norm: float | None = field(default=None, kw_only=True)
    clip_value: float | None = field(default=None, kw_only=True)
    intervals: ClassVar[dict[str, str]] = {"clip_norm": "(0, inf)", "clip_value": "(0, inf)"}

    def __post_init__(self) -> None:
        Configurable.__post_init__(self)
        if isinstance(self.learning_rate, Mapping):  # a Schedule in a config
            object.__setattr__(self, "learning_rate", schedule(self.learning_rate))
        if not isinstance(self.learning_rate, Schedule):
            self.check_number("learning_rate", "[0, inf)")

    @abstractmethod
    def update(
        self, memory: Memory, parameter: Tensor, gradient: Tensor, learning_rate: Tensor, step: Tensor
    ) -> Tensor:
        """The parameter after the step.

        Args:
            memory: of this parameter.
            parameter: before the step.
            gradient: of the loss, clipped already; of the parameter's shape and dtype.
            learning_rate: scalar of the parameter's dtype.
            step: scalar of the parameter's dtype; the first step is 1.
        """

    def clip(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        """All gradients, clipped by their common norm, then by value.

        g * min(1, clip_norm / (norm + 1e-6)), norm = sqrt(sum of the squares of all elements of all gradients), as
        torch.nn.utils.clip_grad_norm_ (Pascanu et al. 2013). The squares are added in the order of the gradients; those
        of float16 in float32.
        """
        clipped = list(gradients)
        if self.clip_norm is not None and clipped:
            factor = _clip_factor(clipped, float(self.clip_norm))
            clipped = [gradient * factor.cast(gradient.dtype) for gradient in clipped]
        if self.clip_value is not None:
            limit = float(self.clip_value)
            clipped = [minimum(maximum(g, g.lift(-limit)), g.lift(limit)) for g in clipped]
        return clipped


def _clip_factor(gradients: Sequence[Tensor], clip_norm: float) -> Tensor:
    squares = [squared_norm(g.cast("float32") if g.dtype == "float16" else g) for g in gradients]
    total = squares[0]
    for square in squares[1:]:
        total = total + square
    return minimum(clip_norm / (sqrt(total) + CLIP_EPSILON), total.lift(1.0))


@final
@dataclass(frozen=True)
class SGD(Optimizer):
    """p - lr * g; with momentum v = momentum * v + g and p - lr * v, with Nesterov's p - lr * (g + momentum * v).

    In all three g includes weight_decay * p (Sutskever et al. 2013, in the form of torch.optim.SGD without dampening).

    Args:
        momentum: share of v that a step keeps.
        nesterov: look ahead along v; needs momentum.
        weight_decay: factor of p that is added to its gradient.
    """

    learning_rate: float | Schedule = 0.01
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    intervals: ClassVar[dict[str, str]] = {**Optimizer.intervals, "momentum": "[0, inf)", "weight_decay": "[0, inf)"}

    def __post_init__(self) -> None:
        Optimizer.__post_init__(self)
        if self.nesterov and not self.momentum:
            raise OptionError("`nesterov` needs momentum", where="SGD", expected="momentum > 0", got=self.momentum)

    def update(
        self, memory: Memory, parameter: Tensor, gradient: Tensor, learning_rate: Tensor, step: Tensor
    ) -> Tensor:
        """Remembers `velocity`, if there is momentum."""
        gradient = _with_weight_decay(parameter, gradient, self.weight_decay)
        if not self.momentum:
            return parameter - gradient * learning_rate
        momentum = float(self.momentum)
        velocity = memory.get("velocity") * momentum + gradient
        memory.set("velocity", velocity)
        return parameter - (gradient + velocity * momentum if self.nesterov else velocity) * learning_rate


@dataclass(frozen=True)
class AdaptiveMoments(Optimizer, ABC):
    """What Adam and AdamW share: a step along the running mean of g over the root of the running mean of g**2.

    m = beta1 * m + (1 - beta1) * g;  v = beta2 * v + (1 - beta2) * g**2
    change = lr * (m / (1 - beta1**t)) / (sqrt(v / (1 - beta2**t)) + epsilon)

    Args:
        beta1: share of m that a step keeps.
        beta2: share of v that a step keeps.
        epsilon: added to the root.
        weight_decay: see the class.
        amsgrad: use the largest v so far in place of v (Reddi et al. 2018).
    """

    learning_rate: float | Schedule = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    amsgrad: bool = False
    intervals: ClassVar[dict[str, str]] = {
        **Optimizer.intervals,
        "beta1": "[0, 1)",
        "beta2": "[0, 1)",
        "epsilon": "[0, inf)",
        "weight_decay": "[0, inf)",
    }

    def change(self, memory: Memory, gradient: Tensor, learning_rate: Tensor, step: Tensor) -> Tensor:
        """What the parameter loses; remembers `m`, `v` and, for amsgrad, `v_max`."""
        m = _moving_average(memory, "m", gradient, self.beta1)
        v = _moving_average(memory, "v", gradient * gradient, self.beta2)
        if self.amsgrad:
            v = maximum(memory.get("v_max"), v)
            memory.set("v_max", v)
        # The corrections are scalars: as factors of the step and of the root they cost nothing per element.
        root = sqrt(v) * (1.0 / sqrt(_one_minus_power(self.beta2, step)))
        return m * (learning_rate / _one_minus_power(self.beta1, step)) / (root + float(self.epsilon))


@final
class Adam(AdaptiveMoments):
    """p - change, with the `change` above; weight_decay * p is added to g (Kingma and Ba 2015).

    The weight decay takes part in both running means; see AdamW for one that does not.
    """

    def update(
        self, memory: Memory, parameter: Tensor, gradient: Tensor, learning_rate: Tensor, step: Tensor
    ) -> Tensor:
        """Remembers `m` and `v`."""
        gradient = _with_weight_decay(parameter, gradient, self.weight_decay)
        return parameter - self.change(memory, gradient, learning_rate, step)


@final
@dataclass(frozen=True)
class AdamW(AdaptiveMoments):
    """p * (1 - lr * weight_decay) - change, with the `change` above (Loshchilov and Hutter 2019)."""

    weight_decay: float = 0.01

    def update(
        self, memory: Memory, parameter: Tensor, gradient: Tensor, learning_rate: Tensor, step: Tensor
    ) -> Tensor:
        """Remembers `m` and `v`."""
        if self.weight_decay:
            parameter = parameter * (1.0 - learning_rate * float(self.weight_decay))
        return parameter - self.change(memory, gradient, learning_rate, step)


@final
@dataclass(frozen=True)
class AdaGrad(Optimizer):
    """s = s + g**2;  p - lr * g / (sqrt(s) + epsilon) (Duchi, Hazan and Singer 2011).

    Args:
        epsilon: added to the root.
        initial_sum: of s, before the first step.
        weight_decay: factor of p that is added to its gradient.
    """

    learning_rate: float | Schedule = 0.01
    epsilon: float = 1e-10
    initial_sum: float = 0.0
    weight_decay: float = 0.0
    intervals: ClassVar[dict[str, str]] = {
        **Optimizer.intervals,
        "epsilon": "[0, inf)",
        "initial_sum": "[0, inf)",
        "weight_decay": "[0, inf)",
    }

    def update(
        self, memory: Memory, parameter: Tensor, gradient: Tensor, learning_rate: Tensor, step: Tensor
    ) -> Tensor:
        """Remembers `sum`."""
        gradient = _with_weight_decay(parameter, gradient, self.weight_decay)
        total = memory.get("sum", float(self.initial_sum)) + gradient * gradient
        memory.set("sum", total)
        return parameter - gradient * learning_rate / (sqrt(total) + float(self.epsilon))


@final
@dataclass(frozen=True)
class RMSProp(Optimizer):
    """v = decay * v + (1 - decay) * g**2;  p - lr * g / (sqrt(v) + epsilon) (Hinton, lecture notes of 2012).

    With momentum, b = momentum * b + g / (sqrt(v) + epsilon) and p - lr * b. Centered (Graves 2013), the variance
    v - (running mean of g)**2 stands in place of v.

    Args:
        decay: share of the running means that a step keeps (torch calls it alpha).
        epsilon: added to the root.
        weight_decay: factor of p that is added to its gradient.
        momentum: share of b that a step keeps.
        centered: divide by the standard deviation.
    """

    learning_rate: float | Schedule = 0.01
    decay: float = 0.99
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    momentum: float = 0.0
    centered: bool = False
    intervals: ClassVar[dict[str, str]] = {
        **Optimizer.intervals,
        "decay": "[0, 1)",
        "epsilon": "[0, inf)",
        "weight_decay": "[0, inf)",
        "momentum": "[0, inf)",
    }

    def update(
        self, memory: Memory, parameter: Tensor, gradient: Tensor, learning_rate: Tensor, step: Tensor
    ) -> Tensor:
        """Remembers `v`; when centered `mean`, with momentum `velocity`."""
        gradient = _with_weight_decay(parameter, gradient, self.weight_decay)
        v = _moving_average(memory, "v", gradient * gradient, self.decay)
        if self.centered:
            center = _moving_average(memory, "mean", gradient, self.decay)
            v = maximum(v - center * center, v.lift(0.0))  # rounding can make a zero variance negative
        direction = gradient / (sqrt(v) + float(self.epsilon))
        if self.momentum:
            direction = memory.get("velocity") * float(self.momentum) + direction
            memory.set("velocity", direction)
        return parameter - direction * learning_rate


def _with_weight_decay(parameter: Tensor, gradient: Tensor, weight_decay: float) -> Tensor:
    return gradient + parameter * float(weight_decay) if weight_decay else gradient


def _moving_average(memory: Memory, name: str, new: Tensor, kept: float) -> Tensor:
    average = memory.get(name) * float(kept) + new * (1.0 - kept)
    memory.set(name, average)
    return average


def _one_minus_power(base: float, exponent: Tensor) -> Tensor:
    """1 - base**exponent, as -expm1(exponent * log(base)): 1 - 0.999 would lose four digits of float32."""
    if base == 0:
        return exponent.lift(1.0)
    return -expm1(exponent * math.log(base))


def optimizer(value: Optimizer | str | Mapping[str, Any]) -> Optimizer:
    """The optimizer that is meant: itself, its name ("adam"), or what `to_config` gave.

    Raises:
        OptionError: the name is unknown, or the options do not fit.
    """
    return choose(Optimizer, value)
