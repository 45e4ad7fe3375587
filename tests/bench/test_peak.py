"""The kernel that measures the peak computes what it says, with as many chains as the registers hold."""

import ctypes

import numpy as np
import pytest

from cpu_kernels import address, avx2, host
from graphnn.bench.peak import chains, make_kernel


@pytest.mark.parametrize("target", [host, avx2], ids=["host", "avx2"])
def test_the_kernel_makes_all_multiply_adds(target):
    target = target()
    lanes = target.lanes("float32")
    given, made = np.full(2 * lanes, 0.5, "float32"), np.zeros(lanes, "float32")
    pointers, sizes = np.array([given.ctypes.data, made.ctypes.data], "int64"), np.array([3], "int64")
    kernel = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)(address(make_kernel(target), target))
    assert kernel(pointers.ctypes.data, sizes.ctypes.data) == 0
    value = 0.5
    for _ in range(3):
        value = value * 0.5 + 0.5
    np.testing.assert_array_equal(made, np.float32(value * chains(target)))
    assert chains(target) < target.registers
