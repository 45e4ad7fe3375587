"""A contraction with transposed operands and an epilogue, as one kernel."""

import ctypes

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contractions import numbers
from cpu_kernels import address, avx2, check_kernel, host, run_kernel
from graphnn.backends.cpu.kernels.contraction_group import emit_contraction_group
from graphnn.backends.cpu.kernels.matmul import emit_matmul
from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops.convolution import Convolution, input_gradient, weight_gradient
from graphnn.ops.elementwise import tanh, where
from graphnn.ops.fused import Fused
from graphnn.ops.linalg import MatMul, swap_last
from graphnn.ops.op import Tensor, spec_of

TARGETS = {"host": host(), "avx2": avx2()}
TOLERANCE = {"float32": 3e-4, "float64": 1e-11}  # some hundred products of normal numbers are summed


def fused(function, shapes, dtype="float32"):
    """A Fused with the body `function`."""
    builder = ProgramBuilder()
    tensors = [Tensor(builder, builder.input(f"x{i}", TensorSpec(shape, dtype))) for i, shape in enumerate(shapes)]
    results = function(*tensors)
    return Fused(builder.build([y.value for y in (results if isinstance(results, tuple) else (results,))]))


def relu(x):
    return where(x <= 0.0, x.lift(0.0), x)


def both(y, z):
    return y, y * z


CAUSAL = Convolution((1,), (2,), ((4, 0),))
CASES = {
    "x^T @ dy": (lambda x, dy: swap_last(x) @ dy, [(30, 17), (30, 40)]),
    "dy @ W^T": (lambda dy, w: dy @ swap_last(w), [(70, 300), (130, 300)]),
    "x^T @ W^T": (lambda x, w: swap_last(x) @ swap_last(w), [(33, 20), (50, 33)]),
    "long x^T @ dy": (lambda x, dy, w: swap_last(x) @ dy + w * 0.1, [(2500, 20), (2500, 50), (20, 50)]),
    "bias and ReLU": (lambda x, w, b: relu(x @ w + b), [(33, 20), (20, 50), (50,)]),
    "long epilogue": (lambda x, w, b, r: tanh(x @ w + b) * r, [(33, 20), (20, 50), (50,), (33, 50)]),
    "column of numbers": (lambda x, w, c: x @ w * c, [(33, 20), (20, 50), (33, 1)]),
    "two outputs": (lambda x, w, r: both(x @ w, r), [(33, 20), (20, 50), (33, 50)]),
    "mask": (lambda x, w: (lambda y: (y <= 0.0, tanh(y)))(x @ w),
             [(33, 20), (20, 50)]),
    "cast": (lambda x, w: (x @ w).cast("float16"), [(33, 20), (20, 50)]),
    "residual of the input": (lambda x, w: x @ w + x, [(33, 20), (20, 20)]),
    "attention": (lambda q, k, m: q.transpose((0, 2, 1, 3)) @ k.transpose((0, 2, 3, 1)) * 0.3 + m,
                  [(2, 7, 3, 20), (2, 9, 3, 20), (7, 9)]),
    "attention values": (lambda p, v: p @ v.transpose((0, 2, 1, 3)), [(2, 3, 7, 9), (2, 9, 3, 40)]),
    "one row": (lambda x, w, b: tanh(x @ swap_last(w) + b), [(1, 20), (50, 20), (50,)]),
    "one column": (lambda x, w, b: tanh(swap_last(x) @ w + b), [(20, 30), (20, 1), (1,)]),
    "one column each": (lambda x, w, b: swap_last(x) @ w + b, [(3, 20, 30), (3, 20, 1), (30, 1)]),
    "rows of one": (lambda x, w, b: x @ w + b, [(5, 1, 20), (20, 30), (30,)]),
    "sum of nothing": (lambda x, w, b: tanh(x @ w + b), [(4, 0), (0, 30), (30,)]),
    "no rows": (lambda x, w, b: tanh(x @ w + b), [(0, 4), (4, 30), (30,)]),
    "convolution": (lambda x, w, b, r: relu(CAUSAL(x, w) + b) + r, [(2, 20, 5), (3, 5, 20), (20,), (2, 20, 20)]),
    "1x1 convolution": (lambda x, w, b: tanh(Convolution((1,), (1,), ((0, 0),))(x, w) + b),
                        [(2, 20, 5), (1, 5, 20), (20,)]),
    "grouped convolution": (lambda x, w, b: tanh(Convolution((1,), (2,), ((4, 0),), 2)(x, w) + b),
                            [(2, 20, 6), (3, 3, 20), (20,)]),
    "depthwise convolution": (lambda x, w, b: tanh(Convolution((1,), (2,), ((4, 0),), 6)(x, w) + b),
                              [(2, 20, 6), (3, 1, 6), (6,)]),
    "input gradient": (lambda dy, w, x: input_gradient(CAUSAL, (20,))(dy, w) * (1.0 - x * x),
                       [(2, 20, 20), (3, 5, 20), (2, 20, 5)]),
    "weight gradient": (lambda x, dy, w: weight_gradient(CAUSAL, (3,))(x, dy) * 2.0 + w,
                        [(16, 40, 60), (16, 40, 70), (3, 60, 70)]),
}  # fmt: skip


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", CASES)
def test_groups_equal_their_bodies(name, dtype, target):
    function, shapes = CASES[name]
    op, tolerance = fused(function, shapes, dtype), 2e-2 if name == "cast" else TOLERANCE[dtype]
    arrays = [numbers(shape, dtype, seed) for seed, shape in enumerate(shapes)]
    check_kernel(emit_contraction_group, op, *arrays, target=target, rtol=tolerance, atol=tolerance)


