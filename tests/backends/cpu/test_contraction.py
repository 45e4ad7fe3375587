"""The register tile that is chosen for a contraction."""

from dataclasses import replace

import pytest

from cpu_kernels import avx2
from graphnn.backends.cpu.contraction import choose_tile
from graphnn.backends.cpu.kernels.matmul import Operand, Tensors, matmul_problem
from graphnn.backends.cpu.target import host_target


@pytest.mark.parametrize("target", [host_target(), avx2()], ids=["host", "avx2"])
@pytest.mark.parametrize("columns", [10, 16, 100])
@pytest.mark.parametrize("stride", [784, 1024, 2048, 512, 4096])
def test_rows_of_a_tile_do_not_push_each_other_out_of_the_cache(stride, columns, target):
    """A row is a line of its own; those that are a multiple of a page apart share a set of the first-level cache."""
    target = replace(target, l1_bytes=32768)
    a, b, y = (
        Operand(pointer, shape, (shape[1], 1))
        for pointer, shape in enumerate([(200, stride), (stride, columns), (200, columns)])
    )
    tile = choose_tile(matmul_problem(a, b, "float32", Tensors((), ((y, "float32"),))), target)
    sets = [4 * stride * row // 64 % 64 for row in range(tile.rows)]
    assert max(map(sets.count, sets)) <= 8  # ways
