"""Learning rates as functions of the step alone, so that resuming at a step needs nothing but its number."""

from __future__ import annotations

import bisect
import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar, final

from graphnn.configurable import Configurable, choose
from graphnn.errors import OptionError


class Schedule(Configurable, ABC):
    """A learning rate for each step; steps count from 0."""

    family = "schedule"

    def __call__(self, step: int) -> float:
        """The learning rate of the step.

        Raises:
            OptionError: the step is negative.
        """
        step = operator.index(step)  # NumPy's integers have another rounding of powers
        if step < 0:
            raise OptionError("a step is negative", where=type(self).__name__, expected="0 or more", got=step)
        return float(self.rate(step))

    @abstractmethod
    def rate(self, step: int) -> float:
        """The learning rate of a step >= 0."""


@final
@dataclass(frozen=True)
class Constant(Schedule):
    """`value` at every step."""

    value: float = 0.01
    intervals: ClassVar[dict[str, str]] = {"value": "[0, inf)"}

    def rate(self, step: int) -> float:
        """The value."""
        return self.value


@final
@dataclass(frozen=True)
class Exponential(Schedule):
    """initial * decay ** (step / stage_length); with `staircase` the exponent is rounded down to an integer."""

    initial: float = 0.01
    decay: float = 0.1
    stage_length: int = 500
    staircase: bool = False
    intervals: ClassVar[dict[str, str]] = {"initial": "[0, inf)", "decay": "(0, 1]", "stage_length": "integer [1, inf)"}

    def rate(self, step: int) -> float:
        """After each `stage_length` steps a factor of `decay`."""
        stages = step // self.stage_length if self.staircase else step / self.stage_length
        return self.initial * self.decay**stages


@final
@dataclass(frozen=True)
class Step(Schedule):
    """initial * factor ** (number of `boundaries` that are <= step).

    Args:
        initial: before the first boundary.
        boundaries: steps, in rising order, at which the rate changes.
        factor: of each change.
    """

    initial: float = 0.01
    boundaries: tuple[int, ...] = (1000,)
    factor: float = 0.1
    intervals: ClassVar[dict[str, str]] = {"initial": "[0, inf)", "factor": "[0, inf)"}

    def __post_init__(self) -> None:
        Schedule.__post_init__(self)
        boundaries = tuple(self.boundaries)
        if list(boundaries) != sorted(set(boundaries)) or any(not isinstance(b, int) or b < 0 for b in boundaries):
            expected = "rising integers >= 0"
            raise OptionError("`boundaries` do not fit", where="Step", expected=expected, got=self.boundaries)
        object.__setattr__(self, "boundaries", boundaries)  # JSON gives a list

    def rate(self, step: int) -> float:
        """Constant between boundaries."""
        return self.initial * self.factor ** bisect.bisect_right(self.boundaries, step)


@final
@dataclass(frozen=True)
class Cosine(Schedule):
    """final + (initial - final) * (1 + cos(pi * t)) / 2 with t = min(step / steps, 1).

    One period of Loshchilov and Hutter 2017 (SGDR), without restarts: from `initial` at step 0 to `final` at `steps`,
    and `final` from there on.
    """

    initial: float = 0.01
    steps: int = 1000
    final: float = 0.0
    intervals: ClassVar[dict[str, str]] = {"initial": "[0, inf)", "steps": "integer [1, inf)", "final": "[0, inf)"}

    def rate(self, step: int) -> float:
        """Half a cosine."""
        half = (1.0 + math.cos(math.pi * min(step / self.steps, 1.0))) / 2.0
        return self.final + (self.initial - self.final) * half


@final
@dataclass(frozen=True)
class WarmUp(Schedule):
    """after(0) * (step + 1) / steps while step < steps, then after(step - steps) (Goyal et al. 2017).

    Args:
        after: the schedule that follows; a number stands for `Constant`.
        steps: number of steps that lead to its first value, which the last of them has.
    """

    after: Schedule | float = 0.01
    steps: int = 100
    intervals: ClassVar[dict[str, str]] = {"steps": "integer [1, inf)"}

    def __post_init__(self) -> None:
        Schedule.__post_init__(self)
        object.__setattr__(self, "after", schedule(self.after))

    def rate(self, step: int) -> float:
        """A straight line, then the other schedule from its own step 0 on."""
        after = schedule(self.after)
        return after(step - self.steps) if step >= self.steps else after(0) * (step + 1) / self.steps


@final
@dataclass(frozen=True)
class Noam(Schedule):
    """scale_factor / sqrt(model_dim) * min(t ** -0.5, t * warmup_steps ** -1.5) with t = step + 1.

    Rises in a straight line for `warmup_steps`, then falls as one over the root (Vaswani et al. 2017).
    """

    model_dim: int = 512
    scale_factor: float = 1.0
    warmup_steps: int = 4000
    intervals: ClassVar[dict[str, str]] = {
        "model_dim": "integer [1, inf)",
        "scale_factor": "(0, inf)",
        "warmup_steps": "integer [1, inf)",
    }

    def rate(self, step: int) -> float:
        """The paper counts steps from 1."""
        t = step + 1
        return self.scale_factor * self.model_dim**-0.5 * min(t**-0.5, t * self.warmup_steps**-1.5)


def schedule(value: Schedule | float | str | Mapping[str, Any]) -> Schedule:
    """The schedule that is meant: itself, a number for `Constant`, a name, or what `to_config` gave.

    Raises:
        OptionError: it is unknown, or its options do not fit.
    """
    if isinstance(value, Real) and not isinstance(value, bool):
        return Constant(float(value))
    return choose(Schedule, value)
