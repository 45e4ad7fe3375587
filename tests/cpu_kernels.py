"""Running one kernel of the CPU engine between canaries, and comparing it with its op's reference."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import numpy as np

from graphnn.backends.cpu.jit import Code, host_target
from graphnn.backends.cpu.kernel import Emitter, Kernel
from graphnn.backends.cpu.target import Target
from graphnn.ops.op import Op, spec_of

CANARY, MARGIN = 0xA5, 192  # bytes around every buffer
NOTHING: Mapping[int, int] = {}


@cache
def code(target: Target) -> Code:
    return Code(target)


@cache
def address(text: str, target: Target) -> int:
    return code(target).compile(text)


def host() -> Target:
    return host_target()


def avx2() -> Target:
    """The host without AVX-512, as a CPU of 2013 would be described."""
    features = ",".join(f for f in host().features.split(",") if not f.startswith(("+avx512", "+amx", "+avx10")))
    return replace(host(), name="haswell", features=features, vector_bytes=32, registers=16)


class Guarded:
    """An array with canaries on both sides, at an address that is a multiple of the element size only."""

    def __init__(self, array: np.ndarray):
        offset = array.itemsize if array.nbytes else 0
        self.raw = np.full(MARGIN * 2 + array.nbytes + offset, CANARY, "uint8")
        self.start = MARGIN + offset
        self.array = self.raw[self.start : self.start + array.nbytes].view(array.dtype).reshape(array.shape)
        self.array[...] = array

    def check(self) -> None:
        before, behind = self.raw[: self.start], self.raw[self.start + self.array.nbytes :]
        assert {*before, *behind} == {CANARY}, "a kernel wrote outside of its buffer"


def run_kernel(
    kernel: Kernel,
    inputs: list[np.ndarray],
    outputs: list[np.ndarray],
    target: Target,
    over: Mapping[int, int] = NOTHING,
) -> int:
    """Call it; `outputs` hold its results. Before, they are overwritten with NaN or all ones, or lie over inputs."""
    given = [Guarded(array) for array in inputs]
    made = [given[over[n]] if n in over else Guarded(poisoned(array)) for n, array in enumerate(outputs)]
    scratch = Guarded(np.full(-(-kernel.scratch_bytes // 64) * 64 + 64, 0xFF, "uint8"))
    aligned = scratch.array.ctypes.data + (-scratch.array.ctypes.data) % 64
    pointers = np.array([g.array.ctypes.data for g in (*given, *made)] + [aligned], "int64")
    sizes = np.array([*kernel.sizes, 0], "int64")
    function = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)(address(kernel.ir, target))
    status = function(pointers.ctypes.data, sizes.ctypes.data)
    for number, (guarded, array) in enumerate(zip(given, inputs, strict=True)):
        guarded.check()
        assert number in over.values() or guarded.array.tobytes() == np.ascontiguousarray(array).tobytes(), (
            "a kernel changed its input"
        )
    for guarded, array in zip(made, outputs, strict=True):
        guarded.check()
        array[...] = guarded.array
    scratch.check()
    return status


def poisoned(array: np.ndarray) -> np.ndarray:
    poison = np.empty_like(array)
    poison.reshape(-1).view("uint8")[...] = 0xFF  # NaN as a float, -1 as an integer
    return poison


def check_kernel(
    emitter: Emitter,
    op: Op,
    *arrays: np.ndarray,
    target: Target | None = None,
    rtol: float = 0.0,
    atol: float = 0.0,
    over: Mapping[int, int] = NOTHING,
) -> Kernel:
    """The emitter's kernel must give what `op.reference` gives; equal bits where no tolerance is stated.

    Args:
        emitter: makes the kernel.
        op: what it computes.
        arrays: inputs.
        target: this machine, if not given.
        rtol, atol: of `assert_allclose`.
        over: position of an output: of the input that it is written over.
    """
    target = target or host()
    inputs = [np.asarray(array, order="C") for array in arrays]  # keeps rank 0
    specs = tuple(map(spec_of, inputs))
    out_specs = op.infer(*specs)
    kernel = emitter(op, specs, out_specs, target)
    assert kernel is not None, f"{op} is not covered for {specs}"
    with np.errstate(all="ignore"):
        expected = op.reference(np, *inputs)
    expected = expected if isinstance(expected, tuple) else (expected,)
    outputs = [np.empty(spec.shape, spec.dtype) for spec in out_specs]
    assert run_kernel(kernel, inputs, outputs, target, over) == 0
    for got, wanted in zip(outputs, expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=rtol, atol=atol, equal_nan=True)
    return kernel
