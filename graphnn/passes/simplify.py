"""simplify: algebraic rules that are exact in floating point, apart from the sign of zero."""

from __future__ import annotations

from collections.abc import Callable

from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.program import Instruction, Program, Value
from graphnn.ops.arithmetic import Add, Divide, Multiply, Subtract
from graphnn.ops.creation import Cast, Fill, StopGradient
from graphnn.ops.elementwise import Negative
from graphnn.ops.op import Op
from graphnn.ops.shape import BroadcastTo, Concatenate, Flip, Pad, Reshape, Slice, Transpose
from graphnn.passes.rewrite import rebuild

Rule = Callable[["Rewriter", Instruction, tuple[Value, ...]], Value | None]


class Rewriter:
    """The program being rebuilt, with the instruction that made each value of it."""

    def __init__(self, builder: ProgramBuilder):
        self.builder = builder
        self.producer: dict[Value, Instruction] = {}

    def made_by(self, value: Value, kind: type[Op]) -> Instruction | None:
        """The instruction of op class `kind` that made `value`, if there is one."""
        found = self.producer.get(value)
        return found if found is not None and isinstance(found.op, kind) else None

    def constant(self, value: Value) -> float | None:
        """The number that fills `value`, if it is known."""
        found = self.made_by(value, Fill)
        return found.op.value if found is not None and isinstance(found.op, Fill) else None

    def emit(self, op: Op, *inputs: Value) -> Value:
        """Append an instruction with one output."""
        return self.builder.emit(op, inputs)[0]


def simplify(program: Program) -> Program:
    """Apply the rules of `RULES` once to every instruction, inputs first."""
    state: list[Rewriter] = []

    def visit(builder: ProgramBuilder, instruction: Instruction, inputs: tuple[Value, ...]) -> tuple[Value] | None:
        if not state:
            state.append(Rewriter(builder))
        rewriter = state[0]
        for rule in RULES.get(type(instruction.op), ()):  # type: ignore[arg-type]
            replacement = rule(rewriter, instruction, inputs)
            if replacement is not None and replacement.spec == instruction.outputs[0].spec:
                _remember(rewriter)
                return (replacement,)
        kept = Instruction(instruction.op, inputs, instruction.outputs, instruction.origin)
        rewriter.producer.update(dict.fromkeys(instruction.outputs, kept))
        return None

    return rebuild(program, visit)


def _remember(rewriter: Rewriter) -> None:
    """Know the instructions that a rule has emitted."""
    for instruction in reversed(rewriter.builder.instructions):
        if instruction.outputs[0] in rewriter.producer:
            return
        rewriter.producer.update(dict.fromkeys(instruction.outputs, instruction))


def add_zero(rewriter: Rewriter, instruction: Instruction, inputs: tuple[Value, ...]) -> Value | None:
    """X + 0 -> x, 0 + x -> x."""
    a, b = inputs
    return a if rewriter.constant(b) == 0 else b if rewriter.constant(a) == 0 else None


def subtract_zero(rewriter: Rewriter, instruction: Instruction, inputs: tuple[Value, ...]) -> Value | None:
    """X - 0 -> x."""
    return inputs[0] if rewriter.constant(inputs[1]) == 0 else None


def multiply_by_one(rewriter: Rewriter, instruction: Instruction, inputs: tuple[Value, ...]) -> Value | None:
    """X * 1 -> x, 1 * x -> x."""
    a, b = inputs
    return a if rewriter.constant(b) == 1 else b if rewriter.constant(a) == 1 else None


def divide_by_one(rewriter: Rewriter, instruction: Instruction, inputs: tuple[Value, ...]) -> Value | None:
    """X / 1 -> x."""
    return inputs[0] if rewriter.constant(inputs[1]) == 1 else None


def negate_twice(rewriter: Rewriter, instruction: Instruction, inputs: tuple[Value, ...]) -> Value | None:
    """-(-x) -> x."""
    inner = rewriter.made_by(inputs[0], Negative)
    return inner.inputs[0] if inner else None


def reshape_twice(rewriter: Rewriter, instruction: Instruction, inputs: tuple[Value, ...]) -> Value | None:
    """reshape(reshape(x)) -> reshape(x); reshape to the same shape -> x."""
    inner = rewriter.made_by(inputs[0], Reshape)
    source = inner.inputs[0] if inner else inputs[0]
    if source.spec == instruction.outputs[0].spec:
        return source
    return rewriter.emit(Reshape(instruction.outputs[0].spec.shape), source) if inner else None


