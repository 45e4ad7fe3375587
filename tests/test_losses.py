import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphnn.configurable import Configurable
from graphnn.errors import DTypeError, OptionError, ShapeError
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.losses import (
    REDUCTIONS,
    AbsoluteError,
    BinaryCrossEntropy,
    CrossEntropy,
    Huber,
    Loss,
    SquaredError,
    loss,
)
from ops.helpers import call, check_gradient, gradients, trace

IGNORED = -100
ELEMENTWISE = [SquaredError, AbsoluteError, Huber, BinaryCrossEntropy]
LOSSES = [SquaredError(), AbsoluteError(reduction="sum"), Huber(0.5), BinaryCrossEntropy(), CrossEntropy(0.1, -1)]
RNG = np.random.default_rng(7)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# Each formula as its paper has it, without regard to overflow.
def squared_error(x, t):
    return (x - t) ** 2


def absolute_error(x, t):
    return np.abs(x - t)


def huber(x, t, delta=1.0):
    distance = np.abs(x - t)
    return np.where(distance <= delta, distance**2 / 2, delta * (distance - delta / 2))


def binary_cross_entropy(x, t):
    return -t * np.log(sigmoid(x)) - (1 - t) * np.log(1 - sigmoid(x))


def cross_entropy(x, probabilities):
    return -(probabilities * np.log(np.exp(x) / np.exp(x).sum(-1, keepdims=True))).sum(-1)


def reduced(losses, reduction, count=None):
    if reduction == "mean":
        return losses.sum() / (losses.size if count is None else count)
    return losses.sum() if reduction == "sum" else losses.sum() / (len(losses) if losses.ndim else 1)


@pytest.mark.parametrize("which", ELEMENTWISE)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@given(shape=st.lists(st.integers(1, 4), max_size=3), seed=st.integers(0, 1000))
@settings(max_examples=10)
def test_elementwise_losses_follow_their_formulas(shape, reduction, which, seed):
    rng = np.random.default_rng(seed)
    x, t = rng.normal(0, 2, shape), rng.uniform(size=shape)
    formula = dict(zip(ELEMENTWISE, (squared_error, absolute_error, huber, binary_cross_entropy), strict=True))[which]
    actual = call(which(reduction=reduction).lower, x, t)
    np.testing.assert_allclose(actual, reduced(np.asarray(formula(x, t)), reduction), rtol=1e-12)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("with_ignored", [False, True])
@given(shape=st.lists(st.integers(1, 4), max_size=2), classes=st.integers(1, 5), seed=st.integers(0, 1000))
@settings(max_examples=10)
def test_cross_entropy_follows_its_formula(shape, classes, reduction, smoothing, with_ignored, seed):
    rng = np.random.default_rng(seed)
    x, labels = rng.normal(0, 2, (*shape, classes)), rng.integers(0, classes, shape)
    target = np.eye(classes)[labels] * (1 - smoothing) + smoothing / classes
    counted = rng.random(shape) < 0.6 if with_ignored else np.ones(shape, bool)
    expected = reduced(cross_entropy(x, target) * counted, reduction, max(counted.sum(), 1))
    of_labels = CrossEntropy(smoothing, IGNORED if with_ignored else None, reduction=reduction)
    actual = call(of_labels.lower, x, np.where(counted, labels, IGNORED))
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-13)
    if not with_ignored:  # and so says the target as probabilities
        np.testing.assert_allclose(call(of_labels.lower, x, np.eye(classes)[labels]), expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("kind", [*ELEMENTWISE, CrossEntropy])
def test_gradients_are_those_of_the_values(kind, reduction):
    x, t = RNG.normal(size=(4, 3, 5)), RNG.uniform(size=(4, 3, 5))
    check_gradient(trace(kind(reduction=reduction).lower, [x, t]), [x, t])


@pytest.mark.parametrize("ignored", [None, 2])
def test_cross_entropy_gradient_is_probability_minus_target(ignored):
    x, labels = RNG.normal(size=(6, 4)), np.array([0, 3, 2, 2, 1, 2])
    (actual,) = gradients(CrossEntropy(ignore_label=ignored).lower, x, labels)
    counted = np.ones(6, bool) if ignored is None else labels != ignored
    softmax = np.exp(x) / np.exp(x).sum(-1, keepdims=True)
    expected = (softmax - np.eye(4)[labels]) * counted[:, None] / counted.sum()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("rule", "x", "target", "expected"),
    [
        (BinaryCrossEntropy(), [0.0, -0.0], [1.0, 0.25], [-0.5, 0.25]),
        (AbsoluteError(), [1.0, 2.0], [1.0, 1.0], [0.0, 1.0]),
        (Huber(2.0), [0.0, 2.0, -2.0, 5.0], [0.0, 0.0, 0.0, 0.0], [0.0, 2.0, -2.0, 2.0]),
    ],
)
def test_slopes_at_kinks(rule, x, target, expected):
    actual = gradients(type(rule)(**{**rule.options(), "reduction": "sum"}).lower, x, target)[0]
    np.testing.assert_array_equal(actual, expected)


