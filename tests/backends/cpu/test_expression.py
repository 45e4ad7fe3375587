"""Every elementwise op, on every dtype it takes, at every width, means what its reference says."""

from functools import partial

import numpy as np
import pytest

from cpu_kernels import avx2, check_kernel, host, run_kernel
from cpu_lanes import Elementwise, flat_kernel
from graphnn.backends.cpu.emit import Function
from graphnn.backends.cpu.expression import emit_expression, emit_number, emit_op, from_memory, parse
from graphnn.errors import BackendError
from graphnn.ir.tensor_spec import DTYPES, FLOATS, INTEGERS
from graphnn.ops.arithmetic import Power
from graphnn.ops.creation import Cast, StopGradient
from graphnn.ops.elementwise import Elementwise as ElementwiseOp
from graphnn.ops.elementwise import Where
from graphnn.ops.op import Op

TARGETS = {"host": host(), "avx2": avx2()}
OPS = [
    (kind(), dtype)
    for kind in Op.registry.values()
    if issubclass(kind, ElementwiseOp) and kind.expression
    for dtype in kind.accepts
]
SIZES = (0, 1, 3, 16, 67)
ROUGH = {"float16": 1e-3, "float32": 4e-7, "float64": 1e-15}
EXACT = {
    "add", "subtract", "multiply", "divide", "negative", "absolute", "sign", "floor", "ceil", "round", "maximum",
    "minimum", "sqrt", "remainder",
}  # fmt: skip
EDGES = (0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 0.5, -2.5, 3.0)


def numbers(seed: int, dtype: str, size: int) -> np.ndarray:
    """Any numbers; floats with the edges among them, integers over their whole range, and small ones that meet."""
    rng = np.random.default_rng(seed)
    if dtype == "bool":
        return rng.integers(0, 2, size).astype("bool")
    if dtype in FLOATS:
        values = rng.normal(size=size).astype(dtype) * np.dtype(dtype).type(3)
        return np.where(rng.random(size) < 0.4, rng.choice(EDGES, size), values).astype(dtype)
    limits = np.iinfo(dtype)
    wide = rng.integers(limits.min, limits.max, size, dtype=dtype, endpoint=True)
    return np.where(rng.random(size) < 0.5, wide, rng.integers(0, 3, size).astype(dtype))


def tolerance(op: Op, dtype: str) -> float:
    return 0.0 if op.name in EXACT or dtype not in FLOATS else ROUGH[dtype]


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize(("op", "dtype"), OPS, ids=lambda value: str(getattr(value, "name", value)))
def test_op_means_its_reference(op, dtype, target):
    for lanes in (target.lanes(dtype), 8):
        for size in SIZES:
            arrays = [numbers(seed + size, dtype, size) for seed in range(op.arity)]
            check_kernel(Elementwise(lanes), op, *arrays, target=target, rtol=tolerance(op, dtype))


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_where_takes_one_of_two(dtype, target):
    condition = numbers(0, "bool", 67)
    check_kernel(Elementwise(16), Where(), condition, numbers(1, dtype, 67), numbers(2, dtype, 67), target=target)


def castable(source: str, target: str) -> np.ndarray:
    """Numbers that have a meaning in both dtypes: NumPy promises nothing for others."""
    if source not in FLOATS or target not in INTEGERS:
        return numbers(3, source, 67)
    limits = np.iinfo(target)
    low, high = max(float(limits.min), -60000.0), min(float(limits.max), 60000.0)
    return np.random.default_rng(4).uniform(low, high, 67).astype(source)


@pytest.mark.parametrize("source", DTYPES)
def test_cast_means_astype(source):
    for wanted in DTYPES:
        for target in TARGETS.values():
            check_kernel(Elementwise(8), Cast(dtype=wanted), castable(source, wanted), target=target)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_float64_becomes_float16_in_one_rounding(target):
    halves = np.arange(0x7BFF, dtype="uint16").view("float16").astype("float64")
    middles = (halves[:-1] + halves[1:]) / 2  # half way between two neighbours: the least bit beyond decides
    values = np.concatenate(
        [middles, np.nextafter(middles, 0), np.nextafter(middles, 1e9), [65519.999999, 65520, 1e300]]
    )
    both = np.concatenate([values, -values])
    check_kernel(Elementwise(8), Cast(dtype="float16"), both, target=target)


def test_largest_values_of_integers_survive_a_cast():
    for source in INTEGERS:
        limits = np.iinfo(source)
        check_kernel(Elementwise(4), Cast(dtype="float64"), np.array([limits.min, limits.max] * 4, source))


def test_bool_in_memory_may_be_any_byte():
    f = Function(host())
    assert "icmp ne" in str(from_memory(f, f.load(f.pointer(0), 0, "bool"), "bool"))


def test_literals_and_signs_of_the_subset():
    text = "where(!(x0 >= T(-1)) | (x0 != x0), T(INFINITY), -x0 / T(2) + abs(x0) * T(0.25))"
    x = numbers(7, "float64", 40)
    kernel = flat_kernel(
        lambda f, v: emit_expression(f, text, v, ["float64"], "float64"), ["float64", "float64"], 40, host(), 8
    )
    out = np.empty(40)
    assert run_kernel(kernel, [x], [out], host()) == 0
    with np.errstate(all="ignore"):
        wanted = np.where(~(x >= -1) | (x != x), np.inf, -x / 2 + abs(x) * 0.25)
    np.testing.assert_allclose(out, wanted, rtol=1e-15)


@pytest.mark.parametrize("text", ["x0 // x1", "lgamma(x0)", "x2", "x0[0]", "x0 % x1", "1"])
def test_what_the_subset_lacks_is_refused(text):
    f = Function(host())
    x = f.load(f.pointer(0), 0, "float32")
    with pytest.raises(BackendError):
        emit_expression(f, text, [x, x], ["float32", "float32"], "float32")


def test_an_op_without_a_formula_is_refused():
    f = Function(host())
    x = f.load(f.pointer(0), 0, "float32")
    with pytest.raises(BackendError, match="formula"):
        emit_op(f, StopGradient(), [x], ["float32"], "float32")


def test_formulas_are_parsed_once():
    assert parse("x0 + x1") is parse("x0 + x1")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("exponent", [2.0, 1.0, -1.0, 0.5, 3.0])
def test_constant_exponents_follow_the_rules_of_power(exponent, dtype):
    x = numbers(8, dtype, 67)
    for target in TARGETS.values():
        kernel = flat_kernel(partial(constant_power, exponent, dtype), [dtype, dtype], 67, target, 8)
        out = np.empty_like(x)
        assert run_kernel(kernel, [x], [out], target) == 0
        with np.errstate(all="ignore"):
            wanted = np.power(x.astype("float64"), np.full(67, exponent))  # a scalar exponent would mean sqrt
        np.testing.assert_allclose(out, wanted, rtol=ROUGH[dtype])
        np.testing.assert_array_equal(np.signbit(out[~np.isnan(out)]), np.signbit(wanted[~np.isnan(out)]))


def constant_power(exponent: float, dtype: str, f: Function, values: list) -> object:
    lanes = getattr(values[0].type, "count", 0)
    return emit_op(f, Power(), [values[0], emit_number(exponent, dtype, lanes)], [dtype, dtype], dtype)


def test_every_op_with_a_formula_is_tested_here():
    with_formula = {kind for kind in Op.registry.values() if kind.expression}
    assert with_formula == {type(op) for op, _ in OPS} | {Where, Cast}
