"""Loop kernels against the reference: single ops, whole groups as training steps have them, and random groups."""

import ctypes
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import cpu_kernels
from graphnn.backends.cpu.kernels.loops.emitter import emit_loops
from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.program import Program
from graphnn.ir.tensor_spec import DTYPES, FLOATS, TensorSpec
from graphnn.ops import fill, log_softmax, maximum, mean, minimum, softmax, sqrt, tanh, where
from graphnn.ops.creation import Iota, StopGradient
from graphnn.ops.elementwise import absolute
from graphnn.ops.fused import Fused
from graphnn.ops.op import Tensor, emit
from graphnn.ops.random import RandomBits, seed_words
from graphnn.ops.reduction import Max, Min, Sum
from graphnn.ops.shape import BroadcastTo, Reshape
from graphnn.passes.loop_nest import analyse
from ops.op_cases import CASES

TARGETS = {"host": cpu_kernels.host(), "avx2": cpu_kernels.avx2()}
TARGET = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS.keys())
SIZES = (0, 1, 2, 3, 7, 8, 10, 16, 17, 31, 64, 100, 130)
NOT_ELEMENTWISE = (Iota, RandomBits, Sum, Max, Min, Reshape, BroadcastTo, StopGradient)


def group(function, *arrays) -> Fused:
    """A Fused of what `function` does with tensors of the arrays' specs."""
    return Fused(program(function, *(TensorSpec(a.shape, str(a.dtype)) for a in arrays)))


def program(function, *specs: TensorSpec) -> Program:
    builder = ProgramBuilder()
    results = function(*(Tensor(builder, builder.input(f"in_{n}", spec)) for n, spec in enumerate(specs)))
    return builder.build([tensor.value for tensor in (results if isinstance(results, list) else [results])])


def numbers(rng: np.random.Generator, shape, dtype="float32") -> np.ndarray:
    if dtype == "bool":
        return rng.random(shape) < 0.5
    if dtype in FLOATS:
        return rng.normal(size=shape).astype(dtype)
    return rng.integers(0 if dtype.startswith("u") else -5, 6, shape).astype(dtype)


# -- single ops -------------------------------------------------------------------------------------------------------

LOOP_CASES = [case for case in CASES if case.op.expression or isinstance(case.op, NOT_ELEMENTWISE)]


@TARGET
@pytest.mark.parametrize("case", LOOP_CASES, ids=str)
def test_op_gives_what_its_reference_gives(case, target):
    for dtype in ("float32", "float64"):
        arrays = case.make(dtype)
        specs = tuple(TensorSpec(a.shape, str(a.dtype)) for a in arrays)
        if analyse(_body(case.op, specs)) is None:
            assert isinstance(case.op, Reshape), "only reshapes may regroup axes"
            continue
        tolerance = 8 * np.finfo(dtype).eps
        cpu_kernels.check_kernel(emit_loops, case.op, *arrays, target=target, rtol=tolerance, atol=tolerance)


def _body(op, specs):
    builder = ProgramBuilder()
    values = [builder.input(f"in_{n}", spec) for n, spec in enumerate(specs)]
    return builder.build(builder.emit(op, values))


@TARGET
@pytest.mark.parametrize("dtype", DTYPES)
def test_all_dtypes(dtype, target):
    """Loads, stores, casts and comparisons of each dtype; sums and extrema of numbers, wrapping where they must."""
    rng = np.random.default_rng(0)
    x, y = numbers(rng, (5, 21), dtype), numbers(rng, (5, 21), dtype)
    same = group(lambda a, b: [where(a.cast("bool"), a, b), a.cast("int64") + b.cast("int64")], x, y)
    cpu_kernels.check_kernel(emit_loops, same, x, y, target=target)
    if dtype == "bool":
        return
    row = group(lambda a, b: [a.sum(-1), a.max(-1), (a + b).max(-1, keep=True) + a], x, y)
    columns = group(lambda a, b: [a.sum(0), a.max(0), a.sum(), (a + b).sum((0, 1))], x, y)
    tolerance = {"float16": 2e-3, "float32": 1e-6}.get(dtype, 1e-12 * (dtype == "float64"))
    for op in (row, columns):
        cpu_kernels.check_kernel(emit_loops, op, x, y, target=target, rtol=tolerance, atol=4 * tolerance)


