"""The vector functions keep within their bounds over the whole range of floats, on every target and at every width."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from cpu_kernels import avx2, host
from cpu_lanes import apply_function

TARGETS = {"host": host(), "avx2": avx2()}
EXTENDED = np.longdouble
HAS_EXTENDED = np.finfo(EXTENDED).nmant >= 63
STEP = 997  # a prime: the patterns meet all exponents and all kinds of mantissas


@dataclass(frozen=True)
class Bound:
    """Largest errors in units in the last place, and the largest |x| for which they hold."""

    reference: Callable[[np.ndarray], np.ndarray]
    float32: float
    float64: float
    limit: float = math.inf


def sigmoid(x: np.ndarray) -> np.ndarray:
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, np.where(np.isnan(x), x, 1)) / (1 + e)


FUNCTIONS = {
    "exp": Bound(np.exp, 1.0, 1.0),
    "expm1": Bound(np.expm1, 2.0, 2.0),
    "log": Bound(np.log, 2.0, 1.0),
    "log1p": Bound(np.log1p, 2.0, 2.0),
    "tanh": Bound(np.tanh, 2.5, 2.5),
    "sigmoid": Bound(sigmoid, 2.5, 2.5),
    "erf": Bound(np.vectorize(math.erf, otypes=["float64"]), 2.0, 2.0),  # the reference itself is right to 1
    "sin": Bound(np.sin, 2.0, 2.0, 1e12),
    "cos": Bound(np.cos, 2.0, 2.0, 1e12),
    "sqrt": Bound(np.sqrt, 0.5, 0.51),
}
WHOLE = {"floor": np.floor, "ceil": np.ceil, "rint": np.rint, "abs": np.abs}
EDGES = np.array(
    [
        *(0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, 3.0, -2.0, -3.0, -2.5, np.inf, -np.inf, np.nan, 1e-42, -1e-42, 1e30),
        *(-1e30, 88.72, 88.73, -87.3, -103.9, -104.1, 709.7, 709.8, -708.4, -745.1, -745.2, 5e-324, -5e-324, 1e-310),
        *(0.75, 1.5, np.nextafter(0.75, 0), np.nextafter(1.5, 0), 17.5, -17.5, 9.0, 9.2, 20.0),
    ]
)


def errors(got: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """|got - wanted| in units in the last place of the dtype of `got`; 0 where no closer number exists.

    Infinity where one of them alone is not finite, and for a zero of the wrong sign.
    """
    with np.errstate(all="ignore"):
        rounded = wanted.astype(got.dtype)
        distance = np.abs(got.astype(wanted.dtype) - wanted) / np.spacing(np.abs(rounded))
    both_nan = np.isnan(got) & np.isnan(rounded)
    right = both_nan | ((got == rounded) & (np.signbit(got) == np.signbit(rounded)))
    other_zero = (got == rounded) & ~right
    return np.where(right, 0.0, np.where(other_zero, np.inf, np.nan_to_num(distance, nan=np.inf, posinf=np.inf)))


def all_float32(limit: float) -> np.ndarray:
    patterns = np.arange(0, 2**32, STEP, dtype="uint64").astype("uint32").view("float32")
    with np.errstate(over="ignore"):
        values = np.concatenate([patterns, EDGES.astype("float32")])
    return values[~(np.abs(values) > limit) | np.isinf(values)]


def sample_float64(name: str, limit: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 2**64, 20000, dtype="uint64").view("float64")
    wide = rng.uniform(-750, 750, 4000)
    near = rng.normal(size=20000) * 10.0 ** rng.integers(-6, 2, 20000)
    values = np.concatenate([patterns, wide, near, 1 + near / 100, EDGES])
    with np.errstate(invalid="ignore"):
        return values[~(np.abs(values) > limit) | np.isinf(values)]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_float32_is_right_over_all_bit_patterns(name):
    bound = FUNCTIONS[name]
    x = all_float32(bound.limit)
    with np.errstate(all="ignore"):
        wanted = bound.reference(np.where(np.isinf(x) & (name in ("sin", "cos")), np.nan, x).astype("float64"))
    for target in TARGETS.values():
        found = errors(apply_function(name, target, target.lanes("float32"), x), wanted)
        worst = found.argmax()
        assert found[worst] <= bound.float32, (name, x[worst], found[worst])


@pytest.mark.skipif(not HAS_EXTENDED, reason="the reference needs a type with more digits than float64")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_float64_is_right(name):
    bound = FUNCTIONS[name]
    x = sample_float64(name, bound.limit)
    with np.errstate(all="ignore"):
        wanted = bound.reference(x.astype("float64" if name == "erf" else EXTENDED))
    for target in TARGETS.values():
        found = errors(apply_function(name, target, target.lanes("float64"), x), wanted)
        worst = found.argmax()
        assert found[worst] <= bound.float64, (name, x[worst], found[worst])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", WHOLE)
def test_whole_number_functions_are_exact(name, dtype):
    x = np.concatenate([EDGES, np.arange(-5, 5, 0.25), [2.0**23 + 1, 2.0**52 - 0.5]])
    with np.errstate(over="ignore"):
        x = x.astype(dtype)
    for target in TARGETS.values():
        got = apply_function(name, target, 8, x)
        np.testing.assert_array_equal(got, WHOLE[name](x))
        np.testing.assert_array_equal(np.signbit(got), np.signbit(WHOLE[name](x)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_number_gives_the_same_bits_at_every_width(name, dtype):
    with np.errstate(over="ignore"):
        x = np.concatenate([np.random.default_rng(1).normal(size=200) * 4, EDGES]).astype(dtype)
    x = x[~(np.abs(x) > FUNCTIONS[name].limit)]
    for target in TARGETS.values():
        base = apply_function(name, target, 0, x)
        for lanes in (3, 4, 16, 64):
            np.testing.assert_array_equal(apply_function(name, target, lanes, x), base)


@pytest.mark.parametrize("name", ["sin", "cos"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_waves_stay_within_one_however_large_the_number(name, dtype):
    x = np.array([1e13, -1e16, 1e20, -3e38, np.finfo(dtype).max], dtype)
    for target in TARGETS.values():
        assert (np.abs(apply_function(name, target, 4, x)) <= 1).all()


def test_sigmoid_and_tanh_never_leave_their_range():
    x = np.linspace(-40, 40, 400001).astype("float32")
    for target in TARGETS.values():
        assert (np.abs(apply_function("tanh", target, 16, x)) <= 1).all()
        y = apply_function("sigmoid", target, 16, x)
        assert ((y > 0) & (y <= 1)).all()


def pairs(dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Bases and exponents: all pairs of edges, and numbers whose power is finite but may be large."""
    rng = np.random.default_rng(2)
    a, b = (grid.ravel() for grid in np.meshgrid(EDGES, EDGES))
    base = np.concatenate([rng.lognormal(0, 2, 3000), 1 + rng.normal(size=3000) / 1000, -rng.lognormal(0, 1, 100)])
    exponent = np.concatenate([rng.normal(size=3000) * 30, rng.normal(size=3000) * 1e5, rng.integers(-9, 9, 100)])
    with np.errstate(over="ignore"):
        return np.concatenate([a, base]).astype(dtype), np.concatenate([b, exponent]).astype(dtype)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_power_is_right_for_all_kinds_of_numbers(dtype, target):
    if dtype == "float64" and not HAS_EXTENDED:
        pytest.skip("the reference needs a type with more digits than float64")
    base, exponent = pairs(dtype)
    wider = np.float64 if dtype == "float32" else EXTENDED
    with np.errstate(all="ignore"):
        wanted = np.power(base.astype(wider), exponent.astype(wider))
    found = errors(apply_function("pow", target, target.lanes(dtype), base, exponent), wanted)
    worst = found.argmax()
    assert found[worst] <= 1.5, (base[worst], exponent[worst], found[worst])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["maximum", "minimum", "remainder"])
def test_functions_of_two_numbers_are_exact(name, dtype):
    rng = np.random.default_rng(3)
    a, b = (grid.ravel() for grid in np.meshgrid(EDGES, EDGES))
    a = np.concatenate([a, rng.normal(size=5000) * 100, np.arange(-50, 50) * 0.3])
    b = np.concatenate([b, rng.normal(size=5000), np.full(100, 0.1)])
    with np.errstate(all="ignore"):
        a, b = a.astype(dtype), b.astype(dtype)
        near = ~(np.abs(a / b) >= 2.0**23) | (b == 0) if name == "remainder" else np.full(a.shape, True)
        a, b = a[near], b[near]
        wanted = getattr(np, name)(a, b)
    for target in TARGETS.values():
        np.testing.assert_array_equal(apply_function(name, target, 8, a, b), wanted)
