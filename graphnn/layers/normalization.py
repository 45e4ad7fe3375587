"""Normalizations: numbers shifted and scaled to mean 0 and variance 1, then by a learned slope and intercept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from graphnn.errors import OptionError, ShapeError
from graphnn.graph.layer import Layer
from graphnn.graph.scope import Scope
from graphnn.initializers import initializer
from graphnn.ir.dimension import Shape
from graphnn.ops.elementwise import sqrt
from graphnn.ops.op import Tensor, normalize_axes
from graphnn.ops.reduction import mean


@dataclass(frozen=True, eq=False)
class BatchNormalization(Layer):
    """What the batch norms share; they differ in the ranks that they take.

    Args:
        momentum: share of the running statistics that a training step keeps:
            running = momentum * running + (1 - momentum) * batch.
        epsilon: added to the variance.
    """

    category = "normalization"
    ranks: ClassVar[tuple[int, ...]] = ()  # () for any
    momentum: float = 0.9
    epsilon: float = 1e-5

    def lower(self, scope: Scope, x: Tensor) -> Tensor:
        self.check(x)
        shape = x.shape[-1:]
        scaler = scope.parameter("scaler", shape, initializer("ones"))
        intercept = scope.parameter("intercept", shape, initializer("zeros"))
        center, variance = self.statistics(scope, x, shape)
        return (x - center) * (scaler / sqrt(variance + self.epsilon)) + intercept

    def statistics(self, scope: Scope, x: Tensor, shape: Shape) -> tuple[Tensor, Tensor]:
        """Mean and biased variance of the batch while training, which then also move the running ones; else those."""
        running_mean = scope.state("running_mean", shape, initializer("zeros"))
        running_var = scope.state("running_var", shape, initializer("ones"))
        if scope.frozen or not scope.training:
            return running_mean, running_var
        center, variance = moments(x, tuple(range(x.rank - 1)))
        fresh = 1.0 - self.momentum
        scope.update_state("running_mean", running_mean * self.momentum + center.reshape(shape) * fresh)
        scope.update_state("running_var", running_var * self.momentum + variance.reshape(shape) * fresh)
        return center, variance

    def check(self, x: Tensor) -> None:
        """Raise unless momentum and epsilon make sense and x has one of the ranks."""
        if not 0.0 <= self.momentum <= 1.0:
            raise OptionError("the momentum is a share", expected="0 to 1", got=self.momentum)
        check_epsilon(self.epsilon)
        ranks = self.ranks or (x.rank,)
        if x.rank not in ranks or x.rank < 2:
            expected = " or ".join(map(str, self.ranks)) or "2 or more"
            raise ShapeError(
                f"{self.kind} needs a batch axis and channels last", expected=f"rank {expected}", got=x.spec
            )


@final
class BatchNorm(BatchNormalization):
    """y = scaler * (x - mean) / sqrt(var + epsilon) + intercept, with mean and var over all axes but the last.

    x, y: (batch, ..., ch); scaler, intercept, running_mean, running_var: (ch,). While training, mean and var are those
    of the batch (var biased: divided by the count), and the running statistics move towards them; in evaluation, and
    where the node is frozen, the running statistics stand in their place and do not move (Ioffe and Szegedy 2015).

    Args:
        momentum: share of the running statistics that a training step keeps:
            running = momentum * running + (1 - momentum) * batch.
        epsilon: added to the variance.
    """


@final
class BatchNorm1D(BatchNormalization):
    """BatchNorm of vectors (batch, ch) or sequences (batch, length, ch) only."""

    ranks: ClassVar[tuple[int, ...]] = (2, 3)


@final
class BatchNorm2D(BatchNormalization):
    """BatchNorm of images (batch, rows, cols, ch) only."""

    ranks: ClassVar[tuple[int, ...]] = (4,)


@final
@dataclass(frozen=True, eq=False)
class LayerNorm(Layer):
    """y = scaler * (x - mean) / sqrt(var + epsilon) + intercept, with mean and biased var of each example over `axes`.

    x, y: any shape; scaler and intercept: the sizes of `axes` (Ba, Kiros and Hinton 2016).

    Args:
        epsilon: added to the variance.
        axes: one axis or several, of integer sizes; the last by default.
    """

    category = "normalization"
    epsilon: float = 1e-5
    axes: int | tuple[int, ...] = -1

    def lower(self, scope: Scope, x: Tensor) -> Tensor:
        check_epsilon(self.epsilon)
        axes = normalize_axes(self.axes, x.rank)
        if not axes or axes[0] == 0:
            raise OptionError("the batch axis cannot be normalized here", expected="axes behind it", got=self.axes)
        shape = tuple(x.shape[axis] for axis in axes)
        spread = tuple(size if axis in axes else 1 for axis, size in enumerate(x.shape))
        scaler = scope.parameter("scaler", shape, initializer("ones")).reshape(spread)
        intercept = scope.parameter("intercept", shape, initializer("zeros")).reshape(spread)
        center, variance = moments(x, axes)
        return (x - center) / sqrt(variance + self.epsilon) * scaler + intercept


def moments(x: Tensor, axes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Mean and biased variance over `axes`, which stay with size 1.

    From the differences, not as mean(x**2) - mean(x)**2, which loses all digits where the mean is large.
    """
    center = mean(x, axes, keep=True)
    difference = x - center
    return center, mean(difference * difference, axes, keep=True)


def check_epsilon(epsilon: float) -> None:
    """Raise OptionError for a negative epsilon."""
    if not epsilon >= 0.0:
        raise OptionError("epsilon is negative", expected="0 or more", got=epsilon)
