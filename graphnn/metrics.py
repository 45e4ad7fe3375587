"""Metrics: what a user reads beside the loss; each is a mean over the batch, and none is differentiated."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

from graphnn.configurable import Configurable, choose
from graphnn.errors import OptionError
from graphnn.graph.layer import snake_case
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.losses import (
    AbsoluteError,
    SquaredError,
    check_classes,
    check_elements,
    labels_of,
    reduce_losses,
    split_labels,
)
from graphnn.ops.comparison import equal
from graphnn.ops.creation import iota
from graphnn.ops.elementwise import where
from graphnn.ops.indexing import gather_along
from graphnn.ops.op import Tensor
from graphnn.ops.reduction import argmax


class Metric(Configurable, ABC):
    """A number to read, such as the share of right answers."""

    family = "metric"

    @property
    def name(self) -> str:
        """The column of the history that it fills."""
        return snake_case(type(self).__name__)

    @abstractmethod
    def lower(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The mean over the batch as a scalar of the prediction's dtype.

        Raises:
            ShapeError, DTypeError, OptionError: the target does not fit the prediction.
        """


@dataclass(frozen=True)
class ClassMetric(Metric, ABC):
    """Shares of rows of the prediction (..., classes) for which something holds.

    The target holds integer labels (...), or one number for each class (..., classes), of which the largest tells the
    label. A label that is no class is never right.

    Args:
        ignore_label: positions with this label do not count; if none counts, the share is 0.
    """

    ignore_label: int | None = None
    intervals: ClassVar[dict[str, str]] = {"ignore_label": "integer (-inf, inf)"}

    @abstractmethod
    def hits(self, prediction: Tensor, labels: Tensor) -> Tensor:
        """Whether it holds, for each row; bool. The labels are int64."""

    def lower(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The share of hits among the labels that count."""
        self.check(prediction.spec, target.spec)
        labels = argmax(target) if target.rank == prediction.rank else target.cast("int64")
        if self.ignore_label is None:
            return _share(self.hits(prediction, labels), prediction.dtype)
        labels, counted = split_labels(labels, self.ignore_label)
        return _share(self.hits(prediction, labels) & counted, prediction.dtype, counted)

    def check(self, prediction: TensorSpec, target: TensorSpec) -> None:
        """Raise unless the target holds labels, or a number for each class."""
        name = type(self).__name__
        check_classes(name, prediction, target)
        if self.ignore_label is not None and target.rank == prediction.rank:
            raise OptionError("`ignore_label` needs labels", where=name, expected=labels_of(prediction), got=target)


@final
class Accuracy(ClassMetric):
    """The share of rows whose largest element stands at the label; of equal ones the first counts."""

    def hits(self, prediction: Tensor, labels: Tensor) -> Tensor:
        """By argmax."""
        return equal(argmax(prediction), labels)


@final
@dataclass(frozen=True)
class TopKAccuracy(ClassMetric):
    """The share of rows in which the label's element is among the `k` largest; of equal ones the first count.

    Named after its k: "top_5_accuracy".

    Args:
        k: how many.
    """

    k: int = 5
    intervals: ClassVar[dict[str, str]] = {**ClassMetric.intervals, "k": "integer [1, inf)"}

    @property
    def name(self) -> str:
        """With the k."""
        return f"top_{self.k}_accuracy"

    def hits(self, prediction: Tensor, labels: Tensor) -> Tensor:
        """Fewer than k elements stand before the label's: counting them is faster than sorting."""
        is_class = (labels >= 0) & (labels < prediction.shape[-1].__index__())
        column = where(is_class, labels, labels.lift(0)).reshape((*labels.shape, 1))
        own = gather_along(prediction, column)
        indices = iota(prediction.builder, prediction.shape, -1)
        ahead = (prediction > own) | (equal(prediction, own) & (indices < column))
        is_number = equal(own, own).reshape(labels.shape)  # nothing stands before NaN
        return (ahead.cast("int64").sum(-1) < self.k) & is_class & is_number

    def check(self, prediction: TensorSpec, target: TensorSpec) -> None:
        """Raise unless the target fits and there are k classes."""
        ClassMetric.check(self, prediction, target)
        if self.k > prediction.shape[-1].__index__():
            expected = f"{self.k} classes or more"
            raise OptionError("`k` is too large", where="TopKAccuracy", expected=expected, got=prediction)


@final
@dataclass(frozen=True)
class BinaryAccuracy(Metric):
    """The share of elements for which (prediction > threshold) is (target > 1/2).

    Args:
        threshold: 0 for logits, 0.5 for probabilities.
    """

    threshold: float = 0.0
    intervals: ClassVar[dict[str, str]] = {"threshold": "(-inf, inf)"}

    def lower(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Equal shapes, any dtype of the target."""
        check_elements("BinaryAccuracy", prediction.spec, target.spec)
        hits = equal(prediction > float(self.threshold), target.cast(prediction.dtype) > 0.5)
        return _share(hits, prediction.dtype)


@final
class MeanSquaredError(Metric):
    """mean((prediction - target)**2)."""

    def lower(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The loss of that formula."""
        return SquaredError().lower(prediction, target)


@final
class MeanAbsoluteError(Metric):
    """mean(|prediction - target|)."""

    def lower(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The loss of that formula."""
        return AbsoluteError().lower(prediction, target)


def _share(hits: Tensor, dtype: str, counted: Tensor | None = None) -> Tensor:
    """The share of True among what counts."""
    return reduce_losses(hits.cast(dtype), "mean", counted)


def metric(value: Metric | str | Mapping[str, Any]) -> Metric:
    """The metric that is meant: itself, its name ("accuracy", "top_k_accuracy"), or what `to_config` gave.

    Raises:
        OptionError: the name is unknown, or the options do not fit.
    """
    return choose(Metric, value)
