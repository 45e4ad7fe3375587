"""widen_half: float16 contractions sum in float32, round once, and leave no cast in a loop that can stand before it."""

import numpy as np
import pytest

from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops.convolution import Convolution, ConvolutionInputGradient, ConvolutionWeightGradient
from graphnn.ops.creation import Cast
from graphnn.ops.evaluate import evaluate
from graphnn.ops.linalg import MatMul
from graphnn.ops.op import Tensor
from graphnn.passes.pipeline import run_passes
from graphnn.passes.widen_half import widen_half
from graphnn.scan import Scan, scan

WINDOWS = {"strides": (2, 1), "dilation": (1, 2), "padding": ((1, 0), (2, 2))}
CASES = [
    (MatMul(), (5, 70), (70, 9), 70),
    (MatMul(), (2, 1, 5, 3), (4, 3, 9), 3),
    (MatMul(), (2, 0), (0, 3), 0),
    (MatMul(), (3, 4000), (4000, 2), 4000),
    (Convolution(**WINDOWS), (2, 8, 9, 3), (3, 3, 3, 4), 27),
    (ConvolutionInputGradient(**WINDOWS, spatial=(8, 9)), (2, 4, 9, 4), (3, 3, 3, 4), 36),
    (ConvolutionWeightGradient(**WINDOWS, kernel=(3, 3)), (2, 8, 9, 3), (2, 4, 9, 4), 72),
]


def program_of(op, *shapes, dtype="float16"):
    builder = ProgramBuilder()
    return builder.build(builder.emit(op, [builder.input("x", TensorSpec(shape, dtype)) for shape in shapes]))


def run(program, arrays):
    with np.errstate(all="ignore"):
        values = evaluate(np, program, arrays)
    return [values[value] for value in program.outputs]


@pytest.mark.parametrize("scale", [2.0**-13, 1.0, 300.0])
@pytest.mark.parametrize(("op", "left", "right", "depth"), CASES)
def test_results_are_within_the_stated_bound(op, left, right, depth, scale):
    rng = np.random.default_rng(0)
    arrays = [(rng.normal(size=shape) * factor).astype("float16") for shape, factor in ((left, scale), (right, 1.0))]
    (got,) = run(run_passes(program_of(op, left, right), [widen_half]), arrays)
    wide = [array.astype("float64") for array in arrays]
    exact, sizes = op.reference(np, *wide), op.reference(np, *map(np.abs, wide))
    assert got.dtype == "float16"
    bound = np.maximum(2.0**-11 * np.abs(exact), 2.0**-25) + depth * 2.0**-23 * sizes
    fits = np.abs(exact) + bound < 65504
    assert fits.mean() >= (0.5 if scale > 1 else 1.0) or not fits.size
    assert (np.abs(got - exact) <= bound)[fits].all()
    assert not np.isnan(got).any()  # what is too large is infinite, as in the reference


def test_nan_and_infinity_pass_through():
    a = np.array([[np.nan, 1.0], [np.inf, 1.0], [np.inf, -np.inf], [6e4, 6e4]], "float16")
    b = np.ones((2, 1), "float16")
    (got,) = run(widen_half(program_of(MatMul(), a.shape, b.shape)), [a, b])
    np.testing.assert_array_equal(got[:, 0], np.array([np.nan, np.inf, np.nan, np.inf], "float16"))


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8"])
def test_other_dtypes_stay_the_same_program(dtype):
    program = program_of(MatMul(), (2, 3), (3, 2), dtype=dtype)
    assert widen_half(program) is program


def test_an_operand_is_cast_once_and_a_weight_in_front_of_the_loop():
    builder = ProgramBuilder()
    h, w, xs = (
        Tensor(builder, builder.input(name, TensorSpec(shape, "float16")))
        for name, shape in (("h", (4, 8)), ("w", (8, 8)), ("xs", (5, 4, 8)))
    )
    last, _ = scan(lambda c, s, k: ((c[0] @ k[0] + c[0] @ (k[0] * k[0]) + s[0],), ()), [h], [xs], [w])
    program = run_passes(builder.build([last[0].value]), [widen_half])
    (loop,) = (i.op for i in program.instructions if isinstance(i.op, Scan))
    assert sum(i.op == Cast("float32") for i in loop.body.instructions) == 1  # that of the carry
    assert sum(i.op == Cast("float32") for i in program.instructions) == 2
    assert all(i.outputs[0].spec.dtype == "float32" for i in loop.body.instructions if isinstance(i.op, MatMul))
