"""Losses: formulas from a prediction and a target to one number, written in ops, so that they are differentiated.

Every loss has a `reduction`:

- "mean": the mean over all elements (for CrossEntropy: over all labels);
- "sum": their sum;
- "batch": the sum over all axes but the first, then the mean over the first.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

from graphnn.configurable import Configurable, choose
from graphnn.errors import DTypeError, OptionError, ShapeError
from graphnn.ir.tensor_spec import INTEGERS, TensorSpec
from graphnn.ops.arithmetic import maximum, minimum
from graphnn.ops.comparison import equal, not_equal
from graphnn.ops.elementwise import absolute, exp, log1p, where
from graphnn.ops.indexing import gather_along
from graphnn.ops.op import Tensor
from graphnn.ops.reduction import log_softmax, mean

REDUCTIONS = ("mean", "sum", "batch")


@dataclass(frozen=True)
class Loss(Configurable, ABC):
    """A number that training makes small.

    Args:
        reduction: "mean", "sum" or "batch", see above.
    """

    family = "loss"
    reduction: str = field(default="mean", kw_only=True)

    def __post_init__(self) -> None:
        Configurable.__post_init__(self)
        self.check_choice("reduction", REDUCTIONS)

    @abstractmethod
    def lower(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The loss as a scalar of the prediction's dtype; the target is converted to it.

        Raises:
            ShapeError, DTypeError, OptionError: as `check`.
        """

    @abstractmethod
    def check(self, prediction: TensorSpec, target: TensorSpec) -> None:
        """Raise ShapeError, DTypeError or OptionError where the target does not fit the prediction."""


class ElementwiseLoss(Loss, ABC):
    """Each element of the prediction has a target of its own: the shapes are equal, nothing broadcasts."""

    @abstractmethod
    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The loss of each element."""

    def lower(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The reduced losses of the elements."""
        self.check(prediction.spec, target.spec)
        return reduce_losses(self.elements(prediction, target.cast(prediction.dtype)), self.reduction)

    def check(self, prediction: TensorSpec, target: TensorSpec) -> None:
        """Raise unless the prediction is of floats and the shapes are equal."""
        check_elements(type(self).__name__, prediction, target)


@final
class SquaredError(ElementwiseLoss):
    """(prediction - target)**2.

    Half of the sum of squares, as in numpy-ml, is 0.5 times SquaredError(reduction="sum").
    """

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The square of each difference."""
        difference = prediction - target
        return difference * difference


@final
class AbsoluteError(ElementwiseLoss):
    """|prediction - target|; the slope at 0 is 0."""

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The magnitude of each difference."""
        return absolute(prediction - target)


@final
@dataclass(frozen=True)
class Huber(ElementwiseLoss):
    """d**2 / 2 where |d| <= delta, else delta * (|d| - delta / 2), with d = prediction - target (Huber 1964).

    Args:
        delta: where the parabola becomes a straight line.
    """

    delta: float = 1.0
    intervals: ClassVar[dict[str, str]] = {"delta": "(0, inf)"}

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Without branches: with q = min(|d|, delta) both sides are q**2 / 2 + delta * (|d| - q)."""
        distance = absolute(prediction - target)
        q = minimum(distance, distance.lift(float(self.delta)))
        return q * q * 0.5 + (distance - q) * float(self.delta)


@final
class BinaryCrossEntropy(ElementwiseLoss):
    """-t * log(p) - (1 - t) * log(1 - p) with p = sigmoid(prediction): the prediction is a logit, t its target, 0 to 1.

    Computed as max(x, 0) - x * t + log(1 + exp(-|x|)), which neither overflows nor takes the logarithm of 0.
    """

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The stable form; its slope at x = 0 is 1/2 - t, as the two kinks cancel."""
        x = prediction
        return maximum(x, x.lift(0.0)) - x * target + log1p(exp(-absolute(x)))


