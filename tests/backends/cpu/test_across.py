"""Short rows, many at a time: which nests they are, and that every number of rows and of elements comes out right."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cpu_kernels
from graphnn.backends.cpu.kernels.loops.emitter import emit_loops
from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops import exp, log_softmax, mean, softmax, sqrt, where
from graphnn.ops.creation import Iota
from graphnn.ops.fused import Fused
from graphnn.ops.op import Tensor, emit
from graphnn.ops.random import RandomBits
from graphnn.ops.reduction import Min

TARGETS = {"host": cpu_kernels.host(), "avx2": cpu_kernels.avx2()}
TARGET = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS.keys())
LANES = cpu_kernels.host().vector_bytes // 4


def across_rows(x: Tensor, row: Tensor, column: Tensor) -> list[Tensor]:
    return [softmax(x + column), log_softmax(x * row.reshape((x.shape[0], 1)))]


def layer_norm(x, row, column):
    d = x - mean(x, -1, keep=True)
    y = d / sqrt(mean(d * d, -1, keep=True) + 1e-5)
    return [y * column + row.reshape((x.shape[0], 1)), mean(x, -1)]


def gradient_and_its_sums(x, row, column):
    """As behind a softmax: what goes on, the gradient of a bias, and the loss."""
    y = softmax(x + column)
    dy = (y - x) * row.reshape((x.shape[0], 1))
    dx = y * (dy - (dy * y).sum(-1, keep=True))
    return [dx, dx.sum(0), (dx * dx).sum(), (x.max(-1) * row).sum()]


def picked_by_number(x, row, column):
    """The element of each row whose number is in `row`, and how far the row and the columns are from it."""
    numbers, rows = (emit(Iota(x.shape, axis, "float32"), (), x.builder)[0] for axis in (1, 0))
    numbers, rows, wanted = numbers.cast(x.dtype), rows.cast(x.dtype), row.reshape((x.shape[0], 1))
    kept = where(numbers >= wanted, where(numbers <= wanted, x, x * 0.0 - 3.0), x * 0.0 - 2.0)
    return [kept.max(-1), exp(kept).sum(-1), least(kept + column), (x * rows).sum(-1)]


def least(x: Tensor) -> Tensor:
    return emit(Min((x.spec.rank - 1,)), [x])[0]


def extrema(x, row, column):
    return [x.max(-1), least(x), (x - x.max(-1, keep=True)).max(0), least(x).max(), (x + column).sum(-1)]


GROUPS = [across_rows, layer_norm, gradient_and_its_sums, picked_by_number, extrema]


def group(function, *arrays: np.ndarray) -> Fused:
    builder = ProgramBuilder()
    specs = [TensorSpec(a.shape, str(a.dtype)) for a in arrays]
    results = function(*(Tensor(builder, builder.input(f"in_{n}", spec)) for n, spec in enumerate(specs)))
    return Fused(builder.build([tensor.value for tensor in results]))


def arrays_of(rows: int, length: int, dtype: str = "float32", seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.normal(size=shape).astype(dtype) for shape in ((rows, length), (rows,), (length,))]


def check(function, arrays, target, **how) -> str:
    tolerance = 64 * np.finfo(arrays[0].dtype).eps
    how = {"rtol": tolerance, "atol": 8 * tolerance, **how}
    return cpu_kernels.check_kernel(emit_loops, group(function, *arrays), *arrays, target=target, **how).notes


@TARGET
@pytest.mark.parametrize("function", GROUPS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 7, 8, 10, 16, 17, 24])
def test_all_lengths_of_rows(function, length, target):
    for rows in (LANES // 2, LANES - 1, LANES, LANES + 1, 2 * LANES, 71):
        notes = check(function, arrays_of(rows, length), target)
        assert "at once" in notes or length == 1 or length > 10


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(GROUPS), st.integers(1, 70), st.integers(1, 40), st.sampled_from(["float32", "float64"]),
    st.sampled_from(list(TARGETS)), st.integers(0, 9),
)  # fmt: skip
def test_any_size(function, rows, length, dtype, target, seed):
    check(function, arrays_of(rows, length, dtype, seed), TARGETS[target])


@TARGET
def test_numbers_that_are_none(target):
    x, row, column = arrays_of(40, 10)
    x[3, 4], x[7, 0], x[9, 9], x[39] = np.nan, np.inf, -np.inf, np.nan
    row[11], column[5] = np.inf, -np.inf
    for function in GROUPS:
        check(function, (x, row, column), target)


@TARGET
def test_a_result_may_lie_over_what_it_is_made_of(target):
    for rows in (LANES, LANES + 3):
        for length in (3, 10):
            notes = check(lambda x, row, column: [softmax(x + column)], arrays_of(rows, length), target, over={0: 0})
            assert "at once" in notes


@TARGET
def test_numbers_of_rows_and_of_their_elements(target):
    x, _, column = arrays_of(50, 10)
    row = np.arange(50).astype("float32") % 12  # some have no such element
    assert "at once" in check(picked_by_number, (x, row, column), target)


def test_long_rows_few_rows_and_draws_do_not_go_across():
    host = cpu_kernels.host()
    assert "sweeps" in check(across_rows, arrays_of(2 * LANES, 4 * LANES), host)
    assert "sweeps" in check(across_rows, arrays_of(2, 10), host)
    assert "sweeps" in check(lambda x, row, column: [x + column], arrays_of(2 * LANES, 10), host)
    x = arrays_of(32, 10)[0]

    def dropped(x, words):
        bits = emit(RandomBits((32, 10), 3), [words])[0]
        return [(bits.cast("float32") * x).sum(-1)]

    words = np.arange(4, dtype="uint32")
    kernel = cpu_kernels.check_kernel(emit_loops, group(dropped, x, words), x, words, target=host, rtol=1e-4)
    assert "sweeps" in kernel.notes


@TARGET
def test_a_result_that_all_rows_share_is_written_once(target):
    """It has one row only: a row for each lane would be written behind its end."""
    for rows in (LANES // 2, LANES, 2 * LANES + 1):
        x, _, column = arrays_of(rows, 10)
        bias = column.reshape(1, 10)
        for function in (
            lambda x, bias: [softmax(x) + bias, softmax(bias)],
            lambda x, bias: [softmax(x) + softmax(bias), softmax(bias), x.sum(0)],
        ):
            assert "sweeps" in check(function, (x, bias), target)


def test_equal_code_for_all_numbers_of_rows():
    texts = set()
    for rows in (LANES, 3 * LANES + 1, 400):
        arrays = arrays_of(rows, 10)
        specs = tuple(TensorSpec(a.shape, str(a.dtype)) for a in arrays)
        op = group(layer_norm, *arrays)
        texts.add(str(emit_loops(op, specs, op.infer(*specs), cpu_kernels.host()).ir))
    assert len(texts) == 1
