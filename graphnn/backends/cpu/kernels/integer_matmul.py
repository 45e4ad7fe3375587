"""Matrix products of integers: plain vector loops, as no network spends its time in them."""

from __future__ import annotations

from contextlib import ExitStack

from llvmlite import ir

from graphnn.backends.cpu.emit import Function, Value, const
from graphnn.backends.cpu.kernel import Kernel, Specs
from graphnn.backends.cpu.kernels.matmul import broadcast_strides, dense
from graphnn.backends.cpu.kernels.vectors import element_kind, load_kind, splat, store_kind, strips
from graphnn.backends.cpu.target import Target
from graphnn.ops.op import Op


def emit_integer_matmul(op: Op, inputs: Specs, outputs: Specs, target: Target) -> Kernel:
    """y[..., i, j] = sum over k of a[..., i, k] * b[..., k, j] modulo 2^bits; leading axes broadcast."""
    f, (output,) = Function(target), outputs
    shape = dense(0, output).shape
    a, b = (
        broadcast_strides(dense(n, spec), (*shape[:-2], *dense(n, spec).shape[-2:])) for n, spec in enumerate(inputs)
    )
    depth, columns = inputs[0].shape[-1].__index__(), shape[-1]
    starts = [f.at(f.pointer(n), 0, output.dtype) for n in range(3)]
    moves = list(zip(a[:-2], b[:-2], dense(2, output).strides[:-2], strict=True))
    with ExitStack() as loops:
        for size, strides in zip(shape[:-2], moves, strict=True):
            index = loops.enter_context(f.loop(size)).index
            starts = [_moved(f, p, index, stride, output.dtype) for p, stride in zip(starts, strides, strict=True)]
        row = loops.enter_context(f.loop(shape[-2])).index
        a_row, y_row = (_moved(f, starts[n], row, stride, output.dtype) for n, stride in ((0, depth), (2, columns)))
        for start, stop, width in strips(columns, target.lanes(output.dtype)):
            with f.loop(stop, start=start, step=width) as strip:
                total = _dot(
                    f, a_row, _moved(f, starts[1], strip.index, 1, output.dtype), depth, columns, width, output.dtype
                )
                store_kind(f, total, y_row, strip.index, output.dtype, width)
    return Kernel(f.finish())


def _moved(f: Function, base: Value, index: Value, stride: int, dtype: str) -> Value:
    return f.at(base, f.builder.mul(index, const(stride)), dtype) if stride else base


def _dot(f: Function, a: Value, b: Value, depth: int, columns: int, width: int, dtype: str) -> Value:
    """One row of A with some neighbouring columns of B."""
    zero = ir.Constant(element_kind(dtype, width), None if width > 1 else 0)
    with f.loop(depth, [zero]) as loop:
        factor = splat(f, f.load(a, loop.index, dtype), width)
        part = load_kind(f, b, f.builder.mul(loop.index, const(columns)), dtype, width)
        loop.results = [f.builder.add(loop.carried[0], f.builder.mul(factor, part))]
    return loop.carried[0]
