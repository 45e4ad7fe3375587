import dataclasses
import json
import math

import numpy as np
import pytest

from graphnn.errors import DTypeError, OptionError, ShapeError
from graphnn.initializers import (
    STD_AFTER_CUT,
    Constant,
    GlorotNormal,
    GlorotUniform,
    HeNormal,
    HeUniform,
    Identity,
    Initializer,
    LecunNormal,
    LecunUniform,
    Normal,
    Ones,
    Orthogonal,
    TruncatedNormal,
    Uniform,
    Zeros,
    fans,
    gain_of,
    initializer,
)
from graphnn.ir.tensor_spec import DTYPES, FLOATS
from graphnn.ops.random import RandomStream

FIXED = [Zeros(), Ones(), Constant(2.5), Identity()]
RANDOM = [
    Uniform(-1.0, 3.0),
    Normal(1.0, 2.0),
    TruncatedNormal(0.5),
    GlorotUniform(),
    GlorotNormal(2.0),
    HeUniform(),
    HeNormal(gain_of("leaky_relu", 0.2)),
    LecunUniform(),
    LecunNormal(),
    Orthogonal(1.5),
]
KERNEL = (3, 5, 40, 60)  # rows, columns, in, out
FAN_IN, FAN_OUT = 3 * 5 * 40, 3 * 5 * 60


def made(rule, shape=(40, 60), dtype="float64", seed=0, path="layer/W"):
    return rule(RandomStream(seed, path), shape, dtype)


@pytest.mark.parametrize("rule", FIXED + RANDOM, ids=repr)
@pytest.mark.parametrize("dtype", FLOATS)
def test_dtype_is_exact_and_rounded_once(rule, dtype):
    actual = made(rule, dtype=dtype)
    assert actual.dtype == dtype
    assert actual.shape == (40, 60)
    assert actual.flags.c_contiguous
    assert actual.flags.writeable
    np.testing.assert_array_equal(actual, made(rule).astype(dtype))


@pytest.mark.parametrize("rule", RANDOM, ids=repr)
def test_numbers_depend_on_seed_and_path_alone(rule):
    assert made(rule).tobytes() == made(rule).tobytes()
    assert made(rule).tobytes() != made(rule, seed=1).tobytes()
    assert made(rule).tobytes() != made(rule, path="layer/V").tobytes()


# Family and standard deviation by the formulas of the papers; the kernel's fans are 600 and 900.
EXPECTED = [
    (GlorotUniform(), "uniform", math.sqrt(2 / (FAN_IN + FAN_OUT))),
    (GlorotNormal(2.0), "normal", 2.0 * math.sqrt(2 / (FAN_IN + FAN_OUT))),
    (HeUniform(), "uniform", math.sqrt(2 / FAN_IN)),
    (HeNormal(gain_of("leaky_relu", 0.2)), "normal", math.sqrt(2 / (1 + 0.04) / FAN_IN)),
    (LecunUniform(), "uniform", math.sqrt(1 / FAN_IN)),
    (LecunNormal(), "normal", math.sqrt(1 / FAN_IN)),
    (Uniform(-0.3, 0.3), "uniform", 0.3 / math.sqrt(3)),
    (Normal(std=0.02), "normal", 0.02),
    (TruncatedNormal(0.02), "truncated", 0.02),
]


@pytest.mark.parametrize(("rule", "family", "std"), EXPECTED, ids=lambda value: repr(value))
def test_distribution_has_the_family_and_the_deviation(rule, family, std):
    x = made(rule, KERNEL).reshape(-1) / std
    # Of a unit variance: the fourth moment, the variance of x**2 from it, and the largest value that there can be.
    # Truncated at c = 2: E x**4 = 3 - (2 c**3 + 6 c) phi(c) / (2 Phi(c) - 1), scaled by the deviation after the cut.
    phi, inside = math.exp(-2.0) / math.sqrt(2 * math.pi), math.erf(math.sqrt(2.0))
    truncated = (3 - 28 * phi / inside) / STD_AFTER_CUT**4
    fourth, limit = {
        "uniform": (9 / 5, math.sqrt(3)),
        "normal": (3.0, 6.0),
        "truncated": (truncated, 2 / STD_AFTER_CUT),
    }[family]
    n = x.size
    assert abs(x.mean()) < 4 / math.sqrt(n)
    assert abs((x**2).mean() - 1) < 4 * math.sqrt((fourth - 1) / n)
    assert abs((x**4).mean() - fourth) < 4 * math.sqrt(96 / n)
    assert np.abs(x).max() <= limit
    if family != "normal":
        assert np.abs(x).max() > 0.999 * limit


def test_deviation_after_the_cut_is_its_formula():
    density = math.exp(-2.0) / math.sqrt(2 * math.pi)
    assert math.sqrt(1 - 4 * density / math.erf(math.sqrt(2.0))) == pytest.approx(STD_AFTER_CUT, rel=1e-15)


def test_mean_and_bounds():
    assert abs(made(Normal(3.0, 0.1), (10_000,)).mean() - 3.0) < 4 * 0.1 / 100
    x = made(Uniform(2.0, 5.0), (10_000,))
    assert not made(Normal(std=0), (5,)).any()
    assert 2.0 <= x.min() < 2.01 < 4.99 < x.max() <= 5.0


@pytest.mark.parametrize(
    ("shape", "expected"),
    [(KERNEL, (FAN_IN, FAN_OUT)), ((4, 7), (4, 7)), ((3, 4, 7), (12, 21)), ((7,), (7, 7)), ((), (1, 1))],
)
def test_fans(shape, expected):
    assert fans(shape) == expected


@pytest.mark.parametrize("rule", RANDOM, ids=repr)
def test_empty_weights_are_no_trouble(rule):
    assert made(rule, (0, 3)).shape == (0, 3)


