import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnn.errors import DTypeError, OptionError, ShapeError
from graphnn.metrics import (
    Accuracy,
    BinaryAccuracy,
    MeanAbsoluteError,
    MeanSquaredError,
    Metric,
    TopKAccuracy,
    metric,
)
from ops.helpers import call, gradients

NAMES = {
    "accuracy": Accuracy(),
    "top_5_accuracy": TopKAccuracy(),
    "binary_accuracy": BinaryAccuracy(),
    "mean_squared_error": MeanSquaredError(),
    "mean_absolute_error": MeanAbsoluteError(),
}
CLASSES = 4


def is_hit(row, label, k):
    """Whether the label is among the first k of the classes in falling order; equal ones in the order of the row."""
    return label in sorted(range(len(row)), key=lambda index: (-row[index], index))[:k]


@given(
    shape=st.lists(st.integers(1, 4), max_size=2),
    k=st.integers(1, CLASSES),
    ignored=st.sampled_from([None, -1, 2]),
    seed=st.integers(0, 1000),
)
def test_shares_of_hits_are_counted_row_by_row(shape, k, ignored, seed):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 4, (*shape, CLASSES)).astype("float32")  # few numbers, so that some are equal
    labels = rng.integers(-1 if ignored == -1 else 0, CLASSES, shape)
    rows = zip(x.reshape(-1, CLASSES).tolist(), labels.reshape(-1).tolist(), strict=True)
    counted = [(row, label) for row, label in rows if label != ignored]
    for rule, first in ((TopKAccuracy(ignored, k), k), (Accuracy(ignored), 1)):
        expected = sum(is_hit(row, label, first) for row, label in counted) / max(len(counted), 1)
        actual = call(rule.lower, x, np.asarray(labels))
        assert actual.shape == ()
        assert actual.dtype == "float32"
        np.testing.assert_allclose(actual, expected, rtol=1e-6)


@pytest.mark.parametrize("rule", [Accuracy(), TopKAccuracy(k=2)])
def test_one_hot_targets_say_the_same_as_labels(rule):
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(20, 3, CLASSES)), rng.integers(0, CLASSES, (20, 3))
    expected = call(rule.lower, x, labels)
    assert 0 < expected < 1
    for dtype in ("float64", "float32", "int8"):
        assert call(rule.lower, x, np.eye(CLASSES)[labels].astype(dtype)) == expected
    for dtype in ("uint8", "int32", "uint64"):
        assert call(rule.lower, x, labels.astype(dtype)) == expected


@pytest.mark.parametrize("rule", [Accuracy(), TopKAccuracy(k=CLASSES)])
def test_a_label_that_is_no_class_is_never_right(rule):
    assert call(rule.lower, np.zeros((4, CLASSES)), np.array([-1, 0, CLASSES, 99])) == 0.25


def test_nan_is_never_among_the_largest():
    x = np.array([[np.nan, 1.0, 2.0], [0.0, np.nan, 1.0]])
    assert call(TopKAccuracy(k=2).lower, x, np.array([0, 2])) == 0.5


@given(shape=st.lists(st.integers(1, 4), max_size=3), seed=st.integers(0, 1000))
def test_elementwise_metrics_follow_their_formulas(shape, seed):
    rng = np.random.default_rng(seed)
    x, t, bits = rng.normal(size=shape), rng.normal(size=shape), rng.random(shape) < 0.5
    np.testing.assert_allclose(call(MeanSquaredError().lower, x, t), np.mean((x - t) ** 2), rtol=1e-12)
    np.testing.assert_allclose(call(MeanAbsoluteError().lower, x, t), np.mean(np.abs(x - t)), rtol=1e-12)
    for threshold in (0.0, 0.5):
        expected = np.mean((x > threshold) == bits)
        for target in (np.asarray(bits), np.asarray(bits, "int64"), np.asarray(bits, "float32")):
            np.testing.assert_allclose(call(BinaryAccuracy(threshold).lower, x, target), expected, rtol=1e-12)


@pytest.mark.parametrize("rule", [Accuracy(), TopKAccuracy(k=2), BinaryAccuracy()])
def test_shares_have_no_gradient(rule):
    x = np.random.default_rng(0).normal(size=(5, 3))
    target = (x > 0) if isinstance(rule, BinaryAccuracy) else np.array([0, 1, 2, 0, 1])
    assert not gradients(rule.lower, x, target)[0].any()


@pytest.mark.parametrize("rule", [*NAMES.values(), TopKAccuracy(-1, 3), BinaryAccuracy(0.5)], ids=repr)
def test_configs_give_the_metric_back(rule):
    assert metric(rule) is rule
    assert metric(json.loads(json.dumps(rule.to_config()))) == rule


def test_names():
    assert {rule.name: rule for rule in NAMES.values()} == NAMES
    assert TopKAccuracy(k=3).name == "top_3_accuracy"
    for name in ("accuracy", "binary_accuracy", "mean_squared_error", "mean_absolute_error"):
        assert metric(name) == NAMES[name]
    assert metric("top_k_accuracy") == TopKAccuracy()
    assert {"ClassMetric", *(type(rule).__name__ for rule in NAMES.values())} == set(Metric.registry)


@pytest.mark.parametrize(
    ("run", "error", "text"),
    [
        (lambda: metric("f1"), OptionError, "unknown metric\n  expected: .*accuracy.*\n  got: 'f1'"),
        (lambda: TopKAccuracy(k=0), OptionError, "`k` does not fit\n  expected: an integer in \\[1, inf\\)"),
        (lambda: Accuracy(1.5), OptionError, "`ignore_label` does not fit"),
        (lambda: call(Accuracy().lower, np.zeros((4, 3)), np.zeros((4, 1), int)), ShapeError, "labels int64\\[4\\]"),
        (lambda: call(Accuracy().lower, np.zeros((4, 3)), np.zeros(4)), DTypeError, "labels are not integers"),
        (lambda: call(Accuracy(1).lower, np.zeros((4, 3)), np.zeros((4, 3))), OptionError, "needs labels"),
        (lambda: call(TopKAccuracy().lower, np.zeros((4, 3)), np.zeros(4, int)), OptionError, "expected: 5 classes"),
        (lambda: call(MeanSquaredError().lower, np.zeros((4, 1)), np.zeros(4)), ShapeError, "has not the shape"),
        (lambda: call(BinaryAccuracy().lower, np.zeros((4, 1)), np.zeros(4)), ShapeError, "has not the shape"),
    ],
)
def test_what_does_not_fit_is_refused(run, error, text):
    with pytest.raises(error, match=text):
        run()
