"""Kernels of matrix products: every shape, both widths of vectors, both float types."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contractions import check_products, numbers
from cpu_kernels import avx2, check_kernel, host
from graphnn.backends.cpu.contraction import Tile
from graphnn.backends.cpu.contraction_nest import emit_contraction
from graphnn.backends.cpu.kernels import matmul as kernels
from graphnn.backends.cpu.squares import turn_squares
from graphnn.ops.linalg import MatMul

TARGETS = {"host": host(), "avx2": avx2()}
targets = st.sampled_from(sorted(TARGETS)).map(TARGETS.__getitem__)
dtypes = st.sampled_from(["float32", "float64"])
extents = st.one_of(st.sampled_from([0, 1, 15, 16, 17, 32, 33]), st.integers(2, 70))


@settings(deadline=None, max_examples=80)
@given(extents, extents, extents, targets, dtypes)
def test_products_of_matrices(rows, depth, columns, target, dtype):
    check_products(
        kernels.emit_matmul, MatMul(), numbers((rows, depth), dtype, 1), numbers((depth, columns), dtype, 2), target
    )


@settings(deadline=None, max_examples=40)
@given(st.data(), st.lists(st.sampled_from([1, 2, 3]), max_size=3), targets, dtypes)
def test_leading_axes_broadcast(data, lead, target, dtype):
    rows, depth, columns = (data.draw(st.sampled_from([1, 2, 5, 17, 40])) for _ in range(3))
    sides = []
    for _ in range(2):
        kept = lead[data.draw(st.integers(0, len(lead))) :]
        sides.append(tuple(size if data.draw(st.booleans()) else 1 for size in kept))
    a, b = numbers((*sides[0], rows, depth), dtype, 1), numbers((*sides[1], depth, columns), dtype, 2)
    check_products(kernels.emit_matmul, MatMul(), a, b, target)


LARGE = [
    ((300, 520), (520, 130)),  # panels of B
    ((70, 256), (256, 520)),  # rows that fall on the same lines of the cache
    ((40, 2300), (2300, 50)),  # k in blocks
    ((5, 4097), (4097, 1)),
    ((64, 1500), (1500, 1100)),  # B in several parts
]


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("shapes", LARGE, ids=str)
def test_large_products(shapes, target):
    check_products(
        kernels.emit_matmul, MatMul(), *(numbers(shape, "float32", i) for i, shape in enumerate(shapes)), target
    )


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 9), st.integers(1, 4), st.booleans(), st.integers(1, 3), targets)
def test_every_tile_gives_the_same_product(rows, vectors, pack_b, panels, target):
    def emit(op, inputs, outputs, target):
        a, b, y = (kernels.dense(i, spec) for i, spec in enumerate((*inputs, *outputs)))
        problem = kernels.matmul_problem(a, b, "float32", kernels.Tensors((), ((y, "float32"),)))
        held = panels if pack_b else -(-70 // (vectors * target.lanes("float32")))
        return emit_contraction(problem, target, Tile(rows, vectors, target.lanes("float32"), pack_b, held))

    check_products(emit, MatMul(), numbers((11, 37), "float32", 1), numbers((37, 70), "float32", 2), target)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_goes_where_the_reference_has_it(special, target):
    a, b = numbers((21, 33), "float32", 1), numbers((33, 45), "float32", 2)
    a[20, 32], b[0, 44], b[3, 0] = special, special, special
    a[5, 3] = 0
    check_kernel(kernels.emit_matmul, MatMul(), a, b, target=target, rtol=1e-4, atol=1e-4)


def test_steps_that_differ_in_the_number_of_rows_share_their_code():
    texts = []
    for rows in (1024, 2048):
        a, b = numbers((rows, 8), "float32", 1), numbers((8, 16), "float32", 2)
        texts.append(check_products(kernels.emit_matmul, MatMul(), a, b, host()).ir)
    assert texts[0] == texts[1]


@pytest.mark.parametrize("dtype", ["int32", "float16"])
def test_other_dtypes_are_left_to_the_reference(dtype):
    specs = tuple(kernels.TensorSpec((3, 3), dtype) for _ in range(2))
    assert kernels.emit_matmul(MatMul(), specs, MatMul().infer(*specs), host()) is None


def test_transposition_of_a_square_of_vectors():
    class Recorder:
        """Stands for the emitter: its shuffles work on lists."""

        def __init__(self):
            self.builder = self

        def shuffle_vector(self, x, y, order):
            both = [*x, *y]
            return [both[i] for i in (element.constant for element in order.constant)]

    square = [[16 * row + column for column in range(16)] for row in range(16)]
    assert turn_squares(Recorder(), square, 16) == [list(column) for column in zip(*square, strict=True)]