@TARGET
def test_nan_and_infinities_pass_through(target):
    x = np.array([[1.0, -math.inf, 3.0, math.nan] * 5, [math.inf, -2.0, -0.0, 0.0] * 5], "float32")
    for function in (
        lambda a: [a.max(-1), a.max(0), a.sum(-1), a.sum(), maximum(a, a.lift(0.0))],
        lambda a: [a * 0.0 + a.max(), emit(Min((0, 1)), [a])[0]],
        lambda a: [softmax(a), emit(Min((0,)), [a])[0]],
    ):
        cpu_kernels.check_kernel(emit_loops, group(function, x), x, target=target, rtol=1e-6)


# -- groups of training steps -----------------------------------------------------------------------------------------


def layer_norm(x, scaler, intercept):
    difference = x - mean(x, -1, keep=True)
    return difference / sqrt(mean(difference * difference, -1, keep=True) + 1e-5) * scaler + intercept


def layer_norm_gradient(x, scaler, dy):
    difference = x - mean(x, -1, keep=True)
    inverse = 1.0 / sqrt(mean(difference * difference, -1, keep=True) + 1e-5)
    normal, dn = difference * inverse, dy * scaler
    dx = (dn - mean(dn, -1, keep=True) - normal * mean(dn * normal, -1, keep=True)) * inverse
    return [dx, (dy * normal).sum(0), dy.sum(0)]


def adam(p, g, rate):
    m, v = g * 0.1, g * g * 0.001
    return [p - m * rate / (sqrt(v) + 1e-8), m, v]


def cross_entropy(x, target, _):
    losses = -(log_softmax(x) * target).sum(-1)
    return [mean(losses), (softmax(x) - target) * (1.0 / max(1, int(x.shape[0])))]


def batch_norm(x, scaler, dy):
    """The scale is one row computed once; the statistics are sums of rows with an epilogue."""
    statistics = [mean(x, 0) * 0.1 + scaler.reshape(x.shape[1:]) * 0.9, mean(x)]
    return [x * (scaler / sqrt(scaler * scaler + 1e-5)) + dy, *statistics, scaler * 2.0]


def bias_and_activation(x, bias, dy):
    y = tanh(x + bias)
    dx = dy * (1.0 - y * y)
    return [y, dx, dx.sum(0), (x * x).sum(), maximum(x, x.lift(0.0)).cast("float64")]


def activation_gradient(y, scale, dy):
    """Sums of long rows, which are kept in memory and fed several rows at once."""
    dx = where(y > 0.0, dy, dy.lift(0.0)) * scale
    return [dx, dx.sum(0), (dx * y).sum(0)]


def clipped(x, y, dy):
    factor = minimum(1.0 / (sqrt((x * x).sum()) + 1e-6), x.fill(1.0, ()))
    return [x * factor, minimum(maximum(dy, dy.lift(-0.5)), dy.lift(0.5)) + x]


GROUPS = {
    "softmax": lambda x, _, dy: [softmax(x), dy * x],
    "softmax gradient": lambda y, _, dy: y * (dy - (y * dy).sum(-1, keep=True)),
    "layer norm": lambda x, s, dy: layer_norm(x, s, s) + dy,
    "layer norm gradient": layer_norm_gradient,
    "cross entropy": lambda x, _, t: cross_entropy(x, t, _),
    "batch norm": batch_norm,
    "bias and activation": bias_and_activation,
    "activation gradient": activation_gradient,
    "optimizer": lambda p, _, g: adam(p, g, p.fill(0.001, ())),
    "clipping": clipped,
}


@TARGET
@pytest.mark.parametrize("name", GROUPS)
def test_group_gives_what_its_reference_gives(name, target):
    function = GROUPS[name]
    rng = np.random.default_rng(1)
    for rows, columns in ((1, 1), (0, 5), (3, 1), (1, 33), (9, 10), (64, 16), (5, 128), (7, 260)):
        x, row, dy = (numbers(rng, shape) for shape in ((rows, columns), (1, columns), (rows, columns)))
        op = group(function, x, row, dy)
        if analyse(op.body) is None:
            assert not x.size, "only a group without elements may be left out"
            continue
        cpu_kernels.check_kernel(emit_loops, op, x, row, dy, target=target, rtol=2e-5, atol=2e-5)


@TARGET
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sums_of_products_are_rounded_twice_in_every_place(dtype, target):
    """A number that two kernels compute must be equal to itself, and an fma that LLVM makes in one only is not."""
    rng = np.random.default_rng(4)
    for columns in (1, 3, 5, 8, 17, 64):
        x, scale, offset = (numbers(rng, shape, dtype) for shape in ((7, columns), (1, columns), (1, columns)))
        for function in (
            lambda x, scale, offset: x * scale + offset,
            lambda x, scale, offset: [x * scale - offset, x * scale],
            lambda x, scale, offset: [(x * scale + offset).max(0), (x * scale + offset).max(1)],
        ):
            op = group(function, x, scale, offset)
            cpu_kernels.check_kernel(emit_loops, op, x, scale, offset, target=target)


