import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphnn.errors import OptionError
from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.program import Kind
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ir.verify import verify
from graphnn.ops.evaluate import evaluate
from graphnn.ops.op import Tensor
from graphnn.optimizers import SGD, AdaGrad, Adam, AdamW, Optimizer, RMSProp, optimizer
from graphnn.schedules import Constant, Noam

STEPS = 7
SHAPES = [(3, 4), (), (5,)]


class States:
    """A Memory whose arrays are inputs and updates of a program."""

    def __init__(self, builder, like):
        self.builder, self.like = builder, like
        self.initial, self.old, self.new = {}, {}, {}

    def get(self, name, initial=0.0):
        if name not in self.old:
            self.old[name] = self.builder.input(name, self.like.spec, Kind.STATE)
            self.initial[name] = initial
        return self.new.get(name, Tensor(self.builder, self.old[name]))

    def set(self, name, new):
        self.new[name] = new

    def finish(self):
        for name, new in self.new.items():
            self.builder.update(self.old[name], new.value)


def build(rule, specs):
    """The program of one step: clipping and updates of parameters like `specs`; and the first values of its states."""
    builder, start = ProgramBuilder(), {}
    scalar = TensorSpec((), specs[0].dtype)
    parameters = [Tensor(builder, builder.input("parameter", spec, Kind.PARAMETER)) for spec in specs]
    gradients = [Tensor(builder, builder.input("gradient", spec)) for spec in specs]
    rate, step = (Tensor(builder, builder.input(name, scalar)) for name in ("rate", "step"))
    for parameter, gradient in zip(parameters, rule.clip(gradients), strict=True):
        states = States(builder, parameter)
        builder.update(parameter.value, rule.update(states, parameter, gradient, rate, step).value)
        states.finish()
        start |= {states.old[name]: initial for name, initial in states.initial.items()}
    return verify(builder.build([])), start


def train(rule, arrays, gradients, rates=None):
    """The parameters after each step; `gradients` has one list of arrays per step."""
    specs = [TensorSpec(array.shape, array.dtype.name) for array in arrays]
    program, start = build(rule, specs)
    held = {value: np.full(value.spec.shape, initial, value.spec.dtype) for value, initial in start.items()}
    held |= dict(zip(program.inputs, arrays, strict=False))
    history = []
    for index, given_now in enumerate(gradients):
        rate = rule.learning_rate if rates is None else rates[index]
        scalars = [np.asarray(number, specs[0].dtype) for number in (rate, index + 1)]
        fresh = iter([*given_now, *scalars])
        inputs = [held[value] if value in held else next(fresh) for value in program.inputs]
        values = evaluate(np, program, inputs)
        held |= {old: values[new] for old, new in program.updates}
        history.append([held[value] for value in program.inputs if value.kind is Kind.PARAMETER])
    return history


def random_case(seed=0, shapes=SHAPES, steps=STEPS):
    rng = np.random.default_rng(seed)
    arrays = [np.asarray(rng.normal(size=shape)) for shape in shapes]
    return arrays, [[np.asarray(rng.normal(size=shape)) for shape in shapes] for _ in range(steps)]


# The rules once more, in plain NumPy and in the form of their papers; `m` holds what is remembered.
def sgd(rule, m, p, g, lr, t):
    g = g + rule.weight_decay * p
    m["v"] = rule.momentum * m.get("v", 0) + g
    return p - lr * (g + rule.momentum * m["v"] if rule.nesterov else m["v"])


def adam(rule, m, p, g, lr, t):
    decoupled = isinstance(rule, AdamW)
    g = g if decoupled else g + rule.weight_decay * p
    m["m"] = rule.beta1 * m.get("m", 0) + (1 - rule.beta1) * g
    m["v"] = rule.beta2 * m.get("v", 0) + (1 - rule.beta2) * g**2
    m["max"] = np.maximum(m.get("max", 0), m["v"])
    v = m["max"] if rule.amsgrad else m["v"]
    change = lr * (m["m"] / (1 - rule.beta1**t)) / (np.sqrt(v / (1 - rule.beta2**t)) + rule.epsilon)
    return (p * (1 - lr * rule.weight_decay) if decoupled else p) - change


def adagrad(rule, m, p, g, lr, t):
    g = g + rule.weight_decay * p
    m["s"] = m.get("s", rule.initial_sum) + g**2
    return p - lr * g / (np.sqrt(m["s"]) + rule.epsilon)


def rmsprop(rule, m, p, g, lr, t):
    g = g + rule.weight_decay * p
    m["v"] = rule.decay * m.get("v", 0) + (1 - rule.decay) * g**2
    m["g"] = rule.decay * m.get("g", 0) + (1 - rule.decay) * g
    root = np.sqrt(m["v"] - m["g"] ** 2 if rule.centered else m["v"]) + rule.epsilon
    m["b"] = rule.momentum * m.get("b", 0) + g / root
    return p - lr * m["b"]


