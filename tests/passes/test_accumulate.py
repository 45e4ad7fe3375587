"""accumulating: a contraction that adds to what is there gives the bits of the two steps one after the other."""

import numpy as np
import pytest

from cpu_kernels import avx2, check_kernel, host
from graphnn.backends.cpu.kernels.registry import emit_kernel
from graphnn.ir.builder import ProgramBuilder
from graphnn.ops import matmul, tanh
from graphnn.ops.arithmetic import Add
from graphnn.ops.convolution import ConvolutionOp
from graphnn.ops.fused import Fused
from graphnn.ops.linalg import MatMul
from graphnn.ops.op import Tensor, spec_of
from graphnn.passes.accumulate import accumulating
from ops.op_cases import CASES

TARGETS = {"host": host(), "avx2": avx2()}
CONTRACTIONS = [case for case in CASES if isinstance(case.op, MatMul | ConvolutionOp)]
FLOATS = [case for case in CONTRACTIONS if case.make("float32")[0].dtype == "float32"]


def parts(op, arrays):
    inputs = tuple(map(spec_of, arrays))
    outputs = op.infer(*inputs)
    totals = [np.random.default_rng(n).normal(size=s.shape).astype(s.dtype) for n, s in enumerate(outputs)]
    return inputs, outputs, totals


@pytest.mark.parametrize("case", CONTRACTIONS, ids=str)
def test_the_sum_of_what_was_there_and_the_result(case):
    arrays = case.make("float64")
    inputs, outputs, totals = parts(case.op, arrays)
    op = accumulating(case.op, inputs, outputs, [0])
    (got,) = op.reference(np, *arrays, *totals)
    np.testing.assert_array_equal(got, totals[0] + case.op.reference(np, *arrays))
    assert op.may_overwrite(len(inputs), 0)
    assert not any(op.may_overwrite(n, 0) for n in range(len(inputs)))


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("case", FLOATS, ids=str)
def test_each_has_a_kernel_that_may_write_over_the_sum(case, target):
    arrays = [np.ascontiguousarray(array) for array in case.make("float32")]
    inputs, outputs, totals = parts(case.op, arrays)
    op = accumulating(case.op, inputs, outputs, [0])
    check_kernel(emit_kernel, op, *arrays, *totals, target=target, rtol=1e-4, atol=1e-4)
    check_kernel(emit_kernel, op, *arrays, *totals, target=target, rtol=1e-4, atol=1e-4, over={0: len(arrays)})


def test_one_of_two_results_of_a_group():
    builder = ProgramBuilder()
    arrays = [np.random.default_rng(n).normal(size=shape) for n, shape in enumerate([(5, 7), (7, 3)])]
    x, w = (Tensor(builder, builder.input(f"x{n}", spec_of(array))) for n, array in enumerate(arrays))
    y = matmul(x, w)
    group = Fused(builder.build([y.value, tanh(y).value]))
    inputs, outputs, totals = parts(group, arrays)
    op = accumulating(group, inputs, outputs, [1])
    first, second = op.reference(np, *arrays, totals[1])
    np.testing.assert_array_equal(first, arrays[0] @ arrays[1])
    np.testing.assert_array_equal(second, totals[1] + np.tanh(first))
    assert op.in_place == ((2, 1),)


def test_what_is_no_contraction_adds_nothing():
    spec = spec_of(np.zeros((2, 3)))
    assert accumulating(Add(), (spec, spec), (spec,), [0]) is None