@TARGET
@pytest.mark.parametrize("shape", [(1,), (10,), (64,), (1000,), (7, 3), (5, 8), (3, 4, 5), (2, 130)], ids=str)
@pytest.mark.parametrize("first", [None, 0, 6, 2**33 + 5])
def test_random_masks_are_those_of_the_whole_draw(shape, first, target):
    rng = np.random.default_rng(2)
    x, bias, random = numbers(rng, shape), numbers(rng, shape[-1:]), seed_words(3, 2**32 + 1)
    more = [] if first is None else [np.array(first)]

    def dropout(x, bias, random, *first):
        bits = emit(RandomBits(shape, 2**63 + 12345), [random, *first])[0]
        return [bits, where(bits <= 2**31, x + bias, x.lift(0.0))]

    op = group(dropout, x, bias, random, *more)
    cpu_kernels.check_kernel(emit_loops, op, x, bias, random, *more, target=target)


def test_sums_are_about_as_exact_as_pairwise_sums():
    rng = np.random.default_rng(3)
    for shape, axes in (((1_000_003,), (0,)), ((100_003, 10), (0, 1)), ((3, 300_001), (1,)), ((100_003,), (0,))):
        x = rng.random(shape, "float32")
        op = group(lambda a, axes=axes: a.sum(axes), x)
        kernel = emit_loops(op, (TensorSpec(shape),), op.infer(TensorSpec(shape)), TARGETS["host"])
        got = np.empty(op.infer(TensorSpec(shape))[0].shape, "float32")
        cpu_kernels.run_kernel(kernel, [x], [got], TARGETS["host"])
        np.testing.assert_allclose(got, x.sum(axes, dtype="float64"), rtol=5e-7)


def test_equal_code_for_all_batch_sizes():
    kernels = []
    for rows in (3, 64, 1000):
        x, row = np.zeros((rows, 48), "float32"), np.zeros((1, 48), "float32")
        op = group(batch_norm_without_count, x, row, x)
        specs = tuple(value.spec for value in op.body.inputs)
        kernels.append(emit_loops(op, specs, op.infer(*specs), TARGETS["host"]))
    assert len({kernel.ir for kernel in kernels}) == 1


def batch_norm_without_count(x, scaler, dy):
    return [softmax(x) * scaler + dy, dy.sum(0), (x * dy).sum()]


# -- random groups ----------------------------------------------------------------------------------------------------


def clip(x: Tensor) -> Tensor:
    """Keeps numbers small: then sums and products of whole numbers are exact in any order."""
    return minimum(maximum(x, x.lift(-9)), x.lift(9))


def combined(draw, pool: list[Tensor]) -> Tensor:
    """One more value that broadcasts, reshapes, compares, casts or reduces what is there."""
    a = draw(st.sampled_from(pool))
    b = draw(st.sampled_from([t for t in pool if t.dtype == a.dtype]))
    match draw(st.integers(0, 12)):
        case 0 | 1:
            return clip(a + b)
        case 2 | 3:
            return clip(a * b)
        case 4:
            return maximum(a, b)
        case 5:
            return where(a > b, a, b * 2)
        case 6:
            return a.cast(draw(st.sampled_from(["float32", "float64", "int32", "int8"])))
        case 7:
            return clip(absolute(a) - 1)
        case 8 | 9:
            return clip(a.sum(-1, keep=True))
        case 10 if a.shape[-1]:
            return a.max(-1, keep=True)
        case 11:
            return a.broadcast_to(tuple(max(n, m) if n and m else 0 for n, m in zip(a.shape, b.shape, strict=True)))
        case _:
            lengths = [axis for axis, size in enumerate(a.shape) if size != 1] or [0]
            return emit(Iota(a.shape, draw(st.sampled_from(lengths)), a.dtype), (), a.builder)[0] + a
    raise AssertionError


def result(draw, x: Tensor) -> Tensor:
    """What leaves the group: a value, its joined form, or a fold of it."""
    match draw(st.integers(0, 6)):
        case 0:
            return x.reshape((x.shape[0] * x.shape[1], x.shape[2]))
        case 1:
            return x.sum((0, 1))
        case 2:
            return x.sum()
        case 3:
            return x.max(0) + 1 if x.shape[0] else x
        case 4:
            return x.sum(1)
    return x


