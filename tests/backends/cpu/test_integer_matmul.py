"""Integer products equal NumPy's in every bit, wrapped around as there."""

import numpy as np
import pytest

from cpu_kernels import avx2, check_kernel, host
from graphnn.backends.cpu.kernels.integer_matmul import emit_integer_matmul
from graphnn.ir.tensor_spec import INTEGERS
from graphnn.ops.linalg import MatMul

SHAPES = [
    ((1, 1), (1, 1)), ((3, 5), (5, 7)), ((2, 0), (0, 3)), ((0, 4), (4, 3)), ((4, 3), (3, 0)), ((2, 9), (9, 131)),
    ((2, 3, 4), (4, 5)), ((3, 4), (2, 4, 17)), ((2, 1, 3, 4), (5, 4, 6)), ((1, 3, 2, 4), (2, 1, 4, 33)),
    ((0, 2, 3), (3, 2)),
]  # fmt: skip


@pytest.mark.parametrize("target", [host, avx2])
@pytest.mark.parametrize("dtype", INTEGERS)
def test_every_shape_wraps_around_as_numpy(dtype, target):
    rng, limits = np.random.default_rng(0), np.iinfo(dtype)
    for left, right in SHAPES:
        a, b = (rng.integers(limits.min, limits.max, shape, dtype, endpoint=True) for shape in (left, right))
        check_kernel(emit_integer_matmul, MatMul(), a, b, target=target())
