"""The peak of this machine, multiply-adds on registers alone: `python -m graphnn.bench.peak THREADS` prints FLOP/s."""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections.abc import Callable

import numpy as np

from graphnn.backends.cpu.emit import Function
from graphnn.backends.cpu.jit import Code, host_target
from graphnn.backends.cpu.target import Target
from graphnn.errors import BackendError

TURNS = 200_000  # of the loop in one call: about a millisecond
CALLS, REPEATS = 5, 20
SPARE_REGISTERS = 4  # those of the factors, and some for the compiler


def chains(target: Target) -> int:
    """Independent sums: enough to hide the latency of an addition, as many as there are registers for."""
    return min(target.registers - SPARE_REGISTERS, 24)


def make_kernel(target: Target) -> str:
    """IR that makes sizes[0] turns of `chains` multiply-adds of vectors, and stores the sum."""
    function, lanes = Function(target), target.lanes("float32")
    b = function.builder
    a = function.load_vector(function.pointer(0), 0, "float32", lanes)
    c = function.load_vector(function.pointer(0), lanes, "float32", lanes)
    with function.loop(function.size(0), [a] * chains(target)) as loop:
        loop.results = [function.fma(carried, c, a) for carried in loop.carried]
    total = loop.carried[0]
    for carried in loop.carried[1:]:
        total = b.fadd(total, carried)
    function.store_vector(total, function.pointer(1), 0, "float32")
    return function.finish()


def measure_peak(threads: int) -> float:
    """FLOP/s of so many threads at once: the best of many short measurements.

    Raises:
        BackendError: the kernel failed.
    """
    target = host_target()
    code = Code(target)
    address = code.compile(make_kernel(target))
    flops = 2 * chains(target) * target.lanes("float32") * TURNS * CALLS
    return max(threads * flops / _seconds(threads, lambda: _call(address)) for _ in range(REPEATS))


def _call(address: int) -> None:
    given, made = np.full(64, 0.5, "float32"), np.empty(64, "float32")
    pointers, sizes = np.array([given.ctypes.data, made.ctypes.data], "int64"), np.array([TURNS], "int64")
    kernel = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)(address)
    for _ in range(CALLS):
        if kernel(pointers.ctypes.data, sizes.ctypes.data):
            raise BackendError("the kernel of the peak failed")


def _seconds(threads: int, work: Callable[[], None]) -> float:
    """From a common start to the end of the last thread; ctypes releases the interpreter's lock."""
    barrier = threading.Barrier(threads + 1)

    def run() -> None:
        barrier.wait()
        work()

    workers = [threading.Thread(target=run) for _ in range(threads)]
    for worker in workers:
        worker.start()
    barrier.wait()
    begin = time.perf_counter()
    for worker in workers:
        worker.join()
    return time.perf_counter() - begin


if __name__ == "__main__":
    print(measure_peak(int(sys.argv[1])))