@final
@dataclass(frozen=True)
class CrossEntropy(Loss):
    """-log(softmax(prediction)[label]): the prediction holds logits (..., classes).

    The target is one of:

    - labels: integers (...), each 0 to classes - 1. Another one raises OptionError when the step runs: no loss is
      computed from it;
    - probabilities, one-hot or not: (..., classes), for which the loss is -sum(target * log(softmax(prediction))). A
      class of target 0 counts as 0 even where its logit is -inf.

    "mean" is over all labels, those of all positions of a sequence together; with `ignore_label`, over those that
    count. If none does, the loss and its gradient are 0.

    Args:
        label_smoothing: this share of the target is spread evenly over all classes (Szegedy et al. 2016).
        ignore_label: positions with this label do not count; it need not be a class (-1, -100).
    """

    label_smoothing: float = 0.0
    ignore_label: int | None = None
    intervals: ClassVar[dict[str, str]] = {"label_smoothing": "[0, 1]", "ignore_label": "integer (-inf, inf)"}

    def lower(self, prediction: Tensor, target: Tensor) -> Tensor:
        """By log_softmax, with one element of each row picked for labels: that is faster than one-hot products."""
        self.check(prediction.spec, target.spec)
        log_probabilities = log_softmax(prediction)
        if target.rank == prediction.rank:
            losses = self._of_probabilities(log_probabilities, target.cast(prediction.dtype))
            return reduce_losses(losses, self.reduction)
        if self.ignore_label is None:
            return reduce_losses(self._of_labels(log_probabilities, target), self.reduction)
        labels, counted = split_labels(target, self.ignore_label)
        losses = self._of_labels(log_probabilities, labels)
        return reduce_losses(where(counted, losses, losses.lift(0.0)), self.reduction, counted)

    def _of_labels(self, log_probabilities: Tensor, labels: Tensor) -> Tensor:
        picked = gather_along(log_probabilities, labels.reshape((*labels.shape, 1))).reshape(labels.shape)
        share = float(self.label_smoothing)
        return picked * (share - 1.0) - mean(log_probabilities, -1) * share if share else -picked

    def _of_probabilities(self, log_probabilities: Tensor, target: Tensor) -> Tensor:
        if share := float(self.label_smoothing):
            target = target * (1.0 - share) + share / target.shape[-1].__index__()
        zero = target.lift(0.0)
        return -where(equal(target, zero), zero, target * log_probabilities).sum(-1)

    def check(self, prediction: TensorSpec, target: TensorSpec) -> None:
        """Raise unless the target holds labels or probabilities for the logits."""
        check_classes("CrossEntropy", prediction, target)
        if self.ignore_label is not None and target.rank == prediction.rank:
            raise OptionError(
                "`ignore_label` needs labels", where="CrossEntropy", expected=labels_of(prediction), got=target,
                fix="leave a position out by a target of zeros, or give labels",
            )  # fmt: skip


def reduce_losses(losses: Tensor, reduction: str, counted: Tensor | None = None) -> Tensor:
    """One number of the losses' dtype.

    Args:
        losses: the first axis is the batch; 0 where `counted` is False.
        reduction: "mean", "sum" or "batch".
        counted: bool, of the shape of the losses: what "mean" divides by; all by default.
    """
    wide = losses.cast("float32") if losses.dtype == "float16" else losses  # sums of float16 end at 65504
    if reduction == "sum":
        total = wide.sum()
    elif reduction == "batch":
        total = mean(wide.sum(tuple(range(1, wide.rank))) if wide.rank > 1 else wide)
    elif counted is None:
        total = mean(wide)
    else:
        count = counted.cast(wide.dtype).sum()
        total = wide.sum() / maximum(count, count.lift(1.0))
    return total.cast(losses.dtype)


def split_labels(labels: Tensor, ignored: int) -> tuple[Tensor, Tensor]:
    """(labels as int64 with 0 in place of `ignored`, whether each one counts)."""
    labels = labels.cast("int64")  # `ignored` need not exist in the given dtype
    counted = not_equal(labels, labels.lift(ignored))
    return where(counted, labels, labels.lift(0)), counted


def labels_of(prediction: TensorSpec) -> TensorSpec:
    """The spec of labels for logits (..., classes)."""
    return TensorSpec(prediction.shape[:-1], "int64")


def check_elements(where: str, prediction: TensorSpec, target: TensorSpec) -> None:
    """Raise unless the prediction is of floats and the target has its shape."""
    if not prediction.is_float:
        raise DTypeError("the prediction is not of floats", where=where, expected="a float dtype", got=prediction)
    if prediction.shape != target.shape:
        raise ShapeError(
            "the target has not the shape of the prediction", where=where, expected=prediction, got=target,
            fix="reshape the target; broadcasting would compare each with each",
        )  # fmt: skip


def check_classes(where: str, prediction: TensorSpec, target: TensorSpec) -> None:
    """Raise unless the target holds one label, or one number for each class, per row of the prediction."""
    if not prediction.is_float or prediction.rank == 0:
        raise DTypeError("the prediction has no logits", where=where, expected="floats (..., classes)", got=prediction)
    labels = labels_of(prediction)
    if target.shape not in (labels.shape, prediction.shape):
        expected = f"labels {labels} or probabilities {prediction}"
        raise ShapeError("the target does not fit the prediction", where=where, expected=expected, got=target)
    if target.shape == labels.shape and target.dtype not in INTEGERS:
        raise DTypeError(
            "labels are not integers", where=where, expected=labels, got=target, fix='convert them: astype("int64")'
        )


def loss(value: Loss | str | Mapping[str, Any]) -> Loss:
    """The loss that is meant: itself, its name ("cross_entropy"), or what `to_config` gave.

    Raises:
        OptionError: the name is unknown, or the options do not fit.
    """
    return choose(Loss, value)