FORMULAS = {SGD: sgd, Adam: adam, AdamW: adam, AdaGrad: adagrad, RMSProp: rmsprop}
RULES = [
    SGD(0.1),
    SGD(0.1, weight_decay=0.3),
    SGD(0.1, momentum=0.9, weight_decay=0.01),
    SGD(0.1, 0.8, nesterov=True, weight_decay=0.01),
    Adam(0.1),
    Adam(0.1, 0.5, 0.9, 1e-3, weight_decay=0.1),
    Adam(0.1, beta1=0.0, beta2=0.0),
    Adam(0.1, amsgrad=True),
    AdamW(0.1),
    AdamW(0.1, weight_decay=0.0, amsgrad=True),
    AdaGrad(0.1),
    AdaGrad(0.1, initial_sum=0.5, weight_decay=0.1),
    RMSProp(0.1),
    RMSProp(0.1, 0.9, weight_decay=0.1, momentum=0.7),
    RMSProp(0.1, 0.9, centered=True),
    RMSProp(0.1, 0.9, momentum=0.5, centered=True),
]


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_rules_follow_their_formulas(rule):
    arrays, gradients = random_case()
    rates = np.linspace(0.2, 0.01, STEPS)  # as a schedule gives them
    remembered = [{} for _ in arrays]
    for t, actual in enumerate(train(rule, arrays, gradients, rates), start=1):
        arrays = [
            FORMULAS[type(rule)](rule, m, p, g, rates[t - 1], t)
            for m, p, g in zip(remembered, arrays, gradients[t - 1], strict=True)
        ]
        for mine, expected in zip(actual, arrays, strict=True):
            np.testing.assert_allclose(mine, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_parameters_do_not_share_what_is_remembered(rule):
    arrays, gradients = random_case(1)
    together = train(rule, arrays, gradients)
    for index, array in enumerate(arrays):
        alone = train(rule, [array], [[step[index]] for step in gradients])
        for a, b in zip(together, alone, strict=True):
            assert a[index].tobytes() == b[0].tobytes()


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_single_precision_keeps_its_digits(rule):
    arrays, gradients = random_case(2)
    exact = train(rule, arrays, gradients)
    actual = train(rule, [a.astype("f4") for a in arrays], [[g.astype("f4") for g in step] for step in gradients])
    for a, b in zip(actual, exact, strict=True):
        for mine, expected in zip(a, b, strict=True):
            assert mine.dtype == "float32"
            # Centered, the first variances are differences of nearly equal numbers.
            np.testing.assert_allclose(mine, expected, rtol=0, atol=1e-4 if "centered=True" in repr(rule) else 2e-6)


def test_the_first_adam_step_of_single_precision_has_the_size_of_the_rate():
    # 1 - 0.999 computed in float32 would be off by 1e-5, and so would the step.
    ((p,),) = train(Adam(1.0), [np.zeros((), "f4")], [[np.asarray(3.0, "f4")]])
    np.testing.assert_allclose(p, -1.0, rtol=3e-7)


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_a_zero_gradient_from_the_start_moves_nothing_but_decay(rule):
    arrays, _ = random_case(3)
    zeros = [[np.zeros_like(a) for a in arrays]] * 3
    without_decay = type(rule)(**{**rule.options(), "weight_decay": 0.0})
    for step in train(without_decay, arrays, zeros):
        for mine, expected in zip(step, arrays, strict=True):
            np.testing.assert_array_equal(mine, expected)


# -- clipping ----------------------------------------------------------------------------------------------------------


def clipped(rule, gradients):
    builder = ProgramBuilder()
    inputs = [Tensor(builder, builder.input("g", TensorSpec(g.shape, g.dtype.name))) for g in gradients]
    outputs = rule.clip(inputs)
    values = evaluate(np, verify(builder.build([y.value for y in outputs])), gradients)
    return [values[y.value] for y in outputs]


@pytest.mark.parametrize("clip_norm", [None, 1e-3, 1.0, 100.0])
@pytest.mark.parametrize("clip_value", [None, 0.1])
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
@given(seed=st.integers(0, 1000), count=st.integers(0, 4))
@settings(max_examples=5)
def test_clipping_is_by_the_common_norm_and_then_by_value(seed, scale, clip_norm, clip_value, count):
    rng = np.random.default_rng(seed)
    gradients = [rng.normal(0, scale, shape) for shape in [(2, 3), (4,), (1, 1), (3, 2)][:count]]
    norm = np.sqrt(sum(np.sum(g**2) for g in gradients))
    factor = 1.0 if clip_norm is None else min(1.0, clip_norm / (norm + 1e-6))
    limit = math.inf if clip_value is None else clip_value
    actual = clipped(SGD(clip_norm=clip_norm, clip_value=clip_value), gradients)
    assert len(actual) == count
    for mine, g in zip(actual, gradients, strict=True):
        np.testing.assert_allclose(mine, np.clip(g * factor, -limit, limit), rtol=1e-14)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_small_gradients_are_not_touched_and_zeros_stay(dtype):
    gradients = [np.array([0.3, -0.1], dtype), np.zeros((2, 2), dtype)]
    for given_now in (gradients, [np.zeros_like(g) for g in gradients]):
        for mine, g in zip(clipped(Adam(clip_norm=1.0, clip_value=0.5), given_now), given_now, strict=True):
            assert mine.dtype == dtype
            np.testing.assert_array_equal(mine, g)


def test_the_norm_of_half_precision_does_not_overflow():
    (mine,) = clipped(SGD(clip_norm=1.0), [np.full(4, 1000.0, "float16")])
    np.testing.assert_allclose(mine, 0.5, rtol=1e-3)


# -- options -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", [*RULES, Adam(Noam(64, 2.0, 10), clip_norm=1.0), SGD(Constant(0.1), clip_value=2.0)])
def test_configs_give_the_optimizer_back(rule):
    assert optimizer(rule) is rule
    assert optimizer(rule.to_config()) == rule


def test_names_and_first_arguments():
    assert [optimizer(name) for name in ("sgd", "adam", "adamw", "AdamW", "adagrad", "rmsprop")] == [
        SGD(0.01),
        Adam(0.001),
        AdamW(0.001),
        AdamW(weight_decay=0.01),
        AdaGrad(0.01),
        RMSProp(0.01),
    ]
    assert {"AdaptiveMoments", *(kind.__name__ for kind in FORMULAS)} == set(Optimizer.registry)
    assert Adam(Constant(0.5)).learning_rate == Constant(0.5)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: SGD(-0.1), "SGD: `learning_rate` does not fit\n  expected: a number in \\[0, inf\\)\n  got: -0.1"),
        (lambda: SGD("fast"), "`learning_rate` does not fit"),
        (lambda: SGD(math.nan), "`learning_rate` does not fit"),
        (lambda: SGD(True), "`learning_rate` does not fit"),
        (lambda: SGD(momentum=-1), "`momentum` does not fit"),
        (lambda: SGD(nesterov=True), "`nesterov` needs momentum"),
        (lambda: SGD(clip_norm=0), "`clip_norm` does not fit\n  expected: a number in \\(0, inf\\)"),
        (lambda: Adam(clip_value=math.inf), "`clip_value` does not fit"),
        (lambda: Adam(beta1=1.0), "Adam: `beta1` does not fit\n  expected: a number in \\[0, 1\\)"),
        (lambda: AdamW(beta2=None), "AdamW: `beta2` does not fit"),
        (lambda: AdamW(weight_decay=-1e-9), "`weight_decay` does not fit"),
        (lambda: AdaGrad(initial_sum=-1), "`initial_sum` does not fit"),
        (lambda: RMSProp(epsilon=-1e-8), "`epsilon` does not fit"),
        (lambda: optimizer("lion"), "unknown optimizer\n  expected: sgd, adam, .*, or an instance of Optimizer"),
        (lambda: optimizer({"optimizer": "SGD", "lr": 0.1}), "SGD: the options do not fit\n  expected: learning_rate"),
        (lambda: optimizer({"optimizer": "SGD", "learning_rate": {"schedule": "fast"}}), "unknown schedule"),
    ],
)
def test_options_that_do_not_fit_are_refused(make, text):
    with pytest.raises(OptionError, match=text):
        make()