@settings(deadline=None, max_examples=40)
@given(st.tuples(*[st.integers(1, 50)] * 3), st.permutations(range(4)), st.permutations(range(4)), st.data())
def test_operands_in_any_order_of_axes(sizes, order_a, order_b, data):
    (rows, depth, columns), lead = sizes, (2, 3)
    shapes = []
    for order, matrix in ((order_a, (rows, depth)), (order_b, (depth, columns))):
        stored = [0] * 4
        for position, size in zip(order, (*lead, *matrix), strict=True):
            stored[position] = size
        shapes.append(tuple(stored))
    op = fused(lambda a, b: a.transpose(order_a) @ b.transpose(order_b), shapes)
    arrays = [numbers(shape, "float32", seed) for seed, shape in enumerate(shapes)]
    target = data.draw(st.sampled_from(sorted(TARGETS)))
    check_kernel(emit_contraction_group, op, *arrays, target=TARGETS[target], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("function", [lambda x, w, r: relu(x @ w + r), lambda x, w, r: tanh(x @ w) * r])
def test_the_output_may_lie_over_an_operand_of_the_epilogue(function):
    shapes = [(37, 20), (20, 50), (37, 50)]  # 37 rows: the last tile lies over the one before it
    op, (x, w, r) = fused(function, shapes), (numbers(shape, "float32", i) for i, shape in enumerate(shapes))
    specs = tuple(map(spec_of, (x, w, r)))
    kernel = emit_contraction_group(op, specs, op.infer(*specs), host())
    (wanted,) = op.reference(np, x, w, r)
    inputs, outputs = [x, w, r], [np.empty_like(r)]
    assert run_kernel(kernel, inputs, outputs, host()) == 0
    separate = outputs[0]
    assert run_in_place(kernel, x, w, r).tobytes() == separate.tobytes()
    np.testing.assert_allclose(separate, wanted, rtol=1e-4, atol=1e-4)


def run_in_place(kernel, x, w, r):
    result, scratch = r.copy(), np.zeros(kernel.scratch_bytes + 64, "uint8")
    aligned = scratch.ctypes.data + -scratch.ctypes.data % 64
    pointers = np.array([x.ctypes.data, w.ctypes.data, result.ctypes.data, result.ctypes.data, aligned], "int64")
    sizes = np.array([*kernel.sizes, 0], "int64")
    function = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)(address(kernel.ir, host()))
    assert function(pointers.ctypes.data, sizes.ctypes.data) == 0
    return result


def test_without_an_epilogue_the_numbers_are_those_of_the_plain_product():
    a, b = numbers((19, 30), "float32", 1), numbers((30, 45), "float32", 2)
    op = fused(lambda x, w: (x @ w) * 1.0, [a.shape, b.shape])
    results = []
    for emitter, product in ((emit_contraction_group, op), (emit_matmul, MatMul())):
        specs = spec_of(a), spec_of(b)
        kernel, outputs = emitter(product, specs, product.infer(*specs), host()), [np.empty((19, 45), "float32")]
        assert run_kernel(kernel, [a, b], outputs, host()) == 0
        results.append(outputs[0].tobytes())
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("function", "shapes"),
    [
        (lambda x, w: (x @ w).sum(0), [(3, 4), (4, 5)]),
        (lambda x, w: (x @ w) @ w, [(3, 4), (4, 4)]),
        (lambda x, w: tanh(x) @ w, [(3, 4), (4, 5)]),
        (lambda x, w, r: x @ w + swap_last(r), [(3, 4), (4, 5), (5, 3)]),
    ],
)
def test_other_bodies_are_not_covered(function, shapes):
    op = fused(function, shapes)
    specs = tuple(TensorSpec(shape) for shape in shapes)
    assert emit_contraction_group(op, specs, op.infer(*specs), host()) is None


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("depth", [3, 700])  # in one piece, and summed by blocks
def test_a_weight_and_its_moment_are_updated_in_place_at_every_size(target, depth):
    """The last tile of rows lies over the one before it, whose results must not be read as what was there."""

    def update(x, dy, w, m):
        new = m * 0.9 + swap_last(x) @ dy
        return w - new * 0.1, new

    for rows, columns in [*((rows, 33) for rows in range(1, 40)), (30, 1), (7, 16), (29, 70)]:
        shapes = [(depth, rows), (depth, columns), (rows, columns), (rows, columns)]
        arrays = [numbers(shape, "float32", seed) for seed, shape in enumerate(shapes)]
        tolerance = 1e-3 if depth > 100 else 1e-5
        check_kernel(
            emit_contraction_group, fused(update, shapes), *arrays,
            target=target, rtol=tolerance, atol=tolerance, over={0: 2, 1: 3},
        )  # fmt: skip
