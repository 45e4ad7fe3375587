"""Kernels of convolutions and their gradients: all attributes, both widths of vectors, both float types."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from contractions import check_products, numbers
from cpu_kernels import avx2, host
from graphnn.backends.cpu.kernels.convolution import emit_convolution
from graphnn.backends.cpu.kernels.convolution_axes import runs
from graphnn.errors import ShapeError
from graphnn.ops.convolution import Convolution, input_gradient, weight_gradient
from graphnn.ops.op import spec_of

TARGETS = {"host": host(), "avx2": avx2()}
targets = st.sampled_from(sorted(TARGETS)).map(TARGETS.__getitem__)
WAYS = ("forward", "input gradient", "weight gradient")


def each(rank, values):
    return st.tuples(*(st.sampled_from(values) for _ in range(rank)))


@st.composite
def problems(draw, ranks, sizes, groups=(1,), channels=(1, 3, 17), kernels=(1, 2, 3)):
    """(convolution, shape of x, shape of w)."""
    rank = draw(st.sampled_from(ranks))
    low, high = draw(each(rank, [0, 1, 2, 5])), draw(each(rank, [0, 1, 2]))
    group = draw(st.sampled_from(groups))
    op = Convolution(
        draw(each(rank, [1, 1, 2, 3])), draw(each(rank, [1, 1, 2, 3])), tuple(zip(low, high, strict=True)), group
    )
    inputs, outputs = draw(each(2, channels))
    x = (draw(st.sampled_from([0, 1, 2, 3])), *draw(each(rank, sizes)), inputs * group)
    return op, x, (*draw(each(rank, kernels)), inputs, outputs * group)


def check(problem, way, target, dtype="float32"):
    """One of the three ops, which share the shapes of their operands."""
    op, x, w = problem
    try:
        (out,) = op.infer(spec_of(np.empty(x)), spec_of(np.empty(w)))
    except ShapeError:
        assume(False)
    x, w, dy = (numbers(shape, dtype, seed) for seed, shape in enumerate((x, w, out.shape)))
    ops = {
        "forward": (op, x, w),
        "input gradient": (input_gradient(op, x.shape[1:-1]), dy, w),
        "weight gradient": (weight_gradient(op, w.shape[:-2]), x, dy),
    }
    return check_products(emit_convolution, *ops[way], target)


@pytest.mark.parametrize("way", WAYS)
@settings(deadline=None, max_examples=50)
@given(problem=problems((1, 2), (1, 5, 8, 19)), target=targets, dtype=st.sampled_from(["float32", "float64"]))
def test_sequences_and_images(way, problem, target, dtype):
    check(problem, way, target, dtype)


@pytest.mark.parametrize("way", WAYS)
@settings(deadline=None, max_examples=12)
@given(problem=problems((3,), (1, 2, 5), channels=(1, 2)), target=targets)
def test_volumes(way, problem, target):
    check(problem, way, target)


@pytest.mark.parametrize("way", WAYS)
@settings(deadline=None, max_examples=25)
@given(problem=problems((1, 2), (1, 7, 18), groups=(2, 3, 20), channels=(1, 2)), target=targets)
def test_groups(way, problem, target):
    check(problem, way, target)


CASES = {
    "causal": (Convolution((1,), (8,), ((8, 0),)), (2, 1100, 20), (2, 20, 40)),
    "causal, short segment": (Convolution((1,), (1,), ((1, 0),)), (1, 1100, 20), (2, 20, 40)),
    "dilated beyond the input": (Convolution((1,), (64,), ((64, 0),)), (1, 40, 5), (2, 5, 7)),
    "wide kernel": (Convolution((1,), (1,), ((12, 12),)), (1, 30, 3), (25, 3, 5)),
    "images": (Convolution((1, 1), (1, 1), ((1, 1), (1, 1))), (5, 16, 16, 32), (3, 3, 32, 32)),
    "transition": (Convolution((2, 2), (1, 1), ((0, 1), (0, 1))), (3, 32, 32, 16), (3, 3, 16, 32)),
    "shortcut": (Convolution((2, 2), (1, 1), ((0, 0), (0, 0))), (3, 16, 16, 32), (1, 1, 32, 64)),
    "few channels": (Convolution((1, 1), (1, 1), ((1, 1), (1, 1))), (3, 20, 20, 3), (3, 3, 3, 16)),
    "few channels, long": (Convolution((1,), (1,), ((2, 2),)), (2, 9000, 2), (5, 2, 16)),
    "one channel": (Convolution((2, 2), (1, 1), ((0, 0), (0, 0))), (3, 28, 28, 1), (5, 5, 1, 6)),
    "large items": (Convolution((1,), (2,), ((2, 2),)), (2, 1500, 40), (3, 40, 33)),
    "no channels in": (Convolution((1,), (1,), ((0, 0),)), (2, 5, 0), (2, 0, 3)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("name", CASES)
def test_cases(name, target, way):
    check(CASES[name], way, target)


def test_steps_that_differ_in_the_batch_share_their_code():
    op, x, w = CASES["images"]
    assert check((op, (2, *x[1:]), w), "forward", host()).ir == check((op, x, w), "forward", host()).ir


@given(
    st.integers(1, 30), st.integers(-9, 9), st.integers(1, 3), st.integers(-3, 3).filter(bool), st.integers(1, 5),
    st.integers(1, 20),
)  # fmt: skip
def test_runs_name_the_kernel_elements_inside(positions, start, move, tap, taps, size):
    seen = []
    for run in runs(positions, start, move, tap, taps, size):
        assert run.start == len(seen)
        seen += [list(range(run.first, run.first + run.taps))] * run.count
    wanted = [[j for j in range(taps) if 0 <= start + t * move + j * tap < size] for t in range(positions)]
    assert [ks or [0] for ks in seen] == [ks or [0] for ks in wanted] if all(wanted) else len(seen) == positions
    assert [bool(ks) for ks in seen] == [bool(ks) for ks in wanted]
