"""Kernels that apply an elementwise op or a vector function to flat arrays, a number of lanes at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cpu_kernels import run_kernel
from graphnn.backends.cpu.emit import Function, Value, const
from graphnn.backends.cpu.expression import emit_op, from_memory, to_memory
from graphnn.backends.cpu.functions import emit_function
from graphnn.backends.cpu.kernel import Kernel, Specs
from graphnn.backends.cpu.target import Target
from graphnn.ops.op import Op

Write = Callable[[Function, Sequence[Value]], Value]


def flat_kernel(write: Write, dtypes: Sequence[str], size: int, target: Target, lanes: int) -> Kernel:
    """out[i] = write(in[i], ...) by vectors of `lanes` (0: none), the rest by scalars; the last dtype is out's."""
    f = Function(target)
    count = f.size(0)
    pointers = [f.pointer(position) for position in range(len(dtypes))]

    def at(index: Value, width: int) -> None:
        load = f.load_vector if width else f.load
        arguments = [(lanes,)] * len(dtypes) if width else [()] * len(dtypes)
        places = zip(pointers[:-1], dtypes[:-1], arguments[:-1], strict=True)
        values = [from_memory(f, load(base, index, dtype, *more), dtype) for base, dtype, more in places]
        stored = to_memory(f, write(f, values), dtypes[-1])
        (f.store_vector if width else f.store)(stored, pointers[-1], index, dtypes[-1])

    whole = const(0)
    if lanes:
        whole = f.builder.mul(f.builder.sdiv(count, const(lanes)), const(lanes))
        with f.loop(whole, step=lanes) as loop:
            at(loop.index, lanes)
    with f.loop(count, start=whole) as loop:
        at(loop.index, 0)
    return Kernel(f.finish(), (size,))


@dataclass(frozen=True)
class Elementwise:
    """An Emitter for ops on inputs of equal shape."""

    lanes: int

    def __call__(self, op: Op, inputs: Specs, outputs: Specs, target: Target) -> Kernel:
        dtypes = [spec.dtype for spec in inputs]
        write = lambda f, values: emit_op(f, op, values, dtypes, outputs[0].dtype)  # noqa: E731
        return flat_kernel(write, [*dtypes, outputs[0].dtype], outputs[0].size, target, self.lanes)


def apply_function(name: str, target: Target, lanes: int, *arrays: np.ndarray) -> np.ndarray:
    """A vector function of flat arrays of one float dtype."""
    dtype, size = str(arrays[0].dtype), len(arrays[0])
    write = lambda f, values: emit_function(f, name, *values)  # noqa: E731
    kernel = flat_kernel(write, [dtype] * (len(arrays) + 1), size, target, lanes)
    out = np.empty_like(arrays[0])
    assert run_kernel(kernel, list(arrays), [out], target) == 0
    return out