class Body:
    """A Program with a short repr, for Hypothesis."""

    def __init__(self, program: Program):
        self.program = program

    def __repr__(self) -> str:
        return " ".join(f"{i.op.name}:{i.outputs[0].spec.shape}" for i in self.program.instructions)[:800]


@st.composite
def groups(draw) -> Body:
    """Programs on axes (a, b, c) in which most values have some of them."""
    a, b, c = (draw(st.sampled_from(SIZES[:8])), draw(st.sampled_from((1, 2, 5))), draw(st.sampled_from(SIZES)))
    shapes = [(a, b, c), (1, b, c), (1, 1, c), (a, b, 1), (a, 1, 1), (1, 1, 1), (a, 1, c)]
    builder = ProgramBuilder()
    chosen = [(a, b, c), *draw(st.lists(st.sampled_from(shapes), max_size=3))]
    dtype = st.sampled_from(["float32", "float32", "float64", "int32"])
    pool = [Tensor(builder, builder.input(f"in_{n}", TensorSpec(s, draw(dtype)))) for n, s in enumerate(chosen)]
    pool.append(fill(builder, 3, (1, 1, 1), "float32"))
    for _ in range(draw(st.integers(1, 10))):
        pool.append(combined(draw, pool))
    made = pool[len(chosen) + 1 :]
    results = [result(draw, x) for x in draw(st.lists(st.sampled_from(made), min_size=1, max_size=3))]
    return Body(builder.build(tuple(dict.fromkeys(tensor.value for tensor in results))))


@TARGET
@given(case=groups(), seed=st.integers(0, 100))
def test_random_group_gives_what_its_reference_gives(case, target, seed):
    """Equal numbers, not nearly equal: all numbers are small whole ones. Also where outputs lie over inputs."""
    body = case.program
    nest = analyse(body)
    assume(nest is not None and not set(body.outputs) & set(body.inputs))
    rng = np.random.default_rng(seed)
    arrays = [rng.integers(-3, 4, value.spec.shape).astype(value.spec.dtype) for value in body.inputs]
    kernel = cpu_kernels.check_kernel(emit_loops, Fused(body), *arrays, target=target)
    over: dict[int, int] = {}
    for o, output in enumerate(body.outputs):
        for i, value in enumerate(body.inputs):
            if i not in over.values() and nest.may_overwrite(output, value):
                over[o] = i
    expected = Fused(body).reference(np, *arrays)
    for got, wanted in zip(run_in_place(kernel, arrays, body.outputs, over, target), expected, strict=True):
        np.testing.assert_array_equal(got, wanted)


def run_in_place(kernel, arrays, outputs, over, target):
    """The results where output o lies over input over[o]."""
    given = [np.ascontiguousarray(array).copy() for array in arrays]
    made = [
        given[over[o]] if o in over else np.zeros(value.spec.shape, value.spec.dtype) for o, value in enumerate(outputs)
    ]
    scratch = np.zeros(kernel.scratch_bytes + 64, "uint8")
    aligned = scratch.ctypes.data + (-scratch.ctypes.data) % 64
    pointers = np.array([array.ctypes.data for array in (*given, *made)] + [aligned], "int64")
    sizes = np.array([*kernel.sizes, 0], "int64")
    function = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)
    function(cpu_kernels.address(kernel.ir, target))(pointers.ctypes.data, sizes.ctypes.data)
    return made


IN_PLACE = {  # results that lie over x, which something else still needs
    "a later sweep": lambda x, y: [softmax(x) + x * y],
    "a sum of rows": lambda x, y: [y * 2.0, (x * y).sum(0)],
    "a sum of all": lambda x, y: [y * 2.0, (x * y).sum(), (x + y).sum(1)],
    "another result": lambda x, y: [y * 2.0, x + y],
}


@TARGET
@pytest.mark.parametrize("columns", [16, 20, 300])
@pytest.mark.parametrize("name", IN_PLACE)
def test_nothing_is_overwritten_before_it_is_read(name, columns, target):
    rng = np.random.default_rng(5)
    x, y = numbers(rng, (7, columns)), numbers(rng, (7, columns))
    op = group(IN_PLACE[name], x, y)
    nest, specs = analyse(op.body), tuple(value.spec for value in op.body.inputs)
    assert nest.may_overwrite(op.body.outputs[0], op.body.inputs[0])
    kernel = emit_loops(op, specs, op.infer(*specs), target)
    results = run_in_place(kernel, [x, y], op.body.outputs, {0: 0}, target)
    for got, wanted in zip(results, op.reference(np, x, y), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=2e-5)