def test_large_logits_neither_overflow_nor_vanish():
    x = np.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]])
    np.testing.assert_array_equal(call(CrossEntropy().lower, x, np.array([0, 0])), 1e4)
    (gradient,) = gradients(CrossEntropy(reduction="sum").lower, x, np.array([0, 0]))
    np.testing.assert_array_equal(gradient, [[0, 0, 0], [-1, 1, 0]])
    logits, targets = np.array([1e4, -1e4, 1e4, -1e4]), np.array([1.0, 0.0, 0.0, 1.0])
    np.testing.assert_array_equal(call(BinaryCrossEntropy(reduction="sum").lower, logits, targets), 2e4)
    np.testing.assert_array_equal(
        gradients(BinaryCrossEntropy(reduction="sum").lower, logits, targets)[0], [0, 0, 1, -1]
    )


def test_a_class_that_is_masked_out_counts_as_nothing_where_its_target_is_zero():
    x, target = np.array([[0.0, -np.inf, 0.0]]), np.array([[0.5, 0.0, 0.5]])
    np.testing.assert_allclose(call(CrossEntropy().lower, x, target), math.log(2), rtol=1e-15)
    assert np.isfinite(gradients(CrossEntropy().lower, x, target)[0]).all()


def test_only_ignored_labels_give_zero_and_no_gradient():
    x, labels = RNG.normal(size=(3, 4)), np.full(3, -1)
    rule = CrossEntropy(ignore_label=-1)
    assert call(rule.lower, x, labels) == 0
    assert not gradients(rule.lower, x, labels)[0].any()


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int64", "uint64"])
def test_labels_may_have_any_integer_dtype(dtype):
    x, labels = RNG.normal(size=(5, 3)), np.array([2, 0, 1, 1, 2])
    for rule in (CrossEntropy(), CrossEntropy(ignore_label=-100), CrossEntropy(ignore_label=1)):
        assert call(rule.lower, x, labels.astype(dtype)) == call(rule.lower, x, labels)


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_that_is_no_class_is_an_error_when_the_step_runs(label):
    with pytest.raises(OptionError, match=r"an index is out of range\n  expected: 0 <= index < 3\n  got: -?[13]"):
        call(CrossEntropy().lower, np.zeros((2, 3)), np.array([0, label]))


@pytest.mark.parametrize("rule", [SquaredError(), Huber(), BinaryCrossEntropy(), CrossEntropy()])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_loss_has_the_dtype_of_the_prediction(rule, dtype):
    x, target = RNG.normal(size=(6, 4)), np.eye(4)[[0, 1, 2, 3, 0, 1]]
    exact = call(rule.lower, x, target)
    for given_dtype in ("float16", "float64", "int64", "bool"):
        actual = call(rule.lower, x.astype(dtype), target.astype(given_dtype))
        assert actual.dtype == dtype
        np.testing.assert_allclose(actual, exact, rtol=8 * np.finfo(dtype).eps)


def test_sums_of_half_precision_do_not_overflow():
    x = np.full((300, 300), 2.0, "float16")
    assert call(SquaredError().lower, x, np.zeros_like(x)) == 4


@pytest.mark.parametrize("rule", [kind() for kind in ELEMENTWISE], ids=lambda rule: type(rule).__name__)
def test_shapes_that_would_broadcast_are_refused(rule):
    text = r"has not the shape.*\n  expected: float64\[8, 1\]\n  got: float64\[8\]\n  fix:"
    with pytest.raises(ShapeError, match=text):
        call(rule.lower, np.zeros((8, 1)), np.zeros(8))
    with pytest.raises(DTypeError, match="not of floats"):
        rule.check(TensorSpec((8,), "int64"), TensorSpec((8,), "int64"))