# -- torch -------------------------------------------------------------------------------------------------------------


def torch_twin(rule, parameters):
    import torch

    decay = {"weight_decay": rule.weight_decay}
    match rule:
        case SGD():
            options = {"momentum": rule.momentum, "nesterov": rule.nesterov}
            return torch.optim.SGD(parameters, rule.learning_rate, **options, **decay)
        case Adam() | AdamW():
            kind = torch.optim.Adam if isinstance(rule, Adam) else torch.optim.AdamW
            betas = rule.beta1, rule.beta2
            return kind(parameters, rule.learning_rate, betas, rule.epsilon, amsgrad=rule.amsgrad, **decay)
        case AdaGrad():
            options = {"eps": rule.epsilon, "initial_accumulator_value": rule.initial_sum}
            return torch.optim.Adagrad(parameters, rule.learning_rate, **options, **decay)
    options = {"eps": rule.epsilon, "momentum": rule.momentum, "centered": rule.centered}
    return torch.optim.RMSprop(parameters, rule.learning_rate, rule.decay, **options, **decay)


@pytest.mark.peers
@pytest.mark.parametrize("clip", [{}, {"clip_norm": 0.5}, {"clip_norm": 2.0, "clip_value": 0.25}], ids=repr)
@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_rules_and_clipping_equal_those_of_torch(rule, clip):
    import torch

    rule = type(rule)(**{**rule.options(), **clip})
    arrays, gradients = random_case(4)
    parameters = [torch.nn.Parameter(torch.tensor(a)) for a in arrays]
    theirs = torch_twin(rule, parameters)
    for actual, given_now in zip(train(rule, arrays, gradients), gradients, strict=True):
        for parameter, g in zip(parameters, given_now, strict=True):
            parameter.grad = torch.tensor(g)
        if "clip_norm" in clip:
            torch.nn.utils.clip_grad_norm_(parameters, clip["clip_norm"])
        if "clip_value" in clip:
            torch.nn.utils.clip_grad_value_(parameters, clip["clip_value"])
        theirs.step()
        for mine, parameter in zip(actual, parameters, strict=True):
            np.testing.assert_allclose(mine, parameter.detach().numpy(), rtol=0, atol=1e-12)
