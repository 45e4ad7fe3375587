"""Running kernels of bilinear ops and holding them to the error bound of a sum of products."""

from __future__ import annotations

import numpy as np

from cpu_kernels import run_kernel
from graphnn.backends.cpu.kernel import Emitter, Kernel
from graphnn.backends.cpu.target import Target
from graphnn.ops.op import Op, spec_of


def check_products(emitter: Emitter, op: Op, a: np.ndarray, b: np.ndarray, target: Target) -> Kernel:
    """The kernel's numbers must lie within n * eps * sum |a| |b| of the exact ones, n the products of a sum.

    That bound holds for every order of summation (Higham, Accuracy and Stability of Numerical Algorithms, 3.1).
    """
    specs = spec_of(a), spec_of(b)
    out_specs = op.infer(*specs)
    kernel = emitter(op, specs, out_specs, target)
    assert kernel is not None
    (out,) = outputs = [np.empty(spec.shape, spec.dtype) for spec in out_specs]
    assert run_kernel(kernel, [a, b], outputs, target) == 0
    wide_a, wide_b = a.astype("longdouble"), b.astype("longdouble")
    exact = op.reference(np, wide_a, wide_b)
    size = op.reference(np, abs(wide_a), abs(wide_b))
    count = op.reference(np, np.ones_like(wide_a), np.ones_like(wide_b))
    assert (abs(out - exact) <= (count + 1) * np.finfo(out.dtype).eps * size).all()
    return kernel


def numbers(shape: tuple[int, ...], dtype: str, seed: int) -> np.ndarray:
    """Normal random numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)
