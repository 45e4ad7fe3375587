"""A contraction with transposed operands and an elementwise epilogue, as one kernel.

Transposes are strides, those of results too if columns stay innermost; the epilogue runs on the sums while they are in
registers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from graphnn.backends.cpu.contraction import Contraction
from graphnn.backends.cpu.contraction_nest import emit_contraction
from graphnn.backends.cpu.emit import Function, Value
from graphnn.backends.cpu.expression import emit_number, emit_op
from graphnn.backends.cpu.kernel import Kernel, Specs
from graphnn.backends.cpu.kernels.convolution import convolution_problem
from graphnn.backends.cpu.kernels.matmul import (
    DTYPES,
    Operand,
    Tensors,
    broadcast_strides,
    dense,
    empty_kernel,
    matmul_problem,
)
from graphnn.backends.cpu.target import Target
from graphnn.ir.program import Instruction, Program
from graphnn.ir.program import Value as Variable
from graphnn.ops.convolution import ConvolutionOp
from graphnn.ops.creation import Cast, Fill, StopGradient
from graphnn.ops.elementwise import Elementwise, Where
from graphnn.ops.fused import Fused
from graphnn.ops.linalg import MatMul
from graphnn.ops.op import Op
from graphnn.ops.shape import BroadcastTo, Reshape, Slice, Transpose

CONTRACTIONS = (MatMul, ConvolutionOp)
POINTWISE = (Elementwise, Where, Cast)
LONG_FUNCTION = re.compile(r"exp|log|tanh|sigmoid|erf|sin|cos|pow|remainder")
OPERATOR = re.compile(r"[-+*/(<>=&|!]")


@dataclass(frozen=True)
class _Number:
    """A constant in all places."""

    value: float
    dtype: str


_Source: TypeAlias = "Operand | _Number"


def emit_contraction_group(op: Op, inputs: Specs, outputs: Specs, target: Target) -> Kernel | None:
    """A `Fused` body of one contraction, transposes of its operands, and elementwise work on its output.

    Of outputs that are larger than what the body makes, the beginning is written.

    None where the body holds something else, an operand of a convolution is transposed, or the dtype is not float32 or
    float64.
    """
    if not isinstance(op, Fused):
        return None
    group = _group(op.body)
    if group is None:
        return None
    if not group.contraction.outputs[0].spec.size:
        return empty_kernel(target)
    problem = _problem(op, group, outputs)
    if problem is None:
        return None
    return emit_contraction(replace(problem, pointers=len(inputs) + len(outputs)), target)


@dataclass(frozen=True, eq=False)
class _Group:
    """The parts of a body: where values lie that are not computed, the contraction, the epilogue in order.

    Args:
        sources: of the values that are not computed.
        contraction: the product or convolution.
        epilogue: elementwise work, and transposes of computed values.
        order: of the axes behind such a transpose; there is one for all.
        moved: the values behind it.
    """

    sources: dict[Variable, _Source]
    contraction: Instruction
    epilogue: tuple[Instruction, ...]
    order: tuple[int, ...]
    moved: frozenset[Variable]


def _group(body: Program) -> _Group | None:
    """None where an instruction has no place in a group."""
    sources: dict[Variable, _Source] = {value: dense(i, value.spec) for i, value in enumerate(body.inputs)}
    contractions = [i for i in body.instructions if _contracts(i)]
    if len(contractions) != 1:
        return None
    epilogue = _EpilogueMembers(contractions[0])
    for instruction in body.instructions:
        source = _source(instruction, sources)
        if source is not None:
            sources[instruction.outputs[0]] = source
        elif not _contracts(instruction) and not epilogue.take(instruction, sources):
            return None
    if any(value in sources for value in body.outputs):
        return None
    return _Group(sources, contractions[0], tuple(epilogue.members), epilogue.order, frozenset(epilogue.moved))


class _EpilogueMembers:
    """Collects what runs on the sums, before and behind one transpose."""

    def __init__(self, contraction: Instruction):
        (made,) = contraction.outputs
        self._shape = made.spec.shape
        self.order = tuple(range(made.spec.rank))
        self.members: list[Instruction] = []
        self.moved: set[Variable] = set()

    def take(self, instruction: Instruction, sources: dict[Variable, _Source]) -> bool:
        """Whether it has a place here."""
        computed = [value for value in instruction.inputs if value not in sources]
        behind = [value in self.moved for value in computed]
        if isinstance(instruction.op, Transpose):
            if not computed or behind[0] or self.moved or instruction.op.order[-1] != len(self.order) - 1:
                return False
            self.order = instruction.op.order
            self.moved.add(instruction.outputs[0])
        elif not isinstance(instruction.op, (*POINTWISE, StopGradient)) or (any(behind) and not all(behind)):
            return False
        else:
            shape = tuple(self._shape[axis] for axis in self.order) if any(behind) else self._shape
            if instruction.outputs[0].spec.shape != shape:
                return False
            self.moved.update(instruction.outputs if any(behind) else ())
        self.members.append(instruction)
        return True


def _contracts(instruction: Instruction) -> bool:
    return isinstance(instruction.op, CONTRACTIONS)


def _source(instruction: Instruction, sources: dict[Variable, _Source]) -> _Source | None:
    """Where the output lies, if the instruction moves nothing."""
    op: object = instruction.op
    if isinstance(op, Fill):
        return _Number(op.value, op.dtype)
    if not instruction.inputs or instruction.inputs[0] not in sources:
        return None
    source, spec = sources[instruction.inputs[0]], instruction.outputs[0].spec
    if isinstance(source, _Number):
        return source if isinstance(op, BroadcastTo | Reshape | Transpose | StopGradient) else None
    shape = tuple(size.__index__() for size in spec.shape)
    if isinstance(op, Transpose):
        return Operand(source.pointer, shape, tuple(source.strides[axis] for axis in op.order))
    if isinstance(op, Slice):
        in_front = not any(op.starts) and set(op.steps) <= {1}
        return Operand(source.pointer, shape, source.strides) if in_front else None
    if isinstance(op, BroadcastTo):
        return Operand(source.pointer, shape, broadcast_strides(source, shape))
    if isinstance(op, Reshape):
        return dense(source.pointer, spec) if _is_dense(source) else None
    return source if isinstance(op, StopGradient) else None


def _is_dense(operand: Operand) -> bool:
    expected = 1
    for size, stride in zip(reversed(operand.shape), reversed(operand.strides), strict=True):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True


def _problem(fused: Fused, group: _Group, wholes: Specs) -> Contraction | None:
    """The contraction with its epilogue."""
    op, (result,) = group.contraction.op, group.contraction.outputs
    first, second = (group.sources.get(value) for value in group.contraction.inputs)
    dtype = result.spec.dtype
    if dtype not in DTYPES or not isinstance(first, Operand) or not isinstance(second, Operand):
        return None
    tensors = _tensors(fused, group, result, wholes)
    if tensors is None:
        return None
    if isinstance(op, MatMul):
        return matmul_problem(first, second, dtype, tensors)
    whole = all(made.spec == spec for made, spec in zip(fused.body.outputs, wholes, strict=True))
    if not isinstance(op, ConvolutionOp) or not (_is_dense(first) and _is_dense(second) and whole):
        return None
    return convolution_problem(op, first, second, dtype, tensors)


def _tensors(fused: Fused, group: _Group, result: Variable, wholes: Specs) -> Tensors | None:
    """The operands of the epilogue; None where one is read across its columns.

    Args:
        fused: the group.
        group: its parts.
        result: what the contraction makes.
        wholes: specs of the arrays whose beginnings are written.
    """
    body = fused.body
    read = dict.fromkeys(key for i in group.epilogue for key in _read(i, group))
    inputs = []
    for value, moved in read:
        source = group.sources[value]
        if isinstance(source, Operand):
            source = _moved_back(source, group.order) if moved else source
            if source.shape and source.shape[-1] != 1 and source.strides[-1] not in (0, 1):
                return None
            inputs.append((source, value.spec.dtype))
    outputs = []
    for i, (value, whole) in enumerate(zip(body.outputs, wholes, strict=True)):
        own = replace(dense(len(body.inputs) + i, whole), shape=dense(0, value.spec).shape)
        outputs.append((_moved_back(own, group.order) if value in group.moved else own, value.spec.dtype))
    if not group.epilogue and body.outputs == (result,):
        return Tensors((), tuple(outputs))
    epilogue = _Epilogue(group, tuple(read), result, body.outputs)
    places = {operand.pointer: n for n, (operand, _) in enumerate(inputs)}  # an input, or a part of it
    over = tuple((places[i], o) for i, o in fused.in_place if i in places)
    return Tensors(tuple(inputs), tuple(outputs), epilogue.compute, _weight(group.epilogue), over)


_Key: TypeAlias = tuple[Variable, bool]  # a value, and whether it is seen behind the transpose


def _read(instruction: Instruction, group: _Group) -> list[_Key]:
    """The operands of an instruction that lie in memory."""
    moved = instruction.outputs[0] in group.moved
    return [(v, moved) for v in instruction.inputs if isinstance(group.sources.get(v), Operand)]


def _moved_back(operand: Operand, order: tuple[int, ...]) -> Operand:
    """What broadcasts to a transposed result, with the axes in the order of the contraction."""
    missing = len(order) - len(operand.shape)
    shape, strides = (1,) * missing + operand.shape, (0,) * missing + operand.strides
    places = [order.index(axis) for axis in range(len(order))]
    return Operand(operand.pointer, tuple(shape[k] for k in places), tuple(strides[k] for k in places))


def _weight(instructions: Sequence[Instruction]) -> int:
    """Vector instructions, roughly."""
    total = 0
    for instruction in instructions:
        text = getattr(instruction.op, "expression", "")
        total += 1 + 20 * len(LONG_FUNCTION.findall(text)) + len(OPERATOR.findall(text)) // 2
    return total


@dataclass(frozen=True, eq=False)
class _Epilogue:
    """The elementwise instructions, for one vector."""

    group: _Group
    read: tuple[_Key, ...]
    result: Variable
    outputs: tuple[Variable, ...]

    def compute(self, f: Function, total: Value, operands: list[Value]) -> list[Value]:
        """One vector for each output."""
        values = dict(zip(self.read, operands, strict=True)) | {(self.result, False): total}
        for instruction in self.group.epilogue:
            made = instruction.outputs[0]
            values[made, made in self.group.moved] = self._one(f, instruction, values, total.type.count)
        return [values[value, value in self.group.moved] for value in self.outputs]

    def _one(self, f: Function, instruction: Instruction, values: dict[_Key, Value], lanes: int) -> Value:
        if isinstance(instruction.op, Transpose):
            return values[instruction.inputs[0], False]
        moved, given = instruction.outputs[0] in self.group.moved, []
        for value in instruction.inputs:
            source = self.group.sources.get(value)
            number = emit_number(source.value, source.dtype, lanes) if isinstance(source, _Number) else None
            given.append(values[value, moved] if number is None else number)
        if isinstance(instruction.op, StopGradient):
            return given[0]
        op, dtypes = instruction.op, [value.spec.dtype for value in instruction.inputs]
        return emit_op(f, op, given, dtypes, instruction.outputs[0].spec.dtype)  # type: ignore[arg-type]
