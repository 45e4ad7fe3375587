"""Which kernel family an op belongs to."""

from __future__ import annotations

from graphnn.backends.cpu.emit import Function
from graphnn.backends.cpu.expression import UnknownFormulaError
from graphnn.backends.cpu.kernel import Emitter, Kernel, Specs
from graphnn.backends.cpu.kernels import along_axis, convolution, indexing, movement, pooling, random, sorting
from graphnn.backends.cpu.kernels.contraction_group import emit_contraction_group
from graphnn.backends.cpu.kernels.copying import contiguous, emit_copy, plan_copy
from graphnn.backends.cpu.kernels.integer_matmul import emit_integer_matmul
from graphnn.backends.cpu.kernels.loops.emitter import emit_loops
from graphnn.backends.cpu.kernels.matmul import emit_matmul
from graphnn.backends.cpu.target import Target
from graphnn.ir.tensor_spec import INTEGERS, TensorSpec
from graphnn.ops.fused import Fused
from graphnn.ops.linalg import MatMul
from graphnn.ops.op import Op
from graphnn.passes.fuse import contraction_of


def _emit_matmul(op: Op, inputs: Specs, outputs: Specs, target: Target) -> Kernel | None:
    emitter = emit_integer_matmul if inputs[0].dtype in INTEGERS else emit_matmul
    return emitter(op, inputs, outputs, target)


EMITTERS: dict[type[Op], Emitter] = {
    **movement.EMITTERS,
    **indexing.EMITTERS,
    **along_axis.EMITTERS,
    **pooling.EMITTERS,
    **random.EMITTERS,
    **sorting.EMITTERS,
    MatMul: _emit_matmul,
    **convolution.EMITTERS,
}


def emit_kernel(op: Op, inputs: Specs, outputs: Specs, target: Target) -> Kernel | None:
    """The kernel of an op, or None where no family covers it: what a user added without a formula, for one."""
    grouped = isinstance(op, Fused) and contraction_of(op.body) is not None
    emitter = emit_contraction_group if grouped else EMITTERS.get(type(op), emit_loops)
    try:
        return emitter(op, inputs, outputs, target)
    except UnknownFormulaError:
        return None


def emit_part_copy(whole: TensorSpec, axis: int, parts: int, into_whole: bool, target: Target) -> Kernel:
    """Copies one of equal parts along `axis` out of a whole array, or into it; the whole's address is the part's."""
    shape = tuple(size.__index__() for size in whole.shape)
    part = (*shape[:axis], shape[axis] // parts, *shape[axis + 1 :])
    strides = (contiguous(shape), contiguous(part))
    source, goal = reversed(strides) if into_whole else strides
    f = Function(target)
    emit_copy(f, f.pointer(0), f.pointer(1), plan_copy(part, source, goal, whole.dtype))
    return Kernel(f.finish())