@pytest.mark.parametrize(
    ("prediction", "target", "error", "text"),
    [
        (
            (8, 5),
            TensorSpec((8, 1), "int64"),
            ShapeError,
            "expected: labels int64\\[8\\] or probabilities float32\\[8, 5\\]",
        ),
        (
            (8, 5),
            TensorSpec((8,), "float32"),
            DTypeError,
            "labels are not integers\n.*\n.*\n  fix: convert them: astype",
        ),
        ((8, 5), TensorSpec((8,), "bool"), DTypeError, "labels are not integers"),
        ((8, 5), TensorSpec((8, 5), "float32"), OptionError, "`ignore_label` needs labels"),
        ((), TensorSpec((), "int64"), DTypeError, "no logits"),
    ],
)
def test_targets_that_do_not_fit_are_refused(prediction, target, error, text):
    with pytest.raises(error, match=text):
        CrossEntropy(ignore_label=0).check(TensorSpec(prediction), target)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: CrossEntropy(label_smoothing=1.1), "CrossEntropy: `label_smoothing` does not fit\n.*\\[0, 1\\]"),
        (lambda: CrossEntropy(label_smoothing=math.nan), "got: nan"),
        (lambda: CrossEntropy(ignore_label=0.5), "`ignore_label` does not fit\n  expected: an integer"),
        (lambda: CrossEntropy(ignore_label=True), "`ignore_label` does not fit"),
        (lambda: SquaredError(reduction="median"), "`reduction` does not fit\n  expected: 'mean', 'sum', 'batch'"),
        (lambda: Huber(0), "`delta` does not fit\n  expected: a number in \\(0, inf\\)"),
        (lambda: loss("hinge"), "unknown loss\n  expected: .*cross_entropy, or an instance of Loss\n  got: 'hinge'"),
        (lambda: loss(None), "unknown loss"),
        (lambda: loss({"loss": "Huber", "beta": 1}), "Huber: the options do not fit\n.*reduction, delta\n  got: beta"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit_are_refused(make, text):
    with pytest.raises(OptionError, match=text):
        make()


@pytest.mark.parametrize("rule", LOSSES, ids=lambda rule: type(rule).__name__)
def test_names_and_configs_give_the_loss_back(rule):
    assert loss(rule) is rule
    assert loss(rule.to_config()) == rule
    assert loss(type(rule).__name__) == type(rule)()


def test_every_loss_is_known_by_its_name():
    names = ["squared_error", "absolute_error", "huber", "binary_cross_entropy", "cross_entropy"]
    assert {type(loss(name)) for name in names} == {type(rule) for rule in LOSSES}
    assert {"ElementwiseLoss", *(type(rule).__name__ for rule in LOSSES)} == set(Loss.registry)
    assert Configurable.registry == {}
    with pytest.raises(OptionError, match="unknown loss"):
        loss("elementwise_loss")


@pytest.mark.peers
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_losses_and_gradients_equal_those_of_torch(reduction):
    import torch
    from torch.nn import functional

    x, t, labels = RNG.normal(size=(6, 5)), RNG.uniform(size=(6, 5)), np.array([0, 4, 2, 2, 1, 3])
    pairs = [
        (SquaredError(reduction=reduction), t, functional.mse_loss, {}),
        (AbsoluteError(reduction=reduction), t, functional.l1_loss, {}),
        (Huber(0.7, reduction=reduction), t, functional.huber_loss, {"delta": 0.7}),
        (BinaryCrossEntropy(reduction=reduction), t, functional.binary_cross_entropy_with_logits, {}),
        (CrossEntropy(0.2, reduction=reduction), t, functional.cross_entropy, {"label_smoothing": 0.2}),
        (
            CrossEntropy(0.2, 2, reduction=reduction),
            labels,
            functional.cross_entropy,
            {"label_smoothing": 0.2, "ignore_index": 2},
        ),
    ]
    for rule, target, function, options in pairs:
        theirs = torch.tensor(x, requires_grad=True)
        value = function(theirs, torch.tensor(target), reduction=reduction, **options)
        value.backward()
        np.testing.assert_allclose(call(rule.lower, x, target), value.item(), rtol=1e-12)
        np.testing.assert_allclose(gradients(rule.lower, x, target)[0], theirs.grad.numpy(), rtol=0, atol=1e-12)