def transpose_twice(rewriter: Rewriter, instruction: Instruction, inputs: tuple[Value, ...]) -> Value | None:
    """transpose(transpose(x)) -> one transpose; the order 0, 1, 2... -> x."""
    order, source = _order(instruction), inputs[0]
    inner = rewriter.made_by(source, Transpose)
    if inner is not None:
        order, source = tuple(_order(inner)[axis] for axis in order), inner.inputs[0]
    if order == tuple(range(len(order))):
        return source
    return rewriter.emit(Transpose(order), source) if inner else None


def _order(instruction: Instruction) -> tuple[int, ...]:
    if not isinstance(instruction.op, Transpose):
        raise TypeError(instruction.op)
    return instruction.op.order


def same_spec(rewriter: Rewriter, instruction: Instruction, inputs: tuple[Value, ...]) -> Value | None:
    """Casts, broadcasts, slices, pads that change nothing (their output spec says so), stop_gradient -> x."""
    return inputs[0]


def flip_twice(rewriter: Rewriter, instruction: Instruction, inputs: tuple[Value, ...]) -> Value | None:
    """flip(flip(x)) over the same axes -> x."""
    inner = rewriter.made_by(inputs[0], Flip)
    return inner.inputs[0] if inner is not None and inner.op == instruction.op else None


def fill_through(rewriter: Rewriter, instruction: Instruction, inputs: tuple[Value, ...]) -> Value | None:
    """A broadcast or reshaped constant -> a constant of that shape."""
    number = rewriter.constant(inputs[0])
    spec = instruction.outputs[0].spec
    return None if number is None else rewriter.emit(Fill(number, spec.shape, spec.dtype))


def join_pads(rewriter: Rewriter, instruction: Instruction, inputs: tuple[Value, ...]) -> Value | None:
    """pad(a) + pad(b) -> pad(concatenate(a, b)), where a and b are neighbours on one axis and the rest is zero.

    The gradients of slices of one value add up like this: the gates of an LSTM, the heads of attention.
    """
    parts = [rewriter.made_by(value, Pad) for value in inputs]
    if parts[0] is None or parts[1] is None:
        return None
    first, second = sorted(((_pad(part), part.inputs[0]) for part in parts if part), key=lambda part: part[0].low)
    axis = _joint(*first, *second)
    if axis is None:
        return None
    joined = rewriter.emit(Concatenate(axis), *_pieces(rewriter, axis, first[1]), *_pieces(rewriter, axis, second[1]))
    high = tuple(b if at == axis else a for at, (a, b) in enumerate(zip(first[0].high, second[0].high, strict=True)))
    if not any((*first[0].low, *high)):
        return joined
    return rewriter.emit(Pad(first[0].low, high, first[0].interior), joined)


def _pad(instruction: Instruction) -> Pad:
    if not isinstance(instruction.op, Pad):
        raise TypeError(instruction.op)
    return instruction.op


def _joint(first: Pad, a: Value, second: Pad, b: Value) -> int | None:
    """The axis on which `b` begins where `a` ends, both padded by zeros to one shape and alike on all other axes."""
    if first.value or second.value or any((*first.interior, *second.interior)) or a.spec.rank != b.spec.rank:
        return None
    sides = zip(first.low, first.high, a.spec.shape, second.low, second.high, b.spec.shape, strict=True)
    differing = [axis for axis, s in enumerate(sides) if s[:3] != s[3:]]
    if len(differing) != 1:
        return None
    axis = differing[0]
    return axis if first.low[axis] + a.spec.shape[axis] == second.low[axis] else None


def _pieces(rewriter: Rewriter, axis: int, value: Value) -> tuple[Value, ...]:
    """What `value` was concatenated from along `axis`, or itself."""
    inner = rewriter.made_by(value, Concatenate)
    joined_here = inner is not None and isinstance(inner.op, Concatenate) and inner.op.axis == axis
    return inner.inputs if inner is not None and joined_here else (value,)


RULES: dict[type[Op], tuple[Rule, ...]] = {
    Add: (add_zero, join_pads),
    Subtract: (subtract_zero,),
    Multiply: (multiply_by_one,),
    Divide: (divide_by_one,),
    Negative: (negate_twice,),
    Reshape: (fill_through, reshape_twice),
    Transpose: (fill_through, transpose_twice),
    BroadcastTo: (same_spec, fill_through),
    Slice: (same_spec, fill_through),
    Pad: (same_spec,),
    Cast: (same_spec,),
    StopGradient: (same_spec,),
    Flip: (flip_twice,),
}