@pytest.mark.parametrize("shape", [(4, 4), (4, 16), (16, 4), (3, 2, 4), (2, 2, 3, 20)])
def test_orthogonal_rows_or_columns(shape):
    matrix = made(Orthogonal(1.5), shape).reshape(-1, shape[-1])
    gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    np.testing.assert_allclose(gram, 1.5**2 * np.eye(min(matrix.shape)), atol=1e-14)


def test_orthogonal_matrices_are_uniform():
    """Rotations of the plane at an even angle, and as many reflections: E q = 0, E trace**2 = 1."""
    stream = RandomStream(0, "x")
    q = np.array([Orthogonal()(stream, (2, 2), "float64") for _ in range(2000)])
    assert np.abs(q.mean(axis=0)).max() < 4 * math.sqrt(0.5 / 2000)
    assert abs((np.trace(q, axis1=1, axis2=2) ** 2).mean() - 1) < 4 * math.sqrt(2 / 2000)
    assert abs(np.linalg.det(q).mean()) < 4 / math.sqrt(2000)


def test_values_that_are_not_random():
    np.testing.assert_array_equal(made(Identity(2.0), (2, 3)), [[2, 0, 0], [0, 2, 0]])
    np.testing.assert_array_equal(made(Constant(-1.5), (2,)), [-1.5, -1.5])
    assert made(Zeros(), ()).shape == ()
    assert made(Zeros(), (2,)).tolist() == [0, 0]
    assert made(Ones(), (2,)).tolist() == [1, 1]
    stream = RandomStream(0, "x")
    for rule in FIXED:
        rule(stream, (2, 2), "float32")
    assert stream.draws == 0


@pytest.mark.parametrize("dtype", sorted(set(DTYPES) - set(FLOATS)))
def test_integers_may_be_constant_but_not_random(dtype):
    assert made(Ones(), (2,), dtype).tolist() == [1, 1]
    for rule in RANDOM:
        with pytest.raises(DTypeError, match="another dtype"):
            made(rule, (2, 2), dtype)


@pytest.mark.parametrize(("rule", "shape"), [(Orthogonal(), (3,)), (Identity(), (3,)), (Identity(), (2, 3, 3))])
def test_shape_without_a_matrix_is_refused(rule, shape):
    with pytest.raises(ShapeError, match=type(rule).__name__):
        made(rule, shape)


def test_gains():
    assert gain_of("tanh") == 5 / 3
    assert gain_of("relu") == gain_of("ReLU") == math.sqrt(2)
    assert gain_of("LeakyReLU", 1.0) == 1.0
    assert gain_of("leaky_relu") == math.sqrt(2 / (1 + 0.01**2))
    assert gain_of("SELU") == 0.75
    assert gain_of("sigmoid") == gain_of("linear") == gain_of("whatever") == 1.0


def test_every_rule_is_tested_and_comes_back_from_its_config():
    assert {type(rule) for rule in FIXED + RANDOM} == {
        rule for rule in Initializer.registry.values() if rule.__module__ == "graphnn.initializers"
    }
    for rule in FIXED + RANDOM:
        config = json.loads(json.dumps(rule.to_config()))
        assert config["initializer"] == type(rule).__name__
        assert initializer(config) == rule


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("glorot_uniform", GlorotUniform()),
        ("GlorotUniform", GlorotUniform()),
        ("he_normal", HeNormal()),
        ("LecunNormal", LecunNormal()),
        ("std_normal", Normal(0.0, 1.0)),
        ("trunc_normal", TruncatedNormal(1.0)),
        ("truncated_normal", TruncatedNormal()),
        ("zeros", Zeros()),
        ({"initializer": "glorot_normal", "gain": 2}, GlorotNormal(2)),
        ({"initializer": "std_normal"}, Normal(0.0, 1.0)),
        (Orthogonal(2.0), Orthogonal(2.0)),
    ],
)
def test_rules_go_by_several_names(text, rule):
    assert initializer(text) == rule


def test_rule_of_a_user_is_known_by_its_name():
    @dataclasses.dataclass(frozen=True)
    class Ramp(Initializer):
        slope: float = 1.0

        def values(self, random, shape):
            return self.slope * np.arange(math.prod(shape), dtype="float64").reshape(shape)

    try:
        assert initializer(Ramp(3.0).to_config()) == Ramp(3.0)
        assert made(initializer("ramp"), (3,), "float32").tolist() == [0, 1, 2]
    finally:
        del Initializer.registry["Ramp"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("glorot", "unknown initializer"),
        ({}, "unknown initializer"),
        (0.5, "not an initializer"),
        (None, "not an initializer"),
        ("constant", "options do not fit"),
        ({"initializer": "HeNormal", "scale": 1.0}, "options do not fit"),
        ({"initializer": "Normal", "std": "1"}, "`std` is not a number"),
        ({"initializer": "Normal", "std": -1.0}, "negative"),
        ({"initializer": "TruncatedNormal", "std": -1.0}, "negative"),
        ({"initializer": "Constant", "value": math.inf}, "`value` is not a number"),
        ({"initializer": "Uniform", "low": 1.0, "high": 0.0}, "wrong order"),
    ],
)
def test_wrong_descriptions_are_refused(value, message):
    with pytest.raises(OptionError, match=message):
        initializer(value)


def test_error_lists_the_names():
    with pytest.raises(OptionError) as caught:
        initializer("gloro")
    names = caught.value.expected.split(", ")
    assert {"glorot_uniform", "he_normal", "std_normal", "trunc_normal", "zeros", "lecun_uniform"} <= set(names)
    assert all(initializer(name) for name in names if name != "constant")
    assert names == sorted(names)
