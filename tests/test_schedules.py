import json
import math

import numpy as np
import pytest

from graphnn.errors import OptionError
from graphnn.schedules import Constant, Cosine, Exponential, Noam, Schedule, Step, WarmUp, schedule

ALL = [
    Constant(0.5),
    Exponential(0.5, 0.9, 7),
    Exponential(0.5, 0.9, 7, staircase=True),
    Step(0.5, (3, 10), 0.1),
    Cosine(0.5, 20, 0.1),
    WarmUp(Cosine(0.5, 20), 5),
    Noam(64, 2.0, 10),
]

# Numbers worked out by hand: {step: rate}.
EXPECTED = [
    (Constant(0.5), {0: 0.5, 10**6: 0.5}),
    (Exponential(0.1, 0.01, 10), {0: 0.1, 5: 0.01, 10: 0.001, 20: 1e-5}),
    (Exponential(0.1, 0.5, 10, staircase=True), {0: 0.1, 9: 0.1, 10: 0.05, 19: 0.05, 20: 0.025}),
    (Step(1.0, (3, 5), 0.1), {0: 1.0, 2: 1.0, 3: 0.1, 4: 0.1, 5: 0.01, 99: 0.01}),
    (Step(1.0, (0,), 3.0), {0: 3.0}),
    (Cosine(1.0, 4, 0.2), {0: 1.0, 1: 0.6 + 0.4 * math.sqrt(0.5), 2: 0.6, 4: 0.2, 5: 0.2, 1000: 0.2}),
    (WarmUp(0.8, 4), {0: 0.2, 1: 0.4, 3: 0.8, 4: 0.8, 99: 0.8}),
    (WarmUp(Step(1.0, (2,), 0.5), 2), {0: 0.5, 1: 1.0, 2: 1.0, 3: 1.0, 4: 0.5}),
    (WarmUp(WarmUp(1.0, 2), 2), {0: 0.25, 1: 0.5, 2: 0.5, 3: 1.0, 4: 1.0}),
    (Noam(4, 3.0, 100), {0: 1.5 * 1e-3, 24: 1.5 * 25e-3, 99: 0.15, 399: 0.075}),
]


@pytest.mark.parametrize(("rule", "rates"), EXPECTED, ids=repr)
def test_rates_are_those_worked_out_by_hand(rule, rates):
    for step, rate in rates.items():
        assert type(rule(step)) is float
        np.testing.assert_allclose(rule(step), rate, rtol=1e-14)


@pytest.mark.parametrize("rule", ALL, ids=repr)
def test_rates_are_finite_and_a_function_of_the_step_alone(rule):
    forth = [rule(step) for step in range(60)]
    assert forth == [rule(step) for step in reversed(range(60))][::-1]
    assert forth == [rule(np.int64(step)) for step in range(60)]
    assert all(0 <= rate < 1 for rate in forth)


@pytest.mark.parametrize("rule", ALL, ids=repr)
def test_configs_give_the_schedule_back(rule):
    assert schedule(rule) is rule
    again = schedule(json.loads(json.dumps(rule.to_config())))
    assert again == rule
    assert hash(again) == hash(rule)


def test_numbers_and_names():
    assert schedule(0.25) == Constant(0.25)
    assert schedule(1) == Constant(1)
    assert schedule("noam") == Noam()
    assert schedule("warm_up") == WarmUp()
    assert {type(rule).__name__ for rule in ALL} == set(Schedule.registry)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Constant(-1.0), "Constant: `value` does not fit\n  expected: a number in \\[0, inf\\)\n  got: -1.0"),
        (lambda: Exponential(decay=0), "`decay` does not fit"),
        (lambda: Exponential(stage_length=0.5), "`stage_length` does not fit\n  expected: an integer in \\[1, inf\\)"),
        (lambda: Step(boundaries=(5, 3)), "`boundaries` do not fit\n  expected: rising integers"),
        (lambda: Step(boundaries=(3, 3)), "`boundaries` do not fit"),
        (lambda: Step(boundaries=(-1, 3)), "`boundaries` do not fit"),
        (lambda: Step(boundaries=(1.5,)), "`boundaries` do not fit"),
        (lambda: Cosine(steps=0), "`steps` does not fit"),
        (lambda: WarmUp(0.1, 0), "`steps` does not fit"),
        (lambda: WarmUp("up", 3), "unknown schedule"),
        (lambda: Noam(model_dim=0), "`model_dim` does not fit"),
        (lambda: Noam()(-1), "Noam: a step is negative"),
        (lambda: schedule(True), "unknown schedule"),
        (lambda: schedule("linear"), "unknown schedule\n  expected: constant, .*noam, or an instance of Schedule"),
        (lambda: schedule({"schedule": "Noam", "dim": 3}), "Noam: the options do not fit"),
    ],
)
def test_options_that_do_not_fit_are_refused(make, text):
    with pytest.raises(OptionError, match=text):
        make()


@pytest.mark.peers
def test_schedules_equal_those_of_torch():
    import torch

    pairs = [
        (Cosine(0.5, 20, 0.1), lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 20, 0.1)),
        (Step(0.5, (3, 10), 0.1), lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [3, 10], 0.1)),
        (Exponential(0.5, 0.9, 1), lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.9)),
        (Exponential(0.5, 0.9, 7, True), lambda o: torch.optim.lr_scheduler.StepLR(o, 7, 0.9)),
    ]
    for rule, make in pairs:
        theirs = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.5)
        scheduler = make(theirs)
        for step in range(20):
            np.testing.assert_allclose(rule(step), scheduler.get_last_lr()[0], rtol=1e-12)
            theirs.step()
            scheduler.step()
